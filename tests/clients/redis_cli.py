"""redis-cli, as a person or a script uses it: one command, a file of commands, a terminal, mass
insertion."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from report import Report, addresses, same
from resp import array

HOST, PORT = addresses()[0]
CLI = ["redis-cli", "-h", HOST, "-p", str(PORT)]
RUN = f"cli:{os.getpid()}:"


def cli(*arguments, sent=b"", code=0):
    """What redis-cli prints; stdin is no terminal."""
    done = subprocess.run([*CLI, *arguments], input=sent, capture_output=True, timeout=60)
    same(done.returncode, code, f"{arguments}: {done.stdout[-300:]!r} {done.stderr!r}: exit code")
    return done.stdout


def one_command():
    key = RUN + "one"
    same(cli("PING"), b"PONG\n")
    same(cli("SET", key, "blue sky"), b"OK\n")
    same(cli("GET", key), b"blue sky\n")
    same(cli("--no-raw", "GET", key), b'"blue sky"\n')
    same(cli("--no-raw", "GET", RUN + "none"), b"(nil)\n")
    same(cli("GET", RUN + "none"), b"\n")
    same(cli("--no-raw", "INCR", RUN + "n"), b"(integer) 1\n")
    same(cli("MGET", key, RUN + "n"), b"blue sky\n1\n")
    same(cli("DEL", key, RUN + "n"), b"2\n")


def errors():
    cli("SET", RUN + "text", "abc")
    said = cli("INCR", RUN + "text")
    assert said.startswith(b"ERR value is not an integer or out of range"), said
    same(cli("-e", "INCR", RUN + "text", code=1), b"")  # said on stderr
    same(cli("--no-raw", "INCR", RUN + "text").split()[:2], [b"(error)", b"ERR"])
    cli("DEL", RUN + "text")


def protocol_3():
    key = RUN + "three"
    same(cli("-3", "SET", key, "v"), b"OK\n")
    same(cli("-3", "GET", key), b"v\n")
    same(cli("-3", "--no-raw", "GET", RUN + "none"), b"(nil)\n")
    shown = cli("-3", "--no-raw", "HELLO")
    assert b'"proto" => (integer) 3' in shown, shown
    assert b'1# "appendonly" => "' in cli("-3", "--no-raw", "CONFIG", "GET", "appendonly")
    same(cli("-3", "DEL", key), b"1\n")


def piped_lines():
    """Commands on stdin, one a line, as in `redis-cli < file`."""
    key = RUN + "piped"
    lines = f'SET {key} "a b"\nGET {key}\n\nAPPEND {key} c\nGET {key}\nDEL {key}\n'.encode()
    same(cli(sent=lines), b"OK\na b\n4\na bc\n1\n")
    lines = b"".join(b"INCR %s\n" % key.encode() for _ in range(200))
    same(cli(sent=lines), b"".join(b"%d\n" % n for n in range(1, 201)))
    lines = f"MULTI\nGET {key}\nINCR {key}\nEXEC\nDEL {key}\n".encode()
    same(cli(sent=lines), b"OK\nQUEUED\nQUEUED\n200\n201\n1\n")


def value_from_stdin():
    key, value = RUN + "stdin", bytes(range(256))
    same(cli("-x", "SET", key, sent=value), b"OK\n")
    same(cli("GET", key), value + b"\n")
    same(cli("STRLEN", key), b"256\n")
    cli("DEL", key)


def binary():
    """Bytes beyond ASCII in keys and values, typed with escapes and shown with them."""
    lines = (f'SET "{RUN}\\x01\\xff" "\\x00\\r\\n\\xfe"\nGET "{RUN}\\x01\\xff"\n'
             f'DEL "{RUN}\\x01\\xff"\n').encode()
    same(cli("--no-raw", sent=lines), b'OK\n"\\x00\\r\\n\\xfe"\n(integer) 1\n')


def repeat():
    key = RUN + "repeat"
    same(cli("-r", "5", "INCR", key), b"1\n2\n3\n4\n5\n")
    same(cli("DEL", key), b"1\n")


def scan():
    cli("MSET", *(word for i in range(100) for word in (f"{RUN}scan:{i}", "v")))
    found = cli("--scan", "--pattern", f"{RUN}scan:*").split()
    same(set(found), {f"{RUN}scan:{i}".encode() for i in range(100)})
    cli("DEL", *(f"{RUN}scan:{i}" for i in range(100)))


def every_server():
    """A value written at one server is read at each."""
    cli("SET", RUN + "all", "v")
    for host, port in addresses():
        command = ["redis-cli", "-h", host, "-p", str(port), "GET", RUN + "all"]
        same(subprocess.run(command, capture_output=True, timeout=60).stdout, b"v\n", f"at {port}")
    cli("DEL", RUN + "all")


def pipe(requests, code=0):
    """(errors, replies) as redis-cli counts them."""
    said = cli("--pipe", sent=requests, code=code)
    match = re.search(rb"errors: (\d+), replies: (\d+)", said)
    assert match, said
    return int(match[1]), int(match[2])


def pipe_resp():
    keys = [f"{RUN}pipe:{i}" for i in range(2000)]
    same(pipe(b"".join(array("SET", key, bytes(range(256))) for key in keys)), (0, 2000))
    same(pipe(b"".join(array("INCR", key) for key in keys[:50]), code=1), (50, 50))
    same(cli("EXISTS", *keys[:1000]), b"1000\n")
    same(pipe(b"".join(array("DEL", key) for key in keys)), (0, 2000))


def pipe_lines():
    keys = [f"{RUN}lines:{i}" for i in range(1000)]
    same(pipe("".join(f"SET {key} v\r\n" for key in keys).encode()), (0, 1000))
    same(pipe("".join(f"DEL {key}\r\n" for key in keys).encode()), (0, 1000))


class Terminal:
    """redis-cli in a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", REDISCLI_HISTFILE="/dev/null")
            # Without a width, redis-cli would ask the terminal for it and wait.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
            os.execvp("redis-cli", [*CLI, *arguments])
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.file)
        os.waitpid(self.pid, 0)

    def type(self, text):
        """Types when the prompt is there: what comes earlier is thrown away by redis-cli."""
        self.wait_until(lambda shown: shown.endswith(b"> "), "a prompt")
        self.seen = b""
        os.write(self.file, text)

    def wait_for(self, wanted):
        self.wait_until(lambda shown: wanted in shown, repr(wanted))

    def wait_until(self, fits, what):
        deadline = time.monotonic() + 10
        while not fits(self.plain()):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.file], [], [], left)[0]
            assert ready, f"{what} did not come; the terminal shows {self.plain()[-300:]!r}"
            self.seen += os.read(self.file, 4096)

    def plain(self):
        """What came, without colours and cursor moves."""
        return re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", self.seen)


