//! A state machine in a snapshot file: where `kv` (what a state is made of) and `storage` (what a
//! file is worth) meet.

use thiserror::Error;

use crate::kv::StateMachine;
use crate::kv::snapshot::{self, Restore, RestoreError};
use crate::raft::types::{ServerId, SnapshotId};
use crate::storage::disk::{Disk, DiskReader};
use crate::storage::snapshot::{
    Header, Options, Reader, Receiver, SnapshotError, SnapshotFile, Snapshots,
};

/// Why a state cannot be written to a file, or built from one.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The file is well, and what it holds is no state for this program.
    #[error("snapshot {id} cannot be used: {source}")]
    State {
        /// Which snapshot.
        id: SnapshotId,
        /// What is wrong with it.
        source: RestoreError,
    },
    /// Header and state contradict each other.
    #[error("snapshot {id} holds another state than it says: {what} differs")]
    Differs {
        /// Which snapshot.
        id: SnapshotId,
        /// What differs.
        what: &'static str,
    },
}

/// Writes a state to a snapshot of its own. When this returns `Ok`, the file is durable under its
/// name and was read back; after an error nothing is left of it. Panics if the state is damaged
/// (see [`snapshot::write`]).
pub fn save<D: Disk>(
    snapshots: &Snapshots<D>,
    cluster_id: &str,
    membership: Vec<ServerId>,
    id: SnapshotId,
    state: &StateMachine,
) -> Result<SnapshotFile<D>, StateFileError> {
    assert_eq!(state.applied_index(), id.last.index.0, "a snapshot stands where its state does");
    let header = Header {
        cluster_id: cluster_id.to_owned(),
        membership,
        id,
        state_hash: state.state_hash(),
        keys: state.store().len() as u64,
    };
    let mut writer = snapshots.begin(header)?;
    match snapshot::write(state, &mut |item: &[u8]| writer.item(item)) {
        Ok(()) => Ok(writer.finish()?),
        Err(error) => Err(error.into()),
    }
}

/// Builds the state that a file holds which has been received, and gives the file its name. When
/// this returns `Ok`, the file is durable; after an error nothing is left of it.
pub fn install<D: Disk>(
    receiver: Receiver<D>,
) -> Result<(SnapshotFile<D>, StateMachine), StateFileError> {
    receiver.finish_if(load)
}

/// Builds the state that a file holds.
pub fn load<D: Disk>(file: &SnapshotFile<D>) -> Result<StateMachine, StateFileError> {
    build(file.read()?)
}

/// What a backup holds, to begin another cluster with: its header, and its state without what
/// concerns the old servers ([`StateMachine::forget_servers`]).
pub fn read_backup<R: DiskReader>(
    reader: Reader<R>,
) -> Result<(Header, StateMachine), StateFileError> {
    let header = reader.header().clone();
    let mut state = build(reader)?;
    state.forget_servers();
    Ok((header, state))
}

/// Makes the snapshot that a restored server begins with, in a directory without others. All
/// servers of the new cluster make the same file.
pub fn save_restored<D: Disk>(
    disk: D,
    cluster_id: &str,
    membership: Vec<ServerId>,
    id: SnapshotId,
    state: &StateMachine,
) -> Result<SnapshotFile<D>, StateFileError> {
    let (snapshots, _) = Snapshots::open(disk, Options::new(cluster_id.to_owned()))?;
    save(&snapshots, cluster_id, membership, id, state)
}

/// Builds the state that a reader gives.
pub fn build<R: DiskReader>(mut reader: Reader<R>) -> Result<StateMachine, StateFileError> {
    let id = reader.header().id;
    let state_hash = reader.header().state_hash;
    let wrong = |source| StateFileError::State { id, source };
    let mut restore = Restore::default();
    while let Some(item) = reader.next_item()? {
        restore.item(item).map_err(wrong)?;
    }
    let state = restore.finish().map_err(wrong)?;
    let facts = [
        ("the index", state.applied_index() == id.last.index.0),
        ("the log time", state.clock_ms() == id.stamp.0),
        ("the hash", state.state_hash() == state_hash),
    ];
    match facts.into_iter().find(|(_, agree)| !agree) {
        Some((what, _)) => Err(StateFileError::Differs { id, what }),
        None => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{EntryId, Index, Stamp, Term};
    use crate::storage::memory_disk::MemoryDisk;

    /// S31, in memory: what is damaged there never replaces a snapshot that is well.
    #[test]
    fn a_state_that_is_damaged_in_memory_is_not_saved() {
        let disk = MemoryDisk::new();
        let options = Options::new("c".to_owned());
        let (snapshots, _) = Snapshots::open(disk.clone(), options).expect("memory");
        let mut state = StateMachine::default();
        let save_at = |state: &mut StateMachine, index: u64| {
            state.apply_nothing(index, index, &mut Vec::new());
            let last = EntryId::new(Term(1), Index(index));
            let id = SnapshotId { last, stamp: Stamp(index) };
            save(&snapshots, "c", vec![ServerId(1)], id, state).expect("memory").length_bytes()
        };
        save_at(&mut state, 1);
        state.damage();
        let unwind = std::panic::AssertUnwindSafe(|| save_at(&mut state, 2));
        assert!(std::panic::catch_unwind(unwind).is_err(), "the process ends");
        // Without a snapshot's name: the next start removes it.
        let (begun, saved): (Vec<_>, Vec<_>) =
            disk.list().expect("memory").into_iter().partition(|name| name.starts_with("written"));
        assert_eq!((begun.len(), saved.len()), (1, 1));
    }
}
