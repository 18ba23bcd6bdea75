//! `raft-server status`: asks servers how they are, on the port that clients use.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use raft_server::protocol::status::{PeerReport, RoleName, StatusReport};
use serde::Serialize;
use thiserror::Error;

use super::exit::{self, Failure};

/// A server that does not answer within this time counts as unreachable.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How long to rest between two rounds of questions while waiting for a leader.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// The longest answer that is read, in bytes: a report of 255 servers is far below it.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Whom to ask, and how to tell.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 all have answered, 1 some cannot be reached, 2 wrong usage, 10 some refuse to answer,
12 no leader within --wait-leader.")]
pub struct StatusArguments {
    /// Where servers listen for clients, each as host:port
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Print JSON: an object for one address, an array for several
    #[arg(long)]
    json: bool,
    /// Wait this long until one of them leads and serves (has committed in its term); else exit 12
    #[arg(long, value_name = "SECONDS")]
    wait_leader: Option<u64>,
}

/// Why there is no report.
#[derive(Debug, Error)]
enum AskError {
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("{0}")]
    Foreign(String),
    #[error("refuses: {0}")]
    Refused(String),
}

/// What one address has to say.
#[derive(Serialize)]
struct Answer<'a> {
    address: &'a str,
    #[serde(flatten)]
    report: Option<StatusReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    code: i32,
}

/// Asks, perhaps waits, and prints.
pub fn run(arguments: &StatusArguments) -> Result<i32, Failure> {
    let StatusArguments { addresses, json, wait_leader } = arguments;
    if let Some(address) = addresses.iter().find(|address| !address.contains(':')) {
        let message = format!("{address} has no port: say {address}:7001, where it serves clients");
        return Err(Failure::usage(message));
    }
    let start = Instant::now();
    let limit = wait_leader.map(Duration::from_secs);
    let (answers, led) = loop {
        let answers: Vec<Answer> = addresses.iter().map(|address| Answer::of(address)).collect();
        let led = answers.iter().any(Answer::leads);
        if led || limit.is_none_or(|limit| start.elapsed() >= limit) {
            break (answers, led);
        }
        thread::sleep(ROUND_PAUSE);
    };
    let lines = if *json { to_json(&answers) } else { to_table(&answers) };
    exit::write_lines(&mut io::stdout().lock(), &lines)?;
    match wait_leader {
        Some(_) if led => Ok(exit::OK),
        Some(seconds) => {
            let message = format!("no leader with a committed entry within {seconds} s");
            Err(Failure::new(exit::FALSE, message))
        }
        None => Ok(answers.iter().map(|answer| answer.code).max().unwrap_or(exit::OK)),
    }
}

