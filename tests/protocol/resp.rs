//! Programs: arrays in, RESP2 and RESP3 out.

use proptest::prelude::*;
use raft_server::kv::command::{Bytes, Change};
use raft_server::limits::{
    ARGUMENTS_MAX, KEY_BYTES_MAX, REQUEST_BYTES_MAX, SKIPPED_ARGUMENTS_MAX, SKIPPED_BYTES_MAX,
    VALUE_BYTES_MAX,
};
use raft_server::protocol::line::LineEnd;
use raft_server::protocol::{CloseReason, Dialect, Limits, Malformed, Reply};

use super::server::{Server, answers, array, words};

/// The dialect is the request's: a line is answered by a line, an array by RESP, side by side.
#[test]
fn each_request_is_answered_in_its_own_dialect() {
    let session = [
        b"SET k \"two words\"\n".to_vec(),
        words("GET k"),
        b"GET k\nGET absent\n".to_vec(),
        words("GET absent"),
        words("MGET k absent"),
        words("STATUS"),
    ];
    let expected = "+OK\n$9\r\ntwo words\r\n+two words\n_\n$-1\r\n*2\r\n$9\r\ntwo words\r\n$-1\r\n\
        $6\r\nfine\r\n\r\n";
    assert_eq!(answers(session.concat()), expected);
}

/// HELLO 2 and 3 make lines RESP, HELLO 1 takes them back; its own answer is in the new dialect.
#[test]
fn hello_chooses_the_dialect_of_lines_too() {
    let typed = "HELLO 3\nGET absent\nSTATUS\nHELLO 2\nGET absent\nHELLO 1\nGET absent\n";
    let answer = answers(typed);
    let expected = "%7\r\n$6\r\nserver\r\n$11\r\nraft-server\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n\
        $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
        $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n\
        _\r\n=10\r\ntxt:fine\r\n\r\n*14\r\n";
    assert!(answer.starts_with(expected), "{answer}");
    let ends = ":2\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n\
        $6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$-1\r\n*14\n+server\n+raft-server\n+version\n\
        +7.2.0\n+proto\n:1\n+id\n:7\n+mode\n+standalone\n+role\n+master\n+modules\n*0\n_\n";
    assert!(answer.ends_with(ends), "{answer}");

    // Newer clients than we know get the newest we have; without a number nothing changes.
    let answer = answers([words("HELLO 4"), words("HELLO"), words("GET absent")].concat());
    assert_eq!(answer.matches("$5\r\nproto\r\n:3\r\n").count(), 2);
    assert!(answer.ends_with("_\r\n"));
    assert!(answers([words("HELLO 1"), words("GET absent")].concat()).ends_with("$-1\r\n"));
}

