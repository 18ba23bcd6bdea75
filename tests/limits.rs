//! The rows of the table of limits that only a running server shows: each is a setting, is kept at
//! the limit, and not one above. (What a parser can show stands in `protocol.rs` and `protocol/`,
//! the bounds of the gateway and of Raft in `gateway.rs` and `paper/replication.rs`.)

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::typist::{REPLY_WITHIN, Typist};
use support::{Cluster, wait_for};

/// One server with these `[limits]`; of a cluster of `servers`, so that it is alone if there are
/// more.
fn serve(servers: usize, limits: &str) -> Cluster {
    let cluster = Cluster::prepare(servers);
    cluster.limit(limits);
    cluster.init(1);
    cluster.serve(1);
    if servers == 1 {
        cluster.leader();
    } else {
        wait_for("it listens", REPLY_WITHIN, || {
            std::net::TcpStream::connect(cluster.address(1)).ok()
        });
    }
    cluster
}

/// One client above the limit is told so and sent away, and finds a place when another one leaves.
#[test]
fn connections_are_counted() {
    let cluster = serve(1, "connections = 6");
    let address = cluster.address(1);
    let mut clients: Vec<Typist> = Vec::new();
    wait_for("those who looked for a leader are gone", REPLY_WITHIN, || {
        clients = (0..6).map(|_| Typist::at(&address)).collect();
        clients.iter_mut().all(|client| client.one("PING") == "+PONG").then_some(())
    });
    let mut above = Typist::at(&address);
    assert_eq!(above.line(), "-ERR too many connections; limits.connections is reached");
    assert_eq!(above.line(), "", "and closed");
    clients.pop();
    wait_for("a place is free", REPLY_WITHIN, || {
        let mut late = Typist::at(&address);
        late.type_in("PING\n");
        (late.line() == "+PONG").then_some(())
    });
}

/// S86: a request that has begun must arrive in time; who has not begun may think.
#[test]
fn a_request_arrives_in_time() {
    let cluster = serve(1, "request_arrival_ms = 400");
    let mut thinker = Typist::at(&cluster.address(1));
    let mut typist = Typist::at(&cluster.address(1));
    let begun = Instant::now();
    typist.type_in("PI");
    typist.type_in("NG\nSET sl");
    assert_eq!(typist.line(), "+PONG");
    assert_eq!(typist.line(), "-ERR the request did not arrive within 400 ms");
    assert!(begun.elapsed() >= Duration::from_millis(400), "not sooner");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(typist.line(), "", "and closed");
    assert_eq!(thinker.one("GET sl"), "_", "half of it is nothing");
}

