//! The journal for people and their scripts: every record, and what a start would do. Reads only,
//! and needs no lock.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::disk::Disk;
use super::error::JournalError;
use super::journal::segment_name;
use super::record::{self, Image, Record};
use super::recovery::{self, Found, Report};
use crate::raft::types::{Command, EntryId, HardState, Payload, SnapshotId};

/// How records are printed, one on each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// What a start would do with a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It would start.
    Starts {
        /// The newest snapshot, which the log begins behind.
        snapshot: SnapshotId,
        /// The last entry of the log.
        last: EntryId,
        /// Term and vote.
        hard_state: HardState,
        /// What was seen, and how many bytes would be cut.
        report: Report,
    },
    /// It would refuse.
    Refuses {
        /// Why, and what to do.
        reason: String,
        /// The file that it is about, if it is about one.
        file: Option<PathBuf>,
        /// Where in that file the first byte stands that cannot be trusted.
        offset_bytes: Option<u64>,
    },
}

/// One line: a record and where it stands.
#[derive(Serialize)]
struct Line {
    file: String,
    offset_bytes: u64,
    batch: u64,
    crc: String,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Shown {
    Start {
        incarnation: u64,
        run_id: String,
    },
    State {
        term: u64,
        vote: Option<u32>,
    },
    /// Without a command, it is a no-op.
    Entry {
        index: u64,
        term: u64,
        command: Option<String>,
    },
    /// What all segments before this one amount to.
    Head {
        incarnation: u64,
        run_id: String,
        term: u64,
        vote: Option<u32>,
        last_index: u64,
        last_term: u64,
    },
    /// The log begins anew behind a snapshot.
    Base {
        index: u64,
        term: u64,
        stamp: u64,
    },
    Seal,
    Unreadable {
        reason: &'static str,
    },
}

/// Prints each record of a journal on a line of its own, and returns the verdict on a start with
/// this snapshot.
pub fn dump<D: Disk>(
    disk: &D,
    journal_id: u64,
    snapshot: SnapshotId,
    render: &dyn Fn(&Command) -> String,
    form: Form,
    output: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut image = Image::default();
    let mut printed = Ok(());
    let walked = recovery::walk(disk, journal_id, &mut |found| {
        if printed.is_ok() {
            printed = print_batch(found, render, form, output);
        }
        recovery::apply(disk, &mut image, found)
    });
    printed?;
    let settled = walked.and_then(|walked| {
        recovery::settle(disk, walked.report.oldest_segment, &mut image, snapshot)?;
        Ok(walked.report)
    });
    Ok(verdict(&image, snapshot, settled))
}

fn print_batch(
    found: &Found,
    render: &dyn Fn(&Command) -> String,
    form: Form,
    output: &mut dyn Write,
) -> io::Result<()> {
    let mut print = |shown| {
        let line = Line {
            file: segment_name(found.segment),
            offset_bytes: found.offset_bytes,
            batch: found.header.batch,
            crc: format!("{:08x}", found.header.crc),
            shown,
        };
        match form {
            Form::Text => writeln!(output, "{line}"),
            Form::Json => {
                let text = serde_json::to_string(&line).expect("a line can be written as JSON");
                writeln!(output, "{text}")
            }
        }
    };
    if found.payload.is_empty() {
        return print(Shown::Seal);
    }
    for record in record::records(found.payload) {
        print(match record {
            Ok(record) => show(&record, render),
            Err(reason) => Shown::Unreadable { reason },
        })?;
    }
    Ok(())
}

fn show(record: &Record, render: &dyn Fn(&Command) -> String) -> Shown {
    match record {
        Record::Start { incarnation, run_id } => {
            Shown::Start { incarnation: *incarnation, run_id: format!("{run_id:016x}") }
        }
        Record::HardState(state) => Shown::State {
            term: state.current_term.0,
            vote: state.voted_for.map(|server| server.0),
        },
        Record::Head { incarnation, run_id, hard_state, last } => Shown::Head {
            incarnation: *incarnation,
            run_id: format!("{run_id:016x}"),
            term: hard_state.current_term.0,
            vote: hard_state.voted_for.map(|server| server.0),
            last_index: last.index.0,
            last_term: last.term.0,
        },
        Record::Base(SnapshotId { last, stamp }) => {
            Shown::Base { index: last.index.0, term: last.term.0, stamp: stamp.0 }
        }
        Record::Entry(entry) => Shown::Entry {
            index: entry.id.index.0,
            term: entry.id.term.0,
            command: match &entry.payload {
                Payload::Noop => None,
                Payload::Command(command) => Some(render(command)),
            },
        },
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { file, offset_bytes, batch, crc, shown } = self;
        write!(formatter, "{file} {offset_bytes:>10} batch={batch} crc={crc} {shown}")
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Start { incarnation, run_id } => {
                write!(formatter, "start incarnation={incarnation} run={run_id}")
            }
            Shown::State { term, vote } => {
                write!(formatter, "state term=T{term} vote={}", vote_text(*vote))
            }
            Shown::Head { incarnation, run_id, term, vote, last_index, last_term } => write!(
                formatter,
                "head incarnation={incarnation} run={run_id} term=T{term} vote={} \
                 last={last_index}@T{last_term}",
                vote_text(*vote)
            ),
            Shown::Base { index, term, .. } => {
                write!(formatter, "base {index}@T{term}: the log begins anew")
            }
            Shown::Entry { index, term, command: Some(command) } => {
                write!(formatter, "entry {index}@T{term} {command}")
            }
            Shown::Entry { index, term, command: None } => {
                write!(formatter, "entry {index}@T{term} noop")
            }
            Shown::Seal => write!(formatter, "seal"),
            Shown::Unreadable { reason } => write!(formatter, "cannot be read: {reason}"),
        }
    }
}

fn vote_text(vote: Option<u32>) -> String {
    vote.map_or("none".to_owned(), |server| format!("n{server}"))
}

fn verdict(image: &Image, snapshot: SnapshotId, walked: Result<Report, JournalError>) -> Verdict {
    match walked {
        Ok(report) => {
            Verdict::Starts { snapshot, last: image.last(), hard_state: image.hard_state, report }
        }
        Err(error) => {
            let reason = error.to_string();
            let (file, offset_bytes) = match error {
                JournalError::Damaged { file, offset_bytes, .. } => {
                    (Some(file), Some(offset_bytes))
                }
                JournalError::UnknownFormat { file, .. } | JournalError::Io { file, .. } => {
                    (Some(file), None)
                }
                JournalError::NoSpace { .. } | JournalError::Poisoned => (None, None),
            };
            Verdict::Refuses { reason, file, offset_bytes }
        }
    }
}
