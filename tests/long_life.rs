//! Servers that run for long: their logs are cut, they start from snapshots, and one that missed
//! everything is sent one. Real processes with thresholds so small that all of it happens all the
//! time.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use raft_server::kv::StateMachine;
use raft_server::raft::types::{EntryId, Index, Term};
use raft_server::state_file;
use raft_server::storage::disk::RealDisk;
use raft_server::storage::snapshot::{self, Snapshots, file_name};
use rustix::process::Signal;
use support::client::Answer;
use support::load::Load;
use support::{Cluster, LEADER_WITHIN, wait_for, wide};

/// A snapshot every 40 entries, segments of a few entries, no tail: every follower that was away
/// needs a snapshot.
const TINY: &str = "segment_bytes = 4096\nsnapshot_bytes = 4096\nsnapshot_entries = 40\n\
    log_tail_bytes = 0";

fn tiny_cluster(count: usize) -> Cluster {
    let cluster = Cluster::prepare(count);
    cluster.set("storage", TINY);
    for id in 1..=count {
        cluster.init(id);
        cluster.serve(id);
    }
    cluster.leader();
    cluster
}

/// Sends requests all at once and returns the last reply.
fn pipeline(address: &str, requests: impl Iterator<Item = String>) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    let mut replies = BufReader::new(stream.try_clone().expect("a descriptor"));
    let (mut count, mut reply) = (0, String::new());
    for request in requests {
        stream.write_all(format!("{request}\n").as_bytes()).expect("it reads");
        count += 1;
        // A few hundred at a time, or both sides wait for the other to read.
        while count >= 500 {
            reply.clear();
            replies.read_line(&mut reply).expect("a reply");
            count -= 1;
        }
    }
    for _ in 0..count {
        reply.clear();
        replies.read_line(&mut reply).expect("a reply");
    }
    reply
}

fn segments(cluster: &Cluster, id: usize) -> usize {
    fs::read_dir(cluster.data(id).join("journal")).expect("it has a journal").count()
}

/// S37, S59: servers are killed again and again while they take snapshots, rename, cut their logs
/// and send snapshots to each other. All of them start again, and nothing is lost.
#[test]
fn servers_killed_while_they_compact_start_again() {
    let cluster = tiny_cluster(3);
    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        for round in 0..if wide() { 60 } else { 8 } {
            let victim = round % 3 + 1;
            // Work is done in it; any moment will do.
            std::thread::sleep(Duration::from_millis(120 + 37 * (round as u64 % 5)));
            cluster.kill(victim);
            cluster.leader();
            cluster.serve(victim);
            wait_for("the restarted server answers", LEADER_WITHIN, || cluster.status(victim));
        }
    });
    seen.check();
    cluster.leader();
    cluster.assert_expired(&seen.brief_keys());
    cluster.assert_servers_equal(&load.keys);
    for id in 1..=3 {
        let status = cluster.status(id).expect("it runs");
        assert!(status.snapshot > 0 && status.first_index > 1, "server {id}: {status:?}");
    }
}

/// S83: a server that was down while the others cut their logs several times comes back under
/// load, is sent a snapshot, and goes on behind it.
#[test]
fn a_server_that_missed_everything_is_sent_a_snapshot() {
    let cluster = tiny_cluster(3);
    let absent = cluster.follower();
    cluster.kill(absent);
    let leader = cluster.leader();
    let set = |i: u32| format!("SET old{} {}", i % 3000, "x".repeat(200));
    assert_eq!(pipeline(&cluster.address(leader), (0..6000).map(set)), "+OK\n");
    // For an election timeout it might come back: then the log goes, too.
    wait_for("the log is cut although a server is down", LEADER_WITHIN, || {
        pipeline(&cluster.address(leader), (0..50).map(set));
        cluster.status(leader).filter(|status| status.first_index > 5000)
    });

    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        cluster.serve(absent);
        wait_for("it has caught up", LEADER_WITHIN, || {
            cluster.status(absent).filter(|status| status.applied > 6000)
        });
        std::thread::sleep(Duration::from_millis(400)); // clients find it, and do some work
    });
    seen.check();
    assert!(cluster.log_text(absent).contains("installed snapshot="));
    assert_eq!(cluster.client(absent).ask_until_answered("DBSIZE"), {
        cluster.client(leader).ask_until_answered("DBSIZE")
    });
    let keys: Vec<String> = (0..3000).step_by(100).map(|i| format!("old{i}")).collect();
    cluster.assert_servers_equal(&keys);
}