/// Each kind of reply, three times.
#[test]
fn every_reply_is_printed_in_three_dialects() {
    let bytes = |text: &str| Bytes::from(text.as_bytes());
    let change = |value: Option<&str>| {
        Reply::Change(Change { index: 15, key: bytes("color"), value: value.map(bytes) })
    };
    let map = || Reply::Map(vec![(Reply::Value(bytes("a")), Reply::Integer(1))]);
    for (reply, line, resp2, resp3) in [
        (Reply::Ok, "+OK\n", "+OK\r\n", "+OK\r\n"),
        (Reply::Text("PONG"), "+PONG\n", "+PONG\r\n", "+PONG\r\n"),
        (Reply::Integer(-5), ":-5\n", ":-5\r\n", ":-5\r\n"),
        (Reply::Nothing, "_\n", "$-1\r\n", "_\r\n"),
        (Reply::NoList, "_\n", "*-1\r\n", "_\r\n"),
        (Reply::Value(bytes("")), "+\"\"\n", "$0\r\n\r\n", "$0\r\n\r\n"),
        (Reply::List(vec![]), "*0\n", "*0\r\n", "*0\r\n"),
        (Reply::List(vec![map()]), "*1\n*2\n+a\n:1\n", "*1\r\n*2\r\n$1\r\na\r\n:1\r\n", ""),
        (map(), "*2\n+a\n:1\n", "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
        (
            Reply::Lines(vec!["a b".to_owned()]),
            "*1\n+a b\n",
            "$5\r\na b\r\n\r\n",
            "=9\r\ntxt:a b\r\n\r\n",
        ),
        (
            change(Some("dark blue")),
            ">15 SET color \"dark blue\"\n",
            "",
            ">4\r\n$4\r\nfeed\r\n:15\r\n$5\r\ncolor\r\n$9\r\ndark blue\r\n",
        ),
        (change(Some("it's")), ">15 SET color \"it's\"\n", "", ""),
        (change(Some("")), ">15 SET color \"\"\n", "", ""),
        (change(None), ">15 DEL color\n", "", ">4\r\n$4\r\nfeed\r\n:15\r\n$5\r\ncolor\r\n_\r\n"),
    ] {
        let dialects =
            [(Dialect::Line(LineEnd::Lf), line), (Dialect::Resp2, resp2), (Dialect::Resp3, resp3)];
        for (dialect, expected) in dialects.into_iter().filter(|(_, text)| !text.is_empty()) {
            let mut output = Vec::new();
            dialect.print(&reply, &mut output);
            assert_eq!(String::from_utf8_lossy(&output), expected, "{dialect:?}");
        }
    }
}

/// All 256 bytes through RESP, read back by RESP and by lines (S95).
#[test]
fn every_byte_goes_in_by_an_array_and_comes_back_from_a_line() {
    let all: Vec<u8> = (0..=255).collect();
    let mut server = Server::default();
    server.receive(&array(&[b"SET".as_slice(), &all, &all]));
    server.receive(&array(&[b"GET".as_slice(), &all]));
    assert_eq!(server.output, [b"+OK\r\n$256\r\n", all.as_slice(), b"\r\n"].concat());
    server.output.clear();
    server.receive(b"PREFIX \"\"\n");
    let text = String::from_utf8(server.output).expect("a terminal can show it");
    let mut lines = text.lines().skip(1);
    for _key_and_value in 0..2 {
        assert_eq!(super::read_back(format!("{}\n", lines.next().unwrap_or("")).as_bytes()), all);
    }
}

/// Malformed arrays, in the words of Redis; nothing behind them is executed.
#[test]
fn malformed_arrays_are_named_and_the_connection_closes() {
    let long = "1".repeat(32);
    for (input, expected) in [
        ("*x\r\n", Malformed::Count),
        ("*1\n", Malformed::Count),
        ("*\r\n", Malformed::Count),
        ("*3000000000\r\n", Malformed::Count),
        ("*01\r\n", Malformed::Count),
        (&format!("*{long}"), Malformed::CountTooLong),
        ("*1\r\nfoo\r\n", Malformed::Sigil(b'f')),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", Malformed::Sigil(b'f')),
        ("*1\r\n$-10\r\n", Malformed::Length),
        ("*1\r\n$2000000000\r\n", Malformed::Length),
        ("*1\r\n$blabla\r\n", Malformed::Length),
        (&format!("*1\r\n${long}"), Malformed::LengthTooLong),
        ("*1\r\n$4\r\nPINGxx", Malformed::End),
    ] {
        let mut server = Server::default();
        for byte in input.as_bytes() {
            server.receive(&[*byte]);
        }
        server.receive(b"SET stolen 1\r\n");
        assert_eq!(server.closed, Some(CloseReason::Malformed(expected)), "{input}");
        let answer = String::from_utf8_lossy(&server.output).into_owned();
        assert_eq!(answer, format!("-ERR Protocol error: {expected}\r\n"));
        assert_eq!(server.machine.applied_index(), 0);
        assert!(server.conversation.is_closed() && server.conversation.held_bytes() == 0);
    }
    assert_eq!(Malformed::Sigil(b'f').to_string(), "expected '$', got 'f'");
}

/// Nothing is asked for by nothing.
#[test]
fn empty_arrays_are_ignored() {
    let input = [b"*0\r\n*-1\r\n*-10\r\n".to_vec(), words("PING"), b"*0\r\n".to_vec()].concat();
    assert_eq!(answers(input), "+PONG\r\n");
}

/// S74: half an array is not executed.
#[test]
fn an_array_without_an_end_is_never_executed() {
    let input = words("SET x 100");
    for length in 1..input.len() {
        let mut server = Server::default();
        server.receive(&input[..length]);
        assert!(server.conversation.is_within_request(), "{length}");
        server.finish();
        let answer = String::from_utf8_lossy(&server.output).into_owned();
        assert_eq!(answer, "-ERR Protocol error: unterminated request\r\n");
        assert_eq!(server.machine.applied_index(), 0);
    }
}

/// Beyond a limit an array is stepped over, and the connection goes on.
#[test]
fn limits_of_arrays_hold_at_the_limit_and_not_above() {
    let keys = |count: usize| vec!["EXISTS"; count];
    assert_eq!(answers(array(&keys(ARGUMENTS_MAX))), ":0\r\n");
    let answer = answers([array(&keys(ARGUMENTS_MAX + 1)), words("PING")].concat());
    assert_eq!(answer, "-TOOBIG arguments: 1025, the limit is 1024\r\n+PONG\r\n");

    let value = vec![b'x'; VALUE_BYTES_MAX + 1];
    let full = &value[1..];
    let key = &value[..KEY_BYTES_MAX + 1];
    for word in [b"SET".as_slice(), b"APPEND"] {
        assert!(!answers(array(&[word, b"k", full])).starts_with('-'));
        let answer = answers([array(&[word, b"k", &value]), words("DBSIZE")].concat());
        let expected = "-TOOBIG bytes of an argument: 1048577, the limit is 1048576\r\n:0\r\n";
        assert_eq!(answer, expected);
        assert!(!answers(array(&[word, &key[1..], b"v"])).starts_with('-'));
        let answer = answers([array(&[word, key, b"v"]), words("DBSIZE")].concat());
        assert_eq!(answer, "-TOOBIG bytes of the key: 1025, the limit is 1024\r\n:0\r\n");
    }
    let rest = &value[..VALUE_BYTES_MAX - "MSETabcd".len()];
    let most: [&[u8]; 9] = [b"MSET", b"a", full, b"b", full, b"c", full, b"d", rest];
    assert_eq!(answers(array(&most)), "+OK\r\n");
    let above: [&[u8]; 9] = [b"MSET", b"a", full, b"b", full, b"c", full, b"dd", rest];
    let answer = answers([array(&above), words("DBSIZE")].concat());
    let (bytes, max) = (REQUEST_BYTES_MAX + 1, REQUEST_BYTES_MAX);
    let expected =
        format!("-TOOBIG bytes of the request: {bytes} or more, the limit is {max}\r\n:0\r\n");
    assert_eq!(answer, expected);
}

/// What is stepped over is not kept; and there is an end to patience.
#[test]
fn what_is_refused_is_dropped_as_it_arrives() {
    let mut server = Server::default();
    let size = 20 * VALUE_BYTES_MAX;
    server.receive(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${size}\r\n").as_bytes());
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..size / chunk.len() {
        server.receive(&chunk);
        let held = server.conversation.held_bytes();
        assert!(held <= 3 * chunk.len(), "{held}");
    }
    server.receive(b"\r\nPING\n");
    let answer = String::from_utf8_lossy(&server.output).into_owned();
    assert_eq!(answer, "-TOOBIG bytes of an argument: 20971520, the limit is 1048576\r\n+PONG\n");

    for (input, goes_on) in [
        (format!("*{SKIPPED_ARGUMENTS_MAX}\r\n"), true),
        (format!("*{}\r\n", SKIPPED_ARGUMENTS_MAX + 1), false),
        (format!("*2\r\n${SKIPPED_BYTES_MAX}\r\n"), true),
        (format!("*2\r\n${}\r\n", SKIPPED_BYTES_MAX + 1), false),
        (format!("*2\r\n$1\r\nx\r\n${SKIPPED_BYTES_MAX}\r\n"), false),
    ] {
        let mut server = Server::default();
        server.receive(input.as_bytes());
        assert_eq!(server.closed.is_none(), goes_on, "{input}");
    }
}

/// Limits are settings: a server that is told others keeps to those.
#[test]
fn limits_are_those_of_the_settings() {
    let limits =
        Limits { line_bytes: 20, key_bytes: 2, value_bytes: 4, arguments: 3, ..Limits::default() };
    for (input, expected) in [
        ("SET kk vvvv\n", "+OK\n"),
        ("SET kkk v\n", "-TOOBIG bytes of the key: 3, the limit is 2\n"),
        ("SET k vvvvv\n", "-TOOBIG bytes of the value: 5, the limit is 4\n"),
        ("MGET a b c\n", "-TOOBIG the line has more than 3 arguments\n"),
        ("ECHO 123456789012345\n", "+123456789012345\n"),
        ("ECHO 1234567890123456\n", "-TOOBIG the line is longer than 20 bytes\n"),
    ] {
        let mut server = Server::with_limits(limits.clone());
        server.receive(input.as_bytes());
        assert_eq!(String::from_utf8_lossy(&server.output), expected);
    }
}

/// A giant leaves no memory behind, and a value that trickles in is not searched again and again.
#[test]
fn memory_is_given_back_after_a_giant() {
    let mut server = Server::default();
    let value = vec![b'x'; VALUE_BYTES_MAX];
    for chunk in array(&[b"SET".as_slice(), b"k", &value]).chunks(7) {
        server.receive(chunk);
    }
    assert_eq!(server.output, b"+OK\r\n");
    assert!(server.conversation.held_bytes() <= 64 * 1024);
}

/// A thousand commands, in both dialects, in random chunks: one answer each, in order.
fn a_thousand_requests() -> (Vec<u8>, Vec<u8>) {
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for number in 0..1000 {
        match number % 4 {
            0 => {
                input.extend(format!("SET k{number} v{number}\n").into_bytes());
                expected.extend(b"+OK\n");
            }
            1 => {
                input.extend(words(&format!("GET k{}", number - 1)));
                let value = format!("v{}", number - 1);
                expected.extend(format!("${}\r\n{value}\r\n", value.len()).into_bytes());
            }
            2 => {
                input.extend(b"\r\nGET absent\r\n*0\r\n");
                expected.extend(b"_\r\n");
            }
            _ => {
                input.extend(words("INCR n"));
                expected.extend(format!(":{}\r\n", number / 4 + 1).into_bytes());
            }
        }
    }
    (input, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// S75: the network cuts where it likes.
    #[test]
    fn a_thousand_requests_in_both_dialects_in_random_chunks(
        lengths in proptest::collection::vec(1_usize..200, 1..50)
    ) {
        let (input, expected) = a_thousand_requests();
        let mut server = Server::default();
        let mut rest = input.as_slice();
        for length in lengths.iter().cycle() {
            let (chunk, after) = rest.split_at((*length).min(rest.len()));
            server.receive(chunk);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&server.output).into_owned();
        prop_assert_eq!(text, String::from_utf8_lossy(&expected));
    }
}

/// S75: every cut in two of a session with everything in it gives the same.
#[test]
fn every_split_of_arrays_gives_the_same_replies() {
    let long = "*2\r\n$4\r\nECHO\r\n$1048577\r\n".to_owned() + &"x".repeat(50);
    let script = [
        words("SET k v"),
        b"GET k\r\n*-1\r\n".to_vec(),
        words("MULTI"),
        words("INCR n"),
        b"EXEC\n".to_vec(),
        words("HELLO 3"),
        words("nonsense k"),
        b"GET k\n*1\r\n$4\r\nPING\r\n".to_vec(),
        long.into_bytes(),
    ]
    .concat();
    let mut whole = Server::default();
    whole.receive(&script);
    for first in 0..=script.len() {
        let mut server = Server::default();
        server.receive(&script[..first]);
        server.receive(&script[first..]);
        assert_eq!(server.output, whole.output, "{first}");
    }
}
