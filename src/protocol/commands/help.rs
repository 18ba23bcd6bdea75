//! HELP: a person at netcat can learn the server from it alone.

use crate::kv::command::Bytes;
use crate::protocol::reply::Reply;

use super::{COMMANDS, Entry, Group, find, unknown_command};

/// What stands above the commands.
const INTRODUCTION: &[&str] = &[
    "You type a command in a line and get an answer, whose first character tells its kind:",
    "  +text   :number   _ nothing   *N and then N answers   -CODE an error",
    "Try: SET color blue, then GET color. HELP SET explains SET. Keys and values with spaces",
    "go in quotes: SET color \"dark blue\"; in them \\n \\r \\t \\0 \\\" \\\\ \\x41 are a byte.",
];

/// What stands below them.
const CONCLUSION: &[&str] = &[
    "Errors are of three kinds, and their first word tells what to do:",
    "  wrong    ERR TOOBIG NOTINT NOPROTO EXECABORT: not executed; change the request",
    "  refused  NOLEADER NOTLEADER TRYAGAIN NOSPACE SHUTDOWN: not executed; try again or elsewhere",
    "  unknown  UNKNOWN: may have been executed; read the key, or use ONCE and send it again",
];

/// What HELP answers.
pub fn help(command: Option<&Bytes>) -> Reply {
    match command {
        None => Reply::Lines(overview()),
        Some(word) => match find(word) {
            None => Reply::from(unknown_command(word, &[])),
            Some(entry) => Reply::Lines(explanation(entry)),
        },
    }
}

fn overview() -> Vec<String> {
    let mut lines: Vec<String> = INTRODUCTION.iter().map(|line| (*line).to_owned()).collect();
    for group in Group::ALL {
        lines.push(format!("{}:", title(group)));
        let entries = COMMANDS.iter().filter(|entry| entry.group == group);
        lines
            .extend(entries.map(|entry| format!("  {:<36} {}", short_usage(entry), entry.summary)));
    }
    lines.extend(CONCLUSION.iter().map(|line| (*line).to_owned()));
    lines
}

/// Options of many words are left to HELP of the command.
fn short_usage(entry: &Entry) -> String {
    const USAGE_CHARS_MAX: usize = 36;
    let usage = usage(entry);
    if usage.len() <= USAGE_CHARS_MAX {
        return usage;
    }
    let required = usage.split('[').next().unwrap_or_default().trim_end();
    let options = if required.len() < usage.len() { " [options]" } else { "" };
    match required.len() <= USAGE_CHARS_MAX {
        true => format!("{required}{options}"),
        false => format!("{} ...", entry.name),
    }
}

fn usage(entry: &Entry) -> String {
    format!("{} {}", entry.name, entry.arguments).trim_end().to_owned()
}

fn explanation(entry: &Entry) -> Vec<String> {
    let mut lines = vec![usage(entry), entry.summary.to_owned()];
    lines.extend(details(entry.name).iter().map(|line| (*line).to_owned()));
    lines
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Data => "Keys and values",
        Group::Transactions => "Only if, all at once, only once",
        Group::Expiry => "Keys that expire",
        Group::Scan => "Many keys, and changes",
        Group::Insight => "The server",
        Group::Connection => "The connection",
    }
}

