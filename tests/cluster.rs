//! Real processes: servers are killed, paused, restarted and misused while clients watch.
//!
//! Each test names the rows of the failure scenarios that it covers. `RAFT_TEST_WIDE=1` runs
//! longer.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use raft_server::sim::linearizability::Operation;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use support::load::Load;
use support::{BINARY, Cluster, LEADER_WITHIN, copy_dir, text, wait_for, wide};

/// How often a test repeats its fault.
fn rounds() -> usize {
    if wide() { 10 } else { 1 }
}

/// Time for the load to get going, and between faults: work is done in it, nothing is waited for.
fn load_a_while() {
    std::thread::sleep(Duration::from_millis(if wide() { 2000 } else { 400 }));
}

fn open(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    stream
}

fn ids(operations: &[Operation]) -> usize {
    operations.iter().filter(|operation| operation.ret.is_some()).count()
}

/// Clients of a server that takes long to start: who asks is refused, so that it can go elsewhere;
/// who asks for nothing yet is served when the start is over.
#[test]
fn a_server_that_takes_long_to_start_says_so() {
    let cluster = Cluster::prepare(1);
    cluster.init(1);
    // The start reads a segment that does not come to its end.
    let segment = cluster.data(1).join("journal/00000002.seg");
    let (kind, mode) = (FileType::Fifo, Mode::RUSR | Mode::WUSR);
    mknodat(CWD, &segment, kind, mode, 0).expect("a pipe can have a name");
    cluster.serve(1);
    let connect = || TcpStream::connect(cluster.address(1)).ok();
    let mut waits = wait_for("it listens", LEADER_WITHIN, connect);
    let mut asks = open(&cluster.address(1));
    asks.write_all(b"*1\r\n$4\r\nPING\r\n").expect("it is open");
    let mut said = String::new();
    asks.read_to_string(&mut said).expect("it is told, and the connection ends");
    assert!(said.starts_with("-LOADING this server is starting, reading the journal, "), "{said}");
    let status = Command::new(BINARY).args(["status", &cluster.address(1)]).output();
    let status = text(&status.expect("the binary runs"));
    assert!(status.contains("LOADING"), "{status}");
    drop(fs::OpenOptions::new().write(true).open(&segment).expect("the server reads it"));
    waits.write_all(b"SET a 1\nGET a\n").expect("it is open");
    let mut replies = BufReader::new(waits).lines();
    let mut reply = || replies.next().expect("it is open").expect("it is served");
    assert_eq!((reply(), reply()), ("+OK".to_owned(), "+1".to_owned()));
}

/// S22, S59, S71: clients of the two other servers see a pause when the leader is killed: no error,
/// and every INCR is counted exactly once.
#[test]
fn a_killed_leader_is_a_pause_for_clients_of_the_others() {
    let cluster = Cluster::start(3);
    for _ in 0..rounds() {
        let leader = cluster.leader();
        let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
        let clients = (0..8).map(|i| vec![cluster.address(others[i % 2])]).collect();
        let key = format!("visits{}", cluster.status(leader).expect("the leader answers").term);
        let load = Load { clients, keys: vec![key.clone()], hop: false, only_increments: true };
        let seen = load.run(|| {
            load_a_while();
            cluster.kill(leader);
            cluster.leader();
            load_a_while();
        });
        assert!(seen.trouble.is_empty(), "clients of the others saw: {:?}", seen.trouble);
        seen.check();
        assert!(seen.slowest < Duration::from_secs(3), "a pause, but of {:?}", seen.slowest);
        let total = cluster.client(others[0]).ask_until_answered(&format!("GET {key}"));
        assert_eq!(total, format!("+{}", ids(&seen.history)), "no INCR is lost or doubled");
        cluster.serve(leader);
        cluster.leader();
        cluster.assert_servers_equal(&[key]);
    }
}

fn killed_under_load(servers: usize, role: fn(&Cluster) -> usize) {
    let cluster = Cluster::start(servers);
    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        for _ in 0..rounds() {
            load_a_while();
            let victim = role(&cluster);
            cluster.kill(victim);
            cluster.leader();
            load_a_while();
            cluster.serve(victim);
            wait_for("the restarted server answers", LEADER_WITHIN, || cluster.status(victim));
        }
        load_a_while();
    });
    seen.check();
    cluster.leader();
    cluster.assert_expired(&seen.brief_keys());
    cluster.assert_servers_equal(&load.keys);
}

