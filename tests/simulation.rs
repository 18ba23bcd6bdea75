//! Seeds × faults × checks: whole clusters in one thread, see `raft_server::sim`.
//!
//! `SIM_SEEDS` and `SIM_FIRST` choose more seeds, or others, than a quick run has;
//! `RAFT_TEST_WIDE=1` runs some thousands.

use raft_server::sim::{Kinds, Options, run, run_seed};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn expect_no_failure(options: &Options) {
    let report = run(options);
    assert!(report.failure.is_none() && report.is_conclusive(), "\n{report}");
    println!("{report}");
}

/// Every promise of the design, in worlds in which everything goes wrong.
#[test]
fn nothing_breaks_under_all_faults() {
    let wide = std::env::var_os("RAFT_TEST_WIDE").is_some_and(|value| value == "1");
    let (seeds, steps) = if wide { (3_000, 10_000) } else { (250, 6_000) };
    let seeds = number("SIM_SEEDS", seeds);
    let first_seed = number("SIM_FIRST", 0);
    expect_no_failure(&Options { seeds, first_seed, steps, threads: 2, ..Options::default() });
}

/// A cluster in which nothing goes wrong elects once and refuses nobody for long: trouble that we
/// make ourselves must not hide behind faults.
#[test]
fn without_faults_one_election_is_enough() {
    let faults = Kinds::NONE;
    let options =
        Options { servers: Some(3), seeds: 20, steps: 6_000, faults, ..Options::default() };
    let report = run(&options);
    assert!(report.failure.is_none(), "\n{report}");
    assert!(report.stats.leaders <= 25, "leaders change without a reason:\n{report}");
    assert!(report.stats.truncations == 0, "logs are cut without a reason:\n{report}");
}

/// Raft promises service while a majority can talk, not only once everybody is back (S12, S13, S14,
/// S18). Runs are short here, so that there are many ends of storms.
#[test]
fn a_majority_serves_while_a_minority_stays_out() {
    for servers in [3, 5] {
        let options =
            Options { servers: Some(servers), seeds: 100, steps: 1_500, ..Options::default() };
        let report = run(&options);
        assert!(report.failure.is_none(), "\n{report}");
        assert!(report.stats.absences >= 30, "half of the worlds lose somebody:\n{report}");
    }
}

/// Every size works, one server and even numbers too.
#[test]
fn every_size_of_cluster_works() {
    for servers in 1..=7 {
        let options =
            Options { servers: Some(servers), seeds: 15, steps: 4_000, ..Options::default() };
        expect_no_failure(&options);
    }
}

/// A failure that cannot be repeated cannot be understood.
#[test]
fn a_seed_is_everything() {
    let options = Options { steps: 4_000, ..Options::default() };
    let mut fingerprints = Vec::new();
    for seed in 0..20 {
        let (first, result) = run_seed(&options, seed);
        assert_eq!(result, Ok(()));
        let (second, _) = run_seed(&options, seed);
        assert_eq!(first, second, "two runs of seed {seed} differ");
        fingerprints.push(first.fingerprint);
    }
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 20, "different seeds are different runs");
}

/// Threads share the seeds to be faster; what is said about them must not depend on who was.
#[test]
fn threads_change_nothing() {
    let options = Options { seeds: 12, steps: 2_000, ..Options::default() };
    let one = run(&options);
    let three = run(&Options { threads: 3, ..options });
    assert_eq!((one.seeds, one.stats), (three.seeds, three.stats));
}

/// A broken assertion of the server is a finding like any other. A release build aborts on it: then
/// too, the seed, the last events and the command line that repeats them must be told first.
#[test]
fn a_broken_assertion_is_told_with_its_seed_before_the_end() {
    let arguments = ["sim", "--seed", "7", "--seeds", "3", "--break-at", "900"];
    let output = assert_cmd::Command::cargo_bin("raft-server")
        .expect("cargo has built it")
        .args(arguments)
        .output()
        .expect("it can be started");
    assert!(!output.status.success(), "a finding is no success");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    for expected in ["--seed 7 ", "replay: raft-server sim", "on purpose", " → n"] {
        assert!(told.contains(expected), "{expected:?} is missing from\n{told}");
    }
}
