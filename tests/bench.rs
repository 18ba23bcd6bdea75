//! The load generator against real servers: what it counts is what they did.

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{BINARY, Cluster, LEADER_WITHIN, output_within, text, wait_for};

fn bench(addresses: &[String], options: &str) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("bench").args(addresses).args(options.split_whitespace());
    output_within(command, Duration::from_secs(60))
}

/// Runs it with `--json`, and checks what must hold of every report.
fn report(addresses: &[String], options: &str) -> Value {
    let output = bench(addresses, &format!("{options} --json"));
    assert!(output.status.success(), "{options}: {}", text(&output));
    assert!(output.stderr.is_empty(), "stderr is no terminal: {}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON object");
    check(&json);
    json
}

fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {json}"))
}

fn real(json: &Value, pointer: &str) -> f64 {
    json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {json}"))
}

/// Counts add up, and percentiles rise.
fn check(json: &Value) {
    let errors: u64 = ["refused", "unknown", "lost", "wrong", "nonsense"]
        .iter()
        .map(|family| number(json, &format!("/errors/{family}")))
        .sum();
    let done = number(json, "/done");
    assert_eq!(number(json, "/requests"), done + errors, "{json}");
    assert_eq!(number(json, "/latency_ms/count"), done, "{json}");
    let kinds = ["writes", "reads"].iter().filter(|kind| !json[**kind].is_null());
    let count: u64 = kinds.map(|kind| number(json, &format!("/{kind}/count"))).sum();
    assert_eq!(count, done, "{json}");
    let throughput = done as f64 / real(json, "/seconds");
    assert!((throughput / real(json, "/throughput") - 1.0).abs() < 1e-6, "{json}");
    let rising = ["p50", "p90", "p99", "p99_9", "max"];
    let rising = rising.map(|name| real(json, &format!("/latency_ms/{name}")));
    assert!(rising.is_sorted() && rising[0] > 0.0, "{json}");
    assert!(real(json, "/latency_ms/mean") <= rising[4], "{json}");
}

fn ask(cluster: &Cluster, id: usize, line: &str) -> String {
    cluster.client(id).ask_until_answered(line)
}

fn last_index(cluster: &Cluster, id: usize) -> u64 {
    let answer = ask(cluster, id, "LASTINDEX");
    answer.trim_start_matches(':').parse().unwrap_or_else(|_| panic!("LASTINDEX: {answer}"))
}

/// A load generator that counts what did not happen measures nothing: the log must have grown by
/// as many entries as it reports writes, in either protocol and wherever they went.
#[test]
fn the_counts_are_what_the_servers_did() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let all = cluster.addresses();
    let follower = vec![cluster.address(cluster.follower())];
    let modes = [
        ("resp", "leader", &all),
        ("line", "leader", &all),
        ("resp", "spread", &all),
        ("line", "spread", &follower),
    ];
    for (protocol, to, addresses) in modes {
        let before = last_index(&cluster, leader);
        let options = format!(
            "--protocol {protocol} --to {to} --requests 2000 --clients 7 --pipeline 3 --keys 50"
        );
        let json = report(addresses, &options);
        assert_eq!(number(&json, "/writes/count"), 2000, "{json}");
        assert_eq!(last_index(&cluster, leader) - before, 2000, "{protocol} to {to}");
        assert_eq!(json["protocol"], protocol);
        assert_eq!(json["to"], to);
    }
    assert_eq!(ask(&cluster, leader, "DBSIZE"), ":50");
}

/// Reads are checked, so they must have something to find.
#[test]
fn reads_find_what_was_written_before() {
    let cluster = Cluster::start(3);
    for protocol in ["resp", "line"] {
        let options = format!(
            "--protocol {protocol} --fill --keys 300 --value-bytes 40 --reads 60 --clients 5 \
             --requests 3000 --to spread"
        );
        let json = report(&cluster.addresses(), &options);
        assert_eq!(number(&json, "/reads_absent"), 0, "--fill wrote every key");
        let reads = number(&json, "/reads/count");
        assert!((1500..2100).contains(&reads), "{reads} reads of 3000 are not 60 %");
    }
    assert_eq!(ask(&cluster, 1, "DBSIZE"), ":300");
    let json = report(&cluster.addresses(), "--value-bytes 41 --reads 100 --requests 100");
    assert_eq!(number(&json, "/reads_absent"), 100, "values of another length have other keys");
    assert!(json["writes"].is_null());
}

/// The report for a person, progress for whoever asks for it, and the time that was asked for.
#[test]
fn a_timed_run_tells_how_it_goes() {
    let cluster = Cluster::start(3);
    let options = "--seconds 1.5 --warmup 0.5 --clients 4 --progress";
    let output = bench(&cluster.addresses(), options);
    assert!(output.status.success(), "{}", text(&output));
    let (table, progress) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for word in ["machine", "throughput", "writes", "p99.9", "refused 0", "in 1.5"] {
        assert!(table.contains(word), "{word:?} is not in {table}");
    }
    assert!(progress.contains("a second, 4 connected"), "{progress}");
}