/// S26, S40, S59: hopping clients, and the leader dies and comes back.
#[test]
fn a_killed_leader_comes_back() {
    killed_under_load(3, Cluster::leader);
}

/// S26, S40, S59: hopping clients, and a follower dies and comes back.
#[test]
fn a_killed_follower_comes_back() {
    killed_under_load(3, Cluster::follower);
}

/// S59: the same with five servers.
#[test]
fn five_servers_lose_their_leader() {
    killed_under_load(5, Cluster::leader);
}

/// S21, S61: a leader that slept through an election answers no stale read when it wakes up.
#[test]
fn a_paused_leader_wakes_up_deposed() {
    let cluster = Cluster::start(3);
    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        for _ in 0..rounds() {
            load_a_while();
            let leader = cluster.leader();
            let term = cluster.status(leader).expect("the leader answers").term;
            cluster.pause(leader);
            let awake = (1..=3).find(|id| *id != leader).expect("three servers");
            wait_for("an election without the sleeper", LEADER_WITHIN, || {
                cluster.status(awake).filter(|s| s.term > term && s.committed_in_term)
            });
            cluster.resume(leader);
            load_a_while();
        }
    });
    seen.check();
    cluster.leader();
    cluster.assert_expired(&seen.brief_keys());
    cluster.assert_servers_equal(&load.keys);
}

/// S3, S22, S60: all die at once, come back in another order, and everything answered is there.
#[test]
fn all_servers_killed_at_once_lose_nothing() {
    let cluster = Cluster::start(3);
    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        for _ in 0..rounds() {
            load_a_while();
            let term = cluster.status(cluster.leader()).expect("the leader answers").term;
            for id in 1..=3 {
                cluster.signal(id, Signal::KILL);
            }
            for id in [3, 1, 2] {
                cluster.wait_exit(id, Duration::from_secs(10));
                cluster.serve(id);
            }
            let now = cluster.status(cluster.leader()).expect("the leader answers").term;
            assert!(now > term, "S3: term {now} follows {term}");
            load_a_while();
        }
    });
    seen.check();
    cluster.assert_servers_equal(&load.keys);
}

/// S33: one server alone is a cluster, and keeps what it acknowledged.
#[test]
fn one_server_is_a_cluster() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.client(1).ask_until_answered("INCR visits"), ":1");
    cluster.restart(1);
    cluster.leader();
    assert_eq!(cluster.client(1).ask_until_answered("INCR visits"), ":2");
}

/// S44: a server that lost its disk must not vote again under its old id.
#[test]
fn a_wiped_data_directory_is_refused_with_instructions() {
    let cluster = Cluster::start(3);
    let victim = cluster.follower();
    cluster.kill(victim);
    fs::remove_dir_all(cluster.data(victim)).expect("the directory is ours");
    let output = cluster.serve_refused(victim, &cluster.data(victim));
    let said = text(&output);
    assert!(!output.status.success() && said.contains("init"), "it says what to do: {said}");
    assert!(!cluster.data(victim).exists(), "nothing was created in passing");
    // Even a new `init` under the old id does not get in: the others remember whom they met.
    cluster.init(victim);
    cluster.serve(victim);
    refused_by_the_others(&cluster, victim);
}

/// Waits until a server ends, or its own or another's log says that it is refused.
fn refused_by_the_others(cluster: &Cluster, victim: usize) {
    wait_for("a refusal that names the server", LEADER_WITHIN, || {
        let refused = |id| cluster.log_text(id).to_lowercase().contains("refus");
        ((1..=cluster.len()).any(refused) || cluster.exited(victim).is_some()).then_some(())
    });
}

