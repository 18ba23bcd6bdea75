//! What each mistake is answered by, to a person and to a program. Clients and their tests compare
//! the words of Redis; people want to know what and where.

use raft_server::kv::command::Outcome;
use raft_server::protocol::error::{Error, Refused};
use raft_server::protocol::line::LineEnd;
use raft_server::protocol::{Dialect, Reply};

use super::server::{answers, words};

/// Typed; how a person is told; how a program is told.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "foo a b",
        "ERR unknown command foo; HELP lists all commands",
        "ERR unknown command 'foo', with args beginning with: 'a' 'b' ",
    ),
    (
        "FROBNICATE",
        "ERR unknown command FROBNICATE; HELP lists all commands",
        "ERR unknown command 'FROBNICATE', with args beginning with: ",
    ),
    (
        "GTE x",
        "ERR unknown command GTE; did you mean GET?",
        "ERR unknown command 'GTE', with args beginning with: 'x' ",
    ),
    (
        "HELP nonsense",
        "ERR unknown command nonsense; HELP lists all commands",
        "ERR unknown command 'nonsense', with args beginning with: ",
    ),
    ("GET", "ERR GET takes 1 or 2 arguments, got 0", ARITY_GET),
    ("GET color extra", "ERR GET takes 1 argument, got 2", ARITY_GET),
    (
        "PING a b",
        "ERR PING takes 0 or 1 arguments, got 2",
        "ERR wrong number of arguments for 'ping' command",
    ),
    (
        "DEL",
        "ERR DEL takes at least 1 argument, got 0",
        "ERR wrong number of arguments for 'del' command",
    ),
    (
        "DBSIZE x",
        "ERR DBSIZE takes no arguments, got 1",
        "ERR wrong number of arguments for 'dbsize' command",
    ),
    (
        "MSET a 1 b",
        "ERR MSET takes pairs of key and value, got 3 arguments",
        "ERR wrong number of arguments for 'mset' command",
    ),
    (
        "CLIENT SETNAME",
        "ERR CLIENT SETNAME takes 1 argument, got 0",
        "ERR wrong number of arguments for 'client|setname' command",
    ),
    (
        "CONFIG GET",
        "ERR CONFIG GET takes at least 1 argument, got 0",
        "ERR wrong number of arguments for 'config|get' command",
    ),
    (
        "BACKUP BEGIN",
        "ERR BACKUP takes 2 to 4 arguments, got 1",
        "ERR wrong number of arguments for 'backup' command",
    ),
    (
        "BACKUP READ 1 2",
        "ERR BACKUP READ takes 3 arguments, got 2",
        "ERR wrong number of arguments for 'backup|read' command",
    ),
    ("BACKUP BEGIN x", NOTINT, INTEGER),
    (
        "BACKUP READ 1 0 1048577",
        "ERR BACKUP READ answers from 1 to 1048576 bytes at once",
        "ERR BACKUP READ answers from 1 to 1048576 bytes at once",
    ),
    (
        "BACKUP NOW 1",
        "ERR BACKUP: unknown subcommand NOW; see HELP BACKUP",
        "ERR unknown subcommand 'NOW'. Try HELP BACKUP.",
    ),
    (
        "CLIENT NO-EVICT on",
        "ERR CLIENT: unknown subcommand NO-EVICT; see HELP CLIENT",
        "ERR unknown subcommand 'NO-EVICT'. Try HELP CLIENT.",
    ),
    (
        "SET k v YY",
        "ERR SET: expected NX, XX, IFEQ old, IFVER n, GET, EX s, PX ms, EXAT s, PXAT ms or \
         KEEPTTL, got YY",
        SYNTAX,
    ),
    ("SET k v IFEQ", "ERR SET: IFEQ takes the old value", SYNTAX),
    ("SET k v NX XX", "ERR SET takes only one of NX, XX, IFEQ and IFVER", SYNTAX),
    ("SET k v EX", "ERR SET: EX takes an argument", SYNTAX),
    ("SET k v EX 1 KEEPTTL", "ERR SET takes only one of EX, PX, EXAT, PXAT and KEEPTTL", SYNTAX),
    ("SET k v EX 1 PX 1", "ERR SET takes only one of EX, PX, EXAT, PXAT and KEEPTTL", SYNTAX),
    ("SET k v EX 1.5", NOTINT, INTEGER),
    ("SET k v EX 0", "ERR SET: the time to expire", "ERR invalid expire time in 'set' command"),
    (
        "SET k v PX 9223372036854770000",
        "ERR SET: the time to expire",
        "ERR invalid expire time in 'set' command",
    ),
    ("SETEX k -1 v", "ERR SETEX: the time to expire", "ERR invalid expire time in 'setex' command"),
    (
        "EXPIRE k 9223372036854776",
        "ERR EXPIRE: the time to expire",
        "ERR invalid expire time in 'expire' command",
    ),
    (
        "EXPIRE k 1 NX GT",
        "ERR NX and XX, GT or LT options at the same time are not compatible",
        "ERR NX and XX, GT or LT options at the same time are not compatible",
    ),
    (
        "EXPIRE k 1 GT LT",
        "ERR GT and LT options at the same time are not compatible",
        "ERR GT and LT options at the same time are not compatible",
    ),
    ("EXPIRE k 1 ab", "ERR Unsupported option ab", "ERR Unsupported option ab"),
    ("DELEX k NE v", "ERR DELEX: expected IFEQ old, got NE", SYNTAX),
    ("INCRBY n 1.5", NOTINT, INTEGER),
    ("INCRBY n 9223372036854775808", NOTINT, INTEGER),
    (
        "DECRBY n -9223372036854775808",
        "NOTINT the result would be out of range for a 64-bit integer; unchanged",
        "ERR increment or decrement would overflow",
    ),
    ("PREFIX a LIMIT", "ERR PREFIX: expected LIMIT n, got LIMIT", SYNTAX),
    ("RANGE a b COUNT 3", "ERR RANGE: expected LIMIT n, got COUNT", SYNTAX),
    (
        "RANGE a b LIMIT 1001",
        "ERR RANGE: LIMIT takes a number from 1 to 1000",
        "ERR RANGE: LIMIT takes a number from 1 to 1000",
    ),
    ("RANGE a b LIMIT 0", "ERR RANGE: LIMIT takes a number from 1 to 1000", "ERR RANGE: LIMIT"),
    ("SCAN x", "ERR SCAN: the cursor is a number: 0 to begin", "ERR invalid cursor"),
    ("SCAN -1", "ERR SCAN: the cursor is a number: 0 to begin", "ERR invalid cursor"),
    ("SCAN 0 COUNT 0", "ERR SCAN: COUNT takes a number from 1", SYNTAX),
    ("SCAN 0 MATCH", "ERR SCAN: expected MATCH glob, COUNT n or TYPE string, got MATCH", SYNTAX),
    ("SELECT 1", "ERR there is only database 0", "ERR DB index is out of range"),
    ("SELECT x", NOTINT, INTEGER),
    ("EXEC", "ERR EXEC ends what MULTI begins, and there is no MULTI", "ERR EXEC without MULTI"),
    (
        "DISCARD",
        "ERR DISCARD ends what MULTI begins, and there is no MULTI",
        "ERR DISCARD without MULTI",
    ),
    (
        "ONCE me 1 GET k",
        "ERR ONCE takes a single command that writes, and GET is none",
        "ERR ONCE takes a single command that writes, and GET is none",
    ),
    ("ONCE me 1 EXEC", "ERR ONCE takes a single command that writes, and EXEC is none", "ERR ONCE"),
    (
        "ONCE me 1 ONCE me 1 INCR k",
        "ERR ONCE takes a single command that writes, and ONCE is none",
        "ERR ONCE takes",
    ),
    ("ONCE me 1 GETEX k", "ERR ONCE takes a single command that writes", "ERR ONCE takes"),
    ("ONCE me 0 INCR k", NOTINT, INTEGER),
    (
        "ONCE me 1 INCR",
        "ERR INCR takes 1 argument, got 0",
        "ERR wrong number of arguments for 'incr'",
    ),
    ("HELLO 0", "NOPROTO HELLO takes 1 (lines), 2 (RESP2) or 3 (RESP3)", "NOPROTO unsupported"),
    ("HELLO x", "ERR Protocol version is not an integer", "ERR Protocol version is not an integer"),
    ("HELLO 3 AUTH me pw", "ERR AUTH <password> called without any", "ERR AUTH <password> called"),
    ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'", "ERR Syntax error in HELLO option"),
    ("WAITINDEX 1 60001", "ERR WAITINDEX waits for at most 60000 ms", "ERR WAITINDEX waits"),
    ("LOG 1 101", "ERR LOG shows from 1 to 100 entries at once", "ERR LOG shows"),
    ("LOG 0", NOTINT, INTEGER),
    ("FEED x FROM", "ERR FEED: expected FROM index, got FROM", SYNTAX),
];