/// Where one line is not enough.
fn details(name: &str) -> &'static [&'static str] {
    match name {
        "GET" => &[
            "An answer is the newest value that was acknowledged anywhere in the cluster.",
            "GET key STALE answers at once what this server has, which may be old.",
        ],
        "SET" => &[
            "Options, in any order. If the condition does not hold, the answer is _:",
            "  NX  only if there is no such key       XX  only if there is",
            "  IFEQ old  only if the value equals old",
            "  IFVER version  only if it was last written at that log index (GETV); 0: no such key",
            "  GET  answers the value before instead of OK",
            "  EX seconds, PX milliseconds  expires after that time",
            "  EXAT seconds, PXAT milliseconds  expires at that time, counted from 1970",
            "  KEEPTTL  expires when it would have; without any of these it lives for ever",
            "Example: SET lock me NX EX 10",
        ],
        "SETRANGE" => &[
            "offset counts from 0; what is missing before it is filled with zero bytes.",
            "Example: SETRANGE color 5 dark",
        ],
        "FLUSHALL" | "FLUSHDB" => &[
            "More than 100000 keys are too many for one step (TOOBIG, nothing is deleted): go",
            "through them with SCAN and DEL. ASYNC and SYNC make no difference.",
        ],
        "RENAME" | "RENAMENX" => &["Example: RENAME color colour"],
        "COPY" => &[
            "REPLACE copies though newkey exists. DB 0 is the only database.",
            "Example: COPY color backup:color REPLACE",
        ],
        "GETV" => &[
            "Answers a list of two: the value, and the log index of the entry that wrote it.",
            "Example: GETV color, then SET color green IFVER 12",
        ],
        "CAS" => &["The key keeps its time to live.", "Example: CAS color blue green"],
        "MULTI" | "EXEC" | "DISCARD" => &[
            "MULTI, then commands that read or write keys, each answered by QUEUED, then EXEC,",
            "which answers a list of what they answer. Nothing happens in between, and a command",
            "that fails does not undo the others. Commands about the server and the connection,",
            "other than PING and ECHO, are refused within, and so are ONCE and WATCH.",
            "If a command has an error when it is queued, EXEC executes nothing (EXECABORT).",
            "Example: MULTI, INCR visits, GET color, EXEC",
        ],
        "WATCH" => &[
            "If a watched key is written, deleted or expires before EXEC, EXEC answers _ and",
            "nothing is executed: read again and try again. EXEC, DISCARD and UNWATCH forget it.",
            "Example: WATCH color, GET color, MULTI, SET color green, EXEC",
        ],
        "ONCE" => &[
            "client is a name that you choose, sequence counts its commands from 1. If the answer",
            "was lost or UNKNOWN, send the same line again: what was executed is not executed",
            "again, and its answer comes back. An unused name is forgotten after a time.",
            "Example: ONCE till-7 1 INCRBY balance 10, then ONCE till-7 2 INCRBY balance 5",
        ],
        "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => &[
            "NX only if it does not expire so far, XX only if it does, GT only if later,",
            "LT only if sooner. A time that has passed deletes the key.",
            "Example: EXPIRE color 60",
        ],
        "PREFIX" | "RANGE" => &[
            "Answers key, value, key, value, at most 1000 pairs and about 1 MiB. To go on, ask",
            "RANGE from the last key with \\0 added. PREFIX \"\" begins at the first key.",
            "Example: PREFIX user: LIMIT 10",
        ],
        "SCAN" => &[
            "Answers a list of the next cursor and a list of keys. A call may find no key and yet",
            "not be the last: go on until the cursor is 0.",
            "Example: SCAN 0 MATCH user:* COUNT 100",
        ],
        "FEED" => &[
            "Answers, then sends a line for each change: >15 SET color blue, >16 DEL color.",
            "The number is the log index: FEED prefix FROM 17 resumes after a broken connection.",
            "Meanwhile only PING and QUIT are accepted. Who reads too slowly is cut off.",
            "Programs need RESP3: HELLO 3.",
        ],
        "LOG" => &["Answers a line for each entry, 10 unless you say otherwise, at most 100."],
        "RAFT" => &[
            "RAFT TRANSFER lets another server lead: the one named, or the one that is furthest.",
            "RAFT SNAPSHOT writes a snapshot at once, and forgets the log before it.",
            "Each begins something and answers at once; STATUS shows how it goes on.",
        ],
        "BACKUP" => &[
            "What `raft-server backup` uses. LASTINDEX, then BACKUP BEGIN with its answer: waits",
            "for a snapshot that holds all that was acknowledged before, at most 60 s, and answers",
            "its index, term and length in bytes. BACKUP READ answers at most 1048576 of them. The",
            "connection keeps the snapshot at hand until the next BEGIN, or until it is closed.",
        ],
        "WAITINDEX" => &[
            "Read your writes on another server: LASTINDEX there, WAITINDEX here, then GET STALE.",
            "If the time is over first, the answer is smaller than the index. It waits at most",
            "half of the time that a request may take (CONFIG GET limits.request_deadline_ms).",
        ],
        "HELLO" => &[
            "Answers what the server is. HELLO 1 goes back to lines.",
            "SETNAME gives the connection a name, which CLIENT LIST shows.",
        ],
        "CLIENT" => &["Example: CLIENT SETNAME teacher, then CLIENT LIST"],
        "CONFIG" => &["Example: CONFIG GET *"],
        _ => &[],
    }
}
