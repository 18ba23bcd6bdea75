//! The servers, and which of them leads: asked with STATUS, again and again while a run lasts.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BenchError, To};

/// How long to look for a leader before there is anything to measure.
pub const LEADER_WITHIN: Duration = Duration::from_secs(10);

/// A server that does not answer within this time does not lead.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Between two questions who leads.
const QUESTION_EVERY: Duration = Duration::from_millis(250);

/// The longest answer to STATUS that is read, in bytes.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;

/// The highest number of addresses: a place fits into a byte of a `Leadership`.
pub const PLACES_MAX: usize = 255;

/// How often a leader was found, and the place that led when it last was, in one word:
/// times × 256 + place.
pub type Leadership = u64;

/// Where the clients may go.
pub struct Places {
    to: To,
    addresses: Vec<SocketAddr>,
    /// The last time that a leader was found. Written by the thread that asks.
    leadership: AtomicU64,
}

impl Places {
    /// Resolves all addresses and makes sure that there is somebody; finds the leader if it is to
    /// get the load.
    pub fn find(names: &[String], to: To, stop: &AtomicBool) -> Result<Places, BenchError> {
        let mut addresses = Vec::new();
        let (mut somebody, mut reason) = (false, String::new());
        for name in names {
            let resolved: Vec<SocketAddr> = match name.to_socket_addrs() {
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    let (address, reason) = (name.clone(), error.to_string());
                    return Err(BenchError::Address { address, reason });
                }
            };
            // `localhost` may be ::1 first while the server is on 127.0.0.1: take who answers.
            let mut chosen = resolved.first().copied();
            for address in resolved {
                match TcpStream::connect_timeout(&address, ANSWER_WITHIN) {
                    Ok(_) => {
                        (chosen, somebody) = (Some(address), true);
                        break;
                    }
                    Err(error) => reason = error.to_string(),
                }
            }
            addresses.extend(chosen);
        }
        if !somebody {
            return Err(BenchError::NoServer { addresses: names.join(", "), reason });
        }
        let places = Places { to, addresses, leadership: AtomicU64::new(0) };
        if to == To::Leader {
            places.wait_for_leader(names, stop)?;
        }
        Ok(places)
    }

    /// An election may be on its way; but waiting does not make a server of what is none.
    fn wait_for_leader(&self, names: &[String], stop: &AtomicBool) -> Result<(), BenchError> {
        let end = Instant::now() + LEADER_WITHIN;
        loop {
            let answers = self.look_for_leader();
            if answers.iter().any(|answer| matches!(answer, Ok(Some(_)))) {
                return Ok(());
            }
            if stop.load(Ordering::Relaxed) {
                return Err(BenchError::Stopped);
            }
            let said = |(name, answer): (&String, &Standing)| match answer {
                Ok(_) => format!("{name} does not lead"),
                Err(reason) => format!("{name}: {reason}"),
            };
            let said = names.iter().zip(&answers).map(said).collect::<Vec<_>>().join("; ");
            if answers.iter().all(Result::is_err) {
                return Err(BenchError::NoStatus { said });
            }
            if Instant::now() >= end {
                return Err(BenchError::NoLeader { said });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where a client belongs, if everything there is well.
    pub fn home(&self, client: usize) -> usize {
        match self.to {
            To::Leader => (self.leadership() % 256) as usize,
            To::Spread => client % self.addresses.len(),
        }
    }

    /// Where it goes after `failures` failures: once round all servers.
    pub fn after(&self, client: usize, failures: usize) -> usize {
        (self.home(client) + failures) % self.addresses.len()
    }

    /// Where the place is.
    pub fn address(&self, place: usize) -> SocketAddr {
        self.addresses[place]
    }

    /// When this changes, somebody leads for certain and the clients go home: also those that the
    /// same leader has sent away, as it may have been busy. It never changes if they are not to
    /// follow the leader.
    pub fn leadership(&self) -> Leadership {
        self.leadership.load(Ordering::Relaxed)
    }

    /// Runs `body` while another thread, `bench-leader`, keeps the leader up to date.
    pub fn while_watched<T>(&self, body: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = || {
                while !stop.load(Ordering::Relaxed) {
                    thread::park_timeout(QUESTION_EVERY);
                    self.look_for_leader();
                }
            };
            let watcher = (self.to == To::Leader).then(|| {
                let builder = thread::Builder::new().name("bench-leader".to_owned());
                builder.spawn_scoped(scope, watch).expect("the system has room for a thread")
            });
            let result = body();
            stop.store(true, Ordering::Relaxed);
            if let Some(watcher) = watcher {
                watcher.thread().unpark();
            }
            result
        })
    }

    /// Asks everybody. Of two that lead, the one of the higher term does (§5.1).
    fn look_for_leader(&self) -> Vec<Standing> {
        let answers: Vec<Standing> = self.addresses.iter().map(standing).collect();
        let places = (0..).zip(&answers);
        let leading =
            places.filter_map(|(place, answer)| Some((answer.as_ref().ok()?.as_ref()?, place)));
        if let Some((_, place)) = leading.max() {
            let times = self.leadership() / 256 + 1; // nobody else writes it
            self.leadership.store(times * 256 + place, Ordering::Relaxed);
        }
        answers
    }
}

/// What a server says of itself: the term that it leads and in which it can serve (§8), if it does;
/// or why it cannot be asked.
type Standing = Result<Option<u64>, String>;

fn standing(address: &SocketAddr) -> Standing {
    let status = status(address).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer to STATUS".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => error.to_string(),
    })?;
    let says = |what: &str| status.iter().any(|line| line == what);
    let term = status.iter().find_map(|line| line.strip_prefix("+term: "));
    let term = term.and_then(|term| term.parse().ok()).ok_or_else(|| match status.first() {
        Some(line) => format!("to STATUS it says {line}"),
        None => CLOSED.to_owned(),
    })?;
    let leads = says("+role: leader") && says("+committed_in_term: yes");
    Ok(leads.then_some(term))
}

/// What servers do that do not understand a word.
const CLOSED: &str = "it closes the connection when it is asked";

/// The lines that a server answers to STATUS: `*N`, and N lines. Of anything else the first line,
/// for the person who reads about it.
fn status(address: &SocketAddr) -> io::Result<Vec<String>> {
    let stream = TcpStream::connect_timeout(address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    (&stream).write_all(b"STATUS\n")?;
    let mut answer = BufReader::new(stream.take(STATUS_BYTES_MAX));
    let mut line = || {
        let mut bytes = Vec::new();
        answer.read_until(b'\n', &mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        io::Result::Ok((!bytes.is_empty()).then_some(text))
    };
    let Some(first) = line()? else { return Ok(Vec::new()) };
    let Some(count) = first.strip_prefix('*').and_then(|count| count.parse::<usize>().ok()) else {
        return Ok(vec![first.chars().take(FOREIGN_CHARS_MAX).collect()]);
    };
    (0..count).map_while(|_| line().transpose()).collect()
}

/// How much of an answer is shown that is none to STATUS.
const FOREIGN_CHARS_MAX: usize = 60;