impl<'a> Answer<'a> {
    fn of(address: &'a str) -> Answer<'a> {
        match ask(address) {
            Ok(report) => Answer { address, report: Some(report), error: None, code: exit::OK },
            Err(error) => {
                let refused = matches!(error, AskError::Refused(_));
                let code = if refused { exit::REFUSED } else { exit::FAILED };
                Answer { address, report: None, error: Some(error.to_string()), code }
            }
        }
    }

    /// A leader that has committed in its own term can serve reads and writes at once (§8).
    fn leads(&self) -> bool {
        let leads =
            |report: &StatusReport| report.role == RoleName::Leader && report.committed_in_term;
        self.report.as_ref().is_some_and(leads)
    }
}

/// Sends STATUS and reads `*N` and N lines that begin with `+`.
fn ask(address: &str) -> Result<StatusReport, AskError> {
    let stream = connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    (&stream).write_all(b"STATUS\n")?;
    let mut lines = BufReader::new(stream.take(ANSWER_BYTES_MAX)).lines();
    let mut next_line = || lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
    let first = next_line()?;
    if let Some(error) = first.strip_prefix('-') {
        return Err(AskError::Refused(error.to_owned()));
    }
    let foreign = |line: &str| AskError::Foreign(format!("no raft-server: it answers {line:?}"));
    let count: usize = match first.strip_prefix('*').map(str::parse) {
        Some(Ok(count)) => count,
        _ => return Err(foreign(&first)),
    };
    let mut text = Vec::new();
    for _ in 0..count {
        let line = next_line()?;
        text.push(line.strip_prefix('+').ok_or_else(|| foreign(&line))?.to_owned());
    }
    StatusReport::parse_lines(&text).map_err(|error| AskError::Foreign(error.to_string()))
}

/// Tries all that a name stands for: `localhost` may be ::1 first while the server is on 127.0.0.1.
pub(super) fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, ANSWER_TIME_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn to_json(answers: &[Answer]) -> Vec<String> {
    let json = match answers {
        [one] => serde_json::to_string_pretty(one),
        several => serde_json::to_string_pretty(several),
    };
    vec![json.expect("a report is numbers and strings under string keys")]
}

fn to_table(answers: &[Answer]) -> Vec<String> {
    let width = answers.iter().map(|answer| answer.address.len()).max().unwrap_or(0).max(7);
    let mut lines = vec![format!(
        "{:width$}  {:6}  {:13}  {:>6}  {:6}  {:>9}  {:>9}  peers",
        "address", "server", "role", "term", "leader", "commit", "applied"
    )];
    for Answer { address, report, error, .. } in answers {
        let Some(report) = report else {
            lines.push(format!("{address:width$}  {}", error.as_deref().unwrap_or_default()));
            continue;
        };
        let StatusReport { term, commit, applied, role, .. } = report;
        let server = format!("n{}", report.server);
        let leader = report.leader.map_or("-".to_owned(), |leader| format!("n{leader}"));
        let peers: Vec<String> = report.peers.iter().map(peer_text).collect();
        lines.push(format!(
            "{address:width$}  {server:6}  {role:13}  {term:>6}  {leader:6}  {commit:>9}  \
             {applied:>9}  {}",
            peers.join(", ")
        ));
    }
    lines
}

/// `n2 stream match 120, 12 ms ago`.
fn peer_text(peer: &PeerReport) -> String {
    let matched = peer.match_index.map_or(String::new(), |index| format!(" match {index}"));
    let contact = match peer.last_contact_ms {
        Some(age) => format!(" {age} ms ago"),
        None => String::new(), // a follower listens only to its leader
    };
    format!("n{} {}{matched}{contact}", peer.id, peer.state)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers one connection with `answer`.
    fn server_that_says(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one client");
            let mut question = [0; 7];
            stream.read_exact(&mut question).expect("a question");
            assert_eq!(&question, b"STATUS\n");
            stream.write_all(answer.as_bytes()).expect("the client reads");
        });
        address
    }

    const LEADER: &str = "*16\n+server: 1\n+cluster: c\n+version: 0\n+role: leader\n+term: 2\n\
        +leader: 1\n+voted_for: 1\n+commit: 3\n+applied: 3\n+last_index: 3\n+durable_index: 3\n\
        +committed_in_term: yes\n+connections: 1\n+pending: 0\n+pending_bytes: 0\n\
        +peer 2: state=stream match_index=3 next_index=4 last_contact_ms=9\n";

    #[test]
    fn a_leader_is_recognized_and_shown() {
        let address = server_that_says(LEADER);
        let answers = [Answer::of(&address)];
        assert!(answers[0].leads());
        assert!(to_table(&answers)[1].contains("n2 stream match 3 9 ms ago"));
        let json = to_json(&answers).concat();
        assert!(json.contains("\"role\": \"leader\"") && json.contains("\"address\""), "{json}");
    }

    #[test]
    fn refusals_and_strangers_are_told_apart() {
        let loading = server_that_says("-LOADING 40 %\n");
        assert_eq!(Answer::of(&loading).code, exit::REFUSED);
        let stranger = server_that_says("HTTP/1.1 400 Bad Request\n");
        let answer = Answer::of(&stranger);
        assert_eq!(answer.code, exit::FAILED);
        assert!(answer.error.is_some_and(|error| error.contains("no raft-server")));
        let cut = server_that_says("*16\n+server: 1\n");
        assert_eq!(Answer::of(&cut).code, exit::FAILED);
    }
}
