//! The snapshots of a data directory, or a single one, for people and their scripts: what each says
//! about itself, how much it holds, and what. Reads only, and needs no lock.

use std::io::{self, Write};
use std::path::Path;

use raft_server::kv::snapshot::{Pair, RestoreError, pairs};
use raft_server::raft::types::SnapshotId;
use raft_server::state_file::{self, StateFileError};
use raft_server::storage::disk::{Disk, RealDisk};
use raft_server::storage::identity::{self, DirectoryError, SNAPSHOTS};
use raft_server::storage::snapshot::{Found, Reader, SnapshotError, Summary, file_name, store};
use serde::Serialize;

use super::backup::place;
use super::exit::{DAMAGED, Failure, OK};
use super::wiring::failure;

/// What could not be read, and why.
#[derive(Serialize)]
struct Damaged {
    file: String,
    damaged: String,
}

/// A snapshot that is whole and well.
#[derive(Serialize)]
struct Well<'a> {
    file: String,
    #[serde(flatten)]
    summary: &'a Summary,
}

#[derive(Serialize)]
struct Item {
    file: String,
    item: u64,
    bytes: usize,
}

/// One key of a state. What is no UTF-8 is told in hexadecimal digits.
#[derive(Serialize)]
struct Key<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    version: u64,
    deadline_ms: Option<u64>,
}

/// How to tell.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// As JSON, one object a line.
    pub json: bool,
    /// What to tell of each snapshot beside its summary.
    pub inside: Inside,
}

/// What of a snapshot's inside is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Nothing.
    Nothing,
    /// The length of each item.
    Lengths,
    /// The keys, one by one, whatever the state's size: no more than a block of the file is in
    /// memory.
    Keys,
}

/// Reads the snapshots of a data directory, the newest first, or a single file, and says of each
/// whether it is well.
pub fn print(path: &Path, form: Form, output: &mut impl Write) -> Result<i32, Failure> {
    if path.is_file() {
        let (disk, file) = place(path)?;
        let judge = || verify_file(&disk, &file);
        let code = print_one(&disk, &file, form, judge, output)?;
        output.flush()?;
        return Ok(code);
    }
    let owner = identity::read_identity(path).map_err(failure)?;
    let Some(disk) = open(path)? else {
        return nothing(form.json, output);
    };
    let listing = store::list(&disk).map_err(failure)?;
    if listing.snapshots.is_empty() {
        return nothing(form.json, output);
    }
    let mut code = OK;
    for last in listing.snapshots {
        let judge = || Ok(store::verify(&disk, last, &owner.cluster_id)?);
        code = code.max(print_one(&disk, &file_name(last), form, judge, output)?);
    }
    output.flush()?;
    Ok(code)
}

fn print_one(
    disk: &RealDisk,
    file: &str,
    Form { json, inside }: Form,
    judge: impl FnOnce() -> Result<Summary, StateFileError>,
    output: &mut impl Write,
) -> Result<i32, Failure> {
    // What is wrong with the file is said below, with what it was told of it.
    let reader = store::open(disk, file).ok().filter(|_| inside != Inside::Nothing);
    let shown = match (reader, inside) {
        (Some(reader), Inside::Keys) => print_keys(reader, json, output),
        (Some(reader), _) => print_lengths(file, reader, json, output).map_err(Stopped::from),
        (None, _) => Ok(()),
    };
    let judged = match shown {
        Err(Stopped::Output(error)) => return Err(error.into()),
        Err(Stopped::State(error)) => judge().and_then(|summary| {
            Err(StateFileError::State { id: summary.header.id, source: error })
        }),
        Ok(()) => judge(),
    };
    match judged {
        Ok(summary) => {
            print_summary(file, &summary, json, output)?;
            Ok(OK)
        }
        Err(error @ StateFileError::File(SnapshotError::Io { .. })) => Err(failure(error)),
        Err(error) => {
            let (file, damaged) = (file.to_owned(), error.to_string());
            match json {
                true => print_json(&Damaged { file, damaged }, output)?,
                false => writeln!(output, "{damaged}")?,
            }
            Ok(DAMAGED)
        }
    }
}

/// A file that nobody names by its content: it is well if it is whole, and its state has the hash
/// that it should have.
fn verify_file(disk: &RealDisk, file: &str) -> Result<Summary, StateFileError> {
    let summary = store::open(disk, file)?.verify()?;
    state_file::build(store::open(disk, file)?)?;
    Ok(summary)
}

