"""How every suite here tells what it found: one line a check, and the exit code."""

import os
import sys
import traceback


def against_redis():
    """Is this the oracle, a plain redis-server, and not a cluster of ours?"""
    return os.environ["CLIENTS_AGAINST"] == "redis"


def addresses():
    """(host, port) of each server; the oracle has one."""
    pairs = (address.rsplit(":", 1) for address in os.environ["CLIENTS_ADDRESSES"].split())
    return [(host.strip("[]"), int(port)) for host, port in pairs]


class Report:
    """Runs checks, each to its end whatever the others did."""

    def __init__(self, suite):
        self.suite = suite
        self.failed = 0
        self.run = 0

    def check(self, name, function, *arguments, ours_only=False):
        if ours_only and against_redis():
            print(f"ours    [{self.suite}] {name}", flush=True)
            return
        self.run += 1
        try:
            function(*arguments)
        except Exception as error:  # a suite goes on; any error at all is a failed check
            self.failed += 1
            where = traceback.extract_tb(error.__traceback__)
            here = [frame for frame in where if "/tests/clients/" in frame.filename][-1]
            at = f"{os.path.basename(here.filename)}:{here.lineno}"
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAILED  [{self.suite}] {name}: {why[:600]} ({at})", flush=True)
        else:
            print(f"ok      [{self.suite}] {name}", flush=True)

    def end(self):
        """The last line; `run` counts on it to know that a suite did not stop half-way."""
        print(f"end     [{self.suite}] {self.run} checks, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)


def same(got, wanted, what="got"):
    """assert that says both sides."""
    assert got == wanted, f"{what} {got!r}, wanted {wanted!r}"
