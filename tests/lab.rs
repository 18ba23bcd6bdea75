//! The bug zoo: each rule of `raft_server::lab` is switched off, and a seed that is known to need
//! it breaks a property that the rule protects. With the rule back in its place, the same seed is
//! well.
//!
//! The seeds stand in `tests/lab_seeds.txt`. A change to the simulator moves them:
//! `UPDATE_LAB=1 cargo test --release --features lab --test lab` looks for others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use raft_server::lab::Rule;
use raft_server::sim::lab::{Hit, find};
use raft_server::sim::{Options, run_seed};

/// No switch may take more seeds than this.
const SEEDS_MAX: u64 = 20_000;

/// As in `lab run` and `lab measure`.
const STEPS: u64 = 15_000;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab_seeds.txt")
}

fn options(first_seed: u64, seeds: u64) -> Options {
    Options { first_seed, seeds, steps: STEPS, ..Options::default() }
}

/// Does `work` for every rule, on two threads, and returns what came out in the order of the rules.
fn for_each_rule<T: Send>(work: impl Fn(Rule) -> T + Sync) -> Vec<(Rule, T)> {
    let next = AtomicUsize::new(0);
    let one_thread = || {
        let mut done = Vec::new();
        while let Some(&rule) = Rule::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((rule, work(rule)));
        }
        done
    };
    let mut all: Vec<(Rule, T)> = thread::scope(|scope| {
        let other = scope.spawn(one_thread);
        let mut all = one_thread();
        all.extend(other.join().expect("a rule's work does not panic"));
        all
    });
    all.sort_by_key(|(rule, _)| *rule);
    all
}

/// Whether what broke is one of the properties that the rule's lesson names.
fn is_expected(rule: Rule, hit: &Hit) -> bool {
    rule.lesson().properties.contains(&hit.property())
}

/// Looks for the first seed of each rule that breaks what the rule is there for.
fn update() {
    let pinned = pinned();
    let found = for_each_rule(|rule| {
        // A seed that still does is kept.
        let kept = pinned.get(rule.lesson().name).copied();
        let still = |seed: u64| find(rule, &options(seed, 1)).filter(|hit| is_expected(rule, hit));
        if let Some(hit) = kept.and_then(still) {
            return Some(hit.seed);
        }
        let mut from = 0;
        while let Some(hit) = find(rule, &options(from, SEEDS_MAX - from)) {
            if is_expected(rule, &hit) {
                return Some(hit.seed);
            }
            from = hit.seed + 1;
        }
        None
    });
    let line = |(rule, seed): (Rule, Option<u64>)| {
        let name = rule.lesson().name;
        let seed = seed.map_or("not-found".to_owned(), |seed| seed.to_string());
        format!("{name} {seed}\n")
    };
    let lines: String = found.into_iter().map(line).collect();
    std::fs::write(file(), lines).expect("the repository can be written");
}

fn pinned() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(file()).expect("tests/lab_seeds.txt is in the repository");
    let pin = |line: &str| {
        let (name, seed) = line.split_once(' ').expect("a name and a seed");
        (name.to_owned(), seed.parse().expect("a seed is a number"))
    };
    text.lines().map(pin).collect()
}

/// A check that has never failed has not been tested: all of them, in every test run.
#[test]
fn every_missing_rule_is_noticed() {
    if std::env::var_os("UPDATE_LAB").is_some() {
        update();
    }
    let pinned = pinned();
    assert_eq!(pinned.len(), Rule::ALL.len(), "each rule has one seed");
    let replayed = for_each_rule(|rule| {
        let seed = pinned[rule.lesson().name];
        let (_, well) = run_seed(&options(seed, 1), seed);
        let hit =
            |from, seeds| find(rule, &options(from, seeds)).filter(|hit| is_expected(rule, hit));
        // A change to the simulator moves a seed; then another one must do.
        let others = || (0..400).find_map(|from| hit(from * 5, 5));
        (seed, hit(seed, 1).or_else(others), well)
    });
    let mut wrong = Vec::new();
    for (rule, (seed, hit, well)) in replayed {
        let name = rule.lesson().name;
        if hit.is_none() {
            wrong.push(format!("{name}: seed {seed} and others break nothing any more"));
        }
        if let Err(violation) = well {
            wrong.push(format!("seed {seed} with all rules in place: {violation:?}"));
        }
    }
    let how = "if the simulator has changed: UPDATE_LAB=1";
    assert!(wrong.is_empty(), "{}\n{how}", wrong.join("\n"));
}

/// Names are what people type.
#[test]
fn names_are_unique_and_typed_easily() {
    let names: std::collections::BTreeSet<&str> =
        Rule::ALL.iter().map(|rule| rule.lesson().name).collect();
    assert_eq!(names.len(), Rule::ALL.len());
    for name in names {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        assert_eq!(Rule::named(name).map(|rule| rule.lesson().name), Some(name));
    }
}
