//! What people build on, over real processes: expiry, transactions, versions, feeds, and the words
//! that tell about a server. Redis' own words are tried with real clients in `tests/clients/`.

mod support;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use support::typist::{REPLY_WITHIN, Typist};
use support::{Cluster, wait_for};

fn typists(cluster: &Cluster) -> Vec<Typist> {
    cluster.addresses().iter().map(|address| Typist::at(address)).collect()
}

/// S63: whether a key exists is decided by the log. It is gone at once on all servers, without
/// anybody writing, and no later leader brings it back.
#[test]
fn a_key_expires_for_all_and_for_ever() {
    let cluster = Cluster::start(3);
    let mut all = typists(&cluster);
    assert_eq!(all[0].one("SET kept v EX 1000"), "+OK");
    assert_eq!(all[0].one("SET short v PX 300"), "+OK");
    assert!((0..=300).contains(&all[1].number("PTTL short")));
    let first = all[2].number("PTTL kept");
    // Nobody writes: time passes all the same.
    wait_for("the remaining time shrinks", REPLY_WITHIN, || {
        (all[2].number("PTTL kept") < first).then_some(())
    });
    let since = Instant::now();
    wait_for("the key expires", REPLY_WITHIN, || (all[1].one("GET short") == "_").then_some(()));
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(all[0].one("EXISTS short"), ":0", "a later read on another server");
    assert_eq!(all[2].one("DBSIZE"), ":1");

    let leader = cluster.leader();
    cluster.kill(leader);
    let mut other = Typist::at(&cluster.address(leader % 3 + 1));
    assert_eq!(other.one("GET short"), "_");
    let rest = other.number("TTL kept");
    assert!((990..=1000).contains(&rest), "{rest} s of 1000 are left after a few");
    assert_eq!(other.one("PERSIST kept"), ":1");
    assert_eq!(other.one("TTL kept"), ":-1");
}

/// A key lives as long as it was told to, from when its SET was sent, though the server's process
/// was paused with the SET in its socket.
#[test]
fn a_pause_does_not_shorten_a_life() {
    let cluster = Cluster::start(1);
    let mut client = Typist::at(&cluster.address(1));
    for round in 0..5 {
        cluster.pause(1);
        client.type_in(&format!("SET k{round} v PX 1000\n"));
        std::thread::sleep(Duration::from_millis(800)); // the pause itself
        let resumed = Instant::now();
        cluster.resume(1);
        assert_eq!(client.line(), "+OK");
        wait_for("it expires", REPLY_WITHIN, || {
            (client.one(&format!("GET k{round}")) == "_").then_some(())
        });
        let lived = resumed.elapsed();
        assert!(lived >= Duration::from_millis(900), "it lived for {lived:?} of 1 s");
    }
}