def terminal():
    key = (RUN + "typed").encode()
    with Terminal() as typist:
        typist.wait_for(f"{HOST}:{PORT}> ".encode())
        typist.type(b"SET %s 41\r" % key)
        typist.wait_for(b"\nOK\r\n")
        typist.type(b"INCR %s\r" % key)
        typist.wait_for(b"(integer) 42\r\n")
        typist.type(b"GET %s\r" % key)
        typist.wait_for(b'"42"\r\n')
        typist.type(b"MULTI\r")
        typist.wait_for(b"(TX)> ")
        typist.type(b"DEL %s\r" % key)
        typist.wait_for(b"QUEUED\r\n")
        typist.type(b"EXEC\r")
        typist.wait_for(b"1) (integer) 1\r\n")
        typist.type(b"exit\r")


def hints():
    """Half a command, and redis-cli says what comes next."""
    shows_hints((b"GET ", b"GET key"), (b"EXPIRE ", b"EXPIRE key seconds"),
                (b"INCRBY k ", b"INCRBY k increment"), (b"SET k ", b"SET k value"))


def hints_from_our_docs():
    """redis-cli has a table of its own to fall back on; of these commands only COMMAND DOCS can
    have told it."""
    shows_hints((b"CAS ", b"CAS key "), (b"GETV ", b"GETV key"), (b"PREFIX ", b"PREFIX prefix"))


def shows_hints(*expected):
    for typed, hint in expected:
        with Terminal() as typist:
            typist.type(typed)
            typist.wait_for(hint)
            os.write(typist.file, b"\x03")


def help_text():
    """`help GET` shows the summary from COMMAND DOCS."""
    with Terminal() as typist:
        typist.type(b"help GET\r")
        typist.wait_for(b"GET key")
        typist.wait_for(b"summary: ")
        typist.type(b"exit\r")


def terminal_protocol_3():
    with Terminal("-3") as typist:
        typist.type(b"CONFIG GET appendonly\r")
        typist.wait_for(b'1# "appendonly" => "')
        typist.type(b"exit\r")


def main():
    report = Report("redis-cli")
    for function in (one_command, errors, protocol_3, piped_lines, value_from_stdin, binary, repeat,
                     scan, every_server, pipe_resp, pipe_lines, terminal, hints, help_text,
                     terminal_protocol_3):
        report.check(function.__name__.replace("_", " "), function)
    report.check("hints from our docs", hints_from_our_docs, ours_only=True)
    report.end()


main()
