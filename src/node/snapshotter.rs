//! The snapshotter: writes the states that the applier has frozen, and stores what a leader sends.
//!
//! Both take seconds for a large store, so they have a thread of their own: the applier only makes
//! a clone. What a finished snapshot has made superfluous of the journal is the caretaker's. What
//! goes wrong here costs no promise: without a new snapshot the log is simply longer.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::kv::StateMachine;
use crate::raft::types::{Bytes, ServerId, SnapshotId};
use crate::raft::{SnapshotWork, TransferId};
use crate::server::{self, SnapshotShelf};
use crate::state_file;
use crate::storage::disk::RealDisk;
use crate::storage::snapshot::{Receiver, SnapshotError, SnapshotFile, Snapshots};

use super::doorbell::{Bell, Button};
use super::monitor::{Deliver, Monitor};
use super::snapshot_files::SnapshotFiles;

/// States on their way between the applier and the snapshotter. A leaf lock, held to put one down
/// or pick one up.
#[derive(Clone, Debug)]
pub struct Shelf {
    states: Arc<Mutex<server::Shelf>>,
    /// Wakes the snapshotter.
    snapshotter: Button,
}

impl Shelf {
    /// An empty shelf. The button wakes the snapshotter.
    pub fn new(snapshotter: Button) -> Shelf {
        Shelf { states: Arc::default(), snapshotter }
    }
}

impl SnapshotShelf for Shelf {
    fn freeze(&mut self, snapshot: SnapshotId, state: StateMachine) {
        self.states.lock().freeze(snapshot, state);
        self.snapshotter.ring();
    }

    fn restored(&mut self, snapshot: SnapshotId) -> StateMachine {
        self.states.lock().restored(snapshot)
    }
}

/// The worker for snapshots.
pub struct Snapshotter<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// Where frozen states come from and built ones go.
    pub shelf: Shelf,
    /// The directory.
    pub snapshots: Snapshots<RealDisk>,
    /// The files that may be sent.
    pub files: Arc<SnapshotFiles>,
    /// Rung when a state was frozen, or a part has come.
    pub bell: Bell,
    /// Wakes the log writer: what a new snapshot covers can be removed.
    pub log_writer: Button,
    /// The cluster's id and members, which stand in each snapshot.
    pub cluster_id: String,
    /// See `cluster_id`.
    pub membership: Vec<ServerId>,
}

impl<D: Deliver> Snapshotter<D> {
    /// The body of the thread `snapshotter`.
    pub fn run(self) {
        let mut receiving: Option<(TransferId, Receiver<RealDisk>)> = None;
        loop {
            let frozen = self.shelf.states.lock().frozen.take();
            if let Some((id, state)) = frozen {
                self.save(id, &state);
                continue;
            }
            match self.monitor.with(|server| server.take_snapshot_work()) {
                Some(SnapshotWork::Store {
                    transfer,
                    snapshot,
                    total_bytes,
                    offset_bytes,
                    parts,
                }) => {
                    if offset_bytes == 0 {
                        receiving = self.begin(transfer, snapshot, total_bytes);
                    }
                    self.store(transfer, &mut receiving, offset_bytes, &parts);
                }
                Some(SnapshotWork::Install { transfer, .. }) => match receiving.take() {
                    Some((ours, receiver)) if ours == transfer => self.install(transfer, receiver),
                    _ => self.monitor.with(|server| server.snapshot_refused(transfer)),
                },
                None => {
                    self.bell.wait();
                }
            }
        }
    }

    fn save(&self, id: SnapshotId, state: &StateMachine) {
        let since = Instant::now();
        let membership = self.membership.clone();
        let saved = state_file::save(&self.snapshots, &self.cluster_id, membership, id, state);
        match saved {
            Ok(file) => {
                let (keys, ms) = (file.header().keys, since.elapsed().as_millis());
                log::debug!("wrote snapshot={id} keys={keys} ms={ms}");
                self.files.add(file.clone());
                let bytes = file.length_bytes();
                let used = self.monitor.with(|server| {
                    server.snapshot_saved(id, bytes);
                    server.raft().snapshots_in_use()
                });
                self.replace_older(&file, &used);
            }
            Err(error) => {
                log::error!("no snapshot={id}; the log is kept until one succeeds: {error}");
                self.monitor.with(|server| server.snapshot_failed(id));
                self.files.note_failure();
            }
        }
    }

    fn begin(
        &self,
        transfer: TransferId,
        snapshot: SnapshotId,
        total_bytes: u64,
    ) -> Option<(TransferId, Receiver<RealDisk>)> {
        log::info!("receives snapshot={snapshot} bytes={total_bytes}");
        match self.snapshots.receive(snapshot, total_bytes) {
            Ok(receiver) => Some((transfer, receiver)),
            Err(error) => {
                log::error!("cannot receive snapshot={snapshot}: {error}");
                None
            }
        }
    }

    /// Appends parts to the file of this transfer.
    fn store(
        &self,
        transfer: TransferId,
        receiving: &mut Option<(TransferId, Receiver<RealDisk>)>,
        offset_bytes: u64,
        parts: &[Bytes],
    ) {
        let Some((_, receiver)) = receiving.as_mut().filter(|(ours, _)| *ours == transfer) else {
            return self.monitor.with(|server| server.snapshot_refused(transfer));
        };
        match append(receiver, offset_bytes, parts) {
            Ok(stored) => self.monitor.with(|server| server.snapshot_stored(transfer, stored)),
            Err(error) => {
                log::error!("cannot store a part of snapshot={}: {error}", receiver.id());
                *receiving = None;
                self.monitor.with(|server| server.snapshot_refused(transfer));
            }
        }
    }

    /// The file is complete: it becomes durable, and its state takes the place of ours.
    fn install(&self, transfer: TransferId, receiver: Receiver<RealDisk>) {
        let (id, since) = (receiver.id(), Instant::now());
        match state_file::install(receiver) {
            Ok((file, state)) => {
                let (keys, ms) = (file.header().keys, since.elapsed().as_millis());
                log::debug!("verified snapshot={id} keys={keys} ms={ms}");
                self.files.add(file.clone());
                self.shelf.states.lock().restored.push((id, state));
                let bytes = file.length_bytes();
                let (is_news, used) = self.monitor.with(|server| {
                    let is_news = server.snapshot_installed(transfer, id, bytes);
                    (is_news, server.raft().snapshots_in_use())
                });
                if !is_news {
                    self.shelf.states.lock().take_back(id);
                }
                self.replace_older(&file, &used);
            }
            Err(error) => {
                log::error!("snapshot={id} of the leader is of no use: {error}");
                self.monitor.with(|server| server.snapshot_refused(transfer));
            }
        }
    }

    /// A new snapshot is on disk: the log before it goes, and older ones.
    fn replace_older(&self, file: &SnapshotFile<RealDisk>, used: &[SnapshotId]) {
        self.log_writer.ring(); // at once: the removal below takes its time
        let read = self.files.keep_only(used);
        if let Err(error) = self.snapshots.remove_before(file, |last| read.contains(&last)) {
            log::error!("older snapshots stay: {error}");
        }
    }
}

/// Appends the parts; returns how long the file is then.
fn append(
    receiver: &mut Receiver<RealDisk>,
    mut offset_bytes: u64,
    parts: &[Bytes],
) -> Result<u64, SnapshotError> {
    for part in parts {
        receiver.store(offset_bytes, &part.0)?;
        offset_bytes += part.0.len() as u64;
    }
    Ok(offset_bytes)
}