/// FEED tells each change once, in the order of the log, on any server; and who comes back with the
/// index goes on without a gap.
#[test]
fn a_feed_tells_every_change_in_order() {
    let cluster = Cluster::start(3);
    let mut all = typists(&cluster);
    let mut feed = Typist::at(&cluster.address(cluster.follower()));
    let from = feed.number("FEED user:");
    assert_eq!(all[0].one("SET user:1 ann"), "+OK");
    assert_eq!(all[1].one("SET other x"), "+OK");
    assert_eq!(all[1].one("MSET user:2 bob user:1 \"ann b\""), "+OK");
    assert_eq!(all[2].one("DEL user:2 nothing"), ":1");
    assert_eq!(all[2].one("SET user:1 x NX"), "_");
    assert_eq!(all[2].one("SET user:3 v PX 50"), "+OK");
    let told: Vec<String> = (0..6).map(|_| feed.line()).collect();
    let (indexes, changes): (Vec<i64>, Vec<&str>) = told
        .iter()
        .map(|line| line.strip_prefix('>').and_then(|rest| rest.split_once(' ')).expect("a push"))
        .map(|(index, change)| (index.parse::<i64>().expect("an index"), change))
        .unzip();
    assert!(indexes.is_sorted() && indexes[0] >= from, "{indexes:?} from {from}");
    assert_eq!(changes[0], "SET user:1 ann");
    // One entry: its changes belong together, in the order in which it first names the keys.
    assert_eq!(indexes[1], indexes[2]);
    assert_eq!(changes[1..3], ["SET user:2 bob", "SET user:1 \"ann b\""]);
    assert_eq!(changes[3..], ["DEL user:2", "SET user:3 v", "DEL user:3"]);

    // While feeding, only PING and QUIT.
    assert!(feed.one("GET user:1").starts_with("-ERR"));
    assert_eq!(feed.one("PING"), "+PONG");
    assert_eq!(feed.one("QUIT"), "+OK");
    assert_eq!(feed.line(), "", "closed");

    // From an index that is still to come: nothing older is told.
    let mut ahead = Typist::at(&cluster.address(cluster.follower()));
    let future = indexes[5] + 3;
    assert_eq!(ahead.number(&format!("FEED user: FROM {future}")), future);
    for number in 0..4 {
        assert_eq!(all[0].one(&format!("SET user:9 {number}")), "+OK");
    }
    let first = ahead.line();
    let index: i64 = first[1..].split(' ').next().and_then(|it| it.parse().ok()).expect("an index");
    assert!(index >= future, "{first}");

    let mut again = Typist::at(&cluster.address(cluster.leader()));
    assert_eq!(again.number(&format!("FEED user: FROM {}", indexes[1])), indexes[1]);
    let rest: Vec<String> = (1..6).map(|_| again.line()).collect();
    assert_eq!(rest, told[1..], "another server tells the same");
}

/// What is no longer kept is told, and never left out: to who comes back too late, and to a reader
/// that falls behind. A server does not buffer for it.
#[test]
fn a_feed_that_falls_behind_is_told_so() {
    let cluster = Cluster::prepare(1);
    cluster.limit("feed_history_bytes = 100000");
    cluster.init(1);
    cluster.serve(1);
    cluster.leader();
    let mut writer = Typist::at(&cluster.address(1));
    let mut feed = Typist::at(&cluster.address(1));
    let from = feed.number("FEED k");
    let before = cluster.peak_memory_kib(1);
    let value = "x".repeat(20_000);
    for _ in 0..1000 {
        assert_eq!(writer.one(&format!("SET k {value}")), "+OK");
    }
    let grown = cluster.peak_memory_kib(1) - before;
    assert!(grown < 120 * 1024, "the log and little else: {grown} KiB for 20 MB");
    let mut last = String::new();
    loop {
        let line = feed.line();
        if line.is_empty() {
            break;
        }
        last = line;
    }
    assert!(last.starts_with("-ERR") && last.contains("fallen too far behind"), "{last:.80}");
    let mut late = Typist::at(&cluster.address(1));
    let refused = late.one(&format!("FEED k FROM {from}"));
    assert!(refused.contains("no longer kept"), "{refused}");
    assert_eq!(late.one("STRLEN k"), ":20000", "and may ask on");
    late.type_in(&format!("FEED k FROM {from}\nFEED other\nGET k\n"));
    assert!(late.line().contains("no longer kept"));
    assert!(late.line().starts_with(':'), "this one feeds");
    assert!(late.line().contains("only PING and QUIT"), "and that holds");
}

/// The one weaker read is for when there is no majority, and says what it is; WAITINDEX brings two
/// connections together.
#[test]
fn a_stale_read_needs_no_majority() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    let mut writer = Typist::at(&cluster.address(leader));
    assert_eq!(writer.one("SET color blue"), "+OK");
    let index = writer.number("LASTINDEX");
    let mut reader = Typist::at(&cluster.address(others[0]));
    assert!(reader.number(&format!("WAITINDEX {index} 5000")) >= index);
    assert_eq!(reader.one("GET color STALE"), "+blue");
    let early = reader.number(&format!("WAITINDEX {} 50", index + 1000));
    assert!(early < index + 1000, "its time is over: {early}");
    cluster.kill(leader);
    cluster.kill(others[1]);
    assert_eq!(reader.one("GET color STALE"), "+blue");
    assert!(reader.one("GET color").starts_with("-NOLEADER"));
    assert_eq!(reader.one("GET color STALE"), "+blue", "even while others are refused at once");
}

