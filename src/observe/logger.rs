//! Log lines: formatted by the thread that logs, written to stderr by one `logger` thread.
//!
//! A stderr that nobody reads must not stop a server (S69): the queue is bounded, a line that finds
//! it full is dropped and counted, and the count is written when there is room again. Until the
//! thread runs, lines are written directly.
//!
//! A line is `time level n1 T7 L target message`: which server, its term, its role's letter. What
//! it tells about the server is set from outside ([`set_context`]), because whoever logs may not
//! know it and must not enter the one mutex to ask.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::limits::{LOG_DROPPED_REPORT_MS, LOG_LINES_MAX, LOG_MESSAGE_BYTES_MAX};

/// How long the `logger` thread waits before it looks whether lines were dropped.
const DROPPED_REPORT: Duration = Duration::from_millis(LOG_DROPPED_REPORT_MS);

/// This server's id.
static SERVER: AtomicU64 = AtomicU64::new(0);
/// Term and role change together: the role's letter is the lowest byte.
static TERM_AND_ROLE: AtomicU64 = AtomicU64::new(b'-' as u64);

/// Says what each line tells about this server: its id, its term and its role's letter.
pub fn set_context(server: u32, term: u64, role: u8) {
    SERVER.store(u64::from(server), Ordering::Relaxed);
    TERM_AND_ROLE.store(term << 8 | u64::from(role), Ordering::Relaxed);
}

/// The installed logger: its `logger` thread, and whoever wants to see the lines written.
#[derive(Clone, Debug)]
pub struct Logger {
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    state: Arc<State>,
}

/// What the two ends of the queue share.
#[derive(Debug, Default)]
struct State {
    /// The `logger` thread runs. Never unset.
    running: AtomicBool,
    /// Lines dropped and not reported yet.
    dropped: AtomicU64,
}

/// What waits in the queue.
#[derive(Debug)]
enum Item {
    /// A line with its end.
    Line(Vec<u8>),
    /// Tells that all lines before it are written.
    Flush(Sender<()>),
}

/// Installs the process's logger: `RUST_LOG` as env_logger reads it, `info` without it.
pub fn install() -> Result<Logger, log::SetLoggerError> {
    let logger = Logger::new(LOG_LINES_MAX);
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Pipe(Box::new(logger.queue())))
        .format(|out, record| {
            let state = TERM_AND_ROLE.load(Ordering::Relaxed);
            let (term, role) = (state >> 8, char::from(state as u8));
            let (time, server) = (out.timestamp_millis(), SERVER.load(Ordering::Relaxed));
            let message = escaped(&record.args().to_string());
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{time} {level:<5} n{server} T{term} {role} {target} {message}")
        })
        .try_init()?;
    Ok(logger)
}

impl Logger {
    /// What the `logger` thread runs, until the process ends.
    pub fn run(&self) {
        self.write_to(&mut io::stderr());
    }

    /// Whether the `logger` thread has taken over: from then on, logging never waits for stderr.
    pub fn is_running(&self) -> bool {
        self.state.running.load(Ordering::Acquire)
    }

    /// Waits until what was logged before is written, or until `limit` has passed.
    pub fn flush(&self, limit: Duration) {
        if !self.is_running() {
            return; // lines are written directly
        }
        let deadline = Instant::now() + limit;
        let (done, written) = bounded(1);
        if self.sender.send_deadline(Item::Flush(done), deadline).is_ok() {
            let _late_or_not = written.recv_deadline(deadline); // the process goes on
        }
    }

    fn new(lines_max: usize) -> Logger {
        let (sender, receiver) = bounded(lines_max);
        Logger { sender, receiver, state: Arc::default() }
    }

    fn queue(&self) -> Queue {
        Queue { sender: self.sender.clone(), state: self.state.clone() }
    }

    fn write_to(&self, sink: &mut impl Write) {
        self.state.running.store(true, Ordering::Release);
        loop {
            // Where stderr fails there is nobody left to tell.
            match self.receiver.recv_timeout(DROPPED_REPORT) {
                Ok(Item::Line(line)) => drop(sink.write_all(&line)),
                Ok(Item::Flush(done)) => drop(done.try_send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Reported once there is room again, so that a flood is summed up, not commented on.
            if self.receiver.len() <= self.receiver.capacity().unwrap_or(usize::MAX) / 2 {
                self.report_dropped(sink);
            }
        }
    }

    fn report_dropped(&self, sink: &mut impl Write) {
        let count = self.state.dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            drop(writeln!(sink, "{count} log lines were dropped: stderr was not read fast enough"));
        }
    }
}

/// The end of the queue that env_logger writes to, a line at a time.
struct Queue {
    sender: Sender<Item>,
    state: Arc<State>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.state.running.load(Ordering::Acquire) {
            io::stderr().write_all(line)?;
        } else if self.sender.try_send(Item::Line(line.to_vec())).is_err() {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Control characters are spelled out, so that no message can forge a line (S95), and what is too
/// long is cut.
fn escaped(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(LOG_MESSAGE_BYTES_MAX));
    for letter in message.chars() {
        if text.len() >= LOG_MESSAGE_BYTES_MAX {
            text.push_str(" (cut)");
            break;
        }
        if letter.is_control() {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
#[path = "logger/tests.rs"]
mod tests;
