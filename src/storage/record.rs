//! What is inside a batch, and what all of it together amounts to.

use serde::{Deserialize, Serialize};

use crate::lab::{Rule, removed};
use crate::raft::types::{Entry, EntryId, HardState, Index, NUMBER_MAX};

/// One thing that a batch makes durable. The writer borrows entries, the reader owns them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<E = Entry> {
    /// A start of the server: the first batch of each says so before anything else is promised.
    Start {
        /// One more than at the last start; 0 when the journal was created.
        incarnation: u64,
        /// Random; tells a cloned directory that was started as often from the original.
        run_id: u64,
    },
    /// Term and vote.
    HardState(HardState),
    /// An entry. At an index that exists it replaces that entry and all after it.
    Entry(E),
}

/// Adds a record to a buffer; an entry's command is copied once, from the log to the buffer.
pub fn encode(record: &Record<&Entry>, buffer: &mut Vec<u8>) {
    let taken = std::mem::take(buffer);
    *buffer = postcard::to_extend(record, taken).expect("a Vec takes whatever it is given");
}

/// The records of a batch that checks, in order, and an `Err` where they make no sense.
pub fn records(mut payload: &[u8]) -> impl Iterator<Item = Result<Record, &'static str>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        Some(match postcard::take_from_bytes(payload) {
            Ok((record, rest)) => {
                payload = rest;
                Ok(record)
            }
            Err(_) => {
                payload = &[];
                Err("its payload is no sequence of records")
            }
        })
    })
}

/// What a sequence of records amounts to: the persistent state of Figure 2, and the server's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Term and vote.
    pub hard_state: HardState,
    /// The entry before the first: `EntryId::ZERO` until snapshots let the log begin later.
    pub base: EntryId,
    /// The log after `base`, without gaps.
    pub entries: Vec<Entry>,
    /// Incarnation and run id of the newest start; `None` before the journal's first record.
    pub start: Option<(u64, u64)>,
}

impl Image {
    /// The last entry's id, or the base's.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// Takes one more record in, or says why it cannot follow what came before.
    ///
    /// It asks more than the writer does: a file may be crafted, and what it says must neither
    /// panic here nor trip the core later (S98).
    pub fn apply(&mut self, record: Record) -> Result<(), &'static str> {
        match record {
            Record::Start { incarnation, run_id } => {
                if incarnation > NUMBER_MAX {
                    return Err("the incarnation is beyond all numbers");
                }
                if self.start.is_some_and(|(previous, _)| incarnation <= previous) {
                    return Err("the incarnation does not rise");
                }
                self.start = Some((incarnation, run_id));
            }
            Record::HardState(next) => {
                check_succession(&self.hard_state, &next)?;
                if next.current_term.0 > NUMBER_MAX {
                    return Err("the term is beyond all numbers");
                }
                self.hard_state = next;
            }
            Record::Entry(entry) => {
                check_entry(&entry, self.base.index, self.last().index, &self.hard_state)?;
                let kept = entry.id.index.0 - self.base.index.0 - 1;
                let kept = usize::try_from(kept).expect("no more than there are");
                if kept < self.entries.len() && removed(Rule::EntryReplacesWhatFollows) {
                    self.entries[kept] = entry;
                    return Ok(());
                }
                self.entries.truncate(kept);
                if entry.id.term < self.last().term {
                    return Err("an entry's term is lower than the one before it");
                }
                self.entries.push(entry);
            }
        }
        Ok(())
    }
}

/// Whether term and vote may follow each other: a term never goes back, and a vote once given in a
/// term is neither changed nor taken back (Election Safety rests on it).
pub fn check_succession(previous: &HardState, next: &HardState) -> Result<(), &'static str> {
    if next.current_term < previous.current_term {
        return Err("the term goes back");
    }
    let same_term = next.current_term == previous.current_term;
    if same_term && previous.voted_for.is_some() && next.voted_for != previous.voted_for {
        return Err("the vote of a term is changed");
    }
    Ok(())
}

/// Whether an entry may follow a log that reaches from `base` to `last`.
pub fn check_entry(
    entry: &Entry,
    base: Index,
    last: Index,
    hard_state: &HardState,
) -> Result<(), &'static str> {
    if entry.id.index <= base || entry.id.index.0 - 1 > last.0 {
        return Err("an entry leaves a gap in the log");
    }
    if entry.id.term > hard_state.current_term {
        return Err("an entry's term is beyond the current term");
    }
    Ok(())
}
