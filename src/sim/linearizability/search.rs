//! The search for an order of one key's operations; the ideas are in the module above.
//!
//! It walks a tree whose nodes are *configurations*: the set of operations that have their place,
//! and the register's value. Going down places one more operation, going up takes the last one
//! back. The operations that still wait are kept in linked lists from which one is unlinked when it
//! is placed and into which it is put back in the opposite order, both in constant time.

use std::collections::{HashMap, HashSet};

use super::Operation;
use crate::kv::command::{Bytes, Outcome};

/// How a search ended.
pub(super) enum Found {
    /// With an order of all operations that returned.
    Order,
    /// With the certainty that there is none; see `Violation` for the fields.
    Nothing { explained: Vec<usize>, value: Option<Bytes>, stuck: Vec<(usize, Outcome)> },
    /// With more configurations than allowed.
    TooMuch,
}

/// The numbers `0..count`, some of them taken out: a ring of links closed by the number `count`.
struct Ring {
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Ring {
    /// A ring of these members, in this order, out of the numbers `0..count`.
    fn new(count: usize, members: impl Iterator<Item = usize>) -> Ring {
        let mut ring = Ring { next: vec![count; count + 1], previous: vec![count; count + 1] };
        for member in members {
            let last = ring.previous[count];
            (ring.next[last], ring.previous[member]) = (member, last);
            (ring.next[member], ring.previous[count]) = (count, member);
        }
        ring
    }

    fn remove(&mut self, member: usize) {
        let (previous, next) = (self.previous[member], self.next[member]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    /// Undoes the latest `remove` that is not yet undone: the member still knows its neighbours.
    fn restore(&mut self, member: usize) {
        let (previous, next) = (self.previous[member], self.next[member]);
        (self.next[previous], self.previous[next]) = (member, member);
    }
}

/// Every value that the register had, numbered, so that configurations compare them as numbers.
struct Values {
    numbers: HashMap<Option<Vec<u8>>, usize>,
    all: Vec<Option<Vec<u8>>>,
}

/// The number of the value of a key that does not exist, which is where every key begins.
const ABSENT: usize = 0;

impl Values {
    fn new() -> Values {
        Values { numbers: HashMap::from([(None, ABSENT)]), all: vec![None] }
    }

    fn number(&mut self, value: Option<Vec<u8>>) -> usize {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.all.push(value.clone());
            self.all.len() - 1
        })
    }
}

/// Where the search stands.
#[derive(Clone, Copy)]
struct Configuration {
    /// Names the set of placed operations: the exclusive or of their 128-bit names. Two sets with
    /// one name are as likely as guessing a key, and would raise a false alarm, never hide a fault.
    placed: u128,
    /// The register's value, as a number of `Values`.
    value: usize,
    /// Whether the last placed operation had an unknown outcome. Then an operation that overwrites
    /// without looking need not come next: the same order without the unknown one explains as much.
    unseen: bool,
}

/// An operation that could come next.
struct Candidate {
    operation: usize,
    /// The value it leaves.
    value: usize,
    /// Whether no other needs to be tried in its place.
    forced: bool,
}

/// One step down the tree.
struct Step {
    operation: usize,
    before: Configuration,
    /// See `Candidate`.
    forced: bool,
}

/// One key's operations, and how far they are ordered.
pub(super) struct Search<'a> {
    /// By call.
    operations: &'a [&'a Operation],
    /// Operations that returned and wait for their place, by call.
    by_call: Ring,
    /// The same, by return: the first of them must be placed before anything called after its
    /// return.
    by_return: Ring,
    /// Operations with an unknown outcome that may have changed something and are not placed, by
    /// call.
    open: Ring,
    /// The operation with an unknown outcome and the same action that was called before this one.
    twin: Vec<Option<usize>>,
    is_placed: Vec<bool>,
    /// How many operations that returned wait for their place.
    waiting: usize,
    now: Configuration,
    values: Values,
    order: Vec<Step>,
    seen: HashSet<(u128, usize, bool)>,
    /// The longest order so far, in returned operations: how many wait, the order, the value.
    best: (usize, Vec<usize>, usize),
}

