//! The last changes of the store, for those who watch it.
//!
//! The applier adds what each entry has changed; each feed (see `feed`) reads on from where it is,
//! at its own pace. Nobody is sent anything from here, so nothing is buffered for a slow reader: it
//! only falls behind, and when what it would read next has been dropped it is told so. The same
//! goes for a watcher that comes back and names the index that it wants to go on from.
//!
//! What is kept is what the server's log still has in memory, and shares the memory of its entries;
//! beside that there is a bound in bytes.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use crate::kv::command::{Bytes, Change};

/// How many changes a reader looks through at once: a bound on how long it holds up the applier.
const EXAMINED_MAX: usize = 1000;

/// Bytes of changes that a reader gets at once, but at least one change: what a slow client holds
/// after the history has dropped it.
const READ_BYTES_MAX: usize = 256 * 1024;

/// Changes of which the memory is fetched together before they are dropped.
const FETCHED_CHANGES: usize = 32;

/// What a change weighs beside its key and value, in bytes.
const OVERHEAD_BYTES: usize = 96;

/// Where a reader is: how many changes lie before the one it reads next, dropped ones counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// Changes that a reader wants are not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "changes before index {complete_from} are no longer kept here; read the keys, then FEED again"
)]
pub struct Gone {
    /// Every change made by an entry at or after this index is kept.
    pub complete_from: u64,
}

/// The last changes of the store, in the order of the log.
pub struct History {
    kept: Mutex<Kept>,
    /// Signalled when changes were added.
    grown: Condvar,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    changes: VecDeque<Change>,
    /// How many changes have been dropped.
    dropped: u64,
    /// Bytes of `changes`.
    bytes: usize,
    /// Every change made by an entry at or after this index is kept.
    complete_from: u64,
}

impl Kept {
    fn end(&self) -> Position {
        Position(self.dropped + self.changes.len() as u64)
    }
}

impl History {
    /// Nothing yet: the state machine has applied up to `applied`. At most `bytes_max` are kept.
    pub fn new(applied: u64, bytes_max: usize) -> History {
        let kept =
            Kept { changes: VecDeque::new(), dropped: 0, bytes: 0, complete_from: applied + 1 };
        History { kept: Mutex::new(kept), grown: Condvar::new(), bytes_max }
    }

    /// The store has been replaced by a snapshot's, which stands at this index: what has changed
    /// on the way is not known.
    pub fn begin_anew(&self, applied: u64) {
        let mut kept = self.kept.lock();
        // One more than there were: nobody who has read all of them has seen what was left out.
        kept.dropped += kept.changes.len() as u64 + 1;
        kept.changes.clear();
        kept.bytes = 0;
        kept.complete_from = applied + 1;
        drop(kept);
        self.grown.notify_all();
    }

    /// These changes have been made, in this order, and the log has forgotten its entries up to
    /// `forgotten`: their changes go, too, but two for each that comes, as to free them all at once
    /// would hold up whoever applies.
    pub fn add(&self, changes: Vec<Change>, forgotten: u64) {
        if changes.is_empty() {
            return;
        }
        let mut droppable = 2 * changes.len();
        let mut kept = self.kept.lock();
        for change in changes {
            kept.bytes += weight(&change);
            kept.changes.push_back(change);
        }
        let bytes_max = self.bytes_max;
        let mut fetched_left = 0;
        while let Some(first) = kept.changes.front()
            && (first.index <= forgotten && droppable > 0 || kept.bytes > bytes_max)
        {
            if fetched_left == 0 {
                fetched_left = FETCHED_CHANGES;
                let next = kept.changes.iter().take(FETCHED_CHANGES.min(droppable));
                Bytes::fetch_owners(next.filter_map(|change| change.value.as_ref()));
            }
            fetched_left -= 1;
            droppable = droppable.saturating_sub(1);
            let dropped = kept.changes.pop_front().expect("it is the first");
            kept.bytes -= weight(&dropped);
            kept.dropped += 1;
            kept.complete_from = dropped.index + 1;
        }
        drop(kept);
        self.grown.notify_all();
    }

    /// Where to read on to see every change made by an entry at or after `from`. If that has not
    /// been applied yet, what comes first may be older.
    pub fn begin(&self, from: u64) -> Result<Position, Gone> {
        let kept = self.kept.lock();
        if from < kept.complete_from {
            return Err(Gone { complete_from: kept.complete_from });
        }
        let before = kept.changes.partition_point(|change| change.index < from) as u64;
        Ok(Position(kept.dropped + before))
    }

