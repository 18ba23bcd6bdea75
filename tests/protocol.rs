//! Byte-level conversations with the client protocol: parser, command table, state machine and
//! printer, without a network or a cluster between them.

#[path = "protocol/errors.rs"]
mod errors;
#[path = "protocol/grammar.rs"]
mod grammar;
#[path = "protocol/resp.rs"]
mod resp;
#[path = "protocol/server.rs"]
mod server;
#[path = "protocol/session.rs"]
mod session;

use proptest::prelude::*;
use raft_server::kv::command::Bytes;
use raft_server::limits::{
    ARGUMENTS_MAX, KEY_BYTES_MAX, LINE_BYTES_MAX, RANGE_PAIRS_MAX, VALUE_BYTES_MAX,
};
use raft_server::protocol::line::LineEnd;
use raft_server::protocol::{CloseReason, Dialect, Reply, line, quoting};
use server::{Server, answers, play};

/// The first thing a reader sees must be true.
#[test]
fn the_first_session_of_the_readme_is_true() {
    let typed = "SET color blue\nGET color\nGET nothing\nCAS color blue \"dark blue\"\n\
        INCR visits\nPREFIX c LIMIT 2\nGET color extra\n";
    let expected = "+OK\n+blue\n_\n:1\n:1\n*2\n+color\n+dark blue\n\
        -ERR GET takes 1 argument, got 2\n";
    assert_eq!(answers(typed), expected);
}

/// Every command, in each of its forms.
#[test]
fn every_command_does_what_help_says() {
    play(
        r#"
        > PING
        +PONG
        > ping "hello world"
        +hello world
        > Echo ""
        +""
        > SET k v NX
        +OK
        > SET k w nx
        _
        > SET k w XX
        +OK
        > SET other w XX
        _
        > SET k x IFEQ v
        _
        > SET k x IFEQ w
        +OK
        > GET k
        +x
        > STRLEN k
        :1
        > STRLEN absent
        :0
        > APPEND k yz
        :3
        > EXISTS k k absent
        :2
        > CAS k no new
        :0
        > CAS absent no new
        _
        > CAS k xyz new
        :1
        > INCR n
        :1
        > DECR n
        :0
        > INCRBY n 40
        :40
        > DECRBY n -2
        :42
        > MSET a 1 b 2 a 3
        +OK
        > MGET a b absent
        *3
        +3
        +2
        _
        > DBSIZE
        :4
        > RANGE a k
        *4
        +a
        +3
        +b
        +2
        > RANGE b zzz limit 1
        *2
        +b
        +2
        > PREFIX x
        *0
        > PREFIX "" LIMIT 1
        *2
        +a
        +3
        > DEL a b absent a
        :2
        > HELP get
        *4
        +GET key [STALE]
        +the key's value, _ if there is none
        +An answer is the newest value that was acknowledged anywhere in the cluster.
        +GET key STALE answers at once what this server has, which may be old.
        > STATUS
        *1
        +fine
        > QUIT
        +OK
        > PING
        "#,
    );
}

/// An error shows the client's own word, and must not become a second reply by it (S95).
#[test]
fn an_error_stays_on_its_line() {
    assert_eq!(answers("\"a\\n+OK\"\n"), "-ERR unknown command a\\n+OK; HELP lists all commands\n");
    let mut output = Vec::new();
    line::print(&Reply::no_leader("one\r\ntwo"), LineEnd::Lf, &mut output);
    assert_eq!(output, b"-NOLEADER one??two\n");
}

