"""Checks that do not fit in a table: scans while keys come and go, pipelines in pieces, and what
comes back in a shape that clients take apart."""

import random
import socket
import threading
import time

from report import same
from resp import Connection, Error, Map, Null, Push, Text, Verbatim, array

OK = Text(b"OK")


def scan(connection, *options):
    """All that one whole SCAN tells, repeats included."""
    found, cursor, rounds = [], b"0", 0
    while True:
        cursor, keys = connection.call("SCAN", cursor, *options)
        assert cursor.isdigit(), f"cursor {cursor!r}"
        found += keys
        rounds += 1
        assert rounds < 100_000, "the SCAN does not end"
        if cursor == b"0":
            return found


def fill(connection, names):
    for at in range(0, len(names), 200):
        pairs = [word for name in names[at:at + 200] for word in (name, b"v")]
        same(connection.call("MSET", *pairs), OK)


def remove(connection, names):
    for at in range(0, len(names), 200):
        connection.call("DEL", *names[at:at + 200])


def scan_finds_everything(stage):
    connection = stage.connection(1)
    names = [stage.prefix + b"%d" % i for i in range(1000)]
    fill(connection, names)
    for options in ((), ("COUNT", "7"), ("COUNT", "5000")):
        found = set(scan(connection, *options))
        assert set(names) <= found, f"{len(set(names) - found)} are missing with {options}"
    pattern = stage.prefix + b"*7"
    found = set(scan(connection, "MATCH", pattern, "COUNT", "13"))
    same(found, {name for name in names if name.endswith(b"7")})
    same(set(scan(connection, "COUNT", "100", "MATCH", stage.prefix + b"none*")), set())
    remove(connection, names)
    same(set(scan(connection, "MATCH", stage.prefix + b"*")), set())


def scan_while_keys_change(stage):
    """What is there from beginning to end is found, whatever comes and goes."""
    connection, other = stage.connection(1), stage.connection(2)
    staying = [stage.prefix + b"stays:%d" % i for i in range(300)]
    going = [stage.prefix + b"goes:%d" % i for i in range(300)]
    coming = [stage.prefix + b"comes:%d" % i for i in range(1000)]
    fill(connection, staying + going)
    found, cursor, step = set(), b"0", 0
    while True:
        cursor, keys = connection.call("SCAN", cursor, "COUNT", "10", "MATCH", stage.prefix + b"*")
        found.update(keys)
        if cursor == b"0":
            break
        other.call("DEL", *going[step * 5:step * 5 + 5], stage.prefix + b"none")
        fill(other, coming[step * 9:step * 9 + 9])
        step += 1
    assert set(staying) <= found, f"{len(set(staying) - found)} are missing"
    assert found <= set(staying + going + coming), "a key that never was"
    remove(connection, staying + going + coming)


def scan_deleting_what_it_finds(stage):
    connection = stage.connection(1)
    names = [stage.prefix + b"%d" % i for i in range(500)]
    fill(connection, names)
    cursor, removed = b"0", 0
    while True:
        cursor, keys = connection.call("SCAN", cursor, "COUNT", "10", "MATCH", stage.prefix + b"*")
        removed += connection.call("DEL", *keys) if keys else 0
        if cursor == b"0":
            break
    same(removed, len(names), "removed")


def expired_keys_are_not_scanned(stage):
    connection = stage.connection(1)
    name = stage.prefix + b"k"
    same(connection.call("SET", name, "v", "PX", "30"), OK)
    while connection.call("EXISTS", name):
        pass
    same(scan(connection, "MATCH", stage.prefix + b"*"), [])


def dbsize_follows(stage):
    connection = stage.connection(1)
    names = [stage.prefix + b"%d" % i for i in range(50)]
    before = connection.call("DBSIZE")
    fill(connection, names)
    same(connection.call("DBSIZE") - before, 50, "more by")
    remove(connection, names)
    same(connection.call("DBSIZE") - before, 0, "more by")


