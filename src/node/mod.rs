//! A running server: the only room with threads.
//!
//! | thread | how many | waits on | under the lock | outside |
//! |---|---|---|---|---|
//! | `main` | 1 | signals, and the end of a worker | `stop`, questions | – |
//! | `ticker` | 1 | time, or who needs it sooner | `tick` (others, too, when they come) | – |
//! | `log-writer` | 1 | its bell | `take_write`, `persisted` | write, fsync |
//! | `caretaker` | 1 | a channel | – | prepare and remove files of the journal |
//! | `applier` | 1 | a channel | `take_tasks`, `finished` | the state machine, while it has it |
//! | `snapshotter` | 1 | its bell | `take_snapshot_work`, `snapshot_…` | snapshot files |
//! | `peer-send-N` | one a peer | its bell | `take_messages` | connect, what would block |
//! | `peer-accept`, `peer-recv-…` | 1 + one a peer | socket | `connected`, `step` | read, decode |
//! | `client-accept` | 1 | socket | – | – |
//! | `client-read` | 1 | the sockets of all clients | `submit` | read, parse |
//! | `client-N` | from when a client had to wait | socket | `submit` | read, parse |
//! | `client-out-…` | while a client is slow | socket | – | write replies |
//! | `client-feed-…` | while a client feeds | history | – | print changes |
//! | `client-query-…` | while it has a long question | – | – | answer from a frozen view |
//! | `logger`, `signals` | 1 each | queue, signals | – | write log lines; forward signals |
//! | `progress`, `lobby` | during a start | time | – | tell how it goes on; refuse clients |
//!
//! All touch the server only through `monitor`, the one mutex. Whoever leaves it delivers answers,
//! sends to idle peers and applies what is small itself, so that the path of a write has as few
//! hand-overs as possible:
//!
//! ```text
//! client-read ─propose─▶ [mutex] ──send──▶ follower's peer-recv ──store──▶ log-writer ──fsync──┐
//!                          └─ring─▶ log-writer ──fsync──┐                 (acknowledges)      │
//! client ◀──reply── applied here, or by applier ◀── [mutex] ◀┴── peer-recv ◀───────────────────┘
//! ```
//!
//! Stepping aside: a thread that has read from a socket and given others something to do calls
//! `sched_yield` before it reads again. Those others wait for a core, as often as not for this one,
//! and what it would read next grows meanwhile into one batch. A follower that only has answered a
//! leader's question has given nothing to anybody here, and does not; nor does a leader that only
//! has answered a follower's.
//!
//! Locks: the monitor's mutex, and leaves that are never held while it is taken: one for each
//! client's output, one for each link's wire, the table of connections, the peers met, the
//! snapshots that are open, the backups.

mod admin;
mod applier;
mod backup;
mod caretaker;
mod client;
mod connections;
mod crowd;
mod doorbell;
mod ending;
mod feed;
mod history;
mod insight;
mod links;
mod lobby;
mod log_writer;
mod monitor;
mod output;
mod own_thread;
mod peer_receiver;
mod peer_sender;
mod peers;
#[doc = include_str!("performance.md")]
pub mod performance {}
mod progress;
mod report;
mod snapshot_files;
mod snapshotter;
mod space;
mod start;
mod ticker;

pub use self::ending::{Ending, ServeError};
pub use self::start::{expected, serve};
