//! `cluster.toml` → [`Config`]: the file that describes a cluster.
//!
//! One file describes the whole cluster and is the same on every host; `--id` says which of its
//! servers a process is. Reading it is strict, because a setting that is silently ignored is found
//! when it is needed: an unknown key is an error that names the file, the line and the key that was
//! probably meant, and a value that cannot work is refused before anything is started.
//!
//! What a process finally uses is an [`Effective`] configuration: flags come before the
//! environment, the environment before the file, the file before the defaults (`effective.rs`).
//!
//! Only what may differ between servers, or change from one start to the next, is a setting. A
//! bound that decides what happens when an entry is applied is a constant in `limits.rs`: with two
//! values of it in one cluster, two servers would hold different states.

mod effective;
mod validate;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use effective::{ENVIRONMENT_PREFIX, Effective, Member, Origin, Overrides, effective};

use crate::limits;

/// The cluster id of the sample. `serve` and `init` refuse it: two clusters that both kept it could
/// take each other's servers for their own.
pub const PLACEHOLDER_CLUSTER: &str = "change-me";

/// A `cluster.toml`, read and validated.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[cluster]`: which cluster this is.
    pub cluster: Cluster,
    /// `[raft]`: the clock of the protocol.
    #[serde(default)]
    pub raft: Timings,
    /// `[limits]`: what a server takes on at the most.
    #[serde(default)]
    pub limits: Limits,
    /// `[storage]`: the journal.
    #[serde(default)]
    pub storage: Storage,
    /// `[[server]]`, once for each member.
    #[serde(default, rename = "server")]
    pub servers: Vec<Server>,
    /// The file itself: paths in it are relative to its directory.
    #[serde(skip)]
    pub file: PathBuf,
    /// What stands in the file, so that a value can be told from a default.
    #[serde(skip)]
    pub present: toml::Table,
}

/// `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The cluster's name, unique among all clusters that could ever reach each other. It is
    /// recorded in every data directory and said in every handshake between servers.
    pub id: String,
}

/// `[raft]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// How often a leader is heard at the least, in milliseconds; see
    /// [`crate::raft::Options::heartbeat_at_rest_ticks`].
    pub heartbeat_ms: u64,
    /// A server that hears no leader starts an election after a time drawn from between these two,
    /// in milliseconds: at least the first, below the second.
    pub election_ms: [u64; 2],
}

/// `[limits]`. The reasons for the defaults stand in `limits.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections; beyond it a new one gets an error and is closed.
    pub connections: usize,
    /// Time until a request is answered at the latest, in milliseconds.
    pub request_deadline_ms: u64,
    /// Time that a request which has begun to arrive may take until it is complete, in
    /// milliseconds.
    pub request_arrival_ms: u64,
    /// Commands of one connection that may be unanswered before the server stops reading from it.
    pub pipeline_commands: usize,
    /// The same bound in bytes.
    pub pipeline_bytes: usize,
    /// Longest line that a person may type, in bytes.
    pub line_bytes: usize,
    /// Longest key, in bytes.
    pub key_bytes: usize,
    /// Longest value, in bytes.
    pub value_bytes: usize,
    /// Most arguments of one request, the command word included.
    pub arguments: usize,
    /// Largest request, in bytes.
    pub request_bytes: usize,
    /// Commands that one connection may queue between MULTI and EXEC.
    pub transaction_commands: usize,
    /// The same bound in bytes.
    pub transaction_bytes: usize,
    /// Largest reply to one request, in bytes of keys and values.
    pub reply_bytes: usize,
    /// Replies that a connection may leave unread, in bytes; then it is closed.
    pub unread_reply_bytes: usize,
    /// Bytes of everything that waits at one server for its answer; beyond it: `TRYAGAIN`.
    pub gateway_bytes: usize,
    /// Bytes of log that may be not yet committed and durable on the leader.
    pub uncommitted_bytes: usize,
    /// Bytes of changes kept for those who FEED and come back, or fall behind.
    pub feed_history_bytes: usize,
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Size of one journal segment in bytes, after which the next is begun.
    pub segment_bytes: u64,
    /// A snapshot is taken when the log behind the last one has this many bytes (see
    /// [`Storage::log_bytes_max`]) …
    pub snapshot_bytes: u64,
    /// … or this many entries …
    pub snapshot_entries: u64,
    /// … or anything at all, and the last one is this old, in seconds.
    pub snapshot_age_s: u64,
    /// Bytes of log before the snapshot that are kept in memory for followers a little behind.
    pub log_tail_bytes: u64,
    /// What the data directory may take in all, in bytes; 0: what the disk has.
    pub quota_bytes: u64,
}

