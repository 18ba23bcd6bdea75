//! COMMAND: the table for programs, in the form of Redis. redis-cli makes its hints from DOCS, and
//! clients find keys among arguments by INFO.
//!
//! All is derived from the row's usage, such as `key value [NX|XX|IFEQ old] [key ...]`: words of
//! small letters stand for themselves, capitals are tokens.

use crate::kv::command::Bytes;
use crate::protocol::reply::Reply;

use super::{COMMANDS, Entry, Group, find};

/// Since when Redis would have had our commands: it asks, and has no "always".
const SINCE: &str = "1.0.0";

/// COMMAND COUNT
pub fn count() -> Reply {
    Reply::Integer(i64::try_from(COMMANDS.len()).expect("a table is short"))
}

/// COMMAND LIST
pub fn list() -> Reply {
    Reply::List(COMMANDS.iter().map(|entry| text(&entry.name.to_ascii_lowercase())).collect())
}

/// COMMAND, COMMAND INFO [name…]: nothing for unknown ones.
pub fn info(names: &[Bytes]) -> Reply {
    if names.is_empty() {
        return Reply::List(COMMANDS.iter().map(info_of).collect());
    }
    Reply::List(names.iter().map(|name| find(name).map_or(Reply::NoList, info_of)).collect())
}

/// COMMAND DOCS [name…]: unknown ones are left out.
pub fn docs(names: &[Bytes]) -> Reply {
    let entry_docs = |entry: &Entry| (text(&entry.name.to_ascii_lowercase()), docs_of(entry));
    Reply::Map(if names.is_empty() {
        COMMANDS.iter().map(entry_docs).collect()
    } else {
        names.iter().filter_map(|name| find(name)).map(entry_docs).collect()
    })
}

/// Name, arity, flags, first key, last key, step; and four lists that we leave empty.
fn info_of(entry: &Entry) -> Reply {
    // Redis counts the word itself, and marks a minimum by its sign.
    let min = i64::try_from(entry.arity.min + 1).expect("few arguments");
    let is_fixed = entry.arity.max == Some(entry.arity.min);
    let (first, last, step) = key_positions(entry.arguments);
    let flag = if entry.writes { "write" } else { "readonly" };
    let flags = if first > 0 || entry.writes { vec![Reply::Text(flag)] } else { Vec::new() };
    let mut fields = vec![
        text(&entry.name.to_ascii_lowercase()),
        Reply::Integer(if is_fixed { min } else { -min }),
        Reply::List(flags),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
    ];
    fields.extend((0..4).map(|_| Reply::List(Vec::new())));
    Reply::List(fields)
}

/// Where the keys stand among the arguments; 0 for none, -1 for the last argument.
fn key_positions(usage: &str) -> (i64, i64, i64) {
    match usage {
        usage if !usage.starts_with("key") => (0, 0, 0),
        usage if usage.starts_with("key newkey") => (1, 2, 1),
        usage if usage.contains("[key value ...]") => (1, -1, 2),
        usage if usage.contains("[key ...]") => (1, -1, 1),
        _ => (1, 1, 1),
    }
}

fn docs_of(entry: &Entry) -> Reply {
    let group = match entry.group {
        Group::Data | Group::Expiry => "string",
        Group::Transactions => "transactions",
        Group::Scan => "generic",
        Group::Insight => "server",
        Group::Connection => "connection",
    };
    let complexity = match entry.group {
        Group::Scan => "O(N) in the keys examined",
        _ => "O(N) in the keys and bytes named",
    };
    Reply::Map(vec![
        (text("summary"), text(entry.summary)),
        (text("since"), text(SINCE)),
        (text("group"), text(group)),
        (text("complexity"), text(complexity)),
        (text("arguments"), Reply::List(arguments(entry.arguments))),
    ])
}

/// The arguments of a usage, one after the other.
fn arguments(usage: &str) -> Vec<Reply> {
    let mut found = Vec::new();
    let mut rest = usage.trim();
    while !rest.is_empty() {
        let (item, flags, after) = match rest.strip_prefix('[') {
            Some(optional) => {
                let (inside, after) = optional.split_once(']').unwrap_or((optional, ""));
                let (inside, is_multiple) = match inside.strip_suffix(" ...") {
                    Some(inside) => (inside, true),
                    None => (inside, false),
                };
                let flags = if is_multiple { &["optional", "multiple"][..] } else { &["optional"] };
                (inside, flags, after)
            }
            None => {
                let end = required_end(rest);
                (&rest[..end], &[][..], &rest[end..])
            }
        };
        found.push(argument(item, flags));
        rest = after.trim_start();
    }
    found
}

/// Where the first argument of `usage` ends: a word; a token with its word; or, if there are
/// alternatives, all that is left.
fn required_end(usage: &str) -> usize {
    let all = usage.find(" [").unwrap_or(usage.len());
    if usage[..all].contains('|') {
        return all;
    }
    let mut ends = usage.match_indices(' ').map(|(at, _)| at).chain([usage.len()]);
    let first = ends.next().unwrap_or(usage.len());
    let is_token = usage[..first].chars().all(|letter| letter.is_ascii_uppercase());
    if is_token { ends.next().unwrap_or(first) } else { first }
}

/// `key`, `NX`, `IFEQ old`, `key value`, or alternatives of these.
fn argument(item: &str, flags: &[&'static str]) -> Reply {
    let alternatives: Vec<&str> = item.split('|').collect();
    if alternatives.len() > 1 {
        let inside = alternatives.iter().map(|item| argument(item, &[])).collect();
        return described("options", "oneof", None, flags, inside);
    }
    let mut words = item.split(' ');
    let first = words.next().unwrap_or_default();
    let others: Vec<&str> = words.collect();
    let is_token = first.chars().all(|letter| !letter.is_ascii_lowercase());
    match (is_token, others.as_slice()) {
        (true, []) => {
            described(&first.to_ascii_lowercase(), "pure-token", Some(first), flags, Vec::new())
        }
        (true, [name]) => described(name, kind(name), Some(first), flags, Vec::new()),
        (false, []) => described(first, kind(first), None, flags, Vec::new()),
        (_, words) => {
            let inside = words.iter().map(|word| described(word, kind(word), None, &[], vec![]));
            let first = (!is_token).then(|| described(first, kind(first), None, &[], vec![]));
            let token = is_token.then(|| item.split(' ').next().unwrap_or_default());
            let inside = first.into_iter().chain(inside).collect();
            described("data", "block", token, flags, inside)
        }
    }
}

/// What a client is to write for this word.
fn kind(name: &str) -> &'static str {
    match name {
        "key" => "key",
        "glob" => "pattern",
        "seconds" | "milliseconds" | "number" | "n" | "index" | "offset" | "count" | "start"
        | "end" | "cursor" | "version" | "sequence" => "integer",
        _ => "string",
    }
}

fn described(
    name: &str,
    kind: &'static str,
    token: Option<&str>,
    flags: &[&'static str],
    inside: Vec<Reply>,
) -> Reply {
    let mut fields = vec![(text("name"), text(name)), (text("type"), text(kind))];
    fields.extend(token.map(|token| (text("token"), text(token))));
    if !flags.is_empty() {
        let flags = flags.iter().map(|flag| Reply::Text(flag)).collect();
        fields.push((text("flags"), Reply::List(flags)));
    }
    if !inside.is_empty() {
        fields.push((text("arguments"), Reply::List(inside)));
    }
    Reply::Map(fields)
}

fn text(text: &str) -> Reply {
    Reply::Value(Bytes::from(text.as_bytes()))
}
