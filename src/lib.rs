//! Raft Server: a fault-tolerant, linearizable key-value server on the Raft consensus algorithm,
//! written to be read with the paper beside it.
//!
//! A handful of servers keep one log. A leader, elected by a majority, appends clients' commands to
//! it; an entry that is on the disks of a majority is committed, and every server applies the
//! committed entries in the same order to the same kind of store. So all stores go through the same
//! states, and as long as a majority of the servers lives, nothing that was acknowledged is lost.
//!
//! "The paper" is Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm
//! (Extended Version)*; `§5.4.2` and `Figure 8` are places in it, `[AE3]` is a rule of its Figure
//! 2, and `(diss. §6.4)` a place in Ongaro's dissertation. `grep -r '\[AE3\]'` finds the code and
//! the test.
//!
//! # Six ideas
//!
//! 1. **The core is a plain value.** [`raft::Raft`] has no clock, socket, disk, thread or lock, so
//!    it can be cloned, compared, replayed and searched exhaustively.
//! 2. **Durability is decided inside the core.** It knows what the disk holds and hands out no
//!    promise that is not on it ([`raft::durability`]).
//! 3. **Workers pull; doorbells ring.** A worker takes everything that has gathered, lets go of the
//!    lock, and does the slow thing once: group commit, replication batching and apply batching are
//!    one idea.
//! 4. **Every server is a gateway** ([`gateway`]). Clients may talk to any server; whoever accepted
//!    a request answers it when its own store has applied the entry, and may send it again without
//!    doing it twice.
//! 5. **Figure 2 is the table of contents** of [`raft`]: each of its rules has a tag in the code
//!    that obeys it and on the test that proves it.
//! 6. **One vocabulary of events** ([`raft::event`]): log lines and transcripts render it; the core
//!    never logs.
//!
//! # The rooms, and who may know whom
//!
//! ```text
//! main, cli ──▶ everything
//! node ───────▶ server, protocol, storage, transport, observe, config  threads live only here
//! sim ────────▶ server, storage                       the same server, in one thread
//! state_file ─▶ kv, storage                           the store in a snapshot's file
//! server ─────▶ raft, gateway, kv                     PURE: one server without threads
//! transport ──▶ raft::{message, types}, gateway::message       peer bytes on sockets
//! storage ────▶ raft::{types, durability}             the journal
//! observe ────▶ raft::{event, types}                  log lines
//! gateway ────▶ raft::types, kv::{command, encoding}  PURE: what clients are owed
//! protocol ───▶ kv::command                           PURE: client bytes, in two dialects
//! config ─────▶ nothing of ours                       cluster.toml
//! bench ──────▶ nothing of ours                       load, on the same port as any client
//! kv, raft ───▶ nothing of ours                       PURE: the store; the protocol
//! ```
//!
//! `node` and `sim` also know what stands below `server`; everybody may use [`limits`],
//! and those whose rules can be switched off ask [`lab`].
//! `tests/tidy.rs` fails on any other edge.
//!
//! # A tour in ten stops
//!
//! 1. [`raft::types`]: `Term`, `Index`, `EntryId` (whose order *is* §5.4.1), `Entry`.
//! 2. [`raft`] itself: `struct Raft` is Figure 2's "State" box; `step` holds the term rules; read
//!    the list of inputs and outputs, and our departures from the paper.
//! 3. `raft/election.rs`: §5.2. Follow a timeout to `become_leader`.
//! 4. `raft/append_entries.rs`: §5.3 at the follower, rule by rule.
//! 5. `raft/replication.rs`: §5.3 at the leader, and `advance_commit_index`, the line that is
//!    §5.4.2.
//! 6. [`raft::durability`]: why a promise leaves late, and what truncation does to a write under
//!    way.
//! 7. [`raft::read_index`]: a linearizable read without a log entry; and `raft/snapshots.rs`, §7:
//!    what becomes of old entries, and of a follower that still needs them.
//! 8. [`server`]: how core and gateway are joined; the path of one SET and one GET.
//! 9. [`gateway`] and [`kv`]: answers, re-sending, and why nothing happens twice.
//! 10. [`node`]: the table of threads, `node/monitor.rs` (the one mutex) and `node/log_writer.rs`;
//!     then [`storage`] for what a crash leaves and how a start finds out.
//!
//! Beside it, `tests/scripts/` are plays that a cluster performs, `tests/paper.rs` is Figure 2 as
//! tests, `tests/scenarios.md` says what can go wrong, [`sim`] makes it go wrong, and [`lab`] takes
//! the rules out of the code, one at a time, to show what each of them is there for. [`protocol`]
//! is a house of its own: how one port speaks with people and with Redis' clients.

// The tags of Figure 2, such as [AE3], look like links to rustdoc.
#![allow(rustdoc::broken_intra_doc_links)]

// Its event loop is Linux' `epoll`.
#[cfg(target_os = "linux")]
pub mod bench;
pub mod config;
pub mod gateway;
pub mod kv;
pub mod lab;
pub mod limits;
pub mod node;
pub mod observe;
pub mod protocol;
pub mod raft;
pub mod server;
pub mod sim;
pub mod state_file;
pub mod storage;
pub mod transport;