impl<'a> Search<'a> {
    /// Prepares the search; `operations` are of one key and sorted by call.
    pub(super) fn new(operations: &'a [&'a Operation]) -> Search<'a> {
        assert!(operations.is_sorted_by_key(|operation| operation.call), "sorted by call");
        let count = operations.len();
        let known = |&i: &usize| operations[i].ret.is_some();
        let open = |&i: &usize| operations[i].ret.is_none() && operations[i].action.is_write();
        let mut by_return: Vec<usize> = (0..count).filter(known).collect();
        by_return.sort_by_key(|&i| operations[i].ret);
        let waiting = by_return.len();

        let mut twin = vec![None; count];
        let mut latest = HashMap::new();
        for i in (0..count).filter(open) {
            twin[i] = latest.insert(&operations[i].action, i);
        }
        Search {
            operations,
            by_call: Ring::new(count, (0..count).filter(known)),
            by_return: Ring::new(count, by_return.into_iter()),
            open: Ring::new(count, (0..count).filter(open)),
            twin,
            is_placed: vec![false; count],
            waiting,
            now: Configuration { placed: 0, value: ABSENT, unseen: false },
            values: Values::new(),
            order: Vec::new(),
            seen: HashSet::new(),
            best: (usize::MAX, Vec::new(), ABSENT),
        }
    }

    /// Searches depth first, remembering at most so many configurations.
    pub(super) fn run(mut self, configurations_max: usize) -> Found {
        let mut tried = None; // the last operation that was tried in the present configuration
        while self.waiting > 0 {
            if self.seen.len() > configurations_max {
                return Found::TooMuch;
            }
            tried = match self.candidate(tried) {
                Some(candidate) if self.place(&candidate) => None,
                Some(candidate) if !candidate.forced => Some(candidate.operation),
                _ => match self.take_back() {
                    Some(operation) => Some(operation),
                    None => return self.nothing(),
                },
            };
        }
        Found::Order
    }

    /// The next operation after `tried` that could stand here.
    fn candidate(&mut self, mut tried: Option<usize>) -> Option<Candidate> {
        let first = self.by_return.next[self.operations.len()];
        let deadline = self.operations[first].ret.expect("that ring is of those that returned");
        if tried.is_none()
            && let Some(operation) = self.harmless(deadline)
        {
            return Some(Candidate { operation, value: self.now.value, forced: true });
        }
        loop {
            let operation = self.next_waiting(tried, deadline)?;
            if let Some(value) = self.fits(operation) {
                return Some(Candidate { operation, value, forced: false });
            }
            tried = Some(operation);
        }
    }

    /// The next operation that was called by the deadline and waits: first those that returned;
    /// then, as a last resort, those of which nobody knows.
    fn next_waiting(&self, tried: Option<usize>, deadline: u64) -> Option<usize> {
        let end = self.operations.len();
        let in_time = |i: &usize| *i != end && self.operations[*i].call <= deadline;
        let returned = |i: usize| self.operations[i].ret.is_some();
        let in_open = match tried {
            Some(operation) if !returned(operation) => operation,
            _ => {
                let next = self.by_call.next[tried.unwrap_or(end)];
                if in_time(&next) {
                    return Some(next);
                }
                end
            }
        };
        Some(self.open.next[in_open]).filter(in_time)
    }

    /// An operation that may stand here, whose answer is right, and tells that it changed nothing.
    /// Any order from here on stays right if it is moved to the front: no other needs to be tried.
    fn harmless(&mut self, deadline: u64) -> Option<usize> {
        let mut operation = self.by_call.next[self.operations.len()];
        while let Some(&candidate) = self.operations.get(operation) {
            if candidate.call > deadline {
                return None;
            }
            let unchanged = |outcome: &Outcome| candidate.action.left_unchanged(outcome);
            if candidate.outcome.as_ref().is_some_and(unchanged) && self.fits(operation).is_some() {
                return Some(operation);
            }
            operation = self.by_call.next[operation];
        }
        None
    }

    /// Whether it is worth standing here and its answer is right: then the value that it leaves.
    fn fits(&mut self, operation: usize) -> Option<usize> {
        let Operation { action, ret, outcome, .. } = self.operations[operation];
        if self.now.unseen && action.is_blind() {
            return None;
        }
        if self.twin[operation].is_some_and(|twin| !self.is_placed[twin]) {
            return None;
        }
        let (new, answer) = action.execute(self.values.all[self.now.value].as_deref());
        if ret.is_some() && outcome.as_ref().is_some_and(|outcome| *outcome != answer) {
            return None;
        }
        let value = new.map_or(self.now.value, |new| self.values.number(new));
        (ret.is_some() || value != self.now.value).then_some(value)
    }

    /// Gives an operation the next place, unless that leads where the search has been before.
    fn place(&mut self, candidate: &Candidate) -> bool {
        let &Candidate { operation, value, forced } = candidate;
        let known = self.operations[operation].ret.is_some();
        let placed = self.now.placed ^ name(operation);
        let next = Configuration { placed, value, unseen: !known };
        if !self.seen.insert((next.placed, next.value, next.unseen)) {
            return false;
        }
        if known {
            self.by_call.remove(operation);
            self.by_return.remove(operation);
            self.waiting -= 1;
        } else {
            self.open.remove(operation);
        }
        self.is_placed[operation] = true;
        self.order.push(Step { operation, before: self.now, forced });
        self.now = next;
        true
    }

    /// At a dead end: takes back operations until there is one with an alternative, and returns it.
    fn take_back(&mut self) -> Option<usize> {
        if self.waiting < self.best.0 {
            let order = self.order.iter().map(|step| step.operation).collect();
            self.best = (self.waiting, order, self.now.value);
        }
        while let Some(Step { operation, before, forced }) = self.order.pop() {
            if self.operations[operation].ret.is_some() {
                self.by_return.restore(operation);
                self.by_call.restore(operation);
                self.waiting += 1;
            } else {
                self.open.restore(operation);
            }
            self.is_placed[operation] = false;
            self.now = before;
            if !forced {
                return Some(operation);
            }
        }
        None
    }

    /// All was tried. Says how far the best order came and what could not follow it.
    fn nothing(self) -> Found {
        let (_, explained, value) = self.best;
        let value = &self.values.all[value];
        let placed: HashSet<usize> = explained.iter().copied().collect();
        let waits = |i: &usize| self.operations[*i].ret.is_some() && !placed.contains(i);
        let waiting: Vec<usize> = (0..self.operations.len()).filter(waits).collect();
        let deadline = waiting.iter().filter_map(|&i| self.operations[i].ret).min();
        let may_be_next = |i: &usize| Some(self.operations[*i].call) <= deadline;
        let answer = |i: usize| (i, self.operations[i].action.execute(value.as_deref()).1);
        let stuck = waiting.into_iter().filter(may_be_next).map(answer).collect();
        Found::Nothing { explained, value: value.clone().map(Bytes::from), stuck }
    }
}

/// A 128-bit name for an operation: two rounds of a well-mixing function of its number
/// (SplitMix64).
fn name(operation: usize) -> u128 {
    let mix = |seed: u64| {
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        seed ^ (seed >> 31)
    };
    let number = u64::try_from(operation).expect("positions fit into 64 bits") + 1;
    (u128::from(mix(2 * number)) << 64) | u128::from(mix(2 * number + 1))
}