const ARITY_GET: &str = "ERR wrong number of arguments for 'get' command";
const SYNTAX: &str = "ERR syntax error\r";
const NOTINT: &str = "NOTINT value is not an integer or out of range";
const INTEGER: &str = "ERR value is not an integer or out of range\r";

/// An error says what is wrong and where, and the connection goes on.
#[test]
fn every_error_says_what_and_where() {
    for (typed, for_people, for_programs) in MISTAKES {
        let answer = answers(format!("{typed}\nPING\n"));
        assert!(answer.starts_with(&format!("-{for_people}")), "{typed}: {answer}");
        assert!(answer.ends_with("\n+PONG\n") && answer.lines().count() == 2, "{typed}: {answer}");

        let answer = answers([words(typed), words("PING")].concat());
        assert!(answer.starts_with(&format!("-{for_programs}")), "{typed}: {answer}");
        assert!(answer.ends_with("\r\n+PONG\r\n") && answer.lines().count() == 2, "{answer}");
    }
}

/// What cannot be taken apart names its column.
#[test]
fn a_bad_line_names_its_column() {
    for (typed, expected) in [
        ("GET \"abc", "ERR column 5: the quote that begins here is not closed"),
        ("GET 'abc", "ERR column 5: the quote that begins here is not closed"),
        ("GET \"a\"b", "ERR column 8: expected a space after the closing quote"),
        ("GET a\0b", "ERR column 6: NUL and CR need double quotes: \"\\0\", \"\\r\""),
        ("GET a\rb", "ERR column 6: NUL and CR need double quotes: \"\\0\", \"\\r\""),
    ] {
        assert_eq!(answers(format!("{typed}\nPING\n")), format!("-{expected}\n+PONG\n"), "{typed}");
    }
    for escape in ["q", "x", "x1", "xg0", "N"] {
        let answer = answers(format!("ECHO \"a\\{escape}\"\nPING\n"));
        assert!(answer.starts_with("-ERR column 8: unknown escape"), "{escape}: {answer}");
        assert!(answer.ends_with("\n+PONG\n"));
    }
}

