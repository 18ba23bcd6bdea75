//! What each command means, as the store is told. Lines and arrays mean the same.

use raft_server::kv::command::{Command, Query, Write};
use raft_server::protocol::{Input, Insight, Local, Reply, Request, commands};

use super::server::{inputs, words};

/// Typed, and how the request is rendered.
const MEANINGS: &[(&str, &str)] = &[
    ("GET k", "GET k"),
    ("get k stale", "stale GET k"),
    ("GETV k", "GETV k"),
    ("SET k v", "SET k v"),
    ("SET k v GET NX PX 5", "SET k v NX PX 5 GET"),
    ("SET k v PX 5 nx get", "SET k v NX PX 5 GET"),
    ("SET k v XX KEEPTTL", "SET k v XX KEEPTTL"),
    ("SET k v IFEQ old EX 10", "SET k v IFEQ old PX 10000"),
    ("SET k v IFVER 0", "SET k v IFVER 0"),
    ("SET k v EXAT 10", "SET k v PXAT 10000"),
    ("SET k v PXAT 10", "SET k v PXAT 10"),
    ("SET k v NX NX EX 1 EX 2", "SET k v NX PX 2000"),
    ("SETEX k 10 v", "SET k v PX 10000"),
    ("PSETEX k 10 v", "SET k v PX 10"),
    ("GETSET k v", "SET k v GET"),
    ("GETDEL k", "GETDEL k"),
    ("GETEX k", "GET k"),
    ("GETEX k EX 1", "GETEX k PX 1000"),
    ("GETRANGE k 0 -1", "GETRANGE k 0 -1"),
    ("SUBSTR k 0 -1", "GETRANGE k 0 -1"),
    ("MGET a b", "MGET a b"),
    ("MSET a 1 b 2", "MSET a 1 b 2"),
    ("MSETNX a 1 b 2", "MSETNX a 1 b 2"),
    ("STRLEN k", "STRLEN k"),
    ("TYPE k", "TYPE k"),
    ("SETRANGE k 5 v", "SETRANGE k 5 v"),
    ("RENAME a b", "RENAME a b"),
    ("RENAMENX a b", "RENAMENX a b"),
    ("COPY a b", "COPY a b"),
    ("COPY a b db 0 replace", "COPY a b REPLACE"),
    ("SCAN 7 TYPE list", "SCAN 18446744073709551615 COUNT 10"),
    ("EXISTS a b", "EXISTS a b"),
    ("TOUCH a b", "EXISTS a b"),
    ("DEL a b", "DEL a b"),
    ("UNLINK a b", "DEL a b"),
    ("FLUSHALL", "FLUSHALL"),
    ("FLUSHDB async", "FLUSHALL"),
    ("FLUSHALL SYNC", "FLUSHALL"),
    ("CAS k a b", "CAS k a b"),
    ("DELEX k ifeq v", "DELEX k IFEQ v"),
    ("EXPIRE k 10", "PEXPIRE k 10000"),
    ("EXPIRE k -1 NX", "PEXPIRE k -1000 NX"),
    ("PEXPIRE k 10 XX GT", "PEXPIRE k 10 GT"),
    ("EXPIREAT k 10 LT", "PEXPIREAT k 10000 LT"),
    ("PEXPIREAT k 0", "PEXPIREAT k 0"),
    ("PERSIST k", "PERSIST k"),
    ("TTL k", "TTL k"),
    ("PTTL k", "PTTL k"),
    ("EXPIRETIME k", "EXPIRETIME k"),
    ("PEXPIRETIME k", "PEXPIRETIME k"),
    ("RANGE a b LIMIT 5", "RANGE a b LIMIT 5"),
    ("PREFIX ca", "RANGE ca cb LIMIT 1000"),
    ("SCAN 0", "SCAN 0 COUNT 10"),
    (
        "SCAN 18446744073709551615 COUNT 99999 MATCH a* TYPE string",
        "SCAN 18446744073709551615 MATCH a* COUNT 1000",
    ),
    ("KEYS a*", "KEYS a*"),
    ("DBSIZE", "DBSIZE"),
    ("LASTINDEX", "LASTINDEX"),
    ("ONCE me 1 INCR k", "ONCE me 1 INCRBY k 1"),
    ("ONCE me 9223372036854775807 SET k v NX", "ONCE me 9223372036854775807 SET k v NX"),
    ("DECRBY k 5", "INCRBY k -5"),
];

