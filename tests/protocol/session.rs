//! What a connection remembers: its dialect, its name, its transaction, what it watches, its feed.

use raft_server::kv::command::{Bytes, Command, Operation, Query, Watch, Write};
use raft_server::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_COMMANDS_MAX};
use raft_server::protocol::{Conversation, Dialect, Input, Limits, Reply, Request, commands};

use super::server::{Server, answers, array, inputs, play, words};

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.as_bytes())
}

fn next(conversation: &mut Conversation, typed: &str) -> Input {
    conversation.push(typed.as_bytes());
    conversation.next().expect("a whole line").input
}

fn conversation() -> Conversation {
    Conversation::new(7, "127.0.0.1:5000".to_owned(), Limits::default())
}

fn printed(input: &Input) -> String {
    let Input::Reply(reply) = input else { panic!("a reply, and not {input:?}") };
    let mut output = Vec::new();
    Dialect::Resp2.print(reply, &mut output);
    String::from_utf8(output).expect("text")
}

/// EXEC makes one entry of what was queued and what WATCH saw.
#[test]
fn exec_is_one_write_with_what_watch_saw() {
    let mut client = conversation();
    let keys = vec![bytes("a"), bytes("b")];
    assert_eq!(next(&mut client, "WATCH a b\n"), Input::Request(Request::Watch { keys }));
    client.watched(Some((5, vec![true, false])));
    next(&mut client, "WATCH a c\n");
    client.watched(Some((9, vec![true, true])));
    for typed in ["MULTI\n", "INCR n\n", "GET a\n"] {
        let expected = if typed == "MULTI\n" { "+OK\r\n" } else { "+QUEUED\r\n" };
        assert_eq!(printed(&next(&mut client, typed)), expected);
    }
    let watch = |key, seen_at, existed| Watch { key: bytes(key), seen_at, existed };
    let expected = Write::Transaction {
        watches: vec![watch("a", 5, true), watch("b", 5, false), watch("c", 9, true)],
        operations: vec![
            Operation::Command(Command::Increment { key: bytes("n"), delta: 1 }),
            Operation::Query(Query::Get { key: bytes("a") }),
        ],
    };
    assert_eq!(next(&mut client, "EXEC\n"), Input::Request(Request::Write(expected)));

    // EXEC forgets all of it.
    next(&mut client, "MULTI\n");
    next(&mut client, "INCR n\n");
    let Input::Request(Request::Write(Write::Transaction { watches, .. })) =
        next(&mut client, "EXEC\n")
    else {
        panic!("a transaction")
    };
    assert!(watches.is_empty());
}

/// What ends a watch: a transaction behind it is not guarded any more.
#[test]
fn watches_end_with_unwatch_discard_and_reset() {
    for ending in ["UNWATCH\n", "MULTI\nDISCARD\n", "RESET\n", "MULTI\nnonsense\nEXEC\n"] {
        let mut client = conversation();
        next(&mut client, "WATCH a\n");
        client.watched(Some((5, vec![true])));
        client.push(ending.as_bytes());
        while client.next().is_some() {}
        next(&mut client, "MULTI\n");
        next(&mut client, "GET a\n");
        let Input::Request(Request::Write(Write::Transaction { watches, .. })) =
            next(&mut client, "EXEC\n")
        else {
            panic!("a transaction")
        };
        assert!(watches.is_empty(), "{ending}");
    }
    // An EXEC that is none ends nothing.
    let mut client = conversation();
    next(&mut client, "WATCH a\n");
    client.watched(Some((5, vec![true])));
    next(&mut client, "EXEC\n");
    assert!(client.held_bytes() > 64);
}

/// A transaction whose WATCH could not be read, or was never told, must not be executed.
#[test]
fn a_failed_watch_fails_exec() {
    for told in [true, false] {
        let mut client = conversation();
        next(&mut client, "WATCH a\n");
        if told {
            client.watched(None);
        }
        next(&mut client, "WATCH b\n");
        client.watched(Some((1, vec![true])));
        next(&mut client, "MULTI\n");
        next(&mut client, "INCR n\n");
        let answer = printed(&next(&mut client, "EXEC\n"));
        assert_eq!(answer, "-EXECABORT Transaction discarded because WATCH failed.\r\n");
        next(&mut client, "MULTI\n");
        next(&mut client, "INCR n\n");
        assert!(matches!(next(&mut client, "EXEC\n"), Input::Request(_)), "only the next one");
    }
}

