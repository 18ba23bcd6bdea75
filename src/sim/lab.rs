//! Looking for what breaks when a rule is missing (see [`crate::lab`]).

use super::checks::Violation;
use super::run::{self, Failure, Options, run_seed};
use crate::lab::{Rule, without};

/// A seed that breaks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// How many seeds it took.
    pub seeds: u64,
    /// The one.
    pub seed: u64,
    /// What broke.
    pub violation: Violation,
}

impl Hit {
    /// The property that broke; of a broken assertion its own words.
    pub fn property(&self) -> &str {
        property_of(&self.violation)
    }
}

/// Runs seeds without a rule until something breaks.
pub fn find(rule: Rule, options: &Options) -> Option<Hit> {
    without(rule, || {
        (0..options.seeds).find_map(|count| {
            let seed = options.first_seed + count;
            let (_, result) = run_seed(options, seed);
            result.err().map(|violation| Hit { seeds: count + 1, seed, violation })
        })
    })
}

/// As `find`, with all that there is to tell about the failure.
pub fn explain(rule: Rule, options: &Options) -> Option<(Hit, Failure)> {
    let hit = find(rule, options)?;
    let failure = without(rule, || run::explain(options, hit.seed, hit.violation.clone()));
    Some((hit, failure))
}

/// The name of what broke. The core's assertions begin with the name of a property of the paper, or
/// are a sentence.
pub fn property_of(violation: &Violation) -> &str {
    if violation.property != "An assertion of the server" {
        return violation.property;
    }
    let text = violation.detail.lines().next().unwrap_or_default();
    let text = text.split_once("` failed: ").map_or(text, |(_, message)| message);
    match text.split_once(": ") {
        Some((server, text)) if server.starts_with('n') => text,
        Some((property, _)) => property,
        None => text,
    }
}