def split_at_every_byte(stage):
    """A request may arrive in any two pieces, and byte by byte."""
    connection = stage.connection(1)
    key, value = stage.prefix + b"k", b"a\r\n$3\r\nb\x00\xff"
    request = array("SET", key, value) + array("GET", key) + b"PING\r\n"
    null = b"_\r\n" if stage.protocol == 3 else b"$-1\r\n"
    reply = b"+OK\r\n$%d\r\n%s\r\n+PONG\r\n:1\r\n%s" % (len(value), value, null)
    request += array("DEL", key) + array("GET", key)
    for at in range(1, len(request)):
        connection.send(request[:at])
        connection.send(request[at:])
        same(connection.take(len(reply)), reply)
    for byte in request:
        connection.send(bytes([byte]))
    same(connection.take(len(reply)), reply)


def thousand_commands_in_random_pieces(stage):
    """Replies come in the order of the requests, and a read sees the writes before it."""
    chance = random.Random(7)
    connection = stage.connection(1)
    for round_number in range(3):
        requests, replies, value = [], [], None
        for number in range(1000):
            key = stage.prefix + b"k%d" % round_number
            if chance.random() < 0.5:
                value = chance.randbytes(chance.choice((0, 1, 5, 100, 3000)))
                requests.append(array("SET", key, value))
                replies.append(OK)
            else:
                nothing = Null(b"_" if stage.protocol == 3 else b"$-1")
                requests.append(array("GET", key))
                replies.append(nothing if value is None else value)
        sender = threading.Thread(target=send_in_pieces,
                                  args=(connection, b"".join(requests), chance.randrange(1 << 30)))
        sender.start()
        got = [connection.read() for _ in replies]
        sender.join()
        wrong = [i for i, both in enumerate(zip(got, replies)) if both[0] != both[1]]
        assert not wrong, f"replies {wrong[:5]} of 1000 are wrong"


def send_in_pieces(connection, data, seed):
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 10, 100, 1000, 20_000))
        connection.send(data[at:at + size])
        at += size


def deep_pipeline(stage):
    """Ten thousand at once: more than a server takes in at a time."""
    connection = stage.connection(1)
    key = stage.prefix + b"n"
    sender = threading.Thread(target=connection.send, args=(array("INCR", key) * 10_000,))
    sender.start()
    same([connection.read() for _ in range(10_000)], list(range(1, 10_001)))
    sender.join()


def unfinished_request_is_not_done(stage):
    """A connection that is cut in the middle of a request: nothing of it happens."""
    key = stage.prefix + b"k"
    whole = array("SET", key, "100")
    for request in (whole[:-4], whole[:-1], b"SET %s 100" % key):
        with Connection(stage.addresses[0]) as other:
            other.send(request)
            other.finish_sending()
            other.rest()
        same(stage.connection(1).call("EXISTS", key), 0)


def inline_quotes(stage):
    """Lines with quotes: the arguments are what a typist means. After HELLO, lines are answered in
    RESP by both."""
    connection = stage.connection(1)
    connection.call("HELLO", str(stage.protocol))
    key = stage.prefix + b"k"
    for quoted, value in ((b'"a b"', b"a b"), (b'"a\\x00\\n\\"\\\\"', b'a\x00\n"\\'),
                          (b"'a b'", b"a b"), (b"'it\\'s'", b"it's"), (b'""', b""),
                          (b'{x:1}', b"{x:1}"), (b"'\\n'", b"\\n")):
        connection.send(b"SET %s %s\r\n" % (key, quoted))
        same(connection.read(), OK, f"SET to {quoted!r}")
        connection.send(b"GET %s\r\n" % key)
        same(connection.read(), value, f"{quoted!r} became")