/// A start begins at the snapshot: the segments before it are gone, and everything is there.
#[test]
fn a_start_begins_at_the_snapshot() {
    let cluster = tiny_cluster(1);
    let set = |i: u32| format!("SET key{i} value{i}");
    assert_eq!(pipeline(&cluster.address(1), (0..3000).map(set)), "+OK\n");
    wait_for("old segments are removed", LEADER_WITHIN, || {
        (segments(&cluster, 1) < 10).then_some(())
    });
    cluster.kill(1);
    cluster.serve(1);
    cluster.leader();
    let status = cluster.status(1).expect("it runs");
    assert!(status.first_index > 2500, "{status:?}");
    assert_eq!(cluster.client(1).ask_until_answered("DBSIZE"), ":3000");
    assert_eq!(cluster.client(1).ask_until_answered("GET key1234"), "+value1234");
    assert!(cluster.log_text(1).contains("loaded snapshot="));
}

/// A server that ended between the rename of its newest snapshot and the removal of the one before
/// has both when it starts. It removes the older one then: on a full disk no newer one may ever be
/// written that would.
#[test]
fn a_start_removes_what_its_newest_snapshot_replaces() {
    let cluster = tiny_cluster(1);
    let set = |i: u32| format!("SET key{i} value{i}");
    assert_eq!(pipeline(&cluster.address(1), (0..300).map(set)), "+OK\n");
    wait_for("a snapshot", LEADER_WITHIN, || cluster.status(1).filter(|it| it.snapshot > 100));
    cluster.kill(1);
    let older = cluster.data(1).join("snapshots").join(file_name(EntryId::new(Term(1), Index(9))));
    fs::write(&older, "what a crash has left").expect("the directory is ours");
    cluster.serve(1);
    wait_for("it answers", LEADER_WITHIN, || cluster.status(1));
    assert!(!older.exists());
    assert_eq!(cluster.client(1).ask_until_answered("DBSIZE"), ":300");
}

/// S72: what decides whether a command is executed travels with the snapshot: the answers of ONCE,
/// versions, and deadlines.
#[test]
fn a_retry_behind_an_installed_snapshot_is_recognized() {
    let cluster = tiny_cluster(3);
    let leader = cluster.leader();
    let absent = cluster.follower();
    cluster.kill(absent);
    let mut client = cluster.client(leader);
    assert_eq!(client.ask_until_answered("ONCE till 1 INCRBY balance 10"), ":10");
    assert_eq!(client.ask_until_answered("SET brief x PX 1500"), "+OK");
    let version = client.ask_until_answered("GETV balance");
    pipeline(&cluster.address(leader), (0..500).map(|i| format!("SET key{i} x")));
    cluster.serve(absent);
    wait_for("it has caught up", LEADER_WITHIN, || {
        cluster.status(absent).filter(|status| status.applied > 500)
    });
    assert!(cluster.log_text(absent).contains("installed snapshot="));
    // Now it has to lead: what it knows is what it was sent.
    wait_for("it leads", LEADER_WITHIN, || {
        let led = cluster.leader();
        let to = format!("RAFT TRANSFER {absent}");
        (led == absent).then_some(()).or_else(|| {
            let _begun = cluster.client(led).ask(&to);
            None
        })
    });
    let mut client = cluster.client(absent);
    assert_eq!(client.ask_until_answered("ONCE till 1 INCRBY balance 10"), ":10");
    assert_eq!(client.ask_until_answered("GET balance"), "+10");
    assert_eq!(client.ask_until_answered("GETV balance"), version);
    wait_for("the key expires", LEADER_WITHIN, || {
        (client.ask_until_answered("GET brief") == "_").then_some(())
    });
}

/// S68: one server after the other is stopped and started again, as for an upgrade. Clients of the
/// others see a short pause and no error, because a leader hands over before it goes.
#[test]
fn a_rolling_restart_is_a_short_pause() {
    let cluster = Cluster::start(3);
    for _ in 0..if wide() { 5 } else { 1 } {
        for id in 1..=3 {
            let leads = cluster.leader() == id;
            let others: Vec<String> =
                (1..=3).filter(|other| *other != id).map(|other| cluster.address(other)).collect();
            let clients = (0..6).map(|i| vec![others[i % 2].clone()]).collect();
            let key = format!("count{id}");
            let load = Load { clients, keys: vec![key], hop: false, only_increments: true };
            let seen = load.run(|| {
                std::thread::sleep(Duration::from_millis(200)); // the load gets going
                cluster.signal(id, Signal::TERM);
                let status = cluster.wait_exit(id, Duration::from_secs(6));
                assert_eq!(status.code(), Some(0), "{}", cluster.log_text(id));
                cluster.leader();
                cluster.serve(id);
                wait_for("it answers again", LEADER_WITHIN, || cluster.status(id));
            });
            assert!(seen.trouble.is_empty(), "clients of the others saw: {:?}", seen.trouble);
            // 0.2 s is what a quiet machine is held to; this one may run other tests beside.
            assert!(seen.slowest < Duration::from_secs(1), "a pause of {:?}", seen.slowest);
            println!("server {id}, leader: {leads}: the longest pause was {:?}", seen.slowest);
            if leads {
                assert!(cluster.log_text(id).contains("hand-over to="), "it handed over");
            }
        }
    }
}

