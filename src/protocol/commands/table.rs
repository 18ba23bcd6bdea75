//! The command table: one row per command.

use crate::kv::command::{Command, DeadlineFormat, Query};
use crate::protocol::request::Local;

use super::{Action, Arity, Entry, Group, Session};
use super::{data, insight, options, session};

macro_rules! table {
    ($($name:literal $arguments:literal, $arity:expr, $group:ident, $writes:literal, $build:expr,
       $summary:literal;)*) => {
        /// All commands, by group, in the order in which HELP lists them.
        pub static COMMANDS: &[Entry] = &[$(Entry {
            name: $name,
            arguments: $arguments,
            arity: $arity,
            summary: $summary,
            group: Group::$group,
            writes: $writes,
            build: $build,
        }),*];
    };
}

table! {
    "GET" "key [STALE]", Arity::between(1, 2), Data, false, data::get,
        "the key's value, _ if there is none";
    "SET" "key value [NX|XX|IFEQ old|IFVER version] [GET] \
        [EX seconds|PX milliseconds|EXAT seconds|PXAT milliseconds|KEEPTTL]",
        Arity::at_least(2), Data, true, options::set,
        "sets the key; see HELP SET for conditions and expiry";
    "DEL" "key [key ...]", Arity::at_least(1), Data, true, data::delete,
        "deletes the keys and counts those that existed";
    "EXISTS" "key [key ...]", Arity::at_least(1), Data, false, data::exists,
        "counts the keys that exist";
    "INCR" "key", Arity::exactly(1), Data, true, |a| data::increment_by_one(a, 1),
        "adds 1 to the key's integer and answers the sum";
    "DECR" "key", Arity::exactly(1), Data, true, |a| data::increment_by_one(a, -1),
        "subtracts 1 from the key's integer and answers the difference";
    "INCRBY" "key increment", Arity::exactly(2), Data, true, data::increment,
        "adds the number to the key's integer and answers the sum";
    "DECRBY" "key decrement", Arity::exactly(2), Data, true, data::decrement,
        "subtracts the number from the key's integer and answers the difference";
    "APPEND" "key value", Arity::exactly(2), Data, true, data::append,
        "adds to the end of the key's value and answers its new length";
    "STRLEN" "key", Arity::exactly(1), Data, false,
        |a| data::read_key(a, |key| Query::Length { key }),
        "the length of the key's value in bytes, 0 if there is none";
    "GETRANGE" "key start end", Arity::exactly(3), Data, false, data::get_range,
        "bytes of the value from start to end; -1 is the last";
    "SETRANGE" "key offset value", Arity::exactly(3), Data, true, data::set_range,
        "writes over the value from offset on and answers its new length";
    "GETV" "key", Arity::exactly(1), Data, false,
        |a| data::read_key(a, |key| Query::GetVersioned { key }),
        "the value and its version, the log index of its last write";
    "MGET" "key [key ...]", Arity::at_least(1), Data, false, data::get_many,
        "the values of the keys, _ where there is none";
    "MSET" "key value [key value ...]", Arity::at_least(2), Data, true,
        |a| data::set_many(a, false),
        "sets all the keys at once";
    "MSETNX" "key value [key value ...]", Arity::at_least(2), Data, true,
        |a| data::set_many(a, true),
        "sets all the keys if none exists: 1 done, 0 not";
    "SETNX" "key value", Arity::exactly(2), Data, true, options::set_if_absent,
        "sets the key if it does not exist: 1 done, 0 not";
    "GETSET" "key value", Arity::exactly(2), Data, true, options::get_and_set,
        "sets the key and answers its value before";
    "GETDEL" "key", Arity::exactly(1), Data, true,
        |a| data::write_key(a, |key| Command::GetAndDelete { key }),
        "deletes the key and answers its value";
    "UNLINK" "key [key ...]", Arity::at_least(1), Data, true, data::delete,
        "the same as DEL";
    "TOUCH" "key [key ...]", Arity::at_least(1), Data, false, data::exists,
        "the same as EXISTS";
    "TYPE" "key", Arity::exactly(1), Data, false, |a| data::read_key(a, |key| Query::Type { key }),
        "string, or none if there is no such key";
    "SUBSTR" "key start end", Arity::exactly(3), Data, false, data::get_range,
        "the same as GETRANGE";
    "RENAME" "key newkey", Arity::exactly(2), Data, true, |a| data::rename(a, false),
        "gives the value, and its time to live, to another key";
    "RENAMENX" "key newkey", Arity::exactly(2), Data, true, |a| data::rename(a, true),
        "the same if the other key does not exist: 1 done, 0 not";
    "COPY" "key newkey [REPLACE] [DB 0]", Arity::at_least(2), Data, true, data::copy,
        "copies the value and its time to live: 1 done, 0 no such key, or newkey exists";
    "FLUSHALL" "[ASYNC|SYNC]", Arity::between(0, 1), Data, true, data::flush,
        "deletes every key";
    "FLUSHDB" "[ASYNC|SYNC]", Arity::between(0, 1), Data, true, data::flush,
        "the same as FLUSHALL";

    "CAS" "key old new", Arity::exactly(3), Transactions, true, data::compare_and_set,
        "sets the key if its value equals old: 1 done, 0 not equal, _ no such key";
    "DELEX" "key IFEQ old", Arity::exactly(3), Transactions, true, data::delete_if_equal,
        "deletes the key if its value equals old: 1 done, 0 not";
    "MULTI" "", Arity::exactly(0), Transactions, false,
        |_| Ok(Action::Session(Session::Multi)),
        "begins a transaction: commands are queued until EXEC";
    "EXEC" "", Arity::exactly(0), Transactions, false, |_| Ok(Action::Session(Session::Exec)),
        "executes what is queued, all at once; _ if a watched key has changed";
    "DISCARD" "", Arity::exactly(0), Transactions, false,
        |_| Ok(Action::Session(Session::Discard)),
        "forgets what is queued";
    "WATCH" "key [key ...]", Arity::at_least(1), Transactions, false, session::watch,
        "lets the next EXEC succeed only if these keys do not change before it";
    "UNWATCH" "", Arity::exactly(0), Transactions, false,
        |_| Ok(Action::Session(Session::Unwatch)),
        "forgets what is watched";
    "ONCE" "client sequence command [argument ...]", Arity::at_least(3), Transactions, true,
        session::once,
        "executes a command that writes once, however often it is sent";

    "TTL" "key", Arity::exactly(1), Expiry, false,
        |a| data::time_to_live(a, DeadlineFormat::Seconds),
        "seconds until the key expires; -1 never, -2 no such key";
    "PTTL" "key", Arity::exactly(1), Expiry, false,
        |a| data::time_to_live(a, DeadlineFormat::Milliseconds),
        "the same in milliseconds";
    "EXPIRE" "key seconds [NX|XX|GT|LT]", Arity::at_least(2), Expiry, true,
        |a| options::expire(a, 1000, false),
        "lets the key expire in so many seconds: 1 done, 0 not";
    "PEXPIRE" "key milliseconds [NX|XX|GT|LT]", Arity::at_least(2), Expiry, true,
        |a| options::expire(a, 1, false),
        "the same in milliseconds";
    "EXPIREAT" "key seconds [NX|XX|GT|LT]", Arity::at_least(2), Expiry, true,
        |a| options::expire(a, 1000, true),
        "lets the key expire at a time, in seconds since 1970";
    "PEXPIREAT" "key milliseconds [NX|XX|GT|LT]", Arity::at_least(2), Expiry, true,
        |a| options::expire(a, 1, true),
        "the same in milliseconds";
    "EXPIRETIME" "key", Arity::exactly(1), Expiry, false,
        |a| data::time_to_live(a, DeadlineFormat::UnixSeconds),
        "when the key expires, in seconds since 1970; -1 never, -2 no such key";
    "PEXPIRETIME" "key", Arity::exactly(1), Expiry, false,
        |a| data::time_to_live(a, DeadlineFormat::UnixMilliseconds),
        "the same in milliseconds";
    "PERSIST" "key", Arity::exactly(1), Expiry, true,
        |a| data::write_key(a, |key| Command::Persist { key }),
        "lets the key live for ever: 1 done, 0 it did already";
    "SETEX" "key seconds value", Arity::exactly(3), Expiry, true, |a| options::set_for(a, 1000),
        "the same as SET key value EX seconds";
    "PSETEX" "key milliseconds value", Arity::exactly(3), Expiry, true, |a| options::set_for(a, 1),
        "the same as SET key value PX milliseconds";
    "GETEX" "key [PERSIST|EX seconds|PX milliseconds|EXAT seconds|PXAT milliseconds]",
        Arity::at_least(1), Expiry, true, options::get_and_expire,
        "the key's value, which from now on expires as told";

    "PREFIX" "prefix [LIMIT n]", Arity::at_least(1), Scan, false, data::prefix,
        "keys that begin with the prefix, and their values, in order";
    "RANGE" "from to [LIMIT n]", Arity::at_least(2), Scan, false, data::range,
        "keys from `from` up to but not including `to`, and their values, in order";
    "SCAN" "cursor [MATCH glob] [COUNT n] [TYPE string]", Arity::at_least(1), Scan, false,
        data::scan,
        "some keys, and the cursor to go on with; 0 begins and ends";
    "KEYS" "glob", Arity::exactly(1), Scan, false, data::keys,
        "the keys that match, if they are not too many";
    "DBSIZE" "", Arity::exactly(0), Scan, false, |_| data::read(Query::Count),
        "counts all keys";
    "FEED" "prefix [FROM index]", Arity::between(1, 3), Scan, false, insight::feed,
        "tells each change of keys that begin with the prefix, as it happens";

    "STATUS" "", Arity::exactly(0), Insight, false, insight::status,
        "what this server knows of the cluster";
    "INFO" "[section ...]", Arity::at_least(0), Insight, false, insight::info,
        "the same and more, in the form of Redis";
    "LOG" "index [count]", Arity::between(1, 2), Insight, false, insight::log,
        "entries of the replicated log, from this index";
    "LASTINDEX" "", Arity::exactly(0), Insight, false, |_| data::read(Query::AppliedIndex),
        "the index of the last log entry that is part of the answers";
    "WAITINDEX" "index milliseconds", Arity::exactly(2), Insight, false, insight::wait_index,
        "waits until this server has applied the index, and answers its last one";
    "CONFIG" "GET glob [glob ...]", Arity::at_least(1), Insight, false, insight::config,
        "settings of this server";

    "RAFT" "TRANSFER [server]|SNAPSHOT", Arity::between(1, 2), Insight, false, insight::raft,
        "hands leadership over; takes a snapshot (only from the server's own host)";
    "BACKUP" "BEGIN index|READ index offset count", Arity::between(2, 4), Insight, false,
        insight::backup,
        "a snapshot of this index or a later one, as bytes (only from its own host)";

    "HELP" "[command]", Arity::between(0, 1), Connection, false, session::help,
        "this text, or more about one command";
    "PING" "[message]", Arity::between(0, 1), Connection, false, session::ping,
        "answers PONG, or the message";
    "ECHO" "message", Arity::exactly(1), Connection, false, session::echo,
        "answers the message";
    "QUIT" "", Arity::exactly(0), Connection, false,
        |_| session::local(Local::Quit),
        "closes the connection";
    "HELLO" "[version] [SETNAME name]", Arity::at_least(0), Connection, false, session::hello,
        "chooses how answers look: 1 lines, 2 RESP2, 3 RESP3";
    "CLIENT" "ID|INFO|LIST|GETNAME|SETNAME name|SETINFO attribute text", Arity::at_least(1),
        Connection, false, session::client,
        "about this connection and the others";
    "COMMAND" "[COUNT|LIST|INFO|DOCS] [name ...]", Arity::at_least(0), Connection, false,
        insight::command,
        "describes the commands to programs";
    "SELECT" "index", Arity::exactly(1), Connection, false, session::select,
        "accepts 0, the only database";
    "RESET" "", Arity::exactly(0), Connection, false, |_| Ok(Action::Session(Session::Reset)),
        "makes the connection as it was when it was new";
    "READONLY" "", Arity::exactly(0), Connection, false, session::nothing_to_do,
        "accepted; every server answers reads";
    "READWRITE" "", Arity::exactly(0), Connection, false, session::nothing_to_do,
        "accepted; every server answers writes";
}
