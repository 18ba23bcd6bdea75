//! Breadth-first search. It knows nothing of Raft: it asks a world what may happen, lets each of
//! these things happen to a copy, and goes on with the copies that it has not seen yet.
//!
//! Breadth-first, so that the first violation found is one of the shortest. Worlds wait in the
//! frontier and are dropped once they are expanded; what stays of each is its key, to recognise it,
//! and how it was reached, to tell the story when something breaks.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use raft_server::raft::event::Event;

use crate::render;
use crate::world::{Action, Rules, World};

/// What a search has found.
pub struct Report {
    /// Distinct states, all of them checked.
    pub states: usize,
    /// Actions performed; most lead to a state that was seen before.
    pub transitions: usize,
    /// The length of the longest path: to the farthest state from the start.
    pub depth: usize,
    /// Every state within the scenario's budget was seen; otherwise the bound ended the search.
    pub exhausted: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// The first thing that broke.
    pub violation: Option<Violation>,
}

/// A broken property and one of the shortest ways to it.
pub struct Violation {
    /// Which property, and how.
    pub what: String,
    /// How many actions it takes.
    pub depth: usize,
    /// What happens, line by line.
    pub story: String,
}

/// How a state was first reached.
struct Step {
    /// Which state it was reached from; the start has none.
    before: u32,
    action: Action,
}

/// Searches everything that can happen from `start`, until `states_max` states are known or
/// something breaks.
pub fn search(start: &World, rules: &Rules, states_max: usize) -> Report {
    let began = Instant::now();
    let mut seen = HashSet::from([start.key()]);
    let mut steps: Vec<Option<Step>> = vec![None];
    let mut frontier = VecDeque::from([(0, 0, start.clone())]);
    let mut report = Report {
        states: 1,
        transitions: 0,
        depth: 0,
        exhausted: false,
        elapsed: Duration::ZERO,
        violation: None,
    };
    'search: while let Some((number, depth, world)) = frontier.pop_front() {
        for action in world.actions(rules) {
            report.transitions += 1;
            let step = Step { before: number, action };
            match successor(&world, action, rules) {
                Ok(next) if seen.insert(next.key()) => {
                    report.depth = depth + 1;
                    frontier.push_back((steps.len() as u32, depth + 1, next));
                    steps.push(Some(step));
                }
                Ok(_) => {}
                Err(what) => {
                    let path = path_to(&steps, step);
                    let story = tell(start, rules, &path);
                    report.violation = Some(Violation { what, depth: path.len(), story });
                    break 'search;
                }
            }
            if steps.len() == states_max {
                break 'search;
            }
        }
    }
    report.states = steps.len();
    report.exhausted = frontier.is_empty() && report.violation.is_none();
    report.elapsed = began.elapsed();
    report
}

/// The world after `action`, or what is broken in it. A failed assertion of the core is a broken
/// property as well; the world in which it failed is thrown away.
fn successor(world: &World, action: Action, rules: &Rules) -> Result<World, String> {
    let mut next = world.clone();
    let place = world.place_of(action);
    let performed = catch_unwind(AssertUnwindSafe(|| next.perform(action, rules)));
    let (_, applied) = performed.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        format!("an assertion failed: {}", text.unwrap_or_default())
    })?;
    next.check(place, &applied)?;
    Ok(next)
}

fn path_to(steps: &[Option<Step>], last: Step) -> Vec<Action> {
    let mut path = vec![last.action];
    let mut number = last.before;
    while let Some(step) = &steps[number as usize] {
        path.push(step.action);
        number = step.before;
    }
    path.reverse();
    path
}

/// Plays the path once more and writes down what happens.
fn tell(start: &World, rules: &Rules, path: &[Action]) -> String {
    let mut world = start.clone();
    let mut story = states(&world);
    for (number, &action) in (1..).zip(path) {
        let _ = writeln!(story, "{number:3}. {}", world.tell(action));
        let server = world.servers[world.place_of(action)].raft.id();
        let performed = catch_unwind(AssertUnwindSafe(|| world.perform(action, rules)));
        let Ok((events, applied)) = performed else { break }; // the last step, by an assertion
        for event in events.iter().filter(|event| !matches!(event, Event::LostLeader { .. })) {
            let _ = writeln!(story, "         {server} {event}");
        }
        if !applied.is_empty() {
            let _ = writeln!(story, "         {server} applies {}", render::ids(&applied));
        }
    }
    story + &states(&world)
}

fn states(world: &World) -> String {
    let mut text = String::new();
    for server in &world.servers {
        let _ = writeln!(text, "     {}", render::state(&server.raft));
    }
    text
}
