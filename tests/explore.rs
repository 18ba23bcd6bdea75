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
    let cold = || World::recovered(vec![disk(0, 0, &[]), disk(0, 0, &[]), disk(0, 0, &[])]);
    let settled = || arrive(timeout(cold(), 0), |_| false);
    let figure_8 = || {
        let disks = vec![disk(3, 0, &[1, 2]), disk(3, 3, &[1]), disk(3, 3, &[1, 3])];
        arrive(timeout(World::recovered(disks), 0), |w| leads(w, 0))
    };
    let stale_tail = || {
        let disks = vec![disk(1, 3, &[1]), disk(1, 3, &[1]), disk(1, 3, &[1, 1, 1])];
        arrive(timeout(World::recovered(disks), 0), |w| leads(w, 0))
    };
    let two_candidates = || {
        let disks = vec![disk(0, 0, &[]); 4];
        let w = arrive(timeout(World::recovered(disks), 0), |w| term(w, 0) == 1);
        arrive(timeout(w, 1), |w| term(w, 1) == 1)
    };
    let candidate = || arrive(timeout(cold(), 0), |w| term(w, 0) == 1);
    let with = |mut world: World, budget: Budget| {
        world.budget = budget;
        world
    };
    let zero = Budget::default();
    let late = Rules { prompt_workers: false, ..PROMPT };
    let heard = Rules { leaders_stay_heard: true, ..PROMPT };
    let s = |name, start, rules| Scenario { name, start, rules };
    vec![
        s(
            "cold start",
            with(cold(), Budget { timeouts: [1, 1, 0, 0], crashes: [0, 0, 1, 0], ..zero }),
            PROMPT,
        ),
        s(
            "cold start crash candidate",
            with(cold(), Budget { timeouts: [2, 1, 0, 0], crashes: [1, 0, 0, 0], ..zero }),
            PROMPT,
        ),
        s(
            "settled leader",
            with(
                settled(),
                Budget { timeouts: [0, 1, 0, 0], crashes: [0, 0, 1, 0], proposals: 2, ..zero },
            ),
            PROMPT,
        ),
        s(
            "settled leader crash",
            with(
                settled(),
                Budget {
                    timeouts: [0, 1, 0, 0],
                    crashes: [1, 0, 0, 0],
                    proposals: 2,
                    heartbeats: 1,
                    duplicates: 1,
                },
            ),
            PROMPT,
        ),
        s(
            "figure 8",
            with(figure_8(), Budget { timeouts: [0, 0, 1, 0], crashes: [0, 1, 0, 0], ..zero }),
            PROMPT,
        ),
        s(
            "stale tail",
            with(
                stale_tail(),
                Budget {
                    timeouts: [0, 1, 0, 0],
                    crashes: [0, 0, 1, 0],
                    proposals: 1,
                    heartbeats: 1,
                    duplicates: 1,
                },
            ),
            PROMPT,
        ),
        s(
            "four servers two candidates",
            with(two_candidates(), Budget { duplicates: 2, ..zero }),
            PROMPT,
        ),
        s("old votes", with(candidate(), Budget { timeouts: [1, 1, 0, 0], ..zero }), PROMPT),
        s("late workers tail", with(figure_8(), Budget { timeouts: [0, 0, 1, 0], ..zero }), late),
        s(
            "late workers settled",
            with(settled(), Budget { timeouts: [0, 1, 0, 0], proposals: 1, ..zero }),
            late,
        ),
        s("late workers cold", with(cold(), Budget { timeouts: [1, 1, 0, 0], ..zero }), late),
        s(
            "heard",
            with(settled(), Budget { timeouts: [0, 1, 1, 0], proposals: 1, heartbeats: 1, ..zero }),
            heard,
        ),
    ]
}

fn timeout(mut world: World, at: u8) -> World {
    world.budget.timeouts[usize::from(at)] += 1;
    world.perform(Action::Timeout(at), &PROMPT);
    world
}

/// Lets all messages arrive and all writes end until `done`.
fn arrive(mut world: World, done: impl Fn(&World) -> bool) -> World {
    let harmless = |action: &Action| {
        matches!(action, Action::Deliver { doubled: false, .. } | Action::FinishWrite(_))
    };
    while !done(&world) {
        let Some(action) = world.actions().into_iter().find(harmless) else { break };
        let place = world.place_of(action);
        let (_, applied) = world.perform(action, &PROMPT);
        world.check(place, &applied).expect("the way to the start breaks nothing");
    }
    world
}

fn leads(world: &World, at: usize) -> bool {
    world.servers[at].raft.is_leader()
}

fn term(world: &World, at: usize) -> u64 {
    world.servers[at].raft.current_term().0
}

#[test]
fn figures() {
    let max: usize = env::var("MAX").ok().and_then(|m| m.parse().ok()).unwrap_or(100_000);
    let only = env::var("ONLY").unwrap_or_default();
    for s in scenarios().iter().filter(|s| s.name.contains(&only)) {
        let report = search(&s.start, &s.rules, max);
        tell(s.name, &report);
    }
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