    /// The changes from `position` on whose keys begin with `prefix`, and where to read on. If
    /// there is nothing new it waits, but no longer than `patience`. There may be more behind what
    /// it returns, even behind nothing.
    pub fn read(
        &self,
        position: Position,
        prefix: &[u8],
        patience: Duration,
    ) -> Result<(Vec<Change>, Position), Gone> {
        let mut kept = self.kept.lock();
        if position == kept.end() {
            self.grown.wait_for(&mut kept, patience);
        }
        let Some(skipped) = position.0.checked_sub(kept.dropped) else {
            return Err(Gone { complete_from: kept.complete_from });
        };
        let skipped = usize::try_from(skipped).expect("no reader is ahead of what is in memory");
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, position);
        for change in kept.changes.range(skipped..).take(EXAMINED_MAX) {
            if change.key.starts_with(prefix) {
                bytes += weight(change);
                if bytes > READ_BYTES_MAX && !found.is_empty() {
                    break;
                }
                found.push(change.clone());
            }
            next.0 += 1;
        }
        Ok((found, next))
    }
}

fn weight(change: &Change) -> usize {
    OVERHEAD_BYTES + change.key.len() + change.value.as_ref().map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(index: u64, key: &'static str) -> Change {
        Change { index, key: Bytes::from(key), value: Some(Bytes::from(&[b'x'; 100])) }
    }

    fn read(history: &History, position: Position, prefix: &[u8]) -> (Vec<u64>, Position) {
        let (changes, next) =
            history.read(position, prefix, Duration::ZERO).expect("it is still kept");
        (changes.iter().map(|change| change.index).collect(), next)
    }

    /// A watcher that comes back with the index it had misses nothing, whatever prefix it watches.
    #[test]
    fn a_reader_goes_on_where_it_was() {
        let history = History::new(0, 10_000);
        history.add(vec![change(1, "a1"), change(2, "b1"), change(2, "a2")], 0);
        let start = history.begin(1).expect("nothing was dropped");
        let (seen, next) = read(&history, start, b"a");
        assert_eq!(seen, [1, 2]);
        assert_eq!(read(&history, next, b"a"), (vec![], next));
        history.add(vec![change(5, "a1")], 0);
        assert_eq!(read(&history, next, b"a").0, [5]);
        assert_eq!(read(&history, history.begin(2).expect("kept"), b"").0, [2, 2, 5]);
        let now = history.begin(8).expect("what is to come is never dropped");
        assert_eq!(read(&history, now, b"").0, Vec::<u64>::new());
    }

    /// What is handed out outlives what is kept, so it is bounded in bytes, whatever the changes
    /// weigh; but a change of any weight passes.
    #[test]
    fn a_reader_gets_a_bounded_portion() {
        let history = History::new(0, usize::MAX);
        let large =
            |index| Change { value: Some(vec![0; READ_BYTES_MAX].into()), ..change(index, "a") };
        history.add(vec![large(1), large(2), change(3, "a")], 0);
        let (seen, next) = read(&history, history.begin(1).expect("kept"), b"");
        assert_eq!(seen, [1]);
        assert_eq!(read(&history, next, b"").0, [2]);
    }

    /// What is dropped is told, to a reader that has fallen behind as to one that comes back, and
    /// never left out in silence.
    #[test]
    fn what_was_dropped_is_told() {
        let weight = weight(&change(1, "a"));
        let history = History::new(0, 2 * weight);
        let start = history.begin(1).expect("nothing was dropped");
        history.add(vec![change(1, "a"), change(3, "a")], 0);
        assert_eq!(read(&history, start, b"").0, [1, 3]);
        history.add(vec![change(4, "a")], 0);
        let gone = Err(Gone { complete_from: 2 });
        assert_eq!(history.read(start, b"", Duration::ZERO), gone);
        assert_eq!(history.begin(1), Err(Gone { complete_from: 2 }));
        assert_eq!(read(&history, history.begin(2).expect("kept"), b"").0, [3, 4]);

        // What the log forgets is dropped, however little there is.
        let history = History::new(0, usize::MAX);
        history.add(vec![change(1, "a"), change(3, "a"), change(4, "a")], 0);
        history.add(vec![change(5, "a")], 3);
        assert_eq!(history.begin(3), Err(Gone { complete_from: 4 }));
        assert_eq!(read(&history, history.begin(4).expect("kept"), b"").0, [4, 5]);

        // After a restart that begins in the middle of the log, nothing before is known.
        assert_eq!(History::new(9, 1).begin(9), Err(Gone { complete_from: 10 }));
    }
}
