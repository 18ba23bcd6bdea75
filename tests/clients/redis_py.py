"""redis-py: plain commands, pipelines, WATCH, pools and threads, in RESP2 and RESP3. `run` starts
this once with each version."""

import os
import sys
import threading
import time

import redis

from report import Report, addresses, same

EVERY_BYTE = bytes(range(256))
RUN = f"py:{os.getpid()}:"


def client(protocol, server=0, **options):
    host, port = addresses()[server % len(addresses())]
    return redis.Redis(host=host, port=port, protocol=protocol, socket_timeout=20, **options)


def raises(kind, text, function, *arguments, **options):
    """The error is of this very class, and says this."""
    try:
        got = function(*arguments, **options)
    except redis.RedisError as error:
        same(type(error), kind, f"{error}: class")
        assert text.lower() in str(error).lower(), f"{error!r} does not say {text!r}"
    else:
        raise AssertionError(f"no error, but {got!r}")


def plain(protocol, key):
    store = client(protocol)
    same(store.ping(), True)
    same(store.echo("hi"), b"hi")
    same(store.set(key, "v"), True)
    same(store.get(key), b"v")
    same(store.get(key + "none"), None)
    same(store[key], b"v")
    same(store.exists(key, key + "none"), 1)
    same(store.strlen(key), 1)
    same(store.append(key, "w"), 2)
    same(store.getrange(key, 0, 0), b"v")
    same(store.type(key), b"string")
    same(store.getset(key, "x"), b"vw")
    same(store.delete(key), 1)
    same(store.incr(key), 1)
    same(store.incrby(key, 41), 42)
    same(store.decr(key, 2), 40)
    same(store.mset({key + "a": 1, key + "b": 2}), True)
    same(store.mget(key + "a", key + "none", key + "b"), [b"1", None, b"2"])
    same(store.msetnx({key + "a": 3, key + "c": 3}), False)
    same(store.setnx(key, "no"), False)
    same(store.getdel(key), b"40")
    same(store.unlink(key + "a", key + "b", key + "c"), 2)


def set_options(protocol, key):
    store = client(protocol)
    same(store.set(key, "a", xx=True), None)
    same(store.set(key, "a", nx=True, ex=100), True)
    same(store.set(key, "b", nx=True), None)
    same(store.set(key, "b", keepttl=True, get=True), b"a")
    assert 90 <= store.ttl(key) <= 100
    same(store.set(key, "c", pxat=4_000_000_000_123), True)
    same(store.pexpiretime(key), 4_000_000_000_123)
    same(store.set(key, "d"), True)
    same(store.ttl(key), -1)
    store.delete(key)


def decoding(protocol, key):
    store = client(protocol, decode_responses=True)
    same(store.set(key, "größer"), True)
    same(store.get(key), "größer")
    same(store.mget(key, key + "none"), ["größer", None])
    same(store.keys(key + "*"), [key])
    same(store.info()["role"], "master")
    store.delete(key)


def pipeline_in_a_transaction(protocol, key):
    store = client(protocol)
    with store.pipeline() as pipe:
        pipe.set(key, 1).incr(key).get(key).expire(key, 100).ttl(key).delete(key).get(key)
        got = pipe.execute()
    same(got[:4] + got[5:], [True, 2, b"2", True, 1, None])
    with store.pipeline() as pipe:
        pipe.set(key, "text").incr(key).set(key, "after")
        raises(redis.ResponseError, "not an integer", pipe.execute)
    same(store.get(key), b"after")
    with store.pipeline() as pipe:
        pipe.set(key, "text").incr(key).get(key)
        got = pipe.execute(raise_on_error=False)
    same((got[0], type(got[1]), got[2]), (True, redis.ResponseError, b"text"))
    with store.pipeline() as pipe:
        pipe.set(key, "spoilt").execute_command("FROBNICATE")
        raises(redis.ResponseError, "unknown command", pipe.execute)
    same(store.get(key), b"text")
    store.delete(key)


def pipeline_without_transaction(protocol, key):
    store = client(protocol)
    with store.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"{key}{number}", number)
            pipe.get(f"{key}{number}")
        got = pipe.execute()
    same(got, [item for number in range(1000) for item in (True, b"%d" % number)])
    with store.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.delete(f"{key}{number}")
        same(sum(pipe.execute()), 1000)


def watch(protocol, key):
    """The second client writes through another server, where there is one."""
    store, other = client(protocol), client(protocol, server=1)
    store.set(key, 1)
    with store.pipeline() as pipe:
        pipe.watch(key)
        same(pipe.get(key), b"1")
        pipe.multi()
        pipe.incr(key)
        same(pipe.execute(), [2])
    with store.pipeline() as pipe:
        pipe.watch(key)
        other.set(key, 10)
        pipe.multi()
        pipe.incr(key)
        raises(redis.WatchError, "watched variable changed", pipe.execute)
    same(store.get(key), b"10")
    same(store.transaction(lambda pipe: pipe.multi() or pipe.incr(key), key), [11])
    store.delete(key)


def watch_under_contention(protocol, key):
    """Four threads count with WATCH and try again: no count is lost."""
    def count(server):
        store = client(protocol, server)

        def step(pipe):
            value = int(pipe.get(key) or 0)
            pipe.multi()
            pipe.set(key, value + 1)
        for _ in range(25):
            store.transaction(step, key)
    in_threads(count, 4)
    same(client(protocol).getdel(key), b"100")


