"""redis-benchmark, unpipelined and pipelined: it must come to its end and report each test."""

import csv
import io
import subprocess

from report import Report, addresses, same

TESTS = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]


def benchmark(address, *options):
    host, port = address
    command = ["redis-benchmark", "-h", host, "-p", str(port), "-t", "ping,set,get,incr,mset",
               "--csv", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    same(done.returncode, 0, f"{done.stdout[-300:]!r} {done.stderr[-300:]!r}: exit code")
    same(done.stderr, "", "stderr")
    rows = [row for row in csv.reader(io.StringIO(done.stdout)) if row and row[0] != "test"]
    same([row[0] for row in rows], TESTS, "reported")
    assert all(float(row[1]) > 0 for row in rows), rows


def main():
    report = Report("redis-benchmark")
    for number, address in enumerate(addresses(), 1):
        at = f"server {number}"
        report.check(f"{at}: -P 1", benchmark, address, "-n", "2000", "-c", "20", "-P", "1")
        report.check(f"{at}: -P 16", benchmark, address, "-n", "8000", "-c", "20", "-P", "16")
    report.check("random keys, values of 1000 bytes", benchmark, addresses()[0], "-n", "2000",
                 "-c", "50", "-r", "1000", "-d", "1000", "-P", "4")
    report.check("in RESP3", benchmark, addresses()[0], "-n", "1000", "-c", "5", "-3")
    report.end()


main()
