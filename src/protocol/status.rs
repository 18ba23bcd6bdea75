//! What a server tells about itself: the STATUS command, for a person at netcat and for programs.
//!
//! [`StatusReport::to_lines`] makes the lines that STATUS answers, `key: value`, one fact each;
//! [`StatusReport::parse_lines`] reads them back, so that `raft-server status` needs no port and no
//! format of its own. A line with a key that the reader does not know is skipped, and what an older
//! server does not say has its value from before: versions can read each other.
//!
//! As JSON (`raft-server status --json ADDRESS`) a report is one object:
//!
//! ```text
//! {
//!   "address": "localhost:7001",
//!   "server": 1,                  the server's id
//!   "cluster": "blue",            the cluster's id
//!   "version": "0.1.0",
//!   "role": "leader",             leader, follower, candidate or pre-candidate
//!   "term": 7,                    Figure 2: currentTerm
//!   "leader": 1,                  the leader of the term, null if this server knows none
//!   "voted_for": 1,               Figure 2: votedFor, null if it gave no vote in the term
//!   "commit": 120,                Figure 2: commitIndex
//!   "applied": 120,               Figure 2: lastApplied
//!   "last_index": 121,            the last entry of its log
//!   "durable_index": 121,         the last entry that is on its disk
//!   "first_index": 100,           the first entry that its log still has
//!   "snapshot": 110,              the last entry of its newest snapshot, 0 if there is none
//!   "snapshot_bytes": 4096,       the length of that snapshot's file
//!   "disk_full": false,           it takes no more writes for want of space
//!   "committed_in_term": true,    it knows an entry of `term` to be committed
//!   "connections": 4,             clients that are connected
//!   "pending": 2,                 requests that wait for their answer here
//!   "pending_bytes": 180,         what they weigh against limits.gateway_bytes
//!   "peers": [                    the other servers
//!     { "id": 2,
//!       "match_index": 121,       Figure 2: matchIndex; null unless this server leads
//!       "next_index": 122,        Figure 2: nextIndex; null unless this server leads
//!       "last_contact_ms": 12,    milliseconds since it answered us, or led us; else null
//!       "state": "stream" }       down, connected, probe, stream or snapshot
//!   ]
//! }
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A server's view of itself and of its cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The server's id.
    pub server: u32,
    /// The cluster's id: no spaces (`config` sees to it).
    pub cluster: String,
    /// The program's version.
    pub version: String,
    /// What it is in its term.
    pub role: RoleName,
    /// Its current term.
    pub term: u64,
    /// The leader of the term, if this server knows it.
    pub leader: Option<u32>,
    /// For whom it voted in the term.
    pub voted_for: Option<u32>,
    /// The highest index it knows to be committed.
    pub commit: u64,
    /// The highest index its state machine has applied.
    pub applied: u64,
    /// The last index of its log.
    pub last_index: u64,
    /// The last index that is on its disk.
    pub durable_index: u64,
    /// The first index that its log still has, or would have.
    pub first_index: u64,
    /// The last index that its newest snapshot covers; 0 if there is none.
    pub snapshot: u64,
    /// The length of that snapshot's file, in bytes.
    pub snapshot_bytes: u64,
    /// Whether its disk, or its quota, has no room for more.
    pub disk_full: bool,
    /// Whether it knows an entry of its current term to be committed. A leader for which this holds
    /// has everything that was ever acknowledged, committed and known to be so (§8).
    pub committed_in_term: bool,
    /// Clients that are connected.
    pub connections: u64,
    /// Requests that wait for their answer at this server.
    pub pending: u64,
    /// What those weigh, in bytes.
    pub pending_bytes: u64,
    /// The other servers, by rising id.
    pub peers: Vec<PeerReport>,
}

/// What a server knows about another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Whom this is about.
    pub id: u32,
    /// The highest index known to be on its disk; only a leader knows.
    pub match_index: Option<u64>,
    /// The next index to send to it; only a leader knows.
    pub next_index: Option<u64>,
    /// Milliseconds since it answered us as leader, or was heard as our leader; `None` otherwise.
    pub last_contact_ms: Option<u64>,
    /// How we stand with it.
    pub state: PeerState,
}

/// The roles of §5.1, and the one before a candidacy (diss. §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// It leads its term.
    Leader,
    /// It follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It asks whether it would get votes.
    PreCandidate,
}

/// How a server stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// There is no connection to it.
    Down,
    /// There is a connection, and this server does not lead.
    Connected,
    /// As leader: looking for the last entry that both logs have.
    Probe,
    /// As leader: sending what is new.
    Stream,
    /// As leader: sending a snapshot, as it lacks what is no longer in the log.
    Snapshot,
}

/// Why lines are no report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatusError {
    /// A line that every report has is not there.
    #[error("the answer to STATUS has no line \"{0}: …\"; is this a raft-server?")]
    Missing(&'static str),
    /// A line does not say what its key promises.
    #[error("the answer to STATUS has a line that cannot be read: {0:?}")]
    Unreadable(String),
}