/// Quotes mean something only where an argument begins, so people need few of them.
#[test]
fn quotes_are_special_only_at_the_start_of_an_argument() {
    play(
        r#"
        > ECHO {"a":1}
        +{"a":1}
        > ECHO it's
        +it's
        > ECHO 'it\'s "so"'
        +it's "so"
        > ECHO '\n'
        +\n
        > ECHO "tab\there"
        +"tab\there"
        > ECHO "\"\\\x41\xfF\0\r\n"
        +"\"\\A\xff\0\r\n"
        > ECHO """
        -ERR column 8: expected a space after the closing quote
        > 	 ECHO 	 blanks 	
        +blanks
        >  
        > ECHO ünï
        +ünï
        "#,
    );
}

/// Mirrored ends keep `[ "$(... | nc ...)" = "+blue" ]` true, and Redis tools content.
#[test]
fn a_reply_ends_its_lines_as_the_request_did() {
    assert_eq!(answers("PING\r\nPING\n\r\n\nMGET a b\r\n"), "+PONG\r\n+PONG\n*2\r\n_\r\n_\r\n");
    assert_eq!(answers("GTE\r\n"), "-ERR unknown command GTE; did you mean GET?\r\n");
}

/// Each limit holds at the limit and not one above.
#[test]
fn limits_hold_at_the_limit_and_not_above() {
    let key = "k".repeat(KEY_BYTES_MAX);
    assert_eq!(answers(format!("GET {key}\nRANGE {key}k z\n")), "_\n*0\n");
    let over =
        format!("-TOOBIG bytes of the key: {}, the limit is 1024\n+PONG\n", KEY_BYTES_MAX + 1);
    assert_eq!(answers(format!("GET {key}k\nPING\n")), over);

    let keys = " k".repeat(ARGUMENTS_MAX - 1);
    assert_eq!(answers(format!("EXISTS{keys}\n")), ":0\n");
    let answer = answers(format!("EXISTS{keys} k\nPING\n"));
    assert_eq!(answer, "-TOOBIG the line has more than 1024 arguments\n+PONG\n");

    let text = "x".repeat(LINE_BYTES_MAX - "ECHO ".len());
    for end in ["\n", "\r\n"] {
        assert_eq!(answers(format!("ECHO {text}{end}")), format!("+{text}{end}"));
        let answer = answers(format!("ECHO {text}x{end}PING\n"));
        assert_eq!(answer, "-TOOBIG the line is longer than 65536 bytes\n");
    }

    assert!(answers(format!("RANGE a b LIMIT {RANGE_PAIRS_MAX}\n")).starts_with("*0"));
}

/// A value that has grown to the limit stays there, and the client learns why.
#[test]
fn append_to_a_full_value_is_too_big() {
    let append = format!("APPEND k {}\n", "x".repeat(LINE_BYTES_MAX / 2));
    let answer = answers(append.repeat(VALUE_BYTES_MAX / (LINE_BYTES_MAX / 2) + 1));
    let last = "-TOOBIG bytes the value would have: 1081344, the limit is 1048576";
    assert_eq!(answer.lines().last(), Some(last));
}

/// S94 and others who took the wrong port: nothing behind their first line is executed.
#[test]
fn strangers_are_sent_away_at_once() {
    for (input, reason, farewell) in [
        ("POST / HTTP/1.1\r\n", CloseReason::Http, "HTTP/1.1 400 Bad Request\r\n"),
        ("GET /key HTTP/1.0\n", CloseReason::Http, "HTTP/1.1 400 Bad Request\r\n"),
        ("Host: localhost\r\n", CloseReason::CrossProtocol, ""),
        ("host:localhost\r\n", CloseReason::CrossProtocol, ""),
        ("POST x\r\n", CloseReason::CrossProtocol, ""),
        ("\x16\x03\x01", CloseReason::Tls, ""),
        ("$4\r\n", CloseReason::RespSigil, "-ERR protocol: expected '*' or a command word\r\n"),
        (":1", CloseReason::RespSigil, "-ERR protocol: "),
        ("+OK", CloseReason::RespSigil, "-ERR protocol: "),
        ("-ERR", CloseReason::RespSigil, "-ERR protocol: "),
    ] {
        let mut server = Server::default();
        server.receive(input.as_bytes());
        server.receive(b"SET stolen 1\r\n");
        server.finish();
        assert_eq!(server.closed, Some(reason), "{input}");
        let output = String::from_utf8(server.output).expect("a farewell is UTF-8");
        assert!(
            output.starts_with(farewell) && output.is_empty() == farewell.is_empty(),
            "{output}"
        );
        assert_eq!(server.machine.applied_index(), 0, "{input}");
        assert!(server.conversation.is_closed() && server.conversation.held_bytes() == 0);
    }
}

/// S74: a cut connection could have cut `SET x 100` to `SET x 10`.
#[test]
fn a_line_without_an_end_is_never_executed() {
    let line = "SET x 100";
    for length in 1..=line.len() {
        let mut server = Server::default();
        server.receive(format!("PING\n{}", &line[..length]).as_bytes());
        assert!(server.conversation.is_within_request());
        server.finish();
        assert_eq!(String::from_utf8_lossy(&server.output), "+PONG\n-ERR unterminated line\n");
        assert_eq!(server.machine.applied_index(), 0);
    }
    assert_eq!(answers("PING\n"), "+PONG\n");
    assert_eq!(answers(""), "");
}

/// S75: the network cuts where it likes.
#[test]
fn every_split_gives_the_same_replies() {
    let script =
        b"SET k v\r\n\r\nGET k\nECHO \"a\\x41 \\\"b\"\r\nINCR n\nINCR n\n'unclosed\n\xff\xfe\n\
        MGET k n absent\r\nQUIT\nINCR n\n";
    let whole = answers(script);
    assert_eq!(whole.lines().count(), 12);
    for first in 0..=script.len() {
        for second in first..=script.len() {
            let mut server = Server::default();
            server.receive(&script[..first]);
            server.receive(&script[first..second]);
            server.receive(&script[second..]);
            assert_eq!(String::from_utf8_lossy(&server.output), whole, "{first} {second}");
        }
    }
}

/// S75: a thousand commands at once, byte by byte or in any chunks, come back in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let script: String = (0..1000).map(|number| format!("ECHO {number}\n")).collect();
    let expected: String = (0..1000).map(|number| format!("+{number}\n")).collect();
    for chunk in [1, 7, 4096, script.len()] {
        let mut server = Server::default();
        script.as_bytes().chunks(chunk).for_each(|bytes| server.receive(bytes));
        assert_eq!(String::from_utf8_lossy(&server.output), expected);
    }
}

/// S88, S89: what a client claims, and how deep it nests it, costs nothing.
#[test]
fn claims_and_nesting_allocate_nothing() {
    let nested = "*1\r\n".repeat(100_000);
    let inputs = ["*1048577\r\n", "*1\r\n$536870913\r\n", nested.as_str(), &"[".repeat(200_000)];
    for input in inputs {
        let mut server = Server::default();
        for chunk in input.as_bytes().chunks(1000) {
            server.receive(chunk);
            assert!(
                server.conversation.held_bytes() <= 4 * LINE_BYTES_MAX,
                "{}",
                server.conversation.held_bytes()
            );
        }
        assert!(server.closed.is_some());
    }
}

/// A long line that trickles in is searched once, not once per byte.
#[test]
fn a_line_of_full_length_may_arrive_byte_by_byte() {
    let mut server = Server::default();
    let line = format!("ECHO {}\n", "x".repeat(LINE_BYTES_MAX - "ECHO ".len()));
    line.bytes().for_each(|byte| server.receive(&[byte]));
    assert_eq!(server.output.len(), line.len() - "ECHO ".len() + 1);
}

/// What a client reads back from a `+` line: the bytes that were printed.
fn read_back(printed: &[u8]) -> Vec<u8> {
    let text = printed.strip_prefix(b"+").and_then(|text| text.strip_suffix(b"\n"));
    let text = text.expect("a value is one + line");
    if !text.starts_with(b"\"") {
        return text.to_vec();
    }
    let arguments = quoting::split(text, 2).expect("the parser reads what the printer writes");
    assert_eq!(arguments.len(), 1);
    arguments[0].to_vec()
}

fn check_round_trip(value: &[u8]) {
    let mut printed = Vec::new();
    Dialect::Line(LineEnd::Lf).print(&Reply::Value(Bytes::from(value.to_vec())), &mut printed);
    assert!(std::str::from_utf8(&printed).is_ok(), "a terminal can show it");
    assert!(printed[..printed.len() - 1].iter().all(|byte| !byte.is_ascii_control()));
    assert_eq!(read_back(&printed), value);
}

/// S95: all 256 bytes, alone and beside others.
#[test]
fn every_byte_comes_back_from_its_line() {
    for byte in 0..=255 {
        for value in [vec![byte], vec![b'a', byte, b'b'], vec![byte, b'"'], vec![b' ', byte]] {
            check_round_trip(&value);
        }
    }
    check_round_trip(&(0..=255).collect::<Vec<u8>>());
    check_round_trip(b"");
}

proptest! {
    /// S95, for any bytes.
    #[test]
    fn any_value_comes_back_from_its_line(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        check_round_trip(&value);
    }

    /// S75, S88: any bytes in any chunks neither panic nor hold more than was received and a
    /// constant; and the chunks do not matter.
    #[test]
    fn any_bytes_in_any_chunks_are_taken_alike(
        chunks in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..50),
                "(SET|GET|ECHO|del|INCR|'|\"|\\\\|x|\r|\n| ){0,9}".prop_map(String::into_bytes),
            ], 0..20,
        )
    ) {
        let (mut pieces, mut whole) = (Server::default(), Server::default());
        let mut received = 0;
        for chunk in &chunks {
            received += chunk.len();
            pieces.receive(chunk);
            prop_assert!(pieces.conversation.held_bytes() <= 2 * received + 64);
        }
        whole.receive(&chunks.concat());
        pieces.finish();
        whole.finish();
        prop_assert_eq!(pieces.output, whole.output);
        prop_assert_eq!(pieces.closed, whole.closed);
        prop_assert_eq!(pieces.machine, whole.machine);
    }
}