fn rendered(input: &Input) -> String {
    match input {
        Input::Request(Request::Write(write)) => write.to_string(),
        Input::Request(Request::Read(query)) => query.to_string(),
        Input::Request(Request::StaleRead(query)) => format!("stale {query}"),
        other => panic!("neither read nor write: {other:?}"),
    }
}

#[test]
fn every_command_means_what_the_table_says() {
    for (typed, expected) in MEANINGS {
        let by_line = inputs(format!("{typed}\n"));
        assert_eq!(rendered(&by_line[0]), *expected, "{typed}");
        assert_eq!(inputs(words(typed)), by_line, "{typed}");
        assert_eq!(inputs(format!("{}\n", typed.to_lowercase()))[0].clone(), {
            inputs(words(&typed.to_lowercase()))[0].clone()
        });
    }
}

/// What a rendering does not show.
#[test]
fn settings_travel_with_the_command() {
    let [Input::Request(Request::Write(Write::Command(Command::Append { value_bytes_max, .. })))] =
        &inputs("APPEND k v\n")[..]
    else {
        panic!("an APPEND")
    };
    assert_eq!(*value_bytes_max, 1024 * 1024);
    let [Input::Request(Request::Read(Query::Range { to: None, .. }))] =
        &inputs("PREFIX \"\\xff\\xff\"\n")[..]
    else {
        panic!("a range without an end")
    };
}

#[test]
fn questions_about_the_server_are_told_apart() {
    let insight = |insight| Input::Request(Request::Local(Local::Insight(insight)));
    let list = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec().into()).collect();
    for (typed, expected) in [
        ("STATUS", insight(Insight::Status)),
        ("INFO", insight(Insight::Info { sections: vec![] })),
        ("INFO server raft", insight(Insight::Info { sections: list(&["server", "raft"]) })),
        ("LOG 5", insight(Insight::Log { from: 5, count: 10 })),
        ("LOG 5 100", insight(Insight::Log { from: 5, count: 100 })),
        ("CONFIG GET save app*", insight(Insight::ConfigGet { patterns: list(&["save", "app*"]) })),
        ("CLIENT LIST", insight(Insight::ClientList)),
        ("WAITINDEX 5 60000", Input::Request(Request::WaitIndex { index: 5, wait_ms: 60_000 })),
        ("QUIT", Input::Request(Request::Local(Local::Quit))),
        ("PING", Input::Reply(Reply::Text("PONG"))),
        ("ECHO x", Input::Reply(Reply::Value(b"x".to_vec().into()))),
    ] {
        assert_eq!(inputs(words(typed)), [expected], "{typed}");
    }
}

/// A row's usage names exactly what its arity lets through, and every row is reachable.
#[test]
fn rows_are_consistent() {
    for entry in commands::COMMANDS {
        let required = entry.arguments.split('[').next().unwrap_or_default();
        if !entry.arguments.contains('|') || !required.contains('|') {
            // CONFIG GET without a pattern is an error of the subcommand.
            let count = required.split_whitespace().count();
            assert!(count == entry.arity.min || entry.name == "CONFIG", "{}", entry.name);
        }
        let is_fixed = entry.arity.max == Some(entry.arity.min);
        assert_eq!(is_fixed, !entry.arguments.contains(['[', '|']), "{}", entry.name);
        let same = commands::COMMANDS.iter().filter(|other| other.name == entry.name);
        assert_eq!(same.count(), 1, "{}", entry.name);
        assert!(entry.summary.len() < 80 && !entry.summary.ends_with('.'), "{}", entry.name);
    }
}
