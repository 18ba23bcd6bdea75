//! What is inside a batch, and what all of it together amounts to.

use serde::{Deserialize, Serialize};

use crate::lab::{Rule, removed};
use crate::raft::types::{Entry, EntryId, HardState, Index, NUMBER_MAX, SnapshotId, Term};

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
    /// The first record of each segment but the first: what all segments before it amount to, so
    /// that they can be removed once a snapshot covers their entries.
    Head {
        /// The incarnation of the newest start before it.
        incarnation: u64,
        /// The run id of that start.
        run_id: u64,
        /// Term and vote.
        hard_state: HardState,
        /// The last entry of the log.
        last: EntryId,
    },
    /// The log begins anew behind this snapshot: all entries before it are void.
    Base(SnapshotId),
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
    /// The entry before the first of `entries`. Its term is 0 if it is not known: it was in a
    /// segment that was removed, and the one behind it has been replaced since.
    pub base: EntryId,
    /// Entries up to here are not in the journal: a snapshot must reach at least this far.
    pub needs: Index,
    /// No entry up to here may be replaced any more: the log has begun anew behind it.
    pub floor: Index,
    /// The highest index that any entry has had, replaced or not.
    pub highest: Index,
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
            Record::Entry(entry) => self.apply_entry(entry)?,
            Record::Head { incarnation, run_id, hard_state, last } => {
                if self.start.is_some() {
                    return self.check_head((incarnation, run_id), hard_state, last);
                }
                let highest = incarnation.max(hard_state.current_term.0).max(last.index.0);
                if highest > NUMBER_MAX || last.term > hard_state.current_term {
                    return Err("a head has numbers that cannot be");
                }
                self.start = Some((incarnation, run_id));
                (self.hard_state, self.base) = (hard_state, last);
                (self.needs, self.highest) = (last.index, last.index);
            }
            Record::Base(snapshot) => {
                check_base(&snapshot, self.floor, &self.hard_state)?;
                self.entries.clear();
                self.base = snapshot.last;
                self.needs = self.needs.max(snapshot.last.index);
                self.floor = snapshot.last.index;
            }
        }
        Ok(())
    }

    /// Whether the log holds this entry, or begins right behind it.
    pub fn contains(&self, id: EntryId) -> bool {
        let offset = id.index.0.checked_sub(self.base.index.0 + 1);
        match offset.map(usize::try_from) {
            Some(Ok(offset)) => self.entries.get(offset).is_some_and(|entry| entry.id == id),
            _ => id == self.base,
        }
    }

    /// Lets the log begin behind this snapshot (Figure 13): what follows it is kept if the log
    /// holds its last entry [IS6]; else all of the log is void [IS7]. Says whether it was void, so
    /// that what is written next leaves a gap behind what was there.
    pub fn begin_behind(&mut self, snapshot: SnapshotId) -> bool {
        let reaches = (self.base.index..=self.last().index).contains(&snapshot.last.index);
        let agrees = self.contains(snapshot.last) || removed(Rule::FoundSuffixAgrees) && reaches;
        let void = !agrees;
        let covered = if void {
            self.entries.len()
        } else {
            let covered = snapshot.last.index.0 - self.base.index.0;
            usize::try_from(covered).expect("no more than there are")
        };
        self.entries.drain(..covered);
        self.base = snapshot.last;
        self.floor = snapshot.last.index;
        void
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<(), &'static str> {
        check_entry(&entry, self.floor, self.last().index, &self.hard_state)?;
        self.highest = self.highest.max(entry.id.index);
        if entry.id.index <= self.base.index {
            // It replaces entries of a segment that was removed: they were not committed then. What
            // precedes it is covered by a snapshot, or else the start is refused (`needs`).
            self.entries.clear();
            self.base = EntryId::new(Term::ZERO, entry.id.index.previous());
        }
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
        Ok(())
    }

    /// Whether a segment begins with what the segments before it amount to.
    fn check_head(
        &self,
        start: (u64, u64),
        hard_state: HardState,
        last: EntryId,
    ) -> Result<(), &'static str> {
        if self.start != Some(start) || self.hard_state != hard_state || self.last() != last {
            return Err("a segment begins with something else than what precedes it");
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

/// Whether an entry may follow a log that reaches to `last` and is settled up to `floor`.
pub fn check_entry(
    entry: &Entry,
    floor: Index,
    last: Index,
    hard_state: &HardState,
) -> Result<(), &'static str> {
    if entry.id.index <= floor || entry.id.index.0 - 1 > last.0 {
        return Err("an entry leaves a gap in the log");
    }
    if entry.id.term > hard_state.current_term {
        return Err("an entry's term is beyond the current term");
    }
    Ok(())
}

/// Whether a log that is settled up to `floor` may begin anew behind a snapshot.
pub fn check_base(
    snapshot: &SnapshotId,
    floor: Index,
    hard_state: &HardState,
) -> Result<(), &'static str> {
    if snapshot.last.index < floor || snapshot.last.index.0 > NUMBER_MAX {
        return Err("the log's beginning goes back");
    }
    if snapshot.last.term > hard_state.current_term {
        return Err("a snapshot's term is beyond the current term");
    }
    Ok(())
}
