//! The load generator against real servers: what it counts is what they did.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::{BINARY, Cluster, output_within, text};

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
    let errors: u64 = ["refused", "unknown", "wrong", "nonsense"]
        .iter()
        .map(|family| number(json, &format!("/errors/{family}")))
        .sum();
    let done = number(json, "/done");
    assert_eq!(number(json, "/requests"), done + errors, "{json}");
    assert_eq!(number(json, "/latency_ms/count"), done, "{json}");
    let kinds = ["/writes", "/reads"].iter().filter(|kind| !json.pointer(kind).unwrap().is_null());
    let count: u64 = kinds.map(|kind| number(json, &format!("{kind}/count"))).sum();
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
    let modes = [("resp", "leader"), ("line", "leader"), ("resp", "spread"), ("line", "first")];
    for (protocol, to) in modes {
        let before = last_index(&cluster, leader);
        let options = format!(
            "--protocol {protocol} --to {to} --requests 2000 --clients 7 --pipeline 3 --keys 50"
        );
        let json = report(&cluster.addresses(), &options);
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

/// README, "Kill the leader": writes stop for a moment, and the tool says for how long.
#[test]
fn an_outage_is_seen_and_survived() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let options = "--outage --seconds 4 --warmup 0.2";
    let json = thread::scope(|scope| {
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        thread::sleep(Duration::from_secs(2)); // into the middle of the run
        cluster.kill(leader);
        load.join().expect("the load ran")
    });
    assert!(number(&json, "/connections/cut") >= 1, "{json}");
    let gaps = json["gaps"].as_array().expect("--outage reports gaps");
    let lengths: Vec<f64> = gaps.iter().map(|gap| real(gap, "/length_ms")).collect();
    assert!(lengths.is_sorted_by(|one, next| one >= next) && lengths.len() == 5, "{json}");
    assert!(lengths[0] < 2000.0, "writes went on after the leader's end: {json}");
    assert!(real(&gaps[0], "/start_s") + lengths[0] / 1e3 <= real(&json, "/seconds") + 0.01);
}

/// Clients that are to load the leader do so also after it has changed, and the run goes on.
#[test]
fn the_load_follows_the_leader() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    thread::scope(|scope| {
        let options = "--to leader --seconds 6 --warmup 0 --clients 9";
        let load = scope.spawn(|| report(&cluster.addresses(), options));
        thread::sleep(Duration::from_secs(1));
        cluster.kill(leader);
        let next = cluster.leader();
        // All nine, and whoever asks.
        support::wait_for("the clients move", Duration::from_secs(4), || {
            let status = ask(&cluster, next, "STATUS");
            let count = status.lines().find_map(|line| line.strip_prefix("+connections: "));
            (count.and_then(|count| count.parse().ok()).unwrap_or(0) >= 10).then_some(())
        });
        load.join().expect("the load ran");
    });
}

#[test]
fn wrong_usage_is_exit_2() {
    let here = ["127.0.0.1:1".to_owned()];
    for options in [
        "--clients 0",
        "--pipeline 0",
        "--reads 101",
        "--keys 0",
        "--value-bytes 0",
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

/// A server that answers each request of every connection with `answer`.
fn server_that_says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Errors end up in their family, and a store that answers nonsense fails the run.
#[test]
fn errors_are_told_apart_and_nonsense_is_noticed() {
    let cases = [
        ("-CLUSTERDOWN No leader\r\n", "refused 3,"),
        ("-UNKNOWN too late\r\n", "unknown 3,"),
        ("-ERR unknown command\r\n", "wrong 3,"),
        ("$5\r\nother\r\n", "nonsense 3;"),
        ("HTTP/1.1 400 Bad Request\r\n", "nonsense 3;"),
    ];
    for (answer, count) in cases {
        let address = server_that_says(answer);
        let output = bench(&[address], "--to first --requests 3 --clients 1");
        assert_eq!(output.status.code(), Some(1), "{answer}: {}", text(&output));
        assert!(text(&output).contains(count), "{answer}: {}", text(&output));
        assert!(text(&output).contains("not one request succeeded"), "{}", text(&output));
    }
    // Writes are fine; what reads bring is not what anybody wrote.
    let address = server_that_says("+OK\r\n");
    let output = bench(&[address], "--to first --requests 100 --clients 1 --reads 50");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("none that a working store can give"), "{}", text(&output));
}
