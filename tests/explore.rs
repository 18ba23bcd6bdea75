//! Bounded exhaustive search of tiny clusters.
//! (essay below)

#[path = "explore/checks.rs"]
mod checks;
#[path = "scripts/render.rs"]
mod render;
#[path = "explore/search.rs"]
mod search;
#[path = "explore/world.rs"]
mod world;

use std::env;
use std::io::Write;

use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, Term,
};

use crate::search::{Report, search};
use crate::world::{Action, Budget, Disk, Rules, World};

struct Scenario {
    name: &'static str,
    start: World,
    rules: Rules,
}

const PROMPT: Rules = Rules {
    prompt_workers: true,
    leaders_stay_heard: false,
    disks_forget: false,
    disks_lie: false,
};

/// (term, vote, terms of log entries)
fn disk(term: u64, vote: u32, log: &[u64]) -> Disk {
    let entries = log.iter().zip(1..).map(|(&term, index)| Entry {
        id: EntryId::new(Term(term), Index(index)),
        payload: Payload::Command(Command::from(format!("{index}@T{term}").as_bytes())),
    });
    let voted_for = (vote > 0).then_some(ServerId(vote));
    Disk {
        hard_state: HardState { current_term: Term(term), voted_for },
        entries: entries.collect(),
    }
}

fn scenarios() -> Vec<Scenario> {
    let cold = || [disk(0, 0, &[]), disk(0, 0, &[]), disk(0, 0, &[])];
    vec![Scenario {
        name: "cold start",
        start: World::recovered(
            cold(),
            Budget { timeouts: [1, 1, 0], crashes: [0, 0, 1], ..Budget::default() },
        ),
        rules: PROMPT,
    }]
}

fn quiet(mut world: World, rules: &Rules) -> World {
    while let Some(action) = world.actions().into_iter().find(|action| {
        matches!(action, Action::Deliver { doubled: false, .. } | Action::FinishWrite(_))
    }) {
        world.perform(action, rules);
    }
    world
}

#[test]
fn figures() {
    let max: usize = env::var("MAX").ok().and_then(|m| m.parse().ok()).unwrap_or(100_000);
    let only = env::var("ONLY").unwrap_or_default();
    for s in scenarios().iter().filter(|s| s.name.contains(&only)) {
        let report = search(&s.start, &s.rules, max);
        tell(s.name, &report);
    }
    let _ = quiet;
}

fn tell(name: &str, report: &Report) {
    let rate = report.states as f64 / report.elapsed.as_secs_f64();
    let _ = writeln!(
        std::io::stderr(),
        "{name}: {} states, {} transitions, depth {}, exhausted {}, {:.2?}, {rate:.0} states/s",
        report.states,
        report.transitions,
        report.depth,
        report.exhausted,
        report.elapsed
    );
    if let Some(v) = &report.violation {
        let _ = writeln!(std::io::stderr(), "VIOLATION at {}: {}\n{}", v.depth, v.what, v.story);
    }
}