const ROLES: [(RoleName, &str); 4] = [
    (RoleName::Leader, "leader"),
    (RoleName::Follower, "follower"),
    (RoleName::Candidate, "candidate"),
    (RoleName::PreCandidate, "pre-candidate"),
];

const PEER_STATES: [(PeerState, &str); 5] = [
    (PeerState::Down, "down"),
    (PeerState::Connected, "connected"),
    (PeerState::Probe, "probe"),
    (PeerState::Stream, "stream"),
    (PeerState::Snapshot, "snapshot"),
];

impl fmt::Display for RoleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(word_of(&ROLES, *self))
    }
}

impl fmt::Display for PeerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(word_of(&PEER_STATES, *self))
    }
}

fn word_of<T: PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    words.iter().find(|(known, _)| *known == value).expect("the table has every variant").1
}

fn value_of<T: Copy>(words: &[(T, &'static str)], word: &str) -> Option<T> {
    words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
}

/// A number, or `-` for none.
fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

impl StatusReport {
    /// The answer to STATUS, a line a fact.
    pub fn to_lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("server: {}", self.server),
            format!("cluster: {}", self.cluster),
            format!("version: {}", self.version),
            format!("role: {}", self.role),
            format!("term: {}", self.term),
            format!("leader: {}", or_dash(self.leader)),
            format!("voted_for: {}", or_dash(self.voted_for)),
            format!("commit: {}", self.commit),
            format!("applied: {}", self.applied),
            format!("last_index: {}", self.last_index),
            format!("durable_index: {}", self.durable_index),
            format!("first_index: {}", self.first_index),
            format!("snapshot: {}", self.snapshot),
            format!("snapshot_bytes: {}", self.snapshot_bytes),
            format!("disk_full: {}", if self.disk_full { "yes" } else { "no" }),
            format!("committed_in_term: {}", if self.committed_in_term { "yes" } else { "no" }),
            format!("connections: {}", self.connections),
            format!("pending: {}", self.pending),
            format!("pending_bytes: {}", self.pending_bytes),
        ];
        lines.extend(self.peers.iter().map(PeerReport::to_line));
        lines
    }

    /// Reads what `to_lines` wrote; lines with unknown keys are skipped.
    pub fn parse_lines(lines: &[String]) -> Result<StatusReport, StatusError> {
        let facts = Facts(lines);
        let mut peers = Vec::new();
        for line in lines {
            if let Some(rest) = line.strip_prefix("peer ") {
                let unreadable = || StatusError::Unreadable(line.clone());
                peers.push(PeerReport::parse(rest).ok_or_else(unreadable)?);
            }
        }
        Ok(StatusReport {
            server: facts.number("server")?,
            cluster: facts.text("cluster")?.to_owned(),
            version: facts.text("version")?.to_owned(),
            role: facts.read("role", |word| value_of(&ROLES, word))?,
            term: facts.number("term")?,
            leader: facts.read("leader", number_or_dash)?,
            voted_for: facts.read("voted_for", number_or_dash)?,
            commit: facts.number("commit")?,
            applied: facts.number("applied")?,
            last_index: facts.number("last_index")?,
            durable_index: facts.number("durable_index")?,
            // A server without snapshots does not speak of them.
            first_index: facts.or("first_index", 1, |text| text.parse().ok())?,
            snapshot: facts.or("snapshot", 0, |text| text.parse().ok())?,
            snapshot_bytes: facts.or("snapshot_bytes", 0, |text| text.parse().ok())?,
            disk_full: facts.or("disk_full", false, yes_or_no)?,
            committed_in_term: facts.read("committed_in_term", yes_or_no)?,
            connections: facts.number("connections")?,
            pending: facts.number("pending")?,
            pending_bytes: facts.number("pending_bytes")?,
            peers,
        })
    }
}

impl PeerReport {
    fn to_line(&self) -> String {
        let PeerReport { id, match_index, next_index, last_contact_ms, state } = self;
        let (match_index, next_index) = (or_dash(*match_index), or_dash(*next_index));
        let last_contact_ms = or_dash(*last_contact_ms);
        format!(
            "peer {id}: state={state} match_index={match_index} next_index={next_index} \
             last_contact_ms={last_contact_ms}"
        )
    }

    /// Reads `2: state=stream match_index=5 …`.
    fn parse(text: &str) -> Option<PeerReport> {
        let (id, facts) = text.split_once(": ")?;
        let fact = |name: &str| {
            let mut pairs = facts.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        Some(PeerReport {
            id: id.parse().ok()?,
            match_index: number_or_dash(fact("match_index")?)?,
            next_index: number_or_dash(fact("next_index")?)?,
            last_contact_ms: number_or_dash(fact("last_contact_ms")?)?,
            state: value_of(&PEER_STATES, fact("state")?)?,
        })
    }
}

/// The lines of an answer, asked by key.
struct Facts<'a>(&'a [String]);