def hello(stage):
    connection = Connection(stage.addresses[0])
    with connection:
        asked = connection.call("HELLO", str(stage.protocol), "SETNAME", "me")
        same(type(asked), Map if stage.protocol == 3 else list, "HELLO is answered with")
        flat = asked.flat() if stage.protocol == 3 else asked
        told = dict(zip(flat[::2], flat[1::2]))
        same(told[b"proto"], stage.protocol, "proto")
        same((told[b"mode"], told[b"role"], told[b"modules"]), (b"standalone", b"master", []))
        assert type(told[b"id"]) is int and told[b"server"] and told[b"version"], told
        same(connection.call("CLIENT", "GETNAME"), b"me")
        same(connection.call("CLIENT", "ID"), told[b"id"], "CLIENT ID")
        again = connection.call("HELLO")
        same(type(again), type(asked), "HELLO without a version keeps the protocol:")
        assert isinstance(connection.call("HELLO", "x"), Error)
        assert isinstance(connection.call("HELLO", str(stage.protocol), "WHATEVER"), Error)
        same(type(connection.call("HELLO")), type(asked), "after errors:")


def protocol_goes_back_and_forth(stage):
    connection = stage.connection(1)
    for version, null in ((3, b"_"), (2, b"$-1"), (3, b"_"), (stage.protocol, None)):
        connection.call("HELLO", str(version))
        got = connection.call("GET", stage.prefix + b"none")
        assert null is None or got == Null(null), f"HELLO {version}: {got!r}"


def info(stage):
    """A bulk string in RESP2, verbatim in RESP3, of lines `name:value` that clients take apart."""
    connection = stage.connection(1)
    for arguments in ((), ("server",), ("replication",)):
        got = connection.call("INFO", *arguments)
        text = got.text if stage.protocol == 3 else got
        same(type(got), Verbatim if stage.protocol == 3 else bytes)
        lines = text.decode().split("\r\n")
        facts = dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))
        if arguments in ((), ("server",)):
            assert facts["redis_version"][0].isdigit(), facts
        if arguments in ((), ("replication",)):
            same(facts["role"], "master", "role")
        if not arguments:
            same(facts["loading"], "0", "loading")


def command_docs(stage):
    """redis-cli takes its hints from here: summary, group, arguments of each command."""
    connection = stage.connection(1)
    whole = connection.call("COMMAND", "DOCS")
    flat = whole.flat() if stage.protocol == 3 else whole
    docs = dict(zip(flat[::2], flat[1::2]))
    for name in (b"get", b"set", b"mget", b"expire", b"multi", b"scan"):
        assert name in docs, f"{name!r} is not among {len(docs)} commands"
        about = docs[name].flat() if stage.protocol == 3 else docs[name]
        about = dict(zip(about[::2], about[1::2]))
        assert about[b"summary"], f"{name!r} has no summary"
        same(type(about.get(b"arguments", [])), list, f"arguments of {name!r}")
    one = connection.call("COMMAND", "DOCS", "GET")
    same(len(one.flat() if stage.protocol == 3 else one), 2, "COMMAND DOCS GET: length")


def command_table(stage):
    connection = stage.connection(1)
    entries = connection.call("COMMAND")
    same(connection.call("COMMAND", "COUNT"), len(entries), "COMMAND COUNT")
    table = {entry[0]: entry for entry in entries}
    same([table[b"strlen"][i] for i in (1, 3, 4, 5)], [2, 1, 1, 1], "arity and keys of STRLEN")
    same([table[b"mset"][i] for i in (1, 3, 4, 5)], [-3, 1, -1, 2], "arity and keys of MSET")
    one = connection.call("COMMAND", "INFO", "get")
    same(one[0][0], b"get")


def client_list(stage):
    connection = stage.connection(1)
    connection.call("CLIENT", "SETNAME", "listed")
    got = connection.call("CLIENT", "LIST")
    text = got.text if isinstance(got, Verbatim) else got
    number = connection.call("CLIENT", "ID")
    mine = [line for line in text.split(b"\n") if line.startswith(b"id=%d " % number)]
    assert len(mine) == 1 and b" name=listed" in mine[0], f"my line: {mine!r}"


def ids_differ(stage):
    again = 1 + len(stage.addresses)  # the next connection to the first server
    ids = {stage.connection(number).call("CLIENT", "ID") for number in (1, again)}
    same(len(ids), 2, "different ids on one server")