/// EXEC is one step for everybody, and WATCH is not fooled by a key that was deleted and made anew.
#[test]
fn a_transaction_is_one_step_or_none() {
    let cluster = Cluster::start(3);
    let mut all = typists(&cluster);
    let [ann, bob, _] = &mut all[..] else { panic!("three servers") };
    assert_eq!(ann.one("SET stock 3"), "+OK");
    // All at once: what WATCH finds is known before EXEC is understood.
    ann.type_in("WATCH stock\nGET stock\nMULTI\nDECR stock\nAPPEND sold x\nEXEC\n");
    let replies: Vec<Vec<String>> = (0..6).map(|_| ann.reply()).collect();
    assert_eq!(replies.concat(), ["+OK", "+3", "+OK", "+QUEUED", "+QUEUED", "*2", ":2", ":1"]);
    assert_eq!(ann.one("WATCH stock"), "+OK");
    assert_eq!(bob.one("DEL stock"), ":1");
    assert_eq!(bob.one("SET stock 2"), "+OK");
    ann.type_in("MULTI\nDECR stock\nEXEC\n");
    assert_eq!([ann.line(), ann.line(), ann.line()], ["+OK", "+QUEUED", "_"]);
    assert_eq!(ann.one("GET stock"), "+2");

    let version = bob.ask("GETV stock")[2].trim_start_matches(':').to_owned();
    assert_eq!(bob.one(&format!("SET stock 5 IFVER {version}")), "+OK");
    assert_eq!(ann.one(&format!("SET stock 9 IFVER {version}")), "_");
}

/// A client that does not know whether its INCR was executed sends it again, to another server,
/// under the same number; it counts once.
#[test]
fn a_command_sent_again_under_its_number_counts_once() {
    let cluster = Cluster::start(3);
    let mut all = typists(&cluster);
    assert_eq!(all[0].one("ONCE till-7 1 INCR sales"), ":1");
    let leader = cluster.leader();
    cluster.kill(leader);
    let survivors: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    for id in &survivors {
        let mut other = Typist::at(&cluster.address(*id));
        assert_eq!(other.one("ONCE till-7 1 INCR sales"), ":1", "the answer of then");
    }
    let mut other = Typist::at(&cluster.address(survivors[0]));
    assert_eq!(other.one("ONCE till-7 2 INCR sales"), ":2");
    assert!(other.one("ONCE till-7 9 INCR sales").starts_with("-ERR"));
    assert!(other.one("ONCE unknown 2 INCR sales").starts_with("-ERR"));
    assert_eq!(other.one("GET sales"), "+2");
}

/// A question about all keys is answered from a frozen view, in its turn, while others go on.
#[test]
fn a_long_question_keeps_its_turn() {
    let cluster = Cluster::start(1);
    let mut client = Typist::at(&cluster.address(1));
    for first in (0..900).step_by(100) {
        let pairs: Vec<String> = (first..first + 100).map(|n| format!("k{n} v")).collect();
        assert_eq!(client.one(&format!("MSET {}", pairs.join(" "))), "+OK");
    }
    client.type_in("KEYS k1*\nPING\nKEYS k[23]5?\nDBSIZE\n");
    assert_eq!(client.reply().len(), 1 + 111);
    assert_eq!(client.line(), "+PONG");
    assert_eq!(client.reply().len(), 1 + 20);
    assert_eq!(client.line(), ":900");
    // SCAN meets every key, whatever the pages.
    let (mut cursor, mut met) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let page = client.ask(&format!("SCAN {cursor} COUNT 70"));
        met.extend(page[3..].iter().cloned());
        cursor = page[1].trim_start_matches('+').to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met.len(), 900);
}