fn both(reply: impl Into<Reply>) -> (String, String) {
    let reply = reply.into();
    let print = |dialect: Dialect| {
        let mut output = Vec::new();
        dialect.print(&reply, &mut output);
        String::from_utf8(output).expect("errors are UTF-8")
    };
    assert_eq!(print(Dialect::Resp2), print(Dialect::Resp3), "errors are the same in both");
    (print(Dialect::Line(LineEnd::Lf)), print(Dialect::Resp2))
}

/// Three families, three types: each code as PROTOCOL.md has it.
#[test]
fn errors_have_their_code_and_their_reason() {
    let not_leader = Refused::NotLeader { server: 2, address: "localhost:7002".to_owned() };
    for (reply, line, resp) in [
        (
            Reply::no_leader("none is known for 5 s"),
            "-NOLEADER none is known for 5 s\n",
            "-CLUSTERDOWN No leader: none is known for 5 s\r\n",
        ),
        (
            Reply::Error(Error::Refused(not_leader)),
            "-NOTLEADER server 2 at localhost:7002 leads; nothing was executed, ask there\n",
            "-MOVED 0 localhost:7002\r\n",
        ),
        (
            Reply::try_again("bytes pending at this server", 67_108_864),
            "-TRYAGAIN bytes pending at this server reached its limit of 67108864; \
             nothing was executed, try again\n",
            "-TRYAGAIN bytes pending at this server reached its limit of 67108864; \
             nothing was executed, try again\r\n",
        ),
        (
            Reply::shutdown(),
            "-SHUTDOWN this server is stopping; nothing was executed, use another one\n",
            "-SHUTDOWN this server is stopping; nothing was executed, use another one\r\n",
        ),
        (
            Reply::unknown("may have been executed"),
            "-UNKNOWN may have been executed\n",
            "-UNKNOWN may have been executed\r\n",
        ),
    ] {
        assert_eq!(both(reply), (line.to_owned(), resp.to_owned()));
    }
}

/// Every outcome of the store has an answer that says what it is.
#[test]
fn every_outcome_has_its_answer() {
    let watched = Outcome::Watched { seen_at: 5, existed: vec![true] };
    for (outcome, line, resp) in [
        (Outcome::Done, "+OK", "+OK"),
        (watched, "+OK", "+OK"),
        (Outcome::Nothing, "_", ""),
        (Outcome::Aborted, "_", ""),
        (Outcome::Integer(-3), ":-3", ":-3"),
        (Outcome::Text("string"), "+string", "+string"),
        (Outcome::Overflow, "-NOTINT the result", "-ERR increment or decrement would overflow"),
        (Outcome::NoSuchKey, "-ERR no such key", "-ERR no such key"),
        (Outcome::NotInteger, "-NOTINT value is not", "-ERR value is not an integer"),
        (Outcome::BadDeadline, "-ERR expiry: the time", "-ERR invalid expire time in 'expire'"),
        (Outcome::TooBig { bytes: 9, bytes_max: 8 }, "-TOOBIG bytes", "-TOOBIG bytes"),
        (Outcome::ReplyTooBig { bytes_max: 7 }, "-TOOBIG the reply", "-TOOBIG the reply"),
        (Outcome::TooMany { keys_max: 5 }, "-TOOBIG more than 5 keys", "-TOOBIG more than 5 keys"),
        (Outcome::OnceUnknownClient, "-ERR ONCE: this client", "-ERR ONCE: this client"),
        (Outcome::OnceGap { expected: 4 }, "-ERR ONCE: the client's next number is 4", "-ERR ONCE"),
        (Outcome::OnceForgotten { last: 4 }, "-ERR ONCE: executed before", "-ERR ONCE: executed"),
    ] {
        for (dialect, expected) in
            [(Dialect::Line(LineEnd::Lf), line), (Dialect::Resp2, resp), (Dialect::Resp3, resp)]
        {
            let mut output = Vec::new();
            dialect.print(&Reply::from(outcome.clone()), &mut output);
            let output = String::from_utf8_lossy(&output);
            assert!(output.starts_with(expected), "{outcome:?}: {output}");
        }
    }
}