/// One `[[server]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// 1 to 255, never given to another server, not even after this one is gone.
    pub id: u32,
    /// Where clients reach it: `host:port`, resolved anew whenever it is dialled.
    pub client: String,
    /// Where the other servers reach it.
    pub peer: String,
    /// Where it listens for clients, if that differs from `client`.
    pub client_listen: Option<String>,
    /// Where it listens for the other servers, if that differs from `peer`.
    pub peer_listen: Option<String>,
    /// Its data directory, relative to the file's directory. Default: `data/server-<id>`.
    pub data: Option<PathBuf>,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings { heartbeat_ms: 50, election_ms: [300, 600] }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: limits::CONNECTIONS_MAX,
            request_deadline_ms: limits::REQUEST_DEADLINE_MS,
            request_arrival_ms: limits::REQUEST_ARRIVAL_SECONDS_MAX * 1000,
            pipeline_commands: limits::PIPELINE_COMMANDS_MAX,
            pipeline_bytes: limits::PIPELINE_BYTES_MAX,
            line_bytes: limits::LINE_BYTES_MAX,
            key_bytes: limits::KEY_BYTES_MAX,
            value_bytes: limits::VALUE_BYTES_MAX,
            arguments: limits::ARGUMENTS_MAX,
            request_bytes: limits::REQUEST_BYTES_MAX,
            transaction_commands: limits::TRANSACTION_COMMANDS_MAX,
            transaction_bytes: limits::TRANSACTION_BYTES_MAX,
            reply_bytes: limits::REPLY_BYTES_MAX,
            unread_reply_bytes: limits::UNREAD_REPLY_BYTES_MAX,
            gateway_bytes: limits::GATEWAY_BYTES_MAX,
            uncommitted_bytes: limits::UNCOMMITTED_BYTES_MAX,
            feed_history_bytes: limits::FEED_HISTORY_BYTES_MAX,
        }
    }
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            segment_bytes: limits::SEGMENT_BYTES,
            snapshot_bytes: limits::SNAPSHOT_LOG_BYTES,
            snapshot_entries: limits::SNAPSHOT_LOG_ENTRIES,
            snapshot_age_s: limits::SNAPSHOT_AGE_SECONDS,
            log_tail_bytes: limits::LOG_TAIL_BYTES,
            quota_bytes: 0,
        }
    }
}

/// Why a configuration cannot be used. Each text is one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name the cluster's file with --config", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML, or has a key or a value that it must not have.
    #[error("{}:{line}: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what was probably meant.
        problem: String,
    },
    /// The values contradict each other, or no cluster could work with them.
    #[error("{}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A flag or a variable of the environment.
    #[error("{0}")]
    Override(String),
    /// Nothing says which of the servers this process is.
    #[error("which server is this? give --id (or {ENVIRONMENT_PREFIX}ID); {} has {known}",
        file.display())]
    NoId {
        /// The file.
        file: PathBuf,
        /// The ids in it.
        known: String,
    },
}

impl Storage {
    /// Bytes of log after which a snapshot is taken: `snapshot_bytes`, but at most half of a quota,
    /// or the snapshot would come only when the disk is as good as full.
    pub fn log_bytes_max(&self) -> u64 {
        match self.quota_bytes {
            0 => self.snapshot_bytes,
            quota_bytes => self.snapshot_bytes.min(quota_bytes / 2),
        }
    }
}

impl Config {
    /// Reads and validates the file.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Config::parse(&text, file)
    }

    /// Parses and validates `text`; `file` is where it came from.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let explain = |error| explain_syntax(&error, text, file);
        let mut config: Config = toml::from_str(text).map_err(explain)?;
        config.present = toml::from_str(text).map_err(explain)?;
        config.file = file.to_owned();
        config.validate()?;
        Ok(config)
    }
}

/// Adds to what the TOML parser says where it happened and, for an unknown key, what was meant.
fn explain_syntax(error: &toml::de::Error, text: &str, file: &Path) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
    let message = error.message();
    let problem = match unknown_key(message) {
        Some((unknown, known)) => match nearest(unknown, &known) {
            Some(meant) => format!("unknown key `{unknown}`; did you mean `{meant}`?"),
            None => format!("unknown key `{unknown}`; known here: {}", known.join(", ")),
        },
        None => {
            let message = message.lines().collect::<Vec<_>>().join("; ").replace("u64", "a number");
            match key_at(text, offset) {
                Some(key) if message.starts_with("invalid ") => format!("`{key}`: {message}"),
                _ => message,
            }
        }
    };
    ConfigError::Syntax { file: file.to_owned(), line, problem }
}

/// The key of the line that `offset` is in, if the line gives a key its value.
fn key_at(text: &str, offset: usize) -> Option<&str> {
    let begin = text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n');
    let line = text[begin.map_or(0, |newline| newline + 1)..].lines().next()?;
    line.split_once('=').map(|(key, _)| key.trim())
}

/// Serde words it "unknown field `x`, expected one of `a`, `b`": the unknown key and the known
/// ones.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    Some((unknown, quoted.collect()))
}

/// The known word that takes the fewest edits to get to, if it is near enough to have been meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, meant) = known.iter().map(|known| (edits(word, known), *known)).min()?;
    (distance <= 2 || distance <= word.len() / 2).then_some(meant)
}

/// The Levenshtein distance: how many letters to insert, delete or replace to turn `from` into
/// `to`.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // row[j]: the distance of what has been read of `from` to the first j letters of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (read, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = read + 1;
        for (position, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[position + 1];
            row[position + 1] = replaced.min(diagonal + 1).min(row[position] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
