//! Log lines: formatted by the thread that logs, written to stderr by one `logger` thread.
//!
//! A stderr that nobody reads must not stop a server (S69): the queue is bounded, a line that finds
//! it full is dropped and counted. Until the thread runs, lines are written directly.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that may wait; beyond it they are dropped and counted.
const LINES_MAX: usize = 8192;

static SERVER: AtomicU64 = AtomicU64::new(0);
/// Term and role change together: the role's letter is the lowest byte.
static TERM_AND_ROLE: AtomicU64 = AtomicU64::new(b'-' as u64);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Says what each line tells about this server: its id, its term and its role's letter.
pub fn set_context(server: u32, term: u64, role: u8) {
    SERVER.store(u64::from(server), Ordering::Relaxed);
    TERM_AND_ROLE.store(term << 8 | u64::from(role), Ordering::Relaxed);
}

enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

struct Queue(Sender<Item>);

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !RUNNING.load(Ordering::Acquire) {
            io::stderr().write_all(line)?;
        } else if self.0.try_send(Item::Line(line.to_vec())).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The two ends of the installed logger's queue.
#[derive(Clone)]
pub struct Logger {
    sender: Sender<Item>,
    receiver: Receiver<Item>,
}

/// Installs the process's logger: `RUST_LOG` as env_logger reads it, `info` without it.
pub fn install() -> Result<Logger, log::SetLoggerError> {
    let (sender, receiver) = bounded(LINES_MAX);
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Pipe(Box::new(Queue(sender.clone()))))
        .format(|out, record| {
            let state = TERM_AND_ROLE.load(Ordering::Relaxed);
            let (term, role) = (state >> 8, char::from(state as u8));
            let (time, server) = (out.timestamp_millis(), SERVER.load(Ordering::Relaxed));
            let message = escaped(&record.args().to_string());
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{time} {level:<5} n{server} T{term} {role} {target} {message}")
        })
        .try_init()?;
    Ok(Logger { sender, receiver })
}

/// Control characters are spelled out, so that no message can forge a line (S95).
fn escaped(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for letter in message.chars() {
        if letter.is_control() {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text
}

impl Logger {
    /// What the `logger` thread runs, until the process ends.
    pub fn run(&self) {
        RUNNING.store(true, Ordering::Release);
        for item in &self.receiver {
            // Where stderr fails there is nobody left to tell.
            match item {
                Item::Line(line) => drop(io::stderr().write_all(&line)),
                Item::Flush(done) => drop(done.try_send(())),
            }
            if self.receiver.len() < LINES_MAX / 2 {
                let count = DROPPED.swap(0, Ordering::Relaxed);
                if count > 0 {
                    drop(writeln!(io::stderr(), "{count} log lines were dropped"));
                }
            }
        }
    }

    /// Waits until what was logged before is written, or until `limit` has passed.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, written) = bounded(1);
        let queued = self.sender.send_deadline(Item::Flush(done), deadline).is_ok();
        if RUNNING.load(Ordering::Acquire) && queued {
            let _ = written.recv_deadline(deadline); // late or not, the process goes on
        }
    }
}