def versions(stage):
    """GETV and SET IFVER: a version is good for one write, and a key that was deleted and made
    anew does not fool it."""
    connection = stage.connection(1)
    key = stage.prefix + b"k"
    connection.call("SET", key, "a")
    _, version = connection.call("GETV", key)
    same(connection.call("SET", key, "b", "IFVER", str(version)), OK)
    null = Null(b"_" if stage.protocol == 3 else b"$-1")
    same(connection.call("SET", key, "c", "IFVER", str(version)), null)
    value, later = connection.call("GETV", key)
    assert value == b"b" and later > version, (value, version, later)
    connection.call("DEL", key)
    connection.call("SET", key, "b")
    same(connection.call("SET", key, "d", "IFVER", str(later)), null)


def feed(stage):
    """FEED on RESP3: what another connection writes, pushed in order."""
    key = stage.prefix + b"k"
    with Connection(stage.addresses[0], 3) as watcher:
        watcher.send(array("FEED", stage.prefix))
        time.sleep(0.3)  # whether FEED is answered before the first change is not asked here
        other = stage.connection(2)
        for value in (b"a", b"b", b"c"):
            other.call("SET", key, value)
        seen = b""
        while b"c" not in seen.split(b"|"):
            got = watcher.read()
            assert not isinstance(got, Error), f"FEED: {got!r}"
            items = got.items if isinstance(got, Push) else []
            if key in items:
                seen += b"|" + b"|".join(i for i in items if i in (b"a", b"b", b"c"))
        same(seen, b"|a|b|c", "changes")


def feed_needs_push_frames(stage):
    with Connection(stage.addresses[0], 2) as watcher:
        got = watcher.call("FEED", stage.prefix)
        assert isinstance(got, Error) and b"HELLO 3" in got.text, repr(got)


def blocks_of_text(stage):
    """HELP, STATUS and INFO are text of many lines: a bulk string in RESP2, verbatim in RESP3."""
    connection = stage.connection(1)
    for command in (("HELP",), ("HELP", "SET"), ("STATUS",), ("INFO",)):
        got = connection.call(*command)
        same(type(got), Verbatim if stage.protocol == 3 else bytes, f"{command} is answered with")


def bytes_through_resp_read_through_lines(stage):
    """A value of all 256 byte values, SET in RESP, comes back quoted on a line."""
    key = stage.prefix + b"k"
    same(stage.connection(1).call("SET", key, bytes(range(256))), OK)
    with Connection(stage.addresses[0]) as typist:
        typist.send(b"GET %s\n" % key)
        line = b""
        while not line.endswith(b"\n"):
            line += typist.take(1)
        unquoted = line[2:-2].decode("latin-1").encode("latin-1").decode("unicode_escape")
        same(line[:2] + line[-2:], b'+""\n', "quoted")
        same(unquoted.encode("latin-1"), bytes(range(256)))
        typist.send(line.replace(b"+", b"SET %s " % key, 1))
        same(typist.take(4), b"+OK\n")
    same(stage.connection(1).call("GET", key), bytes(range(256)))


def slow_reader_does_not_stop_others(stage):
    """One connection that asks and does not read; the others go on."""
    key = stage.prefix + b"k"
    same(stage.connection(1).call("SET", key, b"v" * (1 << 20)), OK)
    with Connection(stage.addresses[0]) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(array("GET", key) * 12)
        for _ in range(50):
            same(stage.connection(1).call("PING"), Text(b"PONG"))
    stage.connection(1).call("DEL", key)


SHARED = [scan_finds_everything, scan_while_keys_change, scan_deleting_what_it_finds,
          expired_keys_are_not_scanned, dbsize_follows, split_at_every_byte,
          thousand_commands_in_random_pieces, deep_pipeline, unfinished_request_is_not_done,
          inline_quotes, hello, protocol_goes_back_and_forth, info, command_docs, command_table,
          client_list, ids_differ, slow_reader_does_not_stop_others]
OURS_ONLY = [versions, blocks_of_text, feed, feed_needs_push_frames,
             bytes_through_resp_read_through_lines]