/// README, "Kill the leader": writes go on after a moment, every one that was acknowledged is
/// there, and the tool says how long the moment was. It would not be there if the tool counted a
/// lost request as done, or a server forgot one.
#[test]
fn an_outage_is_survived_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    // Of so many keys hardly one is drawn twice: each write makes a key.
    let options = "--outage --seconds 4 --warmup 0 --keys 1000000000 --value-bytes 20";
    let json = thread::scope(|scope| {
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        wait_for("there is load", LEADER_WITHIN, || (keys(&cluster) > 1000).then_some(()));
        cluster.kill(leader);
        load.join().expect("the load ran")
    });
    let (done, lost) = (number(&json, "/done"), number(&json, "/errors/lost"));
    let perhaps = lost + number(&json, "/errors/unknown") + number(&json, "/unfinished");
    let keys = keys(&cluster);
    assert!((done - 20..=done + perhaps).contains(&keys), "{keys} keys: {json}");
    assert!(number(&json, "/connections/cut") >= 1, "{json}");
    let longest = real(&json, "/outage/longest/length_ms");
    assert!(longest < 2000.0, "writes went on after the leader's end: {json}");
    let end = real(&json, "/outage/longest/start_s") + longest / 1e3;
    assert!(end <= real(&json, "/seconds") + 0.001, "{json}");
}

fn keys(cluster: &Cluster) -> u64 {
    let answer = cluster.client(cluster.leader()).ask_until_answered("DBSIZE");
    answer.trim_start_matches(':').parse().unwrap_or_else(|_| panic!("DBSIZE: {answer}"))
}

/// An outage of known length: a majority is frozen. It must be found, once, with its beginning and
/// its length, though frozen servers refuse nothing and cut nothing.
#[test]
fn a_gap_is_reported_with_its_beginning_and_its_length() {
    let cluster = Cluster::start(3);
    let options = "--outage --seconds 4 --warmup 0 --gap-ms 1000";
    let frozen = Duration::from_millis(1500);
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let (json, began) = thread::scope(|scope| {
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        wait_for("there is load", LEADER_WITHIN, || (keys(&cluster) > 100).then_some(()));
        let began = unix_ms() as f64;
        cluster.pause(1);
        cluster.pause(2);
        thread::sleep(frozen); // the outage itself
        cluster.resume(1);
        cluster.resume(2);
        (load.join().expect("the load ran"), began)
    });
    let gaps = json["outage"]["gaps"].as_array().expect("--outage reports gaps");
    assert_eq!((gaps.len(), &gaps[0]), (1, &json["outage"]["longest"]), "{json}");
    let late = real(&gaps[0], "/start_unix_ms") - began;
    assert!((-200.0..300.0).contains(&late), "it began {late} ms after the freeze: {json}");
    let length = real(&gaps[0], "/length_ms");
    assert!((1200.0..3500.0).contains(&length), "{json}");
    assert!(number(&json, "/errors/lost") > 0, "the frozen servers' clients gave up: {json}");
}

/// Ctrl-C is how a person ends a run: what was measured is reported, and what was not is no result.
#[test]
fn a_signal_ends_the_run_with_a_report() {
    let cluster = Cluster::start(3);
    let run = |options: &str, signal| {
        let mut command = Command::new(BINARY);
        command.arg("bench").args(cluster.addresses()).args(options.split_whitespace());
        command.args(["--json", "--progress"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut progress = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut text = String::new();
        progress.read_line(&mut text).expect("progress is text"); // after a second of load
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        progress.read_to_string(&mut text).expect("text");
        (child.wait_with_output().expect("it ends"), text)
    };
    for signal in [Signal::INT, Signal::TERM] {
        let (output, text) = run("--seconds 600 --warmup 0", signal);
        assert!(output.status.success(), "{text}");
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        check(&json);
        assert_eq!(json["interrupted"], true);
        assert!(number(&json, "/done") > 0 && real(&json, "/seconds") < 60.0, "{json}");
    }
    let (output, text) = run("--seconds 600 --warmup 600", Signal::INT);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("stopped before anything was measured"), "{text}");
}

/// Servers that are gone do not end a run, and its report does not look like a good one: requests
/// that got no answer are there, and who cut them off.
#[test]
fn a_cluster_that_dies_midway_is_in_the_report() {
    let cluster = Cluster::start(1);
    let json = thread::scope(|scope| {
        let options = "--seconds 1.5 --warmup 0 --clients 5 --pipeline 2";
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        let leader = cluster.leader();
        wait_for("there is load", LEADER_WITHIN, || {
            (last_index(&cluster, leader) > 1000).then_some(())
        });
        cluster.kill(leader);
        load.join().expect("the load ran")
    });
    assert_eq!(number(&json, "/connections/cut"), 5, "{json}");
    assert!((5..=10).contains(&number(&json, "/errors/lost")), "{json}");
    assert!(number(&json, "/connections/not_made") > 0 && json["outage"].is_null(), "{json}");
    let cut = json["examples"]["cut"].as_str().expect("a text");
    assert!(cut.contains(&cluster.address(1)), "{cut}");
}

/// Clients that are to load the leader do so also after it has changed, and the run goes on.
#[test]
fn the_load_follows_the_leader() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    thread::scope(|scope| {
        let options = "--to leader --seconds 4 --warmup 0 --clients 9";
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        let all_are_at = |server| {
            wait_for("all clients are there", Duration::from_secs(3), || {
                let status = ask(&cluster, server, "STATUS");
                let count = status.lines().find_map(|line| line.strip_prefix("+connections: "));
                // All nine, and who asks.
                (count.and_then(|count| count.parse().ok()).unwrap_or(0) >= 10).then_some(())
            });
        };
        all_are_at(leader);
        cluster.kill(leader);
        all_are_at(cluster.leader());
        load.join().expect("the load ran");
    });
}