/// Without a leader an answer comes at the deadline, and says that nothing was executed.
#[test]
fn a_request_is_answered_at_its_deadline() {
    let cluster = serve(3, "request_deadline_ms = 1000");
    let mut typist = Typist::at(&cluster.address(1));
    let asked = Instant::now();
    let answer = typist.one("SET k v");
    assert!(answer.starts_with("-NOLEADER"), "{answer}");
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

/// A connection with as many unanswered requests as it may have is not read from; one with fewer
/// is. There is no leader, so nothing is answered before the deadline.
#[test]
fn a_connection_is_read_up_to_its_limit() {
    let limits = "request_deadline_ms = 4000\npipeline_commands = 4\npipeline_bytes = 2000";
    let cluster = serve(3, limits);
    let mut watcher = Typist::at(&cluster.address(1));
    let mut is_called = |name: &str| {
        watcher.ask("CLIENT LIST").iter().any(|line| line.ends_with(&format!("name={name}")))
    };
    let mut clients = Vec::new();
    // Unanswered requests, how many and how long, and whether what follows them is read.
    for (name, count, bytes, is_read) in [
        ("few", 3, 5, true),
        ("many", 4, 5, false),
        ("short", 2, 880, true),
        ("long", 2, 1000, false),
    ] {
        let mut client = Typist::at(&cluster.address(1));
        let get = format!("GET {}\n", "k".repeat(bytes));
        client.type_in(&format!("CLIENT SETNAME {name}\n{}", get.repeat(count)));
        wait_for("they are read", REPLY_WITHIN, || is_called(name).then_some(()));
        let next = format!("{name}-next");
        client.type_in(&format!("CLIENT SETNAME {next}\n"));
        if is_read {
            wait_for("what follows is read", REPLY_WITHIN, || is_called(&next).then_some(()));
        } else {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(300) {
                assert!(!is_called(&next), "{count} of {bytes} bytes");
            }
        }
        clients.push((client, count));
    }
    // Nothing is lost by that: the answers come, and then the rest.
    for (client, count) in &mut clients {
        assert_eq!(client.line(), "+OK");
        for _ in 0..*count {
            let answer = client.line();
            assert!(answer.starts_with("-NOLEADER"), "{answer}");
        }
        assert_eq!(client.line(), "+OK");
    }
}

/// `limits.reply_bytes` bounds each reply; what EXEC answers is bounded by a constant, as all
/// servers must agree on it.
#[test]
fn a_reply_is_as_long_as_it_may_be() {
    let limits = "value_bytes = 40000\nline_bytes = 60000\nreply_bytes = 65536";
    let cluster = serve(1, limits);
    let mut client = Typist::at(&cluster.address(1));
    for (key, bytes) in [("a", 40_000), ("b", 25_536), ("c", 25_537)] {
        assert_eq!(client.one(&format!("SET {key} {}", "x".repeat(bytes))), "+OK");
    }
    assert_eq!(client.ask("MGET a b").len(), 3);
    let too_big = "-TOOBIG the reply would exceed 65536 bytes; ask for fewer keys at once";
    assert_eq!(client.one("MGET a c"), too_big);
    assert_eq!(client.ask("PREFIX a").len(), 3);
    assert_eq!(client.ask("RANGE a d").len(), 3, "RANGE ends early instead");
    client.type_in("MULTI\nMGET a c\nEXEC\n");
    assert_eq!((client.line(), client.line()), ("+OK".to_owned(), "+QUEUED".to_owned()));
    assert_eq!(client.reply().len(), 4);
}

/// S76: replies up to the limit wait for a client that does not read; beyond it, and beyond what
/// the kernel takes, its connection is closed.
#[test]
fn unread_replies_wait_up_to_the_limit() {
    const LIMIT: usize = 4 * 1024 * 1024;
    /// More than the kernel holds for one connection, on both sides of it.
    const KERNEL_BYTES: usize = 32 * 1024 * 1024;
    let limits = format!("unread_reply_bytes = {LIMIT}\npipeline_commands = 10000");
    let cluster = serve(1, &limits);
    let mut client = Typist::at(&cluster.address(1));
    let value = "x".repeat(60_000);
    assert_eq!(client.one(&format!("SET k {value}")), "+OK");
    let reply_bytes = value.len() + "+\n".len();
    let ask_for = |bytes: usize| {
        let mut silent = Typist::at(&cluster.address(1));
        silent.type_in(&"GET k\n".repeat(bytes / reply_bytes));
        silent.0.get_mut().shutdown(std::net::Shutdown::Write).expect("a half-close");
        silent
    };
    // What it asked for is there before it reads, or never: a later question comes behind.
    let mut patient = ask_for(LIMIT);
    let mut greedy = ask_for(LIMIT + KERNEL_BYTES);
    for _ in 0..10 {
        assert_eq!(client.one("STRLEN k"), ":60000", "the others do not notice");
    }
    let closed = "bytes of replies unread: closing its connection";
    wait_for("the greedy one is closed", REPLY_WITHIN, || {
        cluster.log_text(1).contains(closed).then_some(())
    });
    let mut got = Vec::new();
    patient.0.read_to_end(&mut got).expect("all of it");
    assert_eq!(got.len(), LIMIT / reply_bytes * reply_bytes);
    got.clear();
    let cut = greedy.0.read_to_end(&mut got);
    assert!(cut.is_err() || got.len() < LIMIT + KERNEL_BYTES - reply_bytes);
    greedy.0.get_mut().write_all(b"\n").ok();
}

/// What a client has read counts as unread no longer, even if the rest of what it asked for has not
/// left yet.
#[test]
fn what_was_read_makes_room_for_more() {
    const MIB: usize = 1024 * 1024;
    let limits = format!("unread_reply_bytes = {}", 64 * MIB);
    let cluster = serve(1, &limits);
    let mut client = Typist::at(&cluster.address(1));
    assert_eq!(client.one(&format!("SET k {}", "x".repeat(60_000))), "+OK");
    let reply_bytes = 60_000 + "+\n".len();
    let replies = |bytes: usize| bytes / reply_bytes;
    let mut other = Typist::at(&cluster.address(1));
    let mut ask_for = |client: &mut Typist, bytes: usize, times: u32| {
        client.type_in(&"GET k\n".repeat(replies(bytes)));
        client.type_in("INCR times\n");
        let times = format!("+{times}");
        let mut is_done = || (other.one("GET times") == times).then_some(());
        wait_for("all is answered", REPLY_WITHIN, &mut is_done);
    };
    // Of the first 48 MiB, 24 are read, so 24 are unread; with 38 more that is below the limit.
    // (The kernel takes some of them off the server's hands, but not 24.)
    ask_for(&mut client, 48 * MIB, 1);
    let mut half = vec![0; 24 * MIB];
    client.0.read_exact(&mut half).expect("it is answered");
    ask_for(&mut client, 38 * MIB, 2);
    let asked = replies(48 * MIB) + replies(38 * MIB);
    let mut rest = vec![0; asked * reply_bytes + ":1\n:2\n".len() - half.len()];
    client.0.read_exact(&mut rest).expect("nobody was cut off");
    assert_eq!(client.one("STRLEN k"), ":60000");
}
