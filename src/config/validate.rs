//! What a `cluster.toml` must say, beyond being well-formed, for a cluster to work with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::{Config, ConfigError, PLACEHOLDER_CLUSTER, Server};
use crate::limits::{self, CLUSTER_ID_BYTES_MAX};

/// Timings above a minute are a wrong unit, not a slow network.
const TIMING_MS_MAX: u64 = 60_000;

/// Segments that fit into a quota beside the log that waits for a snapshot: the one being written,
/// the next, and two on their way out.
const QUOTA_SEGMENTS_MIN: u64 = 4;

/// A segment holds a few batches at the least, or every write would begin a new file.
const SEGMENT_BYTES_MIN: u64 = 4096;

impl Config {
    /// Refuses what cannot work, with one line that says what to do.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_cluster_id(&self.cluster.id)
            .and_then(|()| self.check_timings())
            .and_then(|()| self.check_limits())
            .and_then(|()| self.check_servers())
            .map_err(|problem| self.invalid(problem))
    }

    /// Required by whatever touches a data directory: a cluster has a name of its own.
    pub(super) fn check_not_placeholder(&self) -> Result<(), ConfigError> {
        if self.cluster.id != PLACEHOLDER_CLUSTER {
            return Ok(());
        }
        Err(self.invalid(format!(
            "[cluster] id is still the sample's \"{PLACEHOLDER_CLUSTER}\"; \
             give the cluster a name that no other cluster has"
        )))
    }

    /// A problem of this file.
    pub(super) fn invalid(&self, problem: String) -> ConfigError {
        ConfigError::Invalid { file: self.file.clone(), problem }
    }

    fn check_timings(&self) -> Result<(), String> {
        let heartbeat = self.raft.heartbeat_ms;
        let [low, high] = self.raft.election_ms;
        if heartbeat == 0 || high > TIMING_MS_MAX {
            return Err(format!(
                "[raft] timings must lie between 1 and {TIMING_MS_MAX} ms; \
                 heartbeat_ms is {heartbeat}, election_ms [{low}, {high}]"
            ));
        }
        // One lost heartbeat, or two, must not cost the leader its office.
        if low < heartbeat.saturating_mul(3) {
            return Err(format!(
                "[raft] election_ms begins with {low}; it must be at least three times \
                 heartbeat_ms, which is {heartbeat}"
            ));
        }
        // §5.2: without a spread to draw from, servers time out together and split the vote for
        // ever.
        if high <= low {
            return Err(format!("[raft] election_ms [{low}, {high}]: the second must be larger"));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), String> {
        let set = &self.limits;
        let at_least = |key: &str, value: u64, least: u64, why: &str| {
            if value >= least {
                return Ok(());
            }
            Err(format!("{key} is {value}; it must be at least {least} ({why})"))
        };
        let one_request = set.request_bytes as u64;
        // A transaction's answer has a bound of its own.
        let one_reply = set.reply_bytes.max(limits::REPLY_BYTES_MAX) as u64;
        let one_pair = set.key_bytes.saturating_add(set.value_bytes) as u64;
        let connections = limits::CONNECTIONS_FOR_LOOPBACK as u64 + 1;
        let election = self.raft.election_ms[1];
        let gateway = set.gateway_bytes as u64;
        let uncommitted = set.uncommitted_bytes as u64;
        let unread = set.unread_reply_bytes as u64;
        let deadline = set.request_deadline_ms;
        at_least("[limits] connections", set.connections as u64, connections, "some are reserved")?;
        at_least(
            "[limits] request_deadline_ms",
            deadline,
            election,
            "an election takes that long",
        )?;
        at_least("[limits] request_arrival_ms", set.request_arrival_ms, 1, "0 closes everything")?;
        at_least("[limits] pipeline_commands", set.pipeline_commands as u64, 1, "one must pass")?;
        at_least("[limits] pipeline_bytes", set.pipeline_bytes as u64, 1, "one must pass")?;
        at_least("[limits] reply_bytes", set.reply_bytes as u64, one_pair, "a key and its value")?;
        at_least("[limits] unread_reply_bytes", unread, one_reply, "one full reply")?;
        at_least("[limits] gateway_bytes", gateway, one_request, "one full request")?;
        at_least("[limits] uncommitted_bytes", uncommitted, one_request, "one full request")?;
        self.check_request_limits()?;
        let segment = self.storage.segment_bytes;
        at_least("[storage] segment_bytes", segment, SEGMENT_BYTES_MIN, "a few small batches")?;
        if segment > limits::SEGMENT_BYTES_MAX {
            return Err(format!(
                "[storage] segment_bytes is {segment}; it must be at most {} (each start writes \
                 the newest segment afresh)",
                limits::SEGMENT_BYTES_MAX
            ));
        }
        let storage = &self.storage;
        at_least("[storage] snapshot_bytes", storage.snapshot_bytes, 1024, "a few entries")?;
        at_least("[storage] snapshot_entries", storage.snapshot_entries, 1, "one entry")?;
        at_least("[storage] snapshot_age_s", storage.snapshot_age_s, 1, "a second")?;
        if storage.quota_bytes > 0 {
            // The log may take half of it, so what `log_bytes_max` says fits then, too.
            let half = QUOTA_SEGMENTS_MIN * segment;
            let least = half + storage.snapshot_bytes.min(half);
            let why = "the log until a snapshot is taken, and some segments";
            at_least("[storage] quota_bytes", storage.quota_bytes, least, why)?;
        }
        Ok(())
    }

    /// The bounds of one request. Each has a ceiling: a request must fit into one frame between
    /// servers, and a value into one reply.
    fn check_request_limits(&self) -> Result<(), String> {
        let set = &self.limits;
        let bounds = [
            ("line_bytes", set.line_bytes, 1024, set.request_bytes),
            ("key_bytes", set.key_bytes, 1, limits::KEY_BYTES_CEILING),
            ("value_bytes", set.value_bytes, 1, limits::REPLY_BYTES_MAX.min(set.request_bytes)),
            ("arguments", set.arguments, 8, limits::ARGUMENTS_CEILING),
            (
                "reply_bytes",
                set.reply_bytes,
                limits::REPLY_BYTES_FLOOR,
                limits::REPLY_BYTES_CEILING,
            ),
            ("request_bytes", set.request_bytes, 4096, limits::REQUEST_BYTES_CEILING),
            ("transaction_commands", set.transaction_commands, 1, limits::ARGUMENTS_CEILING),
            ("transaction_bytes", set.transaction_bytes, 1024, limits::REQUEST_BYTES_CEILING),
        ];
        for (key, value, least, most) in bounds {
            if value < least || value > most {
                return Err(format!("[limits] {key} is {value}; it must lie in {least}..={most}"));
            }
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), String> {
        if self.servers.is_empty() {
            return Err("no [[server]]; a cluster has at least one".to_owned());
        }
        let mut ids = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for server in &self.servers {
            let id = server.id;
            if !(1..=255).contains(&id) {
                return Err(format!("server id {id} is not between 1 and 255"));
            }
            if ids.insert(id, ()).is_some() {
                return Err(format!("server id {id} is given twice"));
            }
            check_addresses(server)?;
            for (key, address) in [("client", &server.client), ("peer", &server.peer)] {
                let user = format!("{key} of server {id}");
                if let Some(other) = addresses.insert(address.to_ascii_lowercase(), user.clone()) {
                    return Err(format!("{user} and {other} are both {address}"));
                }
            }
        }
        Ok(())
    }
}

fn check_cluster_id(id: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !id.is_empty() && id.len() <= CLUSTER_ID_BYTES_MAX && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "[cluster] id {id:?} must be 1 to {CLUSTER_ID_BYTES_MAX} letters, digits, dots, dashes or \
         underscores"
    ))
}