impl<'a> Facts<'a> {
    fn text(&self, key: &'static str) -> Result<&'a str, StatusError> {
        let pairs = self.0.iter().filter_map(|line| line.split_once(": "));
        let mut values = pairs.filter(|(known, _)| *known == key).map(|(_, value)| value);
        values.next().ok_or(StatusError::Missing(key))
    }

    fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StatusError> {
        let text = self.text(key)?;
        parse(text).ok_or_else(|| StatusError::Unreadable(format!("{key}: {text}")))
    }

    /// As `read`, for what an older server does not say.
    fn or<T>(
        &self,
        key: &'static str,
        unsaid: T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StatusError> {
        match self.read(key, parse) {
            Err(StatusError::Missing(_)) => Ok(unsaid),
            read => read,
        }
    }

    fn number<T: FromStr>(&self, key: &'static str) -> Result<T, StatusError> {
        self.read(key, |text| text.parse().ok())
    }
}

fn number_or_dash<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn peer() -> impl Strategy<Value = PeerReport> {
        let states = prop::sample::select(PEER_STATES.map(|(state, _)| state).to_vec());
        let number = || option::of(any::<u64>());
        (any::<u32>(), number(), number(), number(), states).prop_map(
            |(id, match_index, next_index, last_contact_ms, state)| PeerReport {
                id,
                match_index,
                next_index,
                last_contact_ms,
                state,
            },
        )
    }

    fn report() -> impl Strategy<Value = StatusReport> {
        let roles = prop::sample::select(ROLES.map(|(role, _)| role).to_vec());
        let servers = (any::<u32>(), option::of(any::<u32>()), option::of(any::<u32>()));
        let numbers = any::<[u64; 11]>();
        let peers = prop::collection::vec(peer(), 0..5);
        (servers, roles, numbers, any::<[bool; 2]>(), "[a-z0-9._-]{1,20}", peers).prop_map(
            |(
                (server, leader, voted_for),
                role,
                n,
                [committed_in_term, disk_full],
                cluster,
                peers,
            )| {
                StatusReport {
                    server,
                    cluster,
                    version: "0.1.0".to_owned(),
                    role,
                    term: n[0],
                    leader,
                    voted_for,
                    commit: n[1],
                    applied: n[2],
                    last_index: n[3],
                    durable_index: n[4],
                    first_index: n[8],
                    snapshot: n[9],
                    snapshot_bytes: n[10],
                    disk_full,
                    committed_in_term,
                    connections: n[5],
                    pending: n[6],
                    pending_bytes: n[7],
                    peers,
                }
            },
        )
    }

    proptest! {
        /// `status` reads the very lines that a person reads: nothing may be lost between them.
        #[test]
        fn a_report_survives_its_lines(report in report()) {
            let lines = report.to_lines();
            prop_assert!(lines.iter().all(|line| !line.contains(['\n', '\r'])));
            prop_assert_eq!(StatusReport::parse_lines(&lines), Ok(report));
        }

        /// Whatever answers on the port, `status` explains and does not panic.
        #[test]
        fn foreign_lines_are_refused(lines in prop::collection::vec(".{0,40}", 0..9)) {
            prop_assert!(StatusReport::parse_lines(&lines).is_err());
        }
    }

    #[test]
    fn a_line_of_a_newer_server_is_skipped() {
        let mut lines = sample().to_lines();
        lines.insert(3, "mood: sunny".to_owned());
        assert_eq!(StatusReport::parse_lines(&lines), Ok(sample()));
    }

    #[test]
    fn a_bad_line_is_named() {
        let mut lines = sample().to_lines();
        lines[4] = "term: many".to_owned();
        let expected = StatusError::Unreadable("term: many".to_owned());
        assert_eq!(StatusReport::parse_lines(&lines), Err(expected));
        lines.remove(4);
        assert_eq!(StatusReport::parse_lines(&lines), Err(StatusError::Missing("term")));
    }

    /// Scripts look for this text.
    #[test]
    fn a_leader_says_so_in_json() {
        let json = serde_json::to_string_pretty(&sample()).expect("a report is JSON");
        assert!(json.contains("\"role\": \"leader\""), "{json}");
        assert!(json.contains("\"state\": \"stream\""), "{json}");
    }

    fn sample() -> StatusReport {
        StatusReport {
            server: 1,
            cluster: "blue".to_owned(),
            version: "0.1.0".to_owned(),
            role: RoleName::Leader,
            term: 7,
            leader: Some(1),
            voted_for: Some(1),
            commit: 5,
            applied: 5,
            last_index: 6,
            durable_index: 6,
            first_index: 3,
            snapshot: 4,
            snapshot_bytes: 1000,
            disk_full: false,
            committed_in_term: true,
            connections: 4,
            pending: 1,
            pending_bytes: 90,
            peers: vec![PeerReport {
                id: 2,
                match_index: Some(5),
                next_index: Some(7),
                last_contact_ms: None,
                state: PeerState::Stream,
            }],
        }
    }
}