/// An error at queueing means that nothing is executed; errors about MULTI itself do not count.
#[test]
fn an_error_in_the_queue_discards_the_transaction() {
    let discarded = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    for wrong in [
        "nonsense",
        "GET",
        "SET k v XX NX",
        "STATUS",
        "CLIENT ID",
        "HELLO 3",
        "FEED x",
        "GET k STALE",
        "ONCE me 1 INCR n",
    ] {
        let input = [
            words("MULTI"),
            words("INCR n"),
            words(wrong),
            words("INCR n"),
            words("EXEC"),
            words("EXISTS n"),
        ];
        let answer = answers(input.concat());
        assert!(answer.starts_with("+OK\r\n+QUEUED\r\n-ERR"), "{wrong}: {answer}");
        assert!(answer.ends_with(&format!("+QUEUED\r\n{discarded}:0\r\n")), "{wrong}: {answer}");
    }
    let input = [words("MULTI"), words("MULTI"), words("WATCH k"), words("EXEC")].concat();
    let expected = "+OK\r\n-ERR MULTI calls can not be nested\r\n\
        -ERR WATCH inside MULTI is not allowed\r\n*0\r\n";
    assert_eq!(answers(input), expected);
    // An oversized array and an unreadable line are errors at queueing as well.
    for wrong in [array(&vec!["x"; 1025]), b"\"\n".to_vec()] {
        let answer = answers([words("MULTI"), words("INCR n"), wrong, words("EXEC")].concat());
        assert!(answer.ends_with(discarded), "{answer}");
    }
}

/// A person's transaction.
#[test]
fn a_transaction_in_lines() {
    play(
        "> MULTI
        +OK
        > MULTI
        -ERR MULTI has begun already; end it with EXEC or DISCARD
        > SET k v
        +QUEUED
        > DISCARD
        +OK
        > GET k
        _
        > MULTI
        +OK
        > GET
        -ERR GET takes 1 or 2 arguments, got 0
        > EXEC
        -EXECABORT a queued command had an error; nothing was executed, MULTI is over
        > MULTI
        +OK
        > EXEC
        *0",
    );
}

/// The queue is bounded in number and in bytes, at the limit and one above.
#[test]
fn the_queue_is_bounded() {
    let exec = |count: usize| {
        let mut input = words("MULTI");
        (0..count).for_each(|_| input.extend(words("INCR n")));
        input.extend(words("EXEC"));
        inputs(input).pop()
    };
    let Some(Input::Request(Request::Write(Write::Transaction { operations, .. }))) =
        exec(TRANSACTION_COMMANDS_MAX)
    else {
        panic!("a transaction of full size")
    };
    assert_eq!(operations.len(), TRANSACTION_COMMANDS_MAX);
    assert!(printed(&exec(TRANSACTION_COMMANDS_MAX + 1).expect("EXEC")).starts_with("-EXECABORT"));

    let weight = Command::set(bytes("k"), Bytes::default(), Default::default()).bytes();
    for (above, expected) in [(0, "+QUEUED\r\n"), (1, "-TOOBIG bytes of queued commands: 1048577")]
    {
        let mut client = conversation();
        next(&mut client, "MULTI\n");
        let value = vec![b'x'; TRANSACTION_BYTES_MAX - weight + above];
        client.push(&array(&[b"SET".as_slice(), b"k", &value]));
        let answer = printed(&client.next().expect("a whole array").input);
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(client.held_bytes() > TRANSACTION_BYTES_MAX, above == 0, "freed when refused");
    }
    let mut client = conversation();
    let keys: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    next(&mut client, &format!("WATCH {}\n", keys.join(" ")));
    client.watched(Some((1, vec![true; 1000])));
    let answer = printed(&next(&mut client, &format!("WATCH {}\n", ["x"; 25].join(" "))));
    assert!(answer.starts_with("-TOOBIG watched keys: 1025, the limit is 1024"), "{answer}");
    next(&mut client, "MULTI\n");
    next(&mut client, "INCR n\n");
    assert!(printed(&next(&mut client, "EXEC\n")).starts_with("-EXECABORT"), "not guarded");
}

