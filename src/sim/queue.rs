//! Virtual time: what will happen, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the run began.
pub type Micros = u64;

/// Servers are numbered from 0 inside the simulator; `ServerId` is one more.
pub type Place = u8;

/// Something that will happen. Small and `Copy`, because there are millions of them: what is large
/// (a message) waits in a table of its own and is named by number.
///
/// Whatever belongs to a process carries that process's `life`: after a crash it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server's clock ticks.
    Tick(Place, u32),
    /// A message arrives.
    Deliver(u32),
    /// A disk has synced what it was given.
    Synced(Place, u32),
    /// A state machine has done its tasks.
    Executed(Place, u32),
    /// A snapshotter has done what it was busy with.
    Snapshot(Place, u32),
    /// A worker thread wakes up.
    Wake(Place, u32, Worker),
    /// A client does something.
    Client(u16),
    /// A fault begins.
    Fault(u16),
    /// A fault ends.
    FaultEnds(u16),
    /// A server comes up again.
    Restart(Place),
    /// A server dials another.
    Dial(Place, Place),
    /// A server notices that a connection from another has ended.
    HungUp {
        /// Who notices.
        at: Place,
        /// The life it must still be in.
        life: u32,
        /// Who has gone.
        from: Place,
        /// Which connection.
        connection: u32,
    },
    /// Look whether the cluster has recovered.
    Poll,
}

/// The worker threads of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The log writer.
    Write,
    /// The applier.
    Apply,
    /// The one that writes answers to clients.
    Answer,
    /// The sender to this peer.
    Send(Place),
}

/// All that will happen, earliest first; what happens at the same time keeps the order of its
/// arrival.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    pushed: u64,
}

#[derive(Debug)]
struct Scheduled {
    at: Micros,
    order: u64,
    event: Event,
}

impl Queue {
    /// `event` will happen at `at`.
    pub fn push(&mut self, at: Micros, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse(Scheduled { at, order: self.pushed, event }));
    }

    /// What happens next. There is always something: clocks tick.
    pub fn pop(&mut self) -> (Micros, Event) {
        let Reverse(next) = self.heap.pop().expect("clocks tick for ever");
        (next.at, next.event)
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