/// The newest snapshot that a start would take, and those that it would leave aside.
pub fn find(directory: &Path, cluster_id: &str) -> Result<(SnapshotId, Vec<String>), Failure> {
    let Some(disk) = open(directory)? else {
        return Ok((SnapshotId::NONE, Vec::new()));
    };
    let found: Found<RealDisk> = store::look(&disk, cluster_id).map_err(failure)?;
    Ok((found.id(), found.damaged.iter().map(SnapshotError::to_string).collect()))
}

/// `None`: the directory is of a format without snapshots, and nobody has served from it since.
fn open(directory: &Path) -> Result<Option<RealDisk>, Failure> {
    let path = directory.join(SNAPSHOTS);
    match RealDisk::open(&path) {
        Ok(disk) => Ok(Some(disk)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failure(DirectoryError::Io { doing: "opening", path, source })),
    }
}

fn nothing(json: bool, output: &mut impl Write) -> Result<i32, Failure> {
    if !json {
        writeln!(output, "there is no snapshot")?;
    }
    output.flush()?;
    Ok(OK)
}

/// Why no more is told of a snapshot's inside.
enum Stopped {
    Output(io::Error),
    State(RestoreError),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Output(error)
    }
}

impl From<RestoreError> for Stopped {
    fn from(error: RestoreError) -> Stopped {
        Stopped::State(error)
    }
}

fn print_lengths(
    file: &str,
    mut reader: Reader<<RealDisk as Disk>::Reader>,
    json: bool,
    output: &mut impl Write,
) -> io::Result<()> {
    let mut item = 0;
    while let Ok(Some(bytes)) = reader.next_item() {
        item += 1;
        let bytes = bytes.len();
        if json {
            print_json(&Item { file: file.to_owned(), item, bytes }, output)?;
        } else {
            writeln!(output, "{file} item={item} bytes={bytes}")?;
        }
    }
    Ok(())
}

fn print_keys(
    mut reader: Reader<<RealDisk as Disk>::Reader>,
    json: bool,
    output: &mut impl Write,
) -> Result<(), Stopped> {
    let mut number = 0;
    while let Ok(Some(item)) = reader.next_item() {
        number += 1;
        pairs(number, item, &mut |pair| Ok::<(), Stopped>(print_key(&pair, json, output)?))?;
    }
    Ok(())
}

fn print_key(pair: &Pair<'_>, json: bool, output: &mut impl Write) -> io::Result<()> {
    let Pair { key, value, version, deadline_ms } = *pair;
    if json {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let digits = |byte: &u8| format!("{byte:02x}");
        let hex = |bytes| match text(bytes) {
            Some(_) => None,
            None => Some(bytes.iter().map(digits).collect::<String>()),
        };
        let (key_hex, value_hex) = (hex(key), hex(value));
        let (key, value) = (text(key), text(value));
        return print_json(&Key { key, key_hex, value, value_hex, version, deadline_ms }, output);
    }
    let deadline = deadline_ms.map_or(String::new(), |ms| format!(" deadline_ms={ms}"));
    let (key, value) = (key.escape_ascii(), value.escape_ascii());
    writeln!(output, "\"{key}\" = \"{value}\" version={version}{deadline}")
}

fn print_summary(
    file: &str,
    summary: &Summary,
    json: bool,
    output: &mut impl Write,
) -> io::Result<()> {
    if json {
        return print_json(&Well { file: file.to_owned(), summary }, output);
    }
    let Summary { header, file_bytes, items, item_bytes, longest_item_bytes } = summary;
    let members: Vec<String> = header.membership.iter().map(ToString::to_string).collect();
    writeln!(
        output,
        "{file} covers all entries up to {}: cluster={} members={} stamp={} state={:016x} keys={} \
         items={items} item_bytes={item_bytes} longest_item_bytes={longest_item_bytes} \
         file_bytes={file_bytes}, all of it well",
        header.id,
        header.cluster_id,
        members.join(","),
        header.id.stamp.0,
        header.state_hash,
        header.keys,
    )
}

fn print_json(line: &impl Serialize, output: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string(line).expect("a line can be written as JSON");
    writeln!(output, "{text}")
}