/// S20: two processes from one copied data directory would vote twice under one id.
#[test]
fn a_copied_data_directory_is_refused() {
    let cluster = Cluster::start(3);
    let victim = cluster.follower();
    cluster.kill(victim);
    let copy = cluster.path().join("copy");
    copy_dir(&cluster.data(victim), &copy);
    cluster.serve(victim); // its incarnation rises beyond the copy's
    wait_for("the original answers", LEADER_WITHIN, || cluster.status(victim));
    cluster.kill(victim);
    cluster.serve(victim);
    wait_for("the original answers", LEADER_WITHIN, || cluster.status(victim));
    cluster.kill(victim);
    let original = cluster.data(victim);
    fs::rename(&original, cluster.path().join("original")).expect("the directory is ours");
    fs::rename(&copy, &original).expect("the directory is ours");
    cluster.serve(victim);
    refused_by_the_others(&cluster, victim);
}

/// S46: two processes must not write into one data directory.
#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let cluster = Cluster::start(1);
    let output = cluster.serve_refused(1, &cluster.data(1));
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

/// S92: a data directory of one cluster is not served as a part of another.
#[test]
fn a_data_directory_of_another_cluster_is_refused() {
    let cluster = Cluster::prepare(1);
    cluster.init(1);
    let changed = fs::read_to_string(cluster.config())
        .expect("we wrote it")
        .replace(&cluster.id, "another-cluster");
    fs::write(cluster.config(), changed).expect("the directory is ours");
    let output = cluster.serve_refused(1, &cluster.data(1));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&cluster.id) && said.contains("another-cluster"), "both names: {said}");
}

/// S67: SIGTERM under load ends a server within 5 s with success, and loses nothing.
#[test]
fn sigterm_ends_a_server_in_order() {
    let cluster = Cluster::start(3);
    let load = Load::hopping(&cluster.addresses());
    let seen = load.run(|| {
        load_a_while();
        let leader = cluster.leader();
        cluster.signal(leader, Signal::TERM);
        let status = cluster.wait_exit(leader, Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "a server that was asked to stop has succeeded");
        cluster.leader();
        cluster.serve(leader);
        load_a_while();
    });
    seen.check();
    cluster.leader();
    cluster.assert_expired(&seen.brief_keys());
    cluster.assert_servers_equal(&load.keys);
}

/// A second signal ends it at once, whatever it is busy with: here it has nobody to hand over to,
/// and nobody who would help to answer what is pending.
#[test]
fn a_second_signal_ends_a_server_at_once() {
    let cluster = Cluster::prepare(3);
    cluster.set("raft", "election_ms = [3000, 4000]");
    for id in 1..=3 {
        cluster.init(id);
        cluster.serve(id);
    }
    let leader = cluster.leader();
    let others = (1..=3).filter(|&id| id != leader);
    others.for_each(|id| cluster.pause(id));
    let mut stream = open(&cluster.address(leader));
    stream.write_all(b"SET pending 1\n").expect("the server reads");
    let says = |what: &str| {
        wait_for(what, Duration::from_secs(5), || {
            cluster.log_text(leader).contains(what).then_some(())
        })
    };
    cluster.signal(leader, Signal::TERM);
    says("stops accepting");
    cluster.signal(leader, Signal::TERM);
    let status = cluster.wait_exit(leader, Duration::from_secs(1));
    assert_eq!(status.code(), Some(0));
    says("a second signal: stopping at once");
}

/// A port in use is said with its number and its own exit code.
#[test]
fn a_port_in_use_is_exit_code_6() {
    let cluster = Cluster::prepare(1);
    cluster.init(1);
    let address = cluster.address(1);
    let _occupied = TcpListener::bind(&address).expect("it was free a moment ago");
    let output = cluster.serve_refused(1, &cluster.data(1));
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains(&address), "it names the address: {}", text(&output));
}

/// S75: ten thousand lines through one connection with half-close: as many replies, in order.
#[test]
fn ten_thousand_lines_are_ten_thousand_replies() {
    let cluster = Cluster::start(3);
    let mut stream = open(&cluster.address(cluster.follower()));
    let mut writer = stream.try_clone().expect("a socket can be shared");
    let sender = std::thread::spawn(move || {
        let lines: String = (0..10_000).map(|_| "INCR lines\n").collect();
        writer.write_all(lines.as_bytes()).expect("the server reads");
        writer.shutdown(Shutdown::Write).expect("half-close");
    });
    let mut replies = String::new();
    stream.read_to_string(&mut replies).expect("the server answers and closes");
    sender.join().expect("the sender ends");
    let expected: String = (1..=10_000).map(|number| format!(":{number}\n")).collect();
    assert!(replies == expected, "{} replies, in another order", replies.lines().count());
}