fn check_addresses(server: &Server) -> Result<(), String> {
    let id = server.id;
    for (key, address) in [("client", &server.client), ("peer", &server.peer)] {
        let host = check_address(address).map_err(|why| format!("{key} of server {id}: {why}"))?;
        // Others are told this address and dial it.
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(format!(
                "{key} of server {id}: {address} cannot be dialled from elsewhere; \
                 write it as {key}_listen, and a name or address that others reach as {key}"
            ));
        }
    }
    let listens = [("client_listen", &server.client_listen), ("peer_listen", &server.peer_listen)];
    for (key, address) in listens {
        if let Some(address) = address {
            check_address(address).map_err(|why| format!("{key} of server {id}: {why}"))?;
        }
    }
    let client = server.client_listen.as_ref().unwrap_or(&server.client);
    let peer = server.peer_listen.as_ref().unwrap_or(&server.peer);
    if client == peer {
        return Err(format!("server {id} listens for clients and for servers on {client}"));
    }
    Ok(())
}

/// `host:port` with a name, an IPv4 address or a bracketed IPv6 address; returns the bare host.
///
/// The name is not resolved: it may not resolve yet, and it is resolved at each dial anyway.
pub(super) fn check_address(address: &str) -> Result<&str, String> {
    let shape = "an address is host:port, or [IPv6]:port";
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| format!("{address:?} has no port; {shape}"))?;
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!("{address:?}: {port:?} is no port from 1 to 65535; {shape}"));
    }
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inside.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inside),
            Err(_) => Err(format!("{address:?}: {inside:?} is no IPv6 address; {shape}")),
        };
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(format!("{address:?}: {host:?} is no host; {shape}"));
    }
    Ok(host)
}
