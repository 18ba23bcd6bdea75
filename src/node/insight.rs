//! What a server tells about itself: STATUS, INFO, LOG, CONFIG GET, CLIENT LIST.
//!
//! All of it is asked by the thread of the client that wants to know, and none of it touches the
//! log: each server speaks for itself.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Effective;
use crate::kv::command::Bytes;
use crate::kv::{encoding, glob};
use crate::protocol::request::Insight;
use crate::protocol::status::{RoleName, StatusReport};
use crate::protocol::{REDIS_VERSION, Reply};
use crate::raft::types::{Entry, Index, Payload};

use super::connections::Connections;
use super::monitor::{Deliver, Monitor};
use super::report::Reporter;

/// Bytes of entries that one LOG looks at.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// What clients of Redis ask for and what is true of us in its words: nothing is kept in memory
/// only, nothing is ever evicted, there is one database.
const REDIS_SETTINGS: [(&str, &str); 7] = [
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("save", ""),
    ("timeout", "0"),
];

/// Answers questions about one server.
pub struct Insights<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// Its clients.
    pub connections: Arc<Connections>,
    /// Its picture.
    pub reporter: Reporter,
    /// Its settings.
    pub config: Effective,
    /// When it started.
    pub started: Instant,
}

impl<D: Deliver> Insights<D> {
    /// Answers.
    pub fn answer(&self, question: &Insight) -> Reply {
        match question {
            Insight::Status => Reply::Lines(self.report().to_lines()),
            Insight::Info { sections } => Reply::Lines(self.info(sections)),
            Insight::Log { from, count } => Reply::Lines(self.log(*from, *count)),
            Insight::ConfigGet { patterns } => self.settings(patterns),
            Insight::ClientList => Reply::Lines(self.connections.list()),
        }
    }

    fn report(&self) -> StatusReport {
        self.reporter.report(&self.monitor, self.connections.count())
    }

    /// The entries of the log from an index on, one a line: index, term, stamp, command. They need
    /// not be committed yet.
    fn log(&self, from: u64, count: usize) -> Vec<String> {
        let (entries, commit) = self.monitor.look(|server| {
            let log = server.raft().log();
            let first = log.base().index.next().max(Index(from));
            let last = log.last_index().min(Index(first.0.saturating_add(count as u64 - 1)));
            let entries = if first <= last {
                log.slice_up_to(first, last, LOG_BYTES_MAX)
            } else {
                Vec::new()
            };
            (entries, server.raft().status().commit_index)
        });
        entries.iter().map(|entry| log_line(entry, commit)).collect()
    }

    /// Names and values of the settings whose names match one of the patterns.
    fn settings(&self, patterns: &[Bytes]) -> Reply {
        let ours = self.config.settings();
        let ours =
            ours.into_iter().map(|(section, key, value)| (format!("{section}.{key}"), value));
        let redis = REDIS_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let max_clients = ("maxclients".to_owned(), self.config.limits.connections.to_string());
        let mut settings: Vec<(String, String)> =
            redis.into_iter().chain([max_clients]).chain(ours).collect();
        settings.retain(|(name, _)| {
            patterns
                .iter()
                .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        });
        let text = |text: String| Reply::Value(Bytes::from(text.into_bytes()));
        Reply::Map(settings.into_iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// INFO in the shape that Redis' clients parse: sections, and `name:value` lines in them.
    fn info(&self, sections: &[Bytes]) -> Vec<String> {
        let report = self.report();
        let all: [(&str, Vec<String>); 5] = [
            ("Server", self.info_server()),
            (
                "Clients",
                vec![
                    format!("connected_clients:{}", report.connections),
                    format!("maxclients:{}", self.config.limits.connections),
                    format!("pending_requests:{}", report.pending),
                    format!("pending_bytes:{}", report.pending_bytes),
                ],
            ),
            ("Persistence", vec!["loading:0".to_owned(), "aof_enabled:1".to_owned()]),
            // Every server takes every write and forwards it, which is what clients mean by master.
            (
                "Replication",
                vec![
                    "role:master".to_owned(),
                    "connected_slaves:0".to_owned(),
                    format!("master_repl_offset:{}", report.applied),
                ],
            ),
            ("Raft", info_raft(&report)),
        ];
        let wants = |name: &str| {
            let says = |section: &Bytes| {
                let everything: [&[u8]; 3] = [b"all", b"default", b"everything"];
                section.eq_ignore_ascii_case(name.as_bytes())
                    || everything.iter().any(|word| section.eq_ignore_ascii_case(word))
            };
            sections.is_empty() || sections.iter().any(says)
        };
        let mut lines = Vec::new();
        for (name, body) in all.into_iter().filter(|(name, _)| wants(name)) {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("# {name}"));
            lines.extend(body);
        }
        lines
    }

    fn info_server(&self) -> Vec<String> {
        let uptime = self.started.elapsed().as_secs();
        let port = self.config.client_listen.rsplit(':').next().unwrap_or_default();
        vec![
            format!("redis_version:{}", REDIS_VERSION),
            "redis_mode:standalone".to_owned(),
            format!("raft_server_version:{}", env!("CARGO_PKG_VERSION")),
            format!("process_id:{}", std::process::id()),
            format!("tcp_port:{port}"),
            format!("uptime_in_seconds:{uptime}"),
            format!("uptime_in_days:{}", uptime / (24 * 60 * 60)),
        ]
    }
}

fn info_raft(report: &StatusReport) -> Vec<String> {
    let role = match report.role {
        RoleName::Leader => "leader",
        RoleName::Follower => "follower",
        RoleName::Candidate => "candidate",
        RoleName::PreCandidate => "pre-candidate",
    };
    let leader = report.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let mut lines = vec![
        format!("raft_server:{}", report.server),
        format!("raft_cluster:{}", report.cluster),
        format!("raft_role:{role}"),
        format!("raft_term:{}", report.term),
        format!("raft_leader:{leader}"),
        format!("raft_commit_index:{}", report.commit),
        format!("raft_applied_index:{}", report.applied),
        format!("raft_last_index:{}", report.last_index),
        format!("raft_durable_index:{}", report.durable_index),
        format!("raft_first_index:{}", report.first_index),
        format!("raft_snapshot_index:{}", report.snapshot),
        format!("raft_snapshot_bytes:{}", report.snapshot_bytes),
        format!("raft_disk_full:{}", u8::from(report.disk_full)),
    ];
    for peer in &report.peers {
        let at = peer.match_index.map_or(String::new(), |index| format!(",match={index}"));
        lines.push(format!("raft_peer{}:state={}{at}", peer.id, peer.state));
    }
    lines
}

fn log_line(entry: &Entry, commit: Index) -> String {
    let text = match &entry.payload {
        Payload::Noop => "(time only)".to_owned(),
        Payload::Command(command) => match encoding::decode(&command.0) {
            Ok((_, _, write)) => write.to_string(),
            Err(error) => format!("({error})"),
        },
    };
    let state = if entry.id.index <= commit { "" } else { " (not committed)" };
    format!("{} {} {}ms {text}{state}", entry.id.index, entry.id.term, entry.stamp.0)
}