#[test]
fn wrong_usage_is_exit_2() {
    let here = ["127.0.0.1:1".to_owned()];
    for options in [
        "--clients 0",
        "--clients 20001",
        "--clients 5000 --pipeline 1000",
        "--clients 1000 --fill --value-bytes 100000",
        "--pipeline 0",
        "--pipeline 10001",
        "--reads 101",
        "--keys 0",
        "--value-bytes 0",
        "--value-bytes 4194305",
        "--timeout-ms 0",
        "--timeout-ms 120001",
        "--gap-ms 5",
        "--seconds 0",
        "--seconds -1",
        "--seconds x",
        "--seconds 1 --requests 1",
        "--outage --reads 5",
        "--to nobody",
        "--protocol http",
        "localhost",
    ] {
        let output = bench(&here, options);
        assert_eq!(output.status.code(), Some(2), "{options}: {}", text(&output));
    }
    assert_eq!(bench(&[], "").status.code(), Some(2));
}

/// A run that did nothing is no result.
#[test]
fn nobody_to_measure_is_exit_1() {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let output = bench(&[address], "--requests 10");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("can be reached"), "{}", text(&output));
}

/// The wrong port is the first mistake that everybody makes: it must not cost ten seconds, and the
/// message must say what is there instead.
#[test]
fn a_port_of_something_else_is_exit_1_and_says_so() {
    let cases = [
        ("-ERR unknown command 'STATUS'\r\n", "it says -ERR unknown command 'STATUS'"),
        ("HTTP/1.1 400 Bad Request\r\n", "it says HTTP/1.1 400 Bad Request"),
        ("", "no answer to STATUS"),
    ];
    for (answer, said) in cases {
        let address = server_that_says(answer);
        let began = Instant::now();
        let output = bench(std::slice::from_ref(&address), "");
        assert!(began.elapsed() < Duration::from_secs(5), "{answer}");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        for part in [&address, said, "--to spread"] {
            assert!(text(&output).contains(part), "{part}: {}", text(&output));
        }
    }
}

/// A server that answers whatever it reads, on every connection, with what `answer` makes of it.
fn server_that(answer: impl Fn(&[u8]) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut request = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut request) {
                    if stream.write_all(answer(&request[..count]).as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn server_that_says(answer: &'static str) -> String {
    server_that(move |_| answer.to_owned())
}

/// A leader that was too busy once gets its load again as long as it leads: else the clients would
/// end up at the followers, and the report would still say "leader".
#[test]
fn clients_go_back_to_a_leader_that_has_refused() {
    let writes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&writes);
    let leader = server_that(move |request| match request {
        b"STATUS\n" => "*3\n+role: leader\n+term: 7\n+committed_in_term: yes\n".to_owned(),
        _ if seen.fetch_add(1, Ordering::Relaxed) == 0 => "-TRYAGAIN busy\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    });
    let follower = server_that_says("+OK\r\n");
    let json = report(&[follower, leader], "--seconds 1.5 --warmup 0 --clients 1");
    assert_eq!(number(&json, "/errors/refused"), 1, "{json}");
    assert!(writes.load(Ordering::Relaxed) > 1, "it was not asked again: {json}");
}

/// Errors end up in their family, and a store that answers nonsense fails the run.
#[test]
fn errors_are_told_apart_and_nonsense_is_noticed() {
    let cases = [
        ("-CLUSTERDOWN No leader\r\n", "refused 3,"),
        ("-UNKNOWN too late\r\n", "unknown 3,"),
        ("", "lost 3,"),
        ("-ERR unknown command\r\n", "wrong 3,"),
        ("$5\r\nother\r\n", "nonsense 3;"),
        ("HTTP/1.1 400 Bad Request\r\n", "nonsense 3;"),
    ];
    for (answer, count) in cases {
        let address = server_that_says(answer);
        let output = bench(&[address], "--to spread --requests 3 --clients 1 --timeout-ms 200");
        assert_eq!(output.status.code(), Some(1), "{answer}: {}", text(&output));
        assert!(text(&output).contains(count), "{answer}: {}", text(&output));
        assert!(text(&output).contains("not one request succeeded"), "{}", text(&output));
    }
    // Writes are fine; what reads bring is not what anybody wrote.
    let address = server_that_says("+OK\r\n");
    let output = bench(&[address], "--to spread --requests 100 --clients 1 --reads 50");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("none that a working store can give"), "{}", text(&output));
}