/// diss. §3.10: an operator moves leadership, and says to whom. What cannot be done is refused.
#[test]
fn an_operator_moves_leadership() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let follower = cluster.follower();
    let term = cluster.status(leader).expect("it runs").term;
    let mut client = cluster.client(follower);
    let refused = client.ask(&format!("RAFT TRANSFER {follower}"));
    assert!(
        matches!(&refused, Answer::Refused(text) if text.starts_with("-NOTLEADER")),
        "{refused:?}"
    );
    let mut client = cluster.client(leader);
    let unknown = client.ask("RAFT TRANSFER 9");
    assert!(matches!(&unknown, Answer::Done(text) if text.starts_with("-ERR")), "{unknown:?}");
    let since = Instant::now();
    let begun = client.ask(&format!("RAFT TRANSFER {follower}"));
    assert!(matches!(&begun, Answer::Done(text) if text.starts_with('+')), "{begun:?}");
    wait_for("the other leads", LEADER_WITHIN, || (cluster.leader() == follower).then_some(()));
    println!("handed over within {:?}", since.elapsed());
    let status = cluster.status(follower).expect("it runs");
    assert_eq!(status.term, term + 1, "in one election");
}

/// RAFT SNAPSHOT writes one at once, whatever the thresholds.
#[test]
fn a_snapshot_is_taken_when_asked_for() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.client(1).ask_until_answered("SET color blue"), "+OK");
    assert_eq!(cluster.status(1).expect("it runs").snapshot, 0);
    let begun = cluster.client(1).ask_until_answered("RAFT SNAPSHOT");
    assert!(begun.starts_with('+'), "{begun}");
    wait_for("a snapshot", LEADER_WITHIN, || {
        cluster.status(1).filter(|status| status.snapshot > 0)
    });
}

/// Puts a snapshot of the same entry into a server's directory that holds another state: as if a
/// bit had flipped in its memory before it was written.
fn falsify_snapshot(cluster: &Cluster, id: usize) {
    let open = || {
        let disk = RealDisk::open(&cluster.data(id).join("snapshots")).expect("it has snapshots");
        let options = snapshot::Options::new(cluster.id.clone());
        Snapshots::open(disk, options).expect("they can be opened")
    };
    let (snapshots, found) = open();
    let file = found.newest.expect("it has taken one");
    let (id, membership) = (file.id(), file.header().membership.clone());
    let mut state = StateMachine::default();
    for index in 1..=id.last.index.0 {
        state.apply_nothing(index, id.stamp.0, &mut Vec::new());
    }
    fs::remove_file(file.path()).expect("the directory is ours");
    state_file::save(&snapshots, &cluster.id, membership, id, &state).expect("it can be written");
}

/// A server whose state is not the others' stops itself, loudly, and the others go on.
#[test]
fn a_server_with_another_state_stops_itself() {
    let cluster = tiny_cluster(3);
    let wrong = cluster.follower();
    let leader = cluster.leader();
    pipeline(&cluster.address(leader), (0..200).map(|i| format!("SET key{i} x")));
    wait_for("it has taken a snapshot", LEADER_WITHIN, || {
        cluster.status(wrong).filter(|status| status.snapshot > 0)
    });
    cluster.kill(wrong);
    falsify_snapshot(&cluster, wrong);
    cluster.serve(wrong);
    wait_for("it answers", LEADER_WITHIN, || cluster.status(wrong));
    // Hashes are compared every few hundred entries. To write the missing keys again would heal it.
    let leader = cluster.leader();
    pipeline(&cluster.address(leader), (0..600).map(|i| format!("SET other{i} y")));
    let status = cluster.wait_exit(wrong, LEADER_WITHIN);
    assert_eq!(status.code(), Some(5), "{}", cluster.log_text(wrong));
    let log = cluster.log_text(wrong);
    assert!(log.contains("is not that of a majority"), "{log}");
    for id in (1..=3).filter(|id| *id != wrong) {
        assert_eq!(cluster.client(id).ask_until_answered("GET key7"), "+x");
        assert!(cluster.exited(id).is_none(), "the others are well");
    }
}
