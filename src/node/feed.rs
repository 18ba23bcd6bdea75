//! FEED: a thread that pushes the changes of the store to one client.
//!
//! It exists while the client feeds, reads from the history at the client's pace, and waits while
//! the client has not read what it was sent. Its own place in the history is all that is kept for
//! it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::gateway::Slot;
use crate::kv::command::Bytes;
use crate::protocol::{Dialect, Reply};

use super::history::{Gone, History, Position};
use super::output::Output;

/// How long a feed waits for changes before it looks whether its client is still there.
const PATIENCE: Duration = Duration::from_millis(500);

/// Stack of a feed's thread, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// What one client watches.
pub struct Feed {
    /// Where the changes are.
    pub history: Arc<History>,
    /// Whom to tell.
    pub output: Arc<Output>,
    /// How to print.
    pub dialect: Dialect,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Where to read on.
    pub position: Position,
    /// The first index to tell of: it may lie ahead of what this server has applied.
    pub from: u64,
}

impl Feed {
    /// Starts the thread. It begins once the reply to the request in `slot` has left.
    pub fn start(self, slot: Slot) {
        let output = Arc::clone(&self.output);
        output.set_feeding(true);
        let thread = thread::Builder::new()
            .name(format!("client-feed-{}", output.name()))
            .stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || self.run(slot)) {
            log::warn!("no thread to feed client {}: {error}", output.name());
            output.set_feeding(false);
            output.cut();
        }
    }

    fn run(mut self, slot: Slot) {
        self.feed(slot);
        self.output.set_feeding(false);
    }

    fn feed(&mut self, slot: Slot) {
        self.output.wait_until_printed(slot);
        while !self.output.is_over() {
            match self.history.read(self.position, &self.prefix, PATIENCE) {
                Ok((changes, next)) => {
                    self.position = next;
                    let wanted = changes.into_iter().filter(|change| change.index >= self.from);
                    self.output.push(self.dialect, wanted.map(Reply::Change));
                }
                Err(gone) => return self.give_up(gone),
            }
        }
    }

    /// The client has fallen too far behind: it is told so, and its connection ends.
    fn give_up(&self, gone: Gone) {
        log::warn!("client {} has fallen behind its feed: closing it", self.output.name());
        let error = Reply::err(format!("this FEED has fallen too far behind: {gone}"));
        self.output.push(self.dialect, [error]);
        self.output.close();
    }
}
