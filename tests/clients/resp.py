"""A client of our own on a bare socket. It tells what came over the wire, kind by kind: a client
library would hide whether an absent value was `$-1`, `*-1` or `_`."""

import socket
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """`+OK`"""
    text: bytes


@dataclass(frozen=True)
class Error:
    """`-ERR what is wrong`"""
    text: bytes


@dataclass(frozen=True)
class Null:
    """What is not there, and how that was said: `$-1`, `*-1`, or RESP3's `_`."""
    sign: bytes


@dataclass(frozen=True)
class Map:
    """`%`: RESP3 only."""
    pairs: list

    def flat(self):
        return [item for pair in self.pairs for item in pair]


@dataclass(frozen=True)
class Push:
    """`>`: RESP3 only, unasked for."""
    items: list


@dataclass(frozen=True)
class Verbatim:
    """`=15\\r\\ntxt:some string`: RESP3 only."""
    kind: bytes
    text: bytes


@dataclass(frozen=True)
class Other:
    """Sets, doubles, booleans, big numbers: none of the commands here answers with one."""
    sign: bytes
    content: object


class Closed(Exception):
    """The server closed the connection where a reply was due."""


def array(*arguments):
    """A request as Redis clients send it."""
    pieces = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        argument = argument.encode() if isinstance(argument, str) else argument
        pieces.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(pieces)


@dataclass
class Connection:
    """One connection; replies are read strictly, byte by byte as they are framed."""
    address: tuple
    protocol: int = 2
    patience: float = 10.0
    buffer: bytearray = field(default_factory=bytearray)

    def __post_init__(self):
        self.socket = socket.create_connection(self.address, self.patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.protocol == 3:
            hello = self.call("HELLO", "3")
            if not isinstance(hello, Map):
                raise AssertionError(f"HELLO 3 got {hello!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *arguments):
        self.send(array(*arguments))
        return self.read()

    def finish_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def read(self):
        line = self._line()
        sign, rest = line[:1], line[1:]
        if sign == b"+":
            return Text(rest)
        if sign == b"-":
            return Error(rest)
        if sign == b":":
            return int(rest)
        if sign in b"$=":
            return self._bulk(sign, rest)
        if sign in b"*>~":
            return self._list(sign, rest)
        if sign == b"%":
            return Map([(self.read(), self.read()) for _ in range(int(rest))])
        if sign == b"_" and not rest:
            return Null(b"_")
        if sign in b",#(":
            return Other(sign, rest)
        raise AssertionError(f"not a reply: {line[:80]!r}")

    def rest(self):
        """Everything until the server closes."""
        while True:
            try:
                self._receive()
            except (Closed, ConnectionResetError):
                return bytes(self.buffer)

    def take(self, count):
        """The next `count` bytes."""
        while len(self.buffer) < count:
            self._receive()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _bulk(self, sign, rest):
        if rest == b"-1":
            return Null(b"$-1")
        data = self.take(int(rest) + 2)
        if not data.endswith(b"\r\n"):
            raise AssertionError(f"a bulk string that does not end in CR LF: {data[-20:]!r}")
        if sign == b"=":
            return Verbatim(data[:3], data[4:-2])
        return data[:-2]

    def _list(self, sign, rest):
        if rest == b"-1":
            return Null(b"*-1")
        items = [self.read() for _ in range(int(rest))]
        return {b"*": items, b">": Push(items)}.get(sign) if sign in b"*>" else Other(sign, items)

    def _line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._receive()
        line = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        return line

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise Closed(f"closed by the server; unread: {bytes(self.buffer[:80])!r}")
        self.buffer += data
