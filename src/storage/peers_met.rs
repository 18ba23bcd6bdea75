//! Whom this server has met: for each peer the incarnation and run id it last showed, durably.
//!
//! A peer whose incarnation goes back was restored from an old copy of its directory: it has
//! forgotten votes and entries it vouched for. A peer that shows the same incarnation with another
//! run id is a cloned directory: two servers would vote as one. Either breaks Raft's majorities, so
//! both are refused. What we met is on disk before the peer is accepted; otherwise our crash would
//! forget it. For the same reason a missing file is not "nobody": `init` makes one that says so.
//!
//! The file carries a CRC: one flipped bit in a number would accept a clone, or condemn a healthy
//! peer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::disk::{Disk, DiskFile, RealDisk};
use crate::raft::types::ServerId;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "met.json";
/// The name under which it is written before it replaces the old one.
pub(super) const FRESH_NAME: &str = "met.json.new";

/// A life of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Rises with each start of the peer.
    pub incarnation: u64,
    /// Random, drawn at each start.
    pub run_id: u64,
}

/// Why a peer is refused.
#[derive(Debug, Error)]
pub enum PeerIdentityError {
    /// The peer's incarnation is lower than one we have met.
    #[error(
        "{peer} comes with incarnation {shown}, but {met} was met before: its data directory is an \
         old copy. Give that server up and add one under a new id"
    )]
    WentBack {
        /// The peer.
        peer: ServerId,
        /// What it shows now.
        shown: u64,
        /// The incarnation it had when last met.
        met: u64,
    },
    /// Two processes live the same life of one server.
    #[error(
        "{peer} comes twice with incarnation {incarnation}: run {met:016x} was met, now it is \
         {shown:016x}. Its data directory was cloned: stop the copy"
    )]
    Cloned {
        /// The peer.
        peer: ServerId,
        /// The incarnation of both.
        incarnation: u64,
        /// The run id it shows now.
        shown: u64,
        /// The run id it had when last met.
        met: u64,
    },
    /// The file is not there, or not as we wrote it.
    #[error("{} is missing or damaged: {source}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What the operating system or the decoder said.
        source: io::Error,
    },
    /// The file could not be read or written.
    #[error("{doing} {} failed: {source}. The peer cannot be accepted", file.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// What the operating system or the decoder said.
        source: io::Error,
    },
}

/// The peers met so far. It knows the file and keeps it up to date.
#[derive(Debug)]
pub struct PeersMet<D: Disk = RealDisk> {
    disk: D,
    met: BTreeMap<ServerId, Life>,
}

impl<D: Disk> PeersMet<D> {
    /// Reads the file, which `init` has made.
    pub fn open(disk: D) -> Result<PeersMet<D>, PeerIdentityError> {
        let file = disk.path(FILE_NAME);
        match disk.read(FILE_NAME) {
            Ok(bytes) => match decode(&bytes) {
                Ok(met) => Ok(PeersMet { disk, met }),
                Err(source) => Err(PeerIdentityError::Damaged { file, source }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(PeerIdentityError::Damaged { file, source })
            }
            Err(source) => Err(failed(&file, "reading", source)),
        }
    }

    /// Accepts or refuses a peer. On `Ok` the disk remembers it; nothing is written if it did
    /// before.
    pub fn check_and_remember(
        &mut self,
        peer: ServerId,
        incarnation: u64,
        run_id: u64,
    ) -> Result<(), PeerIdentityError> {
        let life = Life { incarnation, run_id };
        if let Some(met) = self.met.get(&peer) {
            if met.incarnation > incarnation {
                let met = met.incarnation;
                return Err(PeerIdentityError::WentBack { peer, shown: incarnation, met });
            }
            if met.incarnation == incarnation && met.run_id != run_id {
                let (shown, met) = (run_id, met.run_id);
                return Err(PeerIdentityError::Cloned { peer, incarnation, shown, met });
            }
            if *met == life {
                return Ok(());
            }
        }
        let mut next = self.met.clone();
        next.insert(peer, life);
        let replaced = replace(&self.disk, FRESH_NAME, FILE_NAME, &encode(&next));
        replaced.map_err(|source| failed(&self.disk.path(FILE_NAME), "writing", source))?;
        self.met = next;
        Ok(())
    }
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// CRC-32 of the map, written as JSON without spaces.
    crc32: u32,
    met: BTreeMap<ServerId, Life>,
}

/// The file of a server that has met nobody.
pub(super) fn nobody() -> Vec<u8> {
    encode(&BTreeMap::new())
}

fn encode(met: &BTreeMap<ServerId, Life>) -> Vec<u8> {
    let stored = Stored { crc32: checksum(met), met: met.clone() };
    serde_json::to_vec_pretty(&stored).expect("numbers can be written as JSON")
}

fn decode(bytes: &[u8]) -> io::Result<BTreeMap<ServerId, Life>> {
    let stored: Stored = serde_json::from_slice(bytes)?;
    if stored.crc32 != checksum(&stored.met) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
    }
    Ok(stored.met)
}

fn checksum(met: &BTreeMap<ServerId, Life>) -> u32 {
    crc32fast::hash(&serde_json::to_vec(met).expect("numbers can be written as JSON"))
}

/// Replaces a file so that a crash leaves the old content or the new, durable on return.
pub(super) fn replace<D: Disk>(disk: &D, fresh: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    match disk.remove(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(fresh)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(fresh, name)?;
    disk.sync_directory()
}

fn failed(file: &Path, doing: &'static str, source: io::Error) -> PeerIdentityError {
    PeerIdentityError::Io { doing, file: file.to_path_buf(), source }
}
