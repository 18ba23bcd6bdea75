//! MULTI and WATCH: what a connection gathers until EXEC.
//!
//! Nothing of a transaction is executed before EXEC, which makes one log entry of it. What WATCH
//! found travels in that entry, so that every server comes to the same verdict when it applies it:
//! if a watched key has been written since, none of the commands is executed.

use std::collections::BTreeMap;

use crate::kv::command::{Bytes, Operation, Watch, Write};
use crate::protocol::bounds::Limits;
use crate::protocol::error::{TransactionError, Wrong};

/// What a queued command or a watched key takes beside its bytes, in bytes.
const OVERHEAD_BYTES: usize = 64;

/// A connection's transaction and what it watches.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// The commands since MULTI; `None` outside of it.
    queue: Option<Queue>,
    /// What WATCH found of each key, the first time it looked.
    watched: BTreeMap<Bytes, Seen>,
    watched_bytes: usize,
    /// The keys of a WATCH whose outcome is not known yet.
    asked: Vec<Bytes>,
    /// A WATCH could not be read: what it should guard must not be executed.
    watch_failed: bool,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    operations: Vec<Operation>,
    bytes: usize,
    /// A command had an error: nothing will be executed, so nothing is kept.
    poisoned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: u64,
    existed: bool,
}

impl Transaction {
    /// Whether MULTI has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// MULTI
    pub fn begin(&mut self) -> Result<(), TransactionError> {
        if self.is_open() {
            return Err(TransactionError::Nested);
        }
        self.queue = Some(Queue::default());
        Ok(())
    }

    /// A command had an error: if it was to be queued, EXEC will execute nothing.
    pub fn poison(&mut self) {
        if let Some(queue) = &mut self.queue {
            *queue = Queue { poisoned: true, ..Queue::default() };
        }
    }

    /// Queues an operation. Requires an open transaction.
    pub fn queue(&mut self, operation: Operation, limits: &Limits) -> Result<(), Wrong> {
        let queue = self.queue.as_mut().expect("the caller has asked is_open");
        if queue.poisoned {
            return Ok(());
        }
        let bytes = queue.bytes + operation_bytes(&operation);
        let count = queue.operations.len() + 1;
        let wrong = too_big("queued commands", count, limits.transaction_commands)
            .or_else(|| too_big("bytes of queued commands", bytes, limits.transaction_bytes));
        if let Some(wrong) = wrong {
            self.poison();
            return Err(wrong);
        }
        queue.bytes = bytes;
        queue.operations.push(operation);
        Ok(())
    }

    /// EXEC: the entry to write; `None` if nothing was queued or watched. Ends the transaction and
    /// forgets what was watched, whatever it returns.
    pub fn take(&mut self) -> Result<Option<Write>, Wrong> {
        let transaction = std::mem::take(self);
        let queue = transaction.queue.ok_or(TransactionError::ExecOutside);
        let queue = match queue {
            Ok(queue) => queue,
            Err(error) => {
                *self = Transaction { queue: None, ..transaction };
                return Err(error.into());
            }
        };
        if queue.poisoned {
            return Err(Wrong::Discarded);
        }
        if transaction.watch_failed || !transaction.asked.is_empty() {
            return Err(Wrong::WatchFailed);
        }
        if queue.operations.is_empty() && transaction.watched.is_empty() {
            return Ok(None);
        }
        let watches = transaction.watched.into_iter();
        let watches =
            watches.map(|(key, Seen { at, existed })| Watch { key, seen_at: at, existed });
        let (watches, operations) = (watches.collect(), queue.operations);
        Ok(Some(Write::Transaction { watches, operations }))
    }

    /// DISCARD
    pub fn discard(&mut self) -> Result<(), TransactionError> {
        if !self.is_open() {
            return Err(TransactionError::DiscardOutside);
        }
        *self = Transaction::default();
        Ok(())
    }

    /// UNWATCH
    pub fn unwatch(&mut self) {
        *self = Transaction { queue: self.queue.take(), ..Transaction::default() };
    }

    /// WATCH: these keys are being looked at.
    pub fn watch(&mut self, keys: &[Bytes], limits: &Limits) -> Result<(), Wrong> {
        if self.is_open() {
            return Err(TransactionError::WatchInside.into());
        }
        let added: usize = keys.iter().map(|key| key.len() + OVERHEAD_BYTES).sum();
        let (count, bytes) = (self.watched.len() + keys.len(), self.watched_bytes + added);
        let wrong = too_big("watched keys", count, limits.transaction_commands)
            .or_else(|| too_big("bytes of watched keys", bytes, limits.transaction_bytes));
        if let Some(wrong) = wrong {
            self.watch_failed();
            return Err(wrong);
        }
        // A WATCH nobody has told the outcome of is one that could not be read.
        self.watch_failed |= !self.asked.is_empty();
        self.asked = keys.to_vec();
        Ok(())
    }

    /// A WATCH was refused, and watches nothing. A pipeline may have sent its MULTI and EXEC
    /// already, and counts on being guarded.
    pub fn watch_failed(&mut self) {
        self.watch_failed |= !self.is_open();
    }

    /// What the last WATCH found: the index it looked at, and which keys existed; `None` if it
    /// could not be read.
    pub fn watched(&mut self, seen: Option<(u64, Vec<bool>)>) {
        let asked = std::mem::take(&mut self.asked);
        match seen {
            Some((at, existed)) if existed.len() == asked.len() => {
                for (key, existed) in asked.into_iter().zip(existed) {
                    self.watched_bytes += key.len() + OVERHEAD_BYTES;
                    // Watched twice: a change since the first time is a change.
                    self.watched.entry(key).or_insert(Seen { at, existed });
                }
            }
            _ => self.watch_failed |= !asked.is_empty(),
        }
    }

    /// What it holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes);
        let asked: usize = self.asked.iter().map(|key| key.len() + OVERHEAD_BYTES).sum();
        queued + asked + self.watched_bytes
    }
}

fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Command(command) => command.bytes(),
        Operation::Query(query) => query.bytes(),
    }
}

fn too_big(what: &str, size: usize, max: usize) -> Option<Wrong> {
    (size > max).then(|| Wrong::TooBig(format!("{what}: {size}, the limit is {max}")))
}