/// Short requests may have long answers, which wait for those before them: they count, and the
/// server reads on only when there is room (S76).
#[test]
fn long_answers_that_wait_take_bounded_memory() {
    let cluster = Cluster::start(1);
    let mut client = Typist::at(&cluster.address(1));
    let before = cluster.peak_memory_kib(1);
    client.type_in("WAITINDEX 99999999 1500\n");
    client.type_in(&"COMMAND DOCS\n".repeat(1000));
    assert!(client.number_of_reply() > 0);
    for _ in 0..1000 {
        assert!(client.reply().len() > 100);
    }
    let grown = cluster.peak_memory_kib(1) - before;
    assert!(grown < 100 * 1024, "{grown} KiB for a thousand answers");
}

/// Each server tells about itself in words that people and Redis' clients understand.
#[test]
fn a_server_tells_about_itself() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut client = Typist::at(&cluster.address(leader));
    assert_eq!(client.one("SET color blue"), "+OK");
    assert_eq!(client.one("CLIENT SETNAME painter"), "+OK");
    let info = client.ask("INFO");
    for line in ["+role:master", "+loading:0", "+raft_role:leader", "+# Server", "+# Raft"] {
        assert!(info.iter().any(|it| it == line), "{line} in {info:?}");
    }
    let only = client.ask("INFO replication");
    assert!(only.iter().all(|line| !line.contains("raft")), "{only:?}");
    let index = client.number("LASTINDEX");
    let log = client.ask(&format!("LOG {index} 1"));
    assert!(log[1].starts_with(&format!("+{index} T")) && log[1].ends_with("SET color blue"));
    assert_eq!(
        client.ask("CONFIG GET append*"),
        ["*4", "+appendfsync", "+always", "+appendonly", "+yes"]
    );
    assert_eq!(client.ask("CONFIG GET limits.key_bytes"), ["*2", "+limits.key_bytes", "+1024"]);
    let clients = client.ask("CLIENT LIST");
    assert!(clients.iter().any(|line| line.contains("name=painter")), "{clients:?}");
    client.0.get_ref().shutdown(Shutdown::Write).expect("it is open");
}

/// Limits are settings: what is at one is accepted, what is one above is refused, and the
/// connection stays.
#[test]
fn limits_are_settings() {
    let cluster = Cluster::prepare(1);
    cluster.limit("key_bytes = 10\nvalue_bytes = 100\narguments = 9\ntransaction_commands = 2");
    cluster.init(1);
    cluster.serve(1);
    cluster.leader();
    let mut client = Typist::at(&cluster.address(1));
    let (key, value) = ("k".repeat(10), "v".repeat(100));
    assert_eq!(client.one(&format!("SET {key} {value}")), "+OK");
    for wrong in [
        format!("SET {key}k {value}"),
        format!("SET {key} {value}v"),
        format!("APPEND {key} v"),
        "DEL 1 2 3 4 5 6 7 8 9".to_owned(),
    ] {
        assert!(client.one(&wrong).starts_with("-TOOBIG"), "{wrong}");
    }
    assert_eq!(client.one("DEL 1 2 3 4 5 6 7 8"), ":0");
    assert_eq!(client.one(&format!("STRLEN {key}")), ":100");
    client.type_in("MULTI\nINCR a\nINCR a\nEXEC\nMULTI\nINCR a\nINCR a\nINCR a\nEXEC\n");
    let replies: Vec<String> = (0..9).flat_map(|_| client.reply()).collect();
    assert_eq!(replies[..6], ["+OK", "+QUEUED", "+QUEUED", "*2", ":1", ":2"]);
    assert_eq!(replies[6..9], ["+OK", "+QUEUED", "+QUEUED"]);
    assert!(replies[9].starts_with("-TOOBIG") && replies[10].starts_with("-EXECABORT"));
}