/// The session on the first screen of the README, byte for byte.
#[test]
fn the_transcript_of_the_readme_is_true() {
    const TRANSCRIPT: &str = "SET color blue\n+OK\nGET color\n+blue\nGET nothing\n_\n\
        CAS color blue \"dark blue\"\n:1\nINCR visits\n:1\nPREFIX c LIMIT 2\n*2\n+color\n\
        +dark blue\nGET color extra\n-ERR GET takes 1 argument, got 2\n";
    let cluster = Cluster::start(3);
    let mut stream = BufReader::new(open(&cluster.address(cluster.follower())));
    for line in TRANSCRIPT.split_inclusive('\n') {
        if line.starts_with(['+', '-', ':', '_', '*']) {
            let mut reply = String::new();
            stream.read_line(&mut reply).expect("the server answers");
            assert_eq!(reply, line);
        } else {
            stream.get_mut().write_all(line.as_bytes()).expect("the server reads");
        }
    }
}

/// S76: a client that asks for much and never reads is cut off, and the others do not notice.
#[test]
fn a_client_that_never_reads_is_cut_off() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    let mut silent = open(&cluster.address(1));
    silent.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket option");
    let big = "x".repeat(60_000);
    assert_eq!(client.ask_until_answered(&format!("SET big {big}")), "+OK");
    // 60 MB of replies are asked for, several times what a connection may leave unread.
    let asked = "GET big\n".repeat(1000);
    silent.write_all(asked.as_bytes()).expect("the server reads");
    let start = Instant::now();
    assert_eq!(client.ask_until_answered("PING"), "+PONG");
    assert!(start.elapsed() < Duration::from_secs(1), "others are served meanwhile");
    wait_for("the silent client is cut off", Duration::from_secs(15), || {
        silent.write_all(b"\n").err()
    });
    drop(silent);
    assert_eq!(client.ask_until_answered("STRLEN big"), ":60000");
}

/// S74: connections that end in the middle of a command execute nothing and leave nothing behind.
#[test]
fn half_commands_are_never_executed() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    let line = "SET half 100";
    for length in 1..=line.len() {
        let mut stream = open(&cluster.address(1));
        stream.write_all(&line.as_bytes()[..length]).expect("the server reads");
        stream.shutdown(Shutdown::Write).expect("half-close");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the server closes");
        assert!(reply.starts_with("-ERR unterminated line"), "{reply:?}");
    }
    assert_eq!(client.ask_until_answered("GET half"), "_");
}

/// S86: a request that has begun must arrive within 30 s. That is long: only the wide suite waits.
#[test]
fn a_slow_line_is_cut_off() {
    if !wide() {
        println!("belongs to the wide suite: RAFT_TEST_WIDE=1");
        return;
    }
    let cluster = Cluster::start(1);
    let mut stream = open(&cluster.address(1));
    stream.set_read_timeout(Some(Duration::from_secs(45))).expect("a socket option");
    stream.write_all(b"SET slow").expect("the server reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the server closes the connection within 45 s");
    assert_eq!(cluster.client(1).ask_until_answered("GET slow"), "_");
}

/// S76: a pipeline of small questions has gigabytes of answers, and they are never all in memory.
#[cfg(target_os = "linux")]
#[test]
fn a_pipeline_of_large_answers_takes_bounded_memory() {
    let cluster = Cluster::start(1);
    cluster.leader();
    let mut setter = open(&cluster.address(1));
    let part = "x".repeat(60_000);
    for _ in 0..16 {
        setter.write_all(format!("APPEND large {part}\n").as_bytes()).expect("it reads");
    }
    let mut replies = BufReader::new(setter).lines();
    for _ in 0..16 {
        replies.next().expect("a reply for each").expect("it writes");
    }
    let mut greedy = open(&cluster.address(1));
    greedy.write_all("GET large\n".repeat(1000).as_bytes()).expect("it reads");
    // It reads nothing until it is cut off; what the kernel holds for it ends.
    std::io::copy(&mut greedy, &mut std::io::sink()).ok();
    let peak = cluster.peak_memory_kib(1);
    assert!(peak < 300 * 1024, "1000 answers of 1 MB took {peak} KiB");
}