/// While feeding, replies would get between the changes.
#[test]
fn after_feed_only_ping_and_quit_are_accepted() {
    let typed = "FEED x FROM 5\nPING\nGET k\nMULTI\nFEED y\nRESET\nQUIT\nPING\n";
    let answer = answers(typed);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!((lines[0], lines[1], lines[6]), ("+OK", "+PONG", "+OK"), "{answer}");
    let refused = "-ERR after FEED only PING and QUIT are accepted; open another connection";
    assert!(lines[2..6].iter().all(|line| *line == refused) && lines.len() == 7, "{answer}");

    let refused = "-ERR FEED needs RESP3, which has push messages: send HELLO 3 first\r\n:0\r\n";
    assert_eq!(answers([words("FEED x"), words("DBSIZE")].concat()), refused);
    let feed = Request::Feed { prefix: bytes("x"), from: None };
    let asked = inputs([words("HELLO 3"), words("FEED x")].concat());
    assert_eq!(asked[1], Input::Request(feed));
}

/// CLIENT, READONLY, SELECT, RESET: what clients send when they connect.
#[test]
fn clients_introduce_themselves() {
    play(
        "> CLIENT GETNAME
        _
        > CLIENT SETNAME teacher
        +OK
        > CLIENT GETNAME
        +teacher
        > CLIENT SETNAME \"two words\"
        -ERR Client names cannot contain spaces, newlines or special characters.
        > CLIENT ID
        :7
        > CLIENT INFO
        *1
        +id=7 addr=127.0.0.1:5000 name=teacher resp=1
        > CLIENT SETINFO LIB-NAME redis-py
        +OK
        > client setinfo lib-ver 5.2.0
        +OK
        > CLIENT SETINFO color blue
        -ERR Unrecognized option 'color'
        > READONLY
        +OK
        > READWRITE
        +OK
        > SELECT 0
        +OK
        > RESET
        +RESET
        > CLIENT GETNAME
        _",
    );
    let mut server = Server::default();
    server.receive(&words("HELLO 3 SETNAME teacher"));
    assert_eq!(server.conversation.name(), b"teacher");
    server.receive(&words("RESET"));
    server.output.clear();
    server.receive(b"GET k\n");
    assert_eq!(
        (server.conversation.name(), server.output.as_slice()),
        (b"".as_slice(), b"_\n".as_slice())
    );
}

/// COMMAND has the shape that redis-cli and client libraries read.
#[test]
fn command_describes_the_table() {
    let count = commands::COMMANDS.len();
    assert_eq!(answers(words("COMMAND COUNT")), format!(":{count}\r\n"));
    assert!(
        answers(words("COMMAND")).starts_with(&format!("*{count}\r\n*10\r\n$3\r\nget\r\n:-2\r\n"))
    );
    assert!(answers(words("COMMAND LIST")).starts_with(&format!("*{count}\r\n$3\r\nget\r\n")));
    let mset = "*2\r\n*10\r\n$4\r\nmset\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n\
        *0\r\n*0\r\n*0\r\n*0\r\n*-1\r\n";
    assert_eq!(answers(words("COMMAND INFO mset nonsense")), mset);
    assert_eq!(answers(words("COMMAND DOCS nonsense")), "*0\r\n");
    let docs = answers("COMMAND DOCS mget delex\n");
    let expected = "*4\n+mget\n*10\n+summary\n+the values of the keys, _ where there is none\n\
        +since\n+1.0.0\n+group\n+string\n+complexity\n+O(N) in the keys and bytes named\n\
        +arguments\n*2\n*4\n+name\n+key\n+type\n+key\n\
        *6\n+name\n+key\n+type\n+key\n+flags\n*2\n+optional\n+multiple\n\
        +delex\n";
    assert!(docs.starts_with(expected), "{docs}");
    assert!(
        docs.ends_with(
            "*2\n*4\n+name\n+key\n+type\n+key\n*6\n+name\n+old\n+type\n+string\n+token\n+IFEQ\n"
        ),
        "{docs}"
    );
    let set = answers("COMMAND DOCS set\n");
    assert!(
        set.contains("+name\n+options\n+type\n+oneof\n+flags\n*1\n+optional\n+arguments\n*4\n"),
        "{set}"
    );
    assert!(set.contains("*6\n+name\n+nx\n+type\n+pure-token\n+token\n+NX\n"), "{set}");
    assert!(set.contains("*6\n+name\n+seconds\n+type\n+integer\n+token\n+EX\n"), "{set}");
}

