//! MULTI … EXEC: several operations in one entry, if what they depend on has not changed.
//!
//! One entry is applied at once, so nothing can happen in between: isolation comes for nothing.
//! What is left is WATCH. The client read some keys, thought about them, and asks for its
//! operations to be executed only if the keys are still as it found them. It sends along up to
//! which log index it had looked, and whether each key existed. When the entry is applied, all
//! servers find alike:
//!
//! - The key was written or deleted after that index: its version or its tombstone tells. Deleting
//!   a key and creating it afresh does not bring the old version back.
//! - It existed and has expired since, or the reverse. To expire is no entry's doing and leaves the
//!   version alone, so this is asked for itself. A key that had expired when WATCH looked, and is
//!   taken out in between, has not changed.
//! - It is too long ago to tell: then the answer must be no.

use std::collections::BTreeSet;

use super::answer::Asking;
use super::command::{Operation, Watch};
use super::outcome::{Change, Outcome};
use super::store::{Entry, Store};
use crate::lab::{Rule, removed};
use crate::limits::{REPLY_BYTES_MAX, TRANSACTION_WORK_MAX};

impl Store {
    /// Executes the operations in order, or none of them.
    pub(super) fn transact(
        &mut self,
        entry: &mut Entry<'_>,
        watches: &[Watch],
        operations: Vec<Operation>,
    ) -> Outcome {
        if watches.iter().any(|watch| self.has_changed(watch)) {
            return Outcome::Aborted;
        }
        entry.untold = Some(Vec::new());
        let applied_index = entry.index;
        let now_ms = self.clock_ms();
        // A constant: what is answered here, ONCE remembers and all servers must agree on.
        let reply_bytes_max = REPLY_BYTES_MAX;
        let work_left = TRANSACTION_WORK_MAX;
        let mut asking = Asking { applied_index, now_ms, work_left, reply_bytes_max };
        let mut bytes_left = reply_bytes_max;
        let mut outcomes = Vec::with_capacity(operations.len());
        for operation in operations {
            if removed(Rule::WatchIsCheckedOnce) && watches.iter().any(|it| self.has_changed(it)) {
                return Outcome::Aborted;
            }
            let outcome = match operation {
                Operation::Command(command) => self.execute(entry, command),
                Operation::Query(query) => self.answer(&query, &mut asking),
            };
            // Until here the outcome only points to the values, so nothing has been built yet. A
            // command has been executed, though its answer does not fit.
            outcomes.push(match bytes_left.checked_sub(outcome.bytes()) {
                Some(left) => {
                    bytes_left = left;
                    outcome
                }
                None => Outcome::ReplyTooBig { bytes_max: reply_bytes_max },
            });
        }
        self.tell(entry);
        Outcome::List(outcomes)
    }

    /// Tells what the transaction has left of each key that it changed. Only now: nobody may see
    /// what was between, and a value that is told of has two owners, so that the next APPEND would
    /// have to copy it.
    fn tell(&self, entry: &mut Entry<'_>) {
        let mut told = BTreeSet::new();
        for key in entry.untold.take().into_iter().flatten() {
            if told.insert(key.clone()) {
                let value = self.get(&key).map(|found| found.value.clone());
                entry.changes.push(Change { index: entry.index, key, value });
            }
        }
    }

    fn has_changed(&self, watch: &Watch) -> bool {
        let exists = self.get(&watch.key).is_some();
        let came_or_went = exists != watch.existed && !removed(Rule::WatchSeesExpiry);
        self.last_touched(&watch.key) > watch.seen_at || came_or_went
    }
}
