"""The language of the tables: what a reply should be, and the steps of a case."""

import time
from dataclasses import dataclass

from resp import Connection, Error, Map, Null, Text

OK = Text(b"OK")
PONG = Text(b"PONG")
QUEUED = Text(b"QUEUED")
NIL = "a value that is not there: $-1 in RESP2, _ in RESP3"
ABORTED = "an EXEC that did nothing: *-1 in RESP2, _ in RESP3"
ANYTHING = "any reply but an error"

NOT_INTEGER = Error(b"ERR value is not an integer or out of range")
EXECABORT = Error(b"EXECABORT Transaction discarded because of previous errors.")


@dataclass(frozen=True)
class Fails:
    """An error that begins with this word, with these letters somewhere behind it. Exact texts are
    asked for (`Error`) only where clients look at them."""
    word: str
    says: str = ""


@dataclass(frozen=True)
class AnyError:
    """An error, whatever it says."""


@dataclass(frozen=True)
class Between:
    """An integer from low to high."""
    low: int
    high: int


@dataclass(frozen=True)
class AnyOrder:
    """A list of these."""
    items: tuple


@dataclass(frozen=True)
class Pairs:
    """A map: `%` in RESP3, a flat list in RESP2. Other keys may be there too; a value of None says
    that any will do."""
    pairs: tuple


@dataclass(frozen=True)
class Soon:
    """This, at the latest after five seconds; the command is repeated until then."""
    wanted: object


@dataclass(frozen=True)
class Pause:
    """A step that only waits."""
    seconds: float


@dataclass(frozen=True)
class Case:
    """Steps are (command, wanted reply). A command is a list of arguments, or a string that is cut
    at spaces; `2) GET k` is sent on a second connection. An argument or a wanted value that begins
    with `~` is a key, named so that no two cases meet."""
    name: str
    steps: tuple
    ours_only: bool = False


def case(name, *steps):
    return Case(name, steps)


def ours(name, *steps):
    """A case about what Redis 7 does not have."""
    return Case(name, steps, ours_only=True)


class Stage:
    """Runs one case in one protocol."""

    def __init__(self, addresses, protocol, prefix):
        self.addresses = addresses
        self.protocol = protocol
        self.prefix = prefix
        self.connections = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections.values():
            connection.socket.close()

    def connection(self, number):
        """The first speaks to the first server, the second to the next one."""
        if number not in self.connections:
            address = self.addresses[(number - 1) % len(self.addresses)]
            self.connections[number] = Connection(address, self.protocol)
        return self.connections[number]

    def run(self, steps):
        for step in steps:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            command, wanted = step
            number, arguments = self.words(command)
            connection = self.connection(number)
            got = connection.call(*arguments)
            if isinstance(wanted, Soon):
                wanted = wanted.wanted
                deadline = time.monotonic() + 5
                while self.differs(wanted, got) and time.monotonic() < deadline:
                    time.sleep(0.02)
                    got = connection.call(*arguments)
            if why := self.differs(wanted, got):
                shown = " ".join(map(repr, arguments)) if isinstance(command, list) else command
                raise AssertionError(f"{shown[:200]}: {why}")

    def words(self, command):
        number = 1
        if isinstance(command, str):
            command = command.split()
            if command[0].endswith(")"):
                number = int(command.pop(0)[:-1])
        return number, [self.named(word) for word in command]

    def named(self, word):
        """Bytes, with the name of this case in front of a key."""
        word = word.encode() if isinstance(word, str) else word
        return self.prefix + word[1:] if word.startswith(b"~") else word

    def differs(self, wanted, got):
        """None, or what is wrong with a reply."""
        fits = self.fits(wanted, got)
        return None if fits else f"got {str(got)[:300]}, wanted {str(wanted)[:300]}"

    def fits(self, wanted, got):
        if wanted is NIL or wanted is ABORTED:
            sign = b"_" if self.protocol == 3 else b"$-1" if wanted is NIL else b"*-1"
            return got == Null(sign)
        if wanted is ANYTHING:
            return not isinstance(got, Error)
        if isinstance(wanted, AnyError):
            return isinstance(got, Error)
        if isinstance(wanted, Fails):
            return self.fits_error(wanted, got)
        if isinstance(wanted, Between):
            return type(got) is int and wanted.low <= got <= wanted.high
        if isinstance(wanted, AnyOrder):
            names = sorted(self.named(item) for item in wanted.items)
            return isinstance(got, list) and sorted(got) == names
        if isinstance(wanted, Pairs):
            return self.fits_pairs(wanted, got)
        if isinstance(wanted, list):
            return (isinstance(got, list) and len(got) == len(wanted)
                    and all(self.fits(*both) for both in zip(wanted, got)))
        if isinstance(wanted, (str, bytes)):
            return type(got) is bytes and got == self.named(wanted)
        return type(got) is type(wanted) and got == wanted

    @staticmethod
    def fits_error(wanted, got):
        if not isinstance(got, Error):
            return False
        word, _, rest = got.text.decode().partition(" ")
        return word == wanted.word and wanted.says.lower() in rest.lower()

    def fits_pairs(self, wanted, got):
        if self.protocol == 3:
            if not isinstance(got, Map):
                return False
            got = got.flat()
        if not isinstance(got, list) or len(got) % 2:
            return False
        found = dict(zip(got[::2], got[1::2]))
        for key, value in wanted.pairs:
            key = key.encode()
            if key not in found or value is not None and not self.fits(value, found[key]):
                return False
        return True