/// A person who knows nothing but HELP learns the signs, the kinds of errors, and every command.
#[test]
fn help_is_enough() {
    let help = answers("HELP\n");
    assert!(help.lines().all(|line| line.len() <= 132), "{help}");
    assert!(!help.contains("+\""), "nothing needs quotes");
    for entry in commands::COMMANDS {
        assert!(help.contains(&format!("\n+  {} ", entry.name)), "{}", entry.name);
        let more = answers(format!("HELP {}\n", entry.name));
        assert!(more.contains(entry.summary), "{more}");
    }
    for word in ["wrong", "refused", "unknown", "UNKNOWN", "TRYAGAIN", "HELP SET", "_ nothing"] {
        assert!(help.contains(word), "{word}");
    }
    let set = answers("HELP set\n");
    assert!(set.contains("IFVER") && set.contains("Example: SET lock me NX EX 10"), "{set}");
}

/// Every example of HELP can be typed as it stands.
#[test]
fn the_examples_of_help_are_commands() {
    let mut examples = 0;
    for entry in commands::COMMANDS {
        let more = answers(format!("HELP {}\n", entry.name));
        for example in more.lines().filter_map(|line| line.strip_prefix("+Example: ")) {
            let mut client = conversation();
            for typed in example.split(", then ").flat_map(|part| part.split(", ")) {
                let input = next(&mut client, &format!("{typed}\n"));
                client.watched(Some((1, vec![true])));
                assert!(!matches!(input, Input::Reply(Reply::Error(_))), "{typed}: {input:?}");
                examples += 1;
            }
        }
    }
    assert!(examples > 20);
}

/// A WATCH that is refused watches nothing, and its pipeline counts on being guarded: EXEC must not
/// execute. Whether its key is too long, or the whole request was stepped over.
#[test]
fn a_watch_that_was_too_big_fails_the_next_exec() {
    let long = "k".repeat(2000);
    let many: Vec<&str> = std::iter::once("WATCH").chain(["k"; 2000]).collect();
    for watch in [format!("WATCH ok {long}\n").into_bytes(), array(&many)] {
        let mut client = conversation();
        client.push(&watch);
        let refused = client.next().expect("a whole request").input;
        assert!(printed(&refused).starts_with("-TOOBIG"), "{refused:?}");
        for typed in ["MULTI\n", "SET k v\n"] {
            next(&mut client, typed);
        }
        assert!(printed(&next(&mut client, "EXEC\n")).starts_with("-EXECABORT"));
        // Once: what comes after it did not ask for that guard.
        for typed in ["MULTI\n", "SET k v\n"] {
            next(&mut client, typed);
        }
        assert!(matches!(next(&mut client, "EXEC\n"), Input::Request(Request::Write(_))));
    }
}

/// FEED may be refused by the server; then the connection is not feeding.
#[test]
fn a_refused_feed_leaves_the_connection_as_it_was() {
    let mut client = conversation();
    assert!(matches!(next(&mut client, "FEED a\n"), Input::Request(Request::Feed { .. })));
    client.feed_refused();
    assert!(matches!(next(&mut client, "GET a\n"), Input::Request(Request::Read(_))));
}
