//! Bounded exhaustive search: everything that can happen to a tiny cluster, up to a bound.
//!
//! A random test asks "did anything break this time?". Here we ask "can anything break at all, as
//! long as nothing needs more steps or servers than this?". The core is a plain value, so the real
//! code is searched, not a model of it: three `Raft`s, three disks and the messages under way are
//! one `World`; from each world, every message that may arrive, every write that may end, every
//! crash, timeout and proposal leads to another one. Breadth-first, each state once.
//!
//! | file | what it teaches |
//! |---|---|
//! | `explore/world.rs` | what a state is, what may happen in it, when two states are the same |
//! | `explore/checks.rs` | what must be true in all of them (Figure 3) |
//! | `explore/search.rs` | the search itself, and how it tells what it found |
//! | `explore/scenarios.rs` | where it starts: close to where it is dangerous |
//!
//! What keeps the space small, and why nothing is missed by it:
//! - *No clock.* A server times out when the search says so, so clocks and dice decide nothing and
//!   are not part of a state.
//! - *No loss.* A message that is never delivered is as good as lost. Any may overtake any other.
//! - *A crash is at once a restart.* A server that is down for long is one to which nothing
//!   happens for long.
//!
//! What is bounded is said by each scenario's `Budget`, and by the number of states. Left out are
//! windows and byte bounds, `link_renewed`, and more than a few terms: the simulator's part.
//!
//! `RAFT_TEST_WIDE=1 cargo test --release --test explore` searches further. A violation is printed
//! with the shortest way to it.

#[path = "explore/checks.rs"]
mod checks;
#[path = "scripts/render.rs"]
mod render;
#[path = "explore/scenarios.rs"]
mod scenarios;
#[path = "explore/search.rs"]
mod search;
#[path = "explore/world.rs"]
mod world;

use std::env;
use std::io::{self, Write};

use crate::scenarios::PROMPT;
use crate::search::{Report, search};
use crate::world::{Budget, Rules};

/// Distinct states in each scenario: two seconds in all, and half a minute.
const STATES_MAX: usize = 15_000;
const STATES_MAX_WIDE: usize = 200_000;

/// §5.4.3: no order of deliveries, syncs, crashes and elections within the bounds breaks anything.
#[test]
fn nothing_breaks_in_any_order_of_events() {
    let wide = env::var_os("RAFT_TEST_WIDE").is_some();
    let states_max = if wide { STATES_MAX_WIDE } else { STATES_MAX };
    let (mut states, mut broken) = (0, 0);
    for scenario in scenarios::all() {
        let report = search(&scenario.start, &scenario.rules, states_max);
        tell(scenario.name, &report);
        states += report.states;
        broken += usize::from(report.violation.is_some());
    }
    say(&format!("explore: {states} distinct states in all"));
    assert_eq!(broken, 0, "scenarios broke; their stories are above");
}

/// A search that finds nothing proves nothing until it is seen to find something. Raft needs disks
/// that keep what they have synced (§5.1): one that forgets votes twice, for two leaders.
#[test]
fn a_disk_that_forgets_is_found() {
    let mut start = scenarios::two_candidates();
    start.budget = Budget { crashes: [0, 0, 1, 0], ..Budget::default() };
    let rules = Rules { disks_forget: true, ..PROMPT };
    let violation = search(&start, &rules, STATES_MAX).violation.expect("two leaders are found");
    assert!(violation.what.starts_with("Election Safety"), "{}", violation.what);
    assert!(violation.story.contains("n3 votes for=n1"), "{}", violation.story);
    assert!(violation.story.contains("n3 votes for=n2"), "{}", violation.story);
}

/// A disk that reports a sync before it has happened breaks the count of disks.
#[test]
fn a_disk_that_lies_is_found() {
    let mut start = scenarios::from_nothing();
    start.budget = Budget { timeouts: [1, 0, 0, 0], ..Budget::default() };
    let rules = Rules { disks_lie: true, ..PROMPT };
    let violation = search(&start, &rules, STATES_MAX).violation.expect("the lie is found");
    assert!(violation.what.starts_with("Durability"), "{}", violation.what);
}

/// A follower's question is an echo only for the leader that it follows.
#[test]
fn a_question_to_a_leader_of_old_is_found() {
    let mut start = scenarios::two_leaders();
    start.budget = Budget { reads: 1, ..Budget::default() };
    let rules = Rules { anybody_is_asked: true, ..PROMPT };
    let violation = search(&start, &rules, STATES_MAX).violation.expect("a stale read is found");
    assert!(violation.what.starts_with("Linearizability"), "{}", violation.what);
    assert!(violation.story.contains("which asks n1"), "{}", violation.story);
}

fn tell(name: &str, report: &Report) {
    let per_second = report.states as f64 / report.elapsed.as_secs_f64();
    let end = if report.exhausted { "all there are" } else { "bounded" };
    say(&format!(
        "explore: {name}: {} distinct states ({end}), {} transitions, depth {}, {per_second:.0} \
         states/s",
        report.states, report.transitions, report.depth
    ));
    if let Some(violation) = &report.violation {
        let (what, depth) = (&violation.what, violation.depth);
        say(&format!("\n{what}\nafter {depth} steps of \"{name}\":\n{}", violation.story));
    }
}

/// Writes past the capture of passing tests: the figures belong into every log of CI.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
