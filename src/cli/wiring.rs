//! Where the command line meets the rooms that do the work.

use std::io::{self, Write};
use std::path::Path;

use raft_server::config::Effective;
use raft_server::kv::encoding;
use raft_server::node::{self, ServeError};
use raft_server::raft::types::Command;
use raft_server::storage::batch::FORMAT_VERSION;
use raft_server::storage::disk::RealDisk;
use raft_server::storage::dump::{self, Form, Verdict};
use raft_server::storage::identity::{self, DirectoryError};
use raft_server::storage::init;
use raft_server::transport::hello;
use serde::Serialize;

use super::exit::{DAMAGED, Failure, OK};
use super::snapshots;

/// The version of the journal's format.
pub const DISK_FORMAT_VERSION: u16 = FORMAT_VERSION;

/// The version of what servers say to each other.
pub const PEER_PROTOCOL_VERSION: u32 = hello::PEER_PROTOCOL_VERSION;

/// Runs a server until it is told to stop, or cannot go on.
pub fn serve(config: &Effective) -> Result<i32, Failure> {
    #[cfg(feature = "lab")]
    super::lab::refuse_to_serve()?;
    node::serve(config).map_err(failure)?;
    Ok(OK)
}

/// Makes the data directory, and the directories above it.
pub fn init(config: &Effective) -> Result<i32, Failure> {
    create_parents(config)?;
    init::init(&config.data, &node::expected(config)).map_err(failure)?;
    println_or_not(&format!(
        "server {} of cluster {} now has its data in {}",
        config.id,
        config.cluster,
        config.data.display()
    ));
    Ok(OK)
}

/// Makes the directories above the data directory.
pub(super) fn create_parents(config: &Effective) -> Result<(), Failure> {
    let Some(parent) = config.data.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|source| {
        failure(DirectoryError::Io { doing: "creating", path: parent.to_owned(), source })
    })
}

/// Prints the journal of a data directory, record by record, and what a start would do.
pub fn log_dump(directory: &Path, json: bool, output: &mut impl Write) -> Result<i32, Failure> {
    walk(directory, json, output, true)
}

/// Says what a start on a data directory would do.
pub fn log_verify(directory: &Path, json: bool, output: &mut impl Write) -> Result<i32, Failure> {
    walk(directory, json, output, false)
}

fn walk(
    directory: &Path,
    json: bool,
    output: &mut impl Write,
    records: bool,
) -> Result<i32, Failure> {
    let owner = identity::read_identity(directory).map_err(failure)?;
    let journal = directory.join("journal");
    let in_use_by = identity::in_use_by(directory).map_err(failure)?;
    let disk = RealDisk::open(&journal).map_err(|source| {
        failure(DirectoryError::Io { doing: "opening", path: journal, source })
    })?;
    let (snapshot, left_aside) = snapshots::find(directory, &owner.cluster_id)?;
    let mut nowhere = io::sink();
    let lines: &mut dyn Write = if records { output } else { &mut nowhere };
    let form = if json { Form::Json } else { Form::Text };
    let verdict = dump::dump(&disk, owner.journal_id, snapshot, &render, form, lines)?;
    if json {
        let in_use_by = in_use_by.as_deref();
        let line = VerdictLine { in_use_by, snapshots_left_aside: &left_aside, verdict: &verdict };
        let text = serde_json::to_string(&line).expect("a verdict can be written as JSON");
        writeln!(output, "{text}")?;
    } else {
        if let Some(process) = &in_use_by {
            writeln!(
                output,
                "the directory is in use by process {process}: what was read may be changing, and \
                 an interrupted write may be one under way"
            )?;
        }
        for damaged in &left_aside {
            writeln!(output, "a start would leave aside: {damaged}")?;
        }
        print_verdict(&verdict, output)?;
    }
    output.flush()?;
    Ok(if matches!(verdict, Verdict::Starts { .. }) { OK } else { DAMAGED })
}

/// The last line of `--json`.
#[derive(Serialize)]
struct VerdictLine<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    in_use_by: Option<&'a str>,
    snapshots_left_aside: &'a [String],
}

fn print_verdict(verdict: &Verdict, output: &mut impl Write) -> io::Result<()> {
    match verdict {
        Verdict::Starts { snapshot, last, hard_state, report } => {
            if report.cut_bytes > 0 {
                writeln!(
                    output,
                    "a start would cut {} bytes of an interrupted write, at byte {} of segment {}",
                    report.cut_bytes, report.valid_bytes, report.newest_segment
                )?;
            }
            let vote = hard_state.voted_for.map_or("none".to_owned(), |vote| vote.to_string());
            writeln!(
                output,
                "a start would succeed: {} segments, {} batches, snapshot {snapshot}, last entry \
                 {last}, term {}, vote {vote}",
                report.segments, report.batches, hard_state.current_term
            )
        }
        Verdict::Refuses { reason, .. } => writeln!(output, "a start would refuse: {reason}"),
    }
}

/// A command as a person would type it, with the request id that makes it happen once.
fn render(command: &Command) -> String {
    match encoding::decode(&command.0) {
        Ok((request, _, command)) => format!(
            "request=n{}.{}.{} {command}",
            request.server, request.incarnation, request.serial
        ),
        Err(error) => format!("unreadable command ({error}): {command:?}"),
    }
}

pub(super) fn println_or_not(line: &str) {
    // Whether anybody reads it does not change what was done.
    let _ = writeln!(io::stdout(), "{line}");
}

pub(super) fn failure(error: impl Into<ServeError>) -> Failure {
    let error = error.into();
    Failure::new(error.exit_code(), error.to_string())
}
