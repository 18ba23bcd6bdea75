"""What Redis' users rely on, asked for on a bare socket in RESP2 and RESP3: tables of commands and
replies, bytes that are no request, and a few longer checks.

    CLIENTS_ADDRESSES="127.0.0.1:6379" CLIENTS_AGAINST=redis python3 suite.py

`run` starts it. Every case passes against redis-server 7, but for those that ask for what Redis
does not have; what differs on purpose stands in differences.py with both answers."""

import os

import cases_keys
import cases_multi
import cases_protocol
import cases_strings
import differences
import longer
from expect import Stage
from report import Report, addresses, against_redis, same
from resp import Closed, Connection


def run_case(case, protocol, prefix):
    with Stage(addresses(), protocol, prefix) as stage:
        stage.run(case.steps)


def run_longer(function, protocol, prefix):
    with Stage(addresses(), protocol, prefix) as stage:
        function(stage)


def run_raw(raw):
    """closes: False, it stays open; True, it is closed; None, either; "half", we close our end."""
    with Connection(addresses()[0]) as connection:
        connection.send(raw.sent)
        if raw.closes == "half":
            connection.finish_sending()
        got = connection.rest() if raw.closes in (True, "half") else connection.take(len(raw.back))
        if raw.closes is not False:
            assert got.startswith(raw.back), f"got {got[:200]!r}, wanted {raw.back!r} first"
            # One answer and no more: nothing behind a QUIT or an error is carried out.
            assert raw.closes is None or got.count(b"\r\n") <= raw.back.count(b"\r\n") + 1 or (
                raw.back.startswith(b"HTTP")), f"more than the answer: {got[:200]!r}"
            return
        same(got, raw.back)
        connection.socket.settimeout(0.05)
        try:
            more = connection.take(1)
        except TimeoutError:
            return
        except Closed as error:
            raise AssertionError("closed a connection that did nothing wrong") from error
        raise AssertionError(f"more than was asked for: {more!r} {bytes(connection.buffer)!r}")


def clean(run):
    """Takes the keys of this run away."""
    with Connection(addresses()[0]) as connection:
        longer.remove(connection, longer.scan(connection, "MATCH", f"{run}:*", "COUNT", "500"))


def main():
    report = Report("suite")
    run = f"clients:{os.getpid()}-{os.urandom(3).hex()}"
    cases = [*cases_strings.CASES, *cases_keys.CASES, *cases_multi.CASES, *cases_protocol.CASES,
             *differences.cases(against_redis())]
    number = 0
    for protocol in (2, 3):
        for case in cases:
            number += 1
            prefix = f"{run}:{number}:".encode()
            report.check(f"{case.name} (RESP{protocol})", run_case, case, protocol, prefix,
                         ours_only=case.ours_only)
        for functions, ours_only in ((longer.SHARED, False), (longer.OURS_ONLY, True)):
            for function in functions:
                number += 1
                prefix = f"{run}:{number}:".encode()
                report.check(f"{function.__name__.replace('_', ' ')} (RESP{protocol})",
                             run_longer, function, protocol, prefix, ours_only=ours_only)
    for raw in cases_protocol.RAW:
        report.check(f"bytes: {raw.name}", run_raw, raw, ours_only=raw.ours_only)
    report.check("the keys of all these can be found and removed", clean, run)
    report.end()


main()
