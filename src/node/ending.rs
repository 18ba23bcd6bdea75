//! How a server ends: told to, or unable to go on.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;

use crate::observe::logger::Logger;
use crate::raft::types::Index;
use crate::state_file::StateFileError;
use crate::storage::error::JournalError;
use crate::storage::identity::DirectoryError;
use crate::storage::snapshot::SnapshotError;
use crate::transport::listener::BindError;

use super::connections::Connections;
use super::monitor::{Deliver, Monitor};

/// How long a stopping server goes on answering what it has accepted.
const DRAIN_MAX: Duration = Duration::from_secs(4);

/// How often a stopping server looks how far it has come. Nobody waits for it but its operator.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the last log lines may take to be written.
pub const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

/// Why a running server is to end.
#[derive(Debug)]
pub enum Ending {
    /// Somebody has told it to.
    Signal(i32),
    /// The disk has failed: what it holds is not known any more.
    Disk(JournalError),
    /// The state is not what a majority of the servers has.
    Diverged(Diverged),
}

/// This server's state is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the state of this server is not that of a majority of the others (at index {index} its hash \
     is {ours:016x}, theirs {theirs:016x}): it stops. Start it again: it builds its state anew \
     from its snapshot and log. If it stops again, its snapshot holds the wrong state: keep the \
     directory to find out why, and give this server up"
)]
pub struct Diverged {
    /// Where it was noticed.
    pub index: Index,
    /// Our hash.
    pub ours: u64,
    /// The majority's.
    pub theirs: u64,
}

/// Why a server could not start, or cannot go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The data directory is not there, in use, or another server's.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] StateFileError),
    /// The state differs from the others'.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system lacks something that a server needs.
    #[error("cannot start: {doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ServeError {
    /// The process's exit code; `raft-server --help` lists them.
    pub fn exit_code(&self) -> i32 {
        match self {
            ServeError::Directory(error) => directory_exit_code(error),
            ServeError::Journal(error) => journal_exit_code(error),
            ServeError::Snapshot(error) => state_file_exit_code(error),
            ServeError::Diverged(_) => 5,
            ServeError::Bind(BindError::InUse(_)) => 6,
            ServeError::Bind(_) | ServeError::System { .. } => 1,
        }
    }
}

/// The exit code for trouble with a data directory.
pub fn directory_exit_code(error: &DirectoryError) -> i32 {
    match error {
        DirectoryError::NotInitialized(_)
        | DirectoryError::AlreadyInitialized(_)
        | DirectoryError::NotEmpty { .. }
        | DirectoryError::Locked { .. }
        | DirectoryError::NotOurs { .. }
        | DirectoryError::NotSafe { .. } => 4,
        DirectoryError::Damaged { .. } => 5,
        DirectoryError::Io { source, .. } => disk_exit_code(source),
        DirectoryError::Journal(error) => journal_exit_code(error),
        DirectoryError::Peers(_) => 7,
    }
}

/// The exit code for trouble with a journal.
pub fn journal_exit_code(error: &JournalError) -> i32 {
    match error {
        JournalError::Damaged { .. } | JournalError::UnknownFormat { .. } => 5,
        JournalError::Io { source, .. } => disk_exit_code(source),
        JournalError::NoSpace { .. } => 8,
        JournalError::Poisoned => 7,
    }
}

/// The exit code for trouble with a snapshot.
pub fn state_file_exit_code(error: &StateFileError) -> i32 {
    match error {
        StateFileError::File(SnapshotError::Io { source, .. }) => disk_exit_code(source),
        StateFileError::File(_) | StateFileError::State { .. } | StateFileError::Differs { .. } => {
            5
        }
    }
}

impl From<SnapshotError> for ServeError {
    fn from(error: SnapshotError) -> ServeError {
        ServeError::Snapshot(error.into())
    }
}

/// A full disk is told from a broken one: what helps is different.
fn disk_exit_code(error: &io::Error) -> i32 {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    if error.raw_os_error().is_some_and(|code| full.contains(&code)) { 8 } else { 7 }
}

