//! The load generator behind `raft-server bench`: some clients that write and read as fast as they
//! are answered, and what they saw.
//!
//! Each client is one connection with a fixed number of requests in flight; an answer makes room
//! for the next request (a *closed loop*). So throughput and latency are two sides of one thing
//! (clients × pipeline = throughput × mean latency), and a server that stops is not flooded
//! meanwhile.
//!
//! One thread drives all clients with a poll (`load`). The machine often runs the servers too,
//! and a thread for each client would take from them what is to be measured. Latency counts from
//! the moment a request is made until the moment its answer was read; percentiles are those of a
//! histogram of every answer, to three digits (`tally`).
//!
//! **Trouble is a result, not the end.** A connection that is cut or refused tries the next server;
//! a refused, unknown or wrong answer is counted in its family, and so is a request whose
//! connection ended before its answer. A run ends with an error only if nothing at all was done.
//! While somebody kills servers, [`Options::outage`] reports the times in which no write succeeded.
//!
//! **Answers are checked** (`work`): every value says whose it is and can be recomputed, so a
//! store that answers what nobody wrote is noticed. Whether it answered the *newest* value is not
//! checked here; the simulator and the tests do that.
//!
//! The room knows nothing of ours but the bytes on the wire (`wire`), and STATUS to find the
//! leader (`places`). With [`To::Spread`] it can be run against any server that speaks RESP. Left
//! out: open loops (requests at a given rate) and more than one thread; who needs more load starts
//! it twice.

mod client;
mod load;
mod places;
mod report;
mod tally;
mod wire;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use thiserror::Error;

pub use load::Progress;
pub use places::PLACES_MAX;
pub use report::Report;
pub use wire::Protocol;

use load::{Load, Plan};
use places::Places;
use tally::Tally;

/// Fewest requests that each client keeps in flight while the keys are written before a run.
pub const FILL_PIPELINE_MIN: usize = 16;

/// Open files beside the clients' sockets: the poll, a question to a server, the standard streams.
const DESCRIPTORS_KEPT: usize = 16;

/// What to do to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where servers listen for clients, each as host:port.
    pub addresses: Vec<String>,
    /// Connections.
    pub clients: usize,
    /// Requests that each of them keeps in flight.
    pub pipeline: usize,
    /// How many of a hundred requests are reads.
    pub reads_percent: u64,
    /// How many different keys there are.
    pub keys: u64,
    /// Length of a value.
    pub value_bytes: usize,
    /// When it is enough.
    pub until: Until,
    /// Time before the measuring begins.
    pub warmup: Duration,
    /// Write every key once before the run.
    pub fill: bool,
    /// Which servers get the load.
    pub to: To,
    /// How requests are spelled.
    pub protocol: Protocol,
    /// A request that was not answered within this time is given up together with its connection.
    pub timeout: Duration,
    /// Report the times without a successful write.
    pub outage: bool,
    /// Those of at least this length, and the longest.
    pub gap: Duration,
}

/// When a run has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// When so many requests have ended, well or not.
    Requests(u64),
}

/// Which servers get the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// The leader; when it changes, the clients move.
    Leader,
    /// All, the clients divided among them.
    Spread,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// An address is none.
    #[error("{address}: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What the resolver says.
        reason: String,
    },
    /// Nobody listens.
    #[error("none of {addresses} can be reached: {reason}")]
    NoServer {
        /// All of them.
        addresses: String,
        /// Why the last one could not.
        reason: String,
    },
    /// Somebody listens, but not a server of ours.
    #[error(
        "no address is the client port of a server that knows STATUS, so the leader cannot be \
         found (say --to spread to load other servers): {said}"
    )]
    NoStatus {
        /// What each said instead.
        said: String,
    },
    /// Nobody leads.
    #[error(
        "no leader within {} s; give the client addresses of all servers, and see `raft-server \
         status`: {said}",
        places::LEADER_WITHIN.as_secs()
    )]
    NoLeader {
        /// What each said.
        said: String,
    },
    /// There are not enough sockets.
    #[error(
        "{clients} clients need as many open files, and the system allows {allowed} in all: raise \
         `ulimit -n`"
    )]
    Descriptors {
        /// Connections that were asked for.
        clients: usize,
        /// Open files that this process may have.
        allowed: u64,
    },
    /// Too early.
    #[error("stopped before anything was measured")]
    Stopped,
    /// Everything failed.
    #[error("not one request succeeded; {trouble}")]
    NothingDone {
        /// What happened instead.
        trouble: String,
    },
    /// It cannot be done before the end of time.
    #[error(
        "no answer for {} s; {ended} of {requests} requests had ended; {trouble}",
        load::SILENCE_MAX.as_secs()
    )]
    Silence {
        /// Requests that ended.
        ended: u64,
        /// Requests that were asked for.
        requests: u64,
        /// What happened instead.
        trouble: String,
    },
    /// The system does not give what a run takes.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[from] std::io::Error),
}

/// Runs the load and reports it; `tell` hears once a second how it goes. When `stop` becomes true,
/// what was measured until then is the result.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Report, BenchError> {
    check_descriptors(options.clients)?;
    let places = Places::find(&options.addresses, options.to, stop)?;
    places.while_watched(|| {
        if options.fill {
            load(options, &Plan::fill(options), &places, stop, tell)?;
        }
        let plan = Plan::run(options);
        let tally = load(options, &plan, &places, stop, tell)?;
        Ok(Report::new(options, &tally, stop.load(Ordering::Relaxed)))
    })
}

/// A load with fewer clients than it says would measure something else. Raises the process's soft
/// limit to its hard limit.
fn check_descriptors(clients: usize) -> Result<(), BenchError> {
    let hard = getrlimit(Resource::Nofile).maximum;
    // If it cannot be raised, what it is now counts.
    let _as_it_is = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < (clients + DESCRIPTORS_KEPT) as u64 => {
            Err(BenchError::Descriptors { clients, allowed })
        }
        _ => Ok(()),
    }
}

fn load(
    options: &Options,
    plan: &Plan,
    places: &Places,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Tally, BenchError> {
    let tally = Load::new(options, plan, places, stop)?.run(tell)?;
    if tally.done() == 0 {
        return Err(BenchError::NothingDone { trouble: tally.trouble.to_string() });
    }
    Ok(tally)
}
