"""The protocol itself: what a connection is greeted and asked with, and bytes that are no
request."""

from dataclasses import dataclass

from expect import (ANYTHING, NIL, OK, PONG, Between, Error, Fails, Pairs, case, ours)
from resp import array

CONNECTION = [
    case("PING", ("PING", PONG), ("PING hello", "hello"), ("ping", PONG)),
    case("PING of bytes", (["PING", b"\x00\r\n\xff"], b"\x00\r\n\xff")),
    case("ECHO", ("ECHO hello", "hello"), (["ECHO", ""], b""),
         (["ECHO", bytes(range(256))], bytes(range(256)))),
    case("SELECT 0", ("SELECT 0", OK)),
    case("SELECT beyond the databases", ("SELECT 99", Error(b"ERR DB index is out of range")),
         ("SELECT x", Fails("ERR"))),
    case("CLIENT SETNAME and GETNAME", ("CLIENT GETNAME", NIL), ("CLIENT SETNAME me", OK),
         ("CLIENT GETNAME", "me"), ("2) CLIENT GETNAME", NIL)),
    case("CLIENT SETNAME with a space", (["CLIENT", "SETNAME", "two words"], Fails("ERR")),
         ("CLIENT GETNAME", NIL)),
    case("CLIENT SETNAME to nothing takes the name away", ("CLIENT SETNAME me", OK),
         (["CLIENT", "SETNAME", ""], OK), ("CLIENT GETNAME", NIL)),
    case("CLIENT ID", ("CLIENT ID", Between(1, 1 << 62))),
    case("CLIENT with what it does not know", ("CLIENT FROBNICATE", Fails("ERR")),
         ("CLIENT MAINT_NOTIFICATIONS ON", Fails("ERR"))),
    case("COMMAND COUNT", ("COMMAND COUNT", Between(20, 1000))),
    case("COMMAND INFO of what is not there", ("COMMAND INFO frobnicate", ANYTHING)),
    case("CONFIG GET of what redis-benchmark asks for",
         ("CONFIG GET save", Pairs((("save", None),))),
         ("CONFIG GET appendonly", Pairs((("appendonly", None),)))),
    case("CONFIG GET of what is not there", ("CONFIG GET no-such-setting", Pairs(()))),
    case("CONFIG with what it does not know", ("CONFIG FROBNICATE", Fails("ERR"))),
    ours("READONLY, READWRITE", ("READONLY", OK), ("READWRITE", OK)),
    ours("CLIENT SETINFO", ("CLIENT SETINFO LIB-NAME mine", OK), ("CLIENT SETINFO LIB-VER 1", OK)),
    ours("LASTINDEX is an index", ("SET ~k v", OK), ("LASTINDEX", Between(1, 1 << 62)),
         ("WAITINDEX 1 1000", ANYTHING)),
]

CASES = CONNECTION


@dataclass(frozen=True)
class Raw:
    """Bytes sent, bytes that must come back. With `closes`, the server then hangs up, and `back`
    is what the answer begins with."""
    name: str
    sent: bytes
    back: bytes
    closes: bool = False
    ours_only: bool = False


ANY_ERROR = b"-ERR"

RAW = [
    Raw("an array", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    Raw("two at once", b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n",
        b"+PONG\r\n$2\r\nhi\r\n"),
    Raw("an empty argument", b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"$0\r\n\r\n"),
    Raw("CR LF within an argument",
        b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n", b"$4\r\n\r\n\r\n\r\n"),
    Raw("*0 is nothing", b"*0\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    Raw("*-1 is nothing", b"*-1\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    Raw("*-10 is nothing", b"*-10\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    Raw("empty lines are nothing", b"\r\n\r\n\n*1\r\n$4\r\nPING\r\n\r\n", b"+PONG\r\n"),
    Raw("a line", b"PING\r\n", b"+PONG\r\n"),
    Raw("a line that ends in LF", b"QUIT\n", b"+OK", closes=True),
    Raw("a line among arrays", b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        b"+PONG\r\n" * 3),
    Raw("spaces and tabs around words", b"  PING  \r\n\tPING\r\n", b"+PONG\r\n" * 2),
    Raw("a line of spaces is nothing", b"   \r\nPING\r\n", b"+PONG\r\n"),
    Raw("QUIT says OK and hangs up", array("QUIT"), b"+OK\r\n", closes=True),
    Raw("QUIT: what follows is not done", array("QUIT") + array("PING"), b"+OK\r\n", closes=True),
    Raw("a number of arguments that is none", b"*x\r\n", ANY_ERROR, closes=True),
    Raw("a number of arguments beyond all limits", b"*3000000000\r\n", b"-", closes=True),
    Raw("a number of arguments beyond 64 bits", b"*99999999999999999999\r\n", b"-", closes=True),
    Raw("a length that is negative", b"*2\r\n$4\r\nECHO\r\n$-1\r\n", ANY_ERROR, closes=True),
    Raw("a length that is none", b"*2\r\n$4\r\nECHO\r\n$x\r\n", ANY_ERROR, closes=True),
    Raw("a length beyond all limits", b"*2\r\n$4\r\nECHO\r\n$2000000000\r\n", b"-", closes=True),
    Raw("a length beyond 64 bits", b"*2\r\n$4\r\nECHO\r\n$99999999999999999999\r\n", b"-",
        closes=True),
    Raw("an argument without $", b"*2\r\n$4\r\nECHO\r\nhi\r\n", ANY_ERROR, closes=True),
    Raw("an argument that is an integer", b"*2\r\n$4\r\nECHO\r\n:1\r\n", ANY_ERROR, closes=True),
    Raw("a line that only a browser sends", b"Host: here\r\n\r\n", b"",
        closes=True),
    Raw("a good request before a bad one is answered",
        array("PING") + b"*1\r\n$x\r\n", b"+PONG\r\n-ERR", closes=True),
    Raw("a line with an unbalanced quote", b'SET k "abc\r\n', ANY_ERROR, closes=None),
    Raw("a line that does not end", b"ECHO " + b"x" * 65_535, b"-", closes=True),
    Raw("both dialects on one connection", array("ECHO", "hi") + b"ECHO hi\n" + array("ECHO", "hi"),
        b"$2\r\nhi\r\n+hi\n$2\r\nhi\r\n", ours_only=True),
    Raw("lines are lines", b'ECHO "a\\x41\\n"\r\nECHO blue\nGET raft:none\n',
        b'+"aA\\n"\r\n+blue\n_\n', ours_only=True),
    Raw("HTTP is answered with HTTP", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"HTTP/1.1 400",
        closes=True, ours_only=True),
    Raw("a reply where a request should be", b"+OK\r\n", ANY_ERROR, closes=True, ours_only=True),
    Raw("the end of the last line is missing", b"PING\r\nPING", b"+PONG\r\n-ERR", closes="half",
        ours_only=True),
    Raw("what was sent before a half-close is answered", array("PING") * 100, b"+PONG\r\n" * 100,
        closes="half", ours_only=True),
]