/// Where workers tell that they cannot go on, and signals arrive.
pub fn endings() -> Result<(Sender<Ending>, Receiver<Ending>), ServeError> {
    let (sender, receiver) = bounded(4);
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|source| ServeError::System { doing: "waiting for signals", source })?;
    let forward = sender.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let _full = forward.try_send(Ending::Signal(signal));
            }
        })
        .map_err(|source| ServeError::System { doing: "starting a thread", source })?;
    Ok((sender, receiver))
}

/// From now on a panic in any thread ends the process, with one line that says where: a server
/// without one of its threads is worse than no server.
pub fn end_on_panic(logger: Logger) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name").to_owned();
        log::error!("thread {name} panicked, the process ends: {panic}");
        logger.flush(LAST_WORDS_MAX);
        process::exit(1);
    }));
}

/// How much longer whoever wants us to stop will wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until everything is answered.
    Some,
    /// No longer: there was a second signal.
    None,
}

/// If this server leads, lets another one lead before it goes, so that nobody has to find out by
/// waiting (diss. §3.10). It serves on meanwhile. Returns when it leads no more, or the core has
/// given up, within an election timeout; or at a second signal.
pub fn hand_over<D: Deliver>(
    monitor: &Monitor<D>,
    endings: &Receiver<Ending>,
) -> Result<Patience, ServeError> {
    let begun =
        monitor.with(|server| server.raft().is_leader().then(|| server.transfer_leadership(None)));
    let successor = match begun {
        None => return Ok(Patience::Some),
        Some(Ok(successor)) => successor,
        Some(Err(reason)) => {
            log::warn!("leadership cannot be handed over: {reason}");
            return Ok(Patience::Some);
        }
    };
    let since = Instant::now();
    while monitor.look(|server| server.raft().is_handing_over()) {
        if wait(endings)? == Patience::None {
            return Ok(Patience::None);
        }
    }
    let leads = monitor.look(|server| server.raft().is_leader());
    let outcome = if leads { "failed" } else { "done" };
    log::info!("hand-over to={successor} {outcome} ms={}", since.elapsed().as_millis());
    Ok(Patience::Some)
}

/// Answers what can be answered, and returns: when every reply has left, at the latest after
/// `DRAIN_MAX`, or at a second signal. A disk that fails meanwhile is still a failure.
pub fn drain<D: Deliver>(
    monitor: &Monitor<D>,
    connections: &Connections,
    endings: &Receiver<Ending>,
) -> Result<(), ServeError> {
    monitor.with(|server| server.stop());
    let until = Instant::now() + DRAIN_MAX;
    loop {
        // An answer is off the gateway's books a moment before it is on its way to the client.
        let pending = monitor.look(|server| server.gateway().pending_requests());
        if pending == 0 && connections.are_done() {
            return Ok(());
        }
        if Instant::now() > until {
            log::warn!("requests={pending} are left without an answer");
            return Ok(());
        }
        if wait(endings)? == Patience::None {
            return Ok(());
        }
    }
}

/// A moment of waiting while the server stops.
fn wait(endings: &Receiver<Ending>) -> Result<Patience, ServeError> {
    match endings.recv_timeout(LOOK_EVERY) {
        Ok(Ending::Signal(_)) => {
            log::warn!("a second signal: stopping at once");
            Ok(Patience::None)
        }
        Ok(Ending::Disk(error)) => Err(error.into()),
        Ok(Ending::Diverged(how)) => Err(how.into()),
        Err(_nothing_happened) => Ok(Patience::Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crossbeam_channel::bounded;

    use crate::gateway::{ClientId, Request, Slot};
    use crate::kv::command::Query;
    use crate::node::monitor::testing::Nobody;

    /// A stop that was asked for must not hide that the disk has failed: what was acknowledged
    /// last is what its operator has to look after.
    #[test]
    fn a_disk_that_fails_while_the_server_stops_ends_it_at_once() {
        let monitor = Monitor::of_three(Nobody);
        let read = Request::Read(Query::Count);
        monitor.with(|server| server.submit([(ClientId(1), Slot(0), read)]));
        let (workers, endings) = bounded(4);
        workers.send(Ending::Disk(JournalError::Poisoned)).expect("there is room");
        let since = Instant::now();
        let ended = drain(&monitor, &Connections::new(1), &endings);
        assert_eq!(ended.expect_err("the disk failed").exit_code(), 7);
        assert!(since.elapsed() < DRAIN_MAX);
    }
}
