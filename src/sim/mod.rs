//! A deterministic simulator of whole clusters.

pub mod checks;
pub mod clients;
pub mod disk;
pub mod faults;
pub mod files;
pub mod linearizability;
pub mod network;
pub mod queue;
pub mod random;
pub mod report;
pub mod world;

mod judge;
mod liveness;
mod panics;
mod run;

pub use faults::Kinds;
pub use run::{Failure, Options, Report, run, run_seed, run_telling};