def in_threads(function, number):
    errors = []

    def guarded(index):
        try:
            function(index)
        except Exception as error:  # is raised again below, where it fails the check
            errors.append(error)
    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def times_to_live(protocol, key):
    store = client(protocol)
    store.set(key, "v")
    same((store.ttl(key), store.pttl(key), store.ttl(key + "none")), (-1, -1, -2))
    same(store.expire(key, 100), True)
    same(store.expire(key, 500, nx=True), False)
    same(store.expire(key, 500, gt=True), True)
    assert 490 <= store.ttl(key) <= 500
    same(store.persist(key), True)
    same(store.expireat(key, 4_000_000_000), True)
    same(store.expiretime(key), 4_000_000_000)
    same(store.pexpire(key, 60), True)
    deadline = time.monotonic() + 5
    while store.exists(key) and time.monotonic() < deadline:
        time.sleep(0.02)
    same(store.get(key), None)
    same(store.execute_command("SETEX", key, 100, "v"), True)
    same(store.execute_command("PSETEX", key, 100_000, "v"), True)
    store.delete(key)


def scanning(protocol, key):
    store = client(protocol)
    store.mset({f"{key}{number}": "v" for number in range(400)})
    names = {f"{key}{number}".encode() for number in range(400)}
    same(set(store.scan_iter(match=key + "*")), names)
    same(set(store.scan_iter(match=key + "*", count=7)), names)
    same(set(store.keys(key + "?")), {f"{key}{number}".encode() for number in range(10)})
    same(store.delete(*names), 400)
    same(list(store.scan_iter(match=key + "*")), [])


def bytes_of_all_kinds(protocol, key):
    store = client(protocol)
    name = key.encode() + EVERY_BYTE
    same(store.set(name, EVERY_BYTE), True)
    same(store.get(name), EVERY_BYTE)
    same(store.keys(key + "*"), [name])
    for byte in EVERY_BYTE:
        store.set(name, bytes([byte]))
        same(store.get(name), bytes([byte]))
    same(store.set(name, b""), True)
    same(store.get(name), b"")
    store.delete(name)


def big_values(protocol, key):
    store, other = client(protocol), client(protocol, server=1)
    value = os.urandom(1 << 20)
    same(store.set(key, value), True)
    same(other.get(key), value)
    with store.pipeline(transaction=False) as pipe:
        for _ in range(3):
            pipe.get(key)
        same(pipe.execute(), [value] * 3)
    store.delete(key)


def errors(protocol, key):
    store = client(protocol)
    store.set(key, "text")
    wrong = redis.ResponseError
    raises(wrong, "value is not an integer or out of range", store.incr, key)
    raises(wrong, "unknown command", store.execute_command, "FROBNICATE")
    raises(wrong, "", store.execute_command, "GET")
    raises(wrong, "", store.execute_command, "SET", key, "v", "SOMEHOW")
    raises(wrong, "EXEC without MULTI", store.execute_command, "EXEC")
    raises(wrong, "index is out of range", store.execute_command, "SELECT", "99")
    same(store.get(key), b"text")
    store.delete(key)


def a_pool_under_threads(protocol, key):
    host, port = addresses()[0]
    pool = redis.ConnectionPool(host=host, port=port, protocol=protocol, max_connections=8)
    store = redis.Redis(connection_pool=pool)

    def work(index):
        for number in range(100):
            mine = f"{key}{index}"
            store.set(mine, number)
            same(store.get(mine), b"%d" % number)
            store.incr(key)
        store.delete(mine)
    in_threads(work, 8)
    same(store.getdel(key), b"800")
    pool.disconnect()


def questions_about_the_server(protocol, key):
    store = client(protocol, client_name="asker")
    info = store.info()
    same((info["role"], info["loading"]), ("master", 0))
    assert str(info["redis_version"])[0].isdigit(), info["redis_version"]
    same(store.info("replication")["role"], "master")
    same(list(store.config_get("appendonly")), ["appendonly"])
    same(store.config_get("no-such-setting"), {})
    assert store.command_count() > 20
    assert store.dbsize() >= 0
    assert store.client_getname() in ("asker", b"asker")
    same(store.client_setname("other"), True)
    assert store.client_id() > 0
    assert "other" in [entry["name"] for entry in store.client_list()]


def hello(protocol, key):
    store = client(protocol)
    got = store.execute_command("HELLO", protocol)
    told = got if isinstance(got, dict) else dict(zip(got[::2], got[1::2]))
    same(told[b"proto"], protocol)
    same(told[b"role"], b"master")


def from_url(protocol, key):
    host, port = addresses()[0]
    store = redis.from_url(f"redis://{host}:{port}/0?protocol={protocol}", decode_responses=True)
    same(store.set(key, "v"), True)
    same(store.get(key), "v")
    same(store.delete(key), 1)


CHECKS = [plain, set_options, decoding, pipeline_in_a_transaction, pipeline_without_transaction,
          watch, watch_under_contention, times_to_live, scanning, bytes_of_all_kinds, big_values,
          errors, a_pool_under_threads, questions_about_the_server, hello, from_url]


def as_installed(protocol, key):
    """Without a word about the protocol, as most programs do it: each version chooses itself."""
    host, port = addresses()[0]
    store = redis.Redis(host, port)
    same(store.set(key, "v"), True)
    same(store.get(key), b"v")
    same(store.delete(key), 1)


def main():
    report = Report(f"redis-py {redis.__version__}")
    same(redis.__version__, sys.argv[1], "redis-py")
    for protocol in (2, 3):
        for function in CHECKS:
            name = function.__name__.replace("_", " ")
            key = f"{RUN}{function.__name__}:{protocol}:"
            report.check(f"{name} (RESP{protocol})", function, protocol, key)
    report.check("as installed", as_installed, None, RUN + "default")
    report.end()


main()
