//! The snapshots of a data directory, for people and their scripts: what each says about itself and
//! how much it holds. Reads only, and needs no lock.

use std::io::{self, Write};
use std::path::Path;

use raft_server::raft::types::SnapshotId;
use raft_server::storage::disk::{Disk, RealDisk};
use raft_server::storage::identity::{self, DirectoryError, SNAPSHOTS};
use raft_server::storage::snapshot::{Found, Reader, SnapshotError, Summary, file_name, store};
use serde::Serialize;

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

/// Reads all snapshots, the newest first, and says of each whether it is well. With `items`, also
/// the length of each item.
pub fn print(
    directory: &Path,
    json: bool,
    items: bool,
    output: &mut impl Write,
) -> Result<i32, Failure> {
    let owner = identity::read_identity(directory).map_err(failure)?;
    let Some(disk) = open(directory)? else {
        return nothing(json, output);
    };
    let listing = store::list(&disk).map_err(unreadable)?;
    if listing.snapshots.is_empty() {
        return nothing(json, output);
    }
    let mut code = OK;
    for last in listing.snapshots {
        let file = file_name(last);
        if items {
            // What is wrong with it is said below.
            let _ = store::open(&disk, &file).map(|reader| print_items(reader, json, output));
        }
        match store::verify(&disk, last, &owner.cluster_id) {
            Ok(summary) => print_summary(&file, &summary, json, output)?,
            Err(error @ SnapshotError::Io { .. }) => return Err(unreadable(error)),
            Err(error) => {
                code = DAMAGED;
                let damaged = error.to_string();
                match json {
                    true => print_json(&Damaged { file, damaged }, output)?,
                    false => writeln!(output, "{damaged}")?,
                }
            }
        }
    }
    output.flush()?;
    Ok(code)
}

/// The newest snapshot that a start would take, and those that it would leave aside.
pub fn find(directory: &Path, cluster_id: &str) -> Result<(SnapshotId, Vec<String>), Failure> {
    let Some(disk) = open(directory)? else {
        return Ok((SnapshotId::NONE, Vec::new()));
    };
    let found: Found<RealDisk> = store::look(&disk, cluster_id).map_err(unreadable)?;
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

fn print_items(
    mut reader: Reader<<RealDisk as Disk>::Reader>,
    json: bool,
    output: &mut impl Write,
) -> io::Result<()> {
    let file = file_name(reader.header().id.last);
    let mut item = 0;
    while let Ok(Some(bytes)) = reader.next_item() {
        item += 1;
        let bytes = bytes.len();
        if json {
            print_json(&Item { file: file.clone(), item, bytes }, output)?;
        } else {
            writeln!(output, "{file} item={item} bytes={bytes}")?;
        }
    }
    Ok(())
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

fn unreadable(error: SnapshotError) -> Failure {
    let code = if matches!(error, SnapshotError::Io { .. }) { 7 } else { DAMAGED };
    Failure::new(code, error.to_string())
}
