//! The logger in a process of its own: `stderr` is a pipe that nobody reads (S69).

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raft_server::limits::LOG_LINES_MAX;
use raft_server::observe::logger;

/// Set in the child.
const CHILD: &str = "LOGGER_TEST_CHILD";
/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than the pipe and the queue hold.
const LINES: usize = 3 * LOG_LINES_MAX;

fn child() {
    let logger = logger::install().expect("the first logger of this process");
    let runner = logger.clone();
    thread::spawn(move || runner.run());
    while !logger.is_running() {
        thread::yield_now();
    }
    logger::set_context(3, 7, b'L');
    for line in 0..LINES {
        log::info!("line={line} forged=\"\nERROR\" {}", "x".repeat(100));
    }
    logger.flush(Duration::from_millis(100));
    println!("alive");
    // The parent reads now, and everything that was kept arrives.
    logger.flush(PATIENCE);
}

/// Logging and flushing go on with a full pipe, and afterwards it is told how much is missing; each
/// line tells which server, term and role it is about.
#[test]
fn a_stderr_that_nobody_reads_stops_nobody() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let this = std::env::current_exe().expect("a test knows where it is");
    let mut process = Command::new(this)
        .args(["--exact", "a_stderr_that_nobody_reads_stops_nobody", "--nocapture"])
        .env(CHILD, "1")
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a test can be started again");
    let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
    let (alive, is_alive) = mpsc::channel();
    thread::spawn(move || {
        // To the end: a test runner that cannot print fails.
        for line in stdout.lines().map_while(Result::ok) {
            if line.contains("alive") {
                let _the_test_has_given_up = alive.send(());
            }
        }
    });
    let said = is_alive.recv_timeout(PATIENCE);
    if said.is_err() {
        process.kill().expect("it is ours");
    }
    let mut text = String::new();
    process.stderr.take().expect("it is piped").read_to_string(&mut text).expect("text");
    assert!(process.wait().expect("it is ours").success() && said.is_ok(), "the child hangs");
    let kept = text.lines().filter(|line| line.contains(" n3 T7 L logger line=")).count();
    let report = text.lines().find(|line| line.contains("dropped")).expect("lines were dropped");
    let dropped: usize = report.split(' ').next().and_then(|n| n.parse().ok()).expect("a count");
    assert_eq!(kept + dropped, LINES, "{report}");
    assert!(kept >= LOG_LINES_MAX, "{kept}");
    assert!(!text.lines().any(|line| line.starts_with("ERROR")), "a forged line");
}
