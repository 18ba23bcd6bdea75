//! A deterministic simulator: whole clusters in one thread, everything decided by one seed.
//!
//! A cluster of real processes fails once a month, at night, and never again while you look. Here
//! the same code (`Server`: core and gateway; the journal; the state machine) runs under a clock
//! that jumps, on a network and disks that are plain data, and hours of trouble pass in a second.
//! What fails once fails each time its seed is run.
//!
//! # How to write one
//!
//! 1. **Make the code a value.** No clock, thread, socket or dice inside: things happen to it, and
//!    it can be asked what it wants done. That is the work; the rest is a loop.
//!    ([`crate::server::Server`])
//! 2. **One queue.** All that will happen stands in it by time; take the first, give it to the
//!    server it belongs to, let that server's workers take what they can, put what follows into the
//!    queue. ([`queue`], [`world`], `workers`)
//! 3. **One seed.** Every decision comes from generators made from it ([`random`]): one for each
//!    part of the world, so that what is taken out of one part leaves the others as they were. No
//!    hash map is ever walked through, no real time is ever read.
//! 4. **Lie as the world does, and no worse.** [`network`] loses and reorders; [`files`] forgets
//!    what was not synced, and keeps a part of it torn, zeroed or stale; [`clients`] lose patience
//!    and ask elsewhere, and some reach a server together (`crowd`). What is synced stays: a
//!    protocol owes nothing to a disk that lies.
//! 5. **Swarm.** Each seed draws which kinds of trouble its world has at all, and how much.
//!    ([`plan`], `schedule`)
//! 6. **Lie in ambush.** Crashes at random times hit a server between two steps of its work about
//!    as often as a stone thrown into a street hits a postman at somebody's door. Name the moments
//!    that matter (a leader has just been elected, has synced, has sent, has committed) and strike
//!    there. ([`faults::Moment`]) It is not cheating: the moments are few and general, and the rare
//!    schedules of the paper (Figure 8) are made of nothing else. So do messages: what was said
//!    long ago does most harm to who has just been elected or has just come up. (`stragglers`)
//! 7. **Look after every step,** but only at what the step changed. What a log shows is compared
//!    with all other logs ([`checks`], `bounds`). What no log shows costs time instead of data: a
//!    `witness` beside each server hears what it is told and judges its elections; `leaders`,
//!    `connections` and `gateways` look at what servers owe each other, `stamps` at their clocks.
//! 8. **Believe the clients.** They know nothing of terms; they know what they were told, and one
//!    register per key must explain it. ([`linearizability`], `judge`) What has to do with time,
//!    transactions and repetitions is too much for a register: there the log is read again, by an
//!    independent reading of the specification. ([`chronicle`], `replay`)
//! 9. **End in peace.** A cluster that does nothing is safe. When the faults stop it must elect,
//!    serve and agree within a stated time, in many runs first without a minority. (`liveness`,
//!    [`absence`])
//! 10. **Doubt it.** Put each bug that you are afraid of back into the code and see it found. A
//!     check that has never failed has not been tested.
//!
//! A failing run is repeated with ever fewer faults, and then once more for its transcript: nothing
//! is formatted or remembered while all is well, which is why it is fast. (`run`, [`report`],
//! `panics`)
//!
//! # What it leaves out
//!
//! Threads and sockets (tests with real processes), servers that start from rotten disks (what one
//! would say is tried on copies; the rest are the journal's own tests), and what a run is too short
//! for: tombstones that are forgotten, clients of ONCE that are idle for a day.

pub mod absence;
pub mod checks;
pub mod chronicle;
pub mod clients;
pub mod disk;
pub mod faults;
pub mod files;
#[cfg(feature = "lab")]
pub mod lab;
pub mod linearizability;
pub mod network;
pub mod plan;
pub mod queue;
pub mod random;
pub mod report;
mod rest;
pub mod world;

mod bounds;
mod connections;
mod crowd;
mod expiry;
mod gateways;
mod judge;
mod leaders;
mod liveness;
mod misfortunes;
mod panics;
mod replay;
mod requests;
mod run;
mod schedule;
mod snapshots;
mod space;
mod stamps;
mod stragglers;
mod witness;
mod workers;

pub use faults::Kinds;
pub use run::{Failure, Options, Report, run, run_seed, run_telling};
