//! The journal for people: every record, and what a start would do. Reads only, and needs no lock.

use std::io::{self, Write};

use serde::Serialize;

use super::disk::Disk;
use super::error::JournalError;
use super::journal::segment_name;
use super::record::{self, Image, Record};
use super::recovery::{self, Report};
use crate::raft::types::{Command, EntryId, HardState, Payload};

/// What a start would do with a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It would start.
    Starts {
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
    },
}

/// Prints each record of a journal on a line of its own, and returns the verdict.
pub fn dump<D: Disk>(
    disk: &D,
    journal_id: u64,
    render: &dyn Fn(&Command) -> String,
    output: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut image = Image::default();
    let mut printed = Ok(());
    let walked = recovery::walk(disk, journal_id, &mut |found| {
        let place = format!(
            "{} {:>10} batch={} crc={:08x}",
            segment_name(found.segment),
            found.offset_bytes,
            found.header.batch,
            found.header.crc
        );
        if printed.is_ok() {
            printed = print_batch(&place, found.payload, render, output);
        }
        recovery::apply(disk, &mut image, found)
    });
    printed?;
    Ok(verdict(&image, walked.map(|walked| walked.report)))
}

fn print_batch(
    place: &str,
    payload: &[u8],
    render: &dyn Fn(&Command) -> String,
    output: &mut dyn Write,
) -> io::Result<()> {
    if payload.is_empty() {
        return writeln!(output, "{place} seal");
    }
    for record in record::records(payload) {
        let text = match record {
            Ok(Record::Start { incarnation, run_id }) => {
                format!("start incarnation={incarnation} run={run_id:016x}")
            }
            Ok(Record::HardState(state)) => match state.voted_for {
                Some(server) => format!("state term={} vote={server}", state.current_term),
                None => format!("state term={} vote=none", state.current_term),
            },
            Ok(Record::Entry(entry)) => match &entry.payload {
                Payload::Noop => format!("entry {} noop", entry.id),
                Payload::Command(command) => format!("entry {} {}", entry.id, render(command)),
            },
            Err(reason) => format!("cannot be read: {reason}"),
        };
        writeln!(output, "{place} {text}")?;
    }
    Ok(())
}

fn verdict(image: &Image, walked: Result<Report, JournalError>) -> Verdict {
    match walked {
        Ok(report) => Verdict::Starts { last: image.last(), hard_state: image.hard_state, report },
        Err(error) => Verdict::Refuses { reason: error.to_string() },
    }
}
