"""Where we differ from Redis 7 on purpose: each row is run against both, with its own expectation.

The README quotes this table."""

from expect import (ANYTHING, NIL, OK, PONG, QUEUED, AnyError, AnyOrder, Error,
                    Fails, case)

NAMES = tuple(f"~{number:04}" for number in range(1200))
MANY = [["MSET", *(word for name in NAMES[at:at + 400] for word in (name, "v"))]
        for at in (0, 400, 800)]
FIVE = ("~a", "~b", "~c", "~d", "~e")

# (what, commands that both get, what Redis answers, what we answer)
DIFFERENCES = [
    ("keys of at most 1 KiB", (["SET", b"~" + b"k" * 1024, "v"],), (OK,), (Fails("TOOBIG"),)),
    ("values of at most 1 MiB", (["SET", "~k", b"v" * ((1 << 20) + 1)], "EXISTS ~k", "DEL ~k"),
     (OK, 1, 1), (Fails("TOOBIG"), 0, 0)),
    ("APPEND up to 1 MiB",
     (["SET", "~k", b"v" * (1 << 20)], "APPEND ~k v", "STRLEN ~k", "DEL ~k"),
     (OK, (1 << 20) + 1, (1 << 20) + 1, 1), (OK, Fails("TOOBIG"), 1 << 20, 1)),
    ("at most 1,024 arguments, the command's name among them",
     (["EXISTS"] + ["~k"] * 1024, "PING x"), (0, "x"), (Fails("TOOBIG"), "x")),
    ("at most 1,024 commands in a transaction",
     ("MULTI", *["INCR ~k"] * 1024, "INCR ~k", "EXEC", "EXISTS ~k"),
     (OK, *[QUEUED] * 1025, list(range(1, 1026)), 1),
     (OK, *[QUEUED] * 1024, Fails("TOOBIG"), Fails("EXECABORT"), 0)),
    ("replies of at most 4 MiB",
     (["SET", "~k", b"v" * (1 << 20)], ["MGET"] + ["~k"] * 5, "GET ~none", "DEL ~k"),
     (OK, [b"v" * (1 << 20)] * 5, NIL, 1), (OK, Fails("TOOBIG"), NIL, 1)),
    ("requests of at most 4 MiB",
     (["MSET", *(word for key in FIVE for word in (key, b"v" * (1 << 20)))],
      ["EXISTS", *FIVE], ["DEL", *FIVE]),
     (OK, 5, 5), (Fails("TOOBIG"), 0, 0)),
    ("transactions of at most 1 MiB",
     ("MULTI", ["SET", "~k", b"v" * 600_000], ["SET", "~l", b"v" * 600_000], "EXEC",
      "DEL ~k ~l"),
     (OK, QUEUED, QUEUED, [OK, OK], 2), (OK, QUEUED, Fails("TOOBIG"), Fails("EXECABORT"), 0)),
    ("KEYS names at most 1,000", (*MANY, "KEYS ~*"), (OK, OK, OK, AnyOrder(NAMES)),
     (OK, OK, OK, AnyError())),
    ("HELLO 1: back to lines, for whoever types", ("HELLO 1", "PING"), (Fails("NOPROTO"), PONG),
     (ANYTHING, PONG)),
    ("no database but 0", ("SELECT 1", "SELECT 0"), (OK, OK),
     (Error(b"ERR DB index is out of range"), OK)),
    ("no values but strings", ("LPUSH ~k a", "HSET ~h f v", "SADD ~s a", "DEL ~k ~h ~s"),
     (1, 1, 1, 3), (*[Fails("ERR", "unknown command")] * 3, 0)),
    ("no INCRBYFLOAT, LCS, RANDOMKEY, SETBIT", ("INCRBYFLOAT ~n 1", "SETBIT ~b 0 1", "RANDOMKEY",
                                                  "LCS ~n ~x", "DEL ~n ~b"),
     ("1", 0, ANYTHING, b"", 2), (*[Fails("ERR", "unknown command")] * 4, 0)),
    ("no OBJECT, DUMP, TIME",
     ("SET ~k 1", "OBJECT ENCODING ~k", "DUMP ~k", "TIME", "DEL ~k"),
     (OK, "int", ANYTHING, ANYTHING, 1),
     (OK, *[Fails("ERR", "unknown command")] * 3, 1)),
    ("settings stand in cluster.toml", ("CONFIG SET maxmemory 0",), (OK,),
     (Fails("ERR", "subcommand"),)),
    ("no scripts", (["EVAL", "return 1", "0"],), (1,), (Fails("ERR", "unknown command"),)),
    ("HELLO with a version to come is answered as 3", ("HELLO 4",), (Fails("NOPROTO"),),
     (ANYTHING,)),
    ("CLIENT SETINFO, which came with Redis 7.2", ("CLIENT SETINFO LIB-NAME x",),
     (Fails("ERR"),), (OK,)),
    ("READONLY is welcome though this is no Redis cluster", ("READONLY",), (Fails("ERR"),), (OK,)),
    ("SET IFEQ, after Valkey 8.1 and Redis 8.4", ("SET ~k a", "SET ~k b IFEQ a", "GET ~k"),
     (OK, Fails("ERR"), "a"), (OK, OK, "b")),
    ("GET takes STALE", ("GET ~k STALE",), (Fails("ERR"),), (NIL,)),
]


def cases(against_redis):
    """The rows as cases, for one of the two."""
    for what, commands, redis, ours in DIFFERENCES:
        yield case(f"differs: {what}", *zip(commands, redis if against_redis else ours))
