//! The snapshotter of a server, without its thread: it takes what there is to do, is busy for a
//! while, and then does it with the real files, as `node::snapshotter` does.
//!
//! A server may end while it is busy. Then what it was doing is done up to some operation of the
//! disk, and no more (`Disk::crash` decides what is left of that).

use super::checks::{Checked, ensure};
use super::files::Directory;
use super::misfortunes::CLUSTER;
use super::queue::{Event, Place};
use super::random::Random;
use super::world::{Process, World, id_of};
use crate::kv::StateMachine;
use crate::raft::message::Message;
use crate::raft::types::{Bytes, ServerId, SnapshotId};
use crate::raft::{SnapshotOptions, SnapshotWork, TransferId};
use crate::server::Outgoing;
use crate::state_file::{self, StateFileError};
use crate::storage::snapshot::{Receiver, SnapshotError, SnapshotFile, Snapshots};

/// What a snapshotter has to do with.
#[derive(Debug)]
pub struct Snapshotter {
    pub(super) snapshots: Snapshots<Directory>,
    /// Files that may be sent.
    pub(super) files: Vec<SnapshotFile<Directory>>,
    receiving: Option<(TransferId, Receiver<Directory>)>,
    busy_with: Option<Job>,
}

/// What it is busy with.
#[derive(Debug)]
enum Job {
    Save(SnapshotId, Box<StateMachine>),
    Work(SnapshotWork),
}

impl Snapshotter {
    pub(super) fn new(
        snapshots: Snapshots<Directory>,
        newest: Option<SnapshotFile<Directory>>,
    ) -> Snapshotter {
        let files = newest.into_iter().collect();
        Snapshotter { snapshots, files, receiving: None, busy_with: None }
    }

    /// Fills in the parts of snapshots among these messages.
    pub(super) fn fill_in(&self, outgoing: &mut Outgoing) {
        for message in &mut outgoing.raft {
            let Message::InstallSnapshot(part) = message else { continue };
            let mut files = self.files.iter();
            let file = files.find(|file| file.id() == part.snapshot);
            let file = file.expect("a snapshot that is being sent is kept open");
            let length = part.length_bytes as usize;
            let bytes = file.chunk(part.offset_bytes, length).expect("a sent file can be read");
            assert_eq!(bytes.len(), length, "parts lie within the file");
            part.data = Bytes(bytes.into());
        }
    }

    /// The server ends in the middle of what it was busy with.
    pub(super) fn end_busy(mut self, servers: usize) {
        match self.busy_with.take() {
            Some(Job::Save(id, state)) => drop(save(&self.snapshots, servers, id, &state)),
            Some(Job::Work(SnapshotWork::Store { offset_bytes, parts, .. })) => {
                if let Some((_, receiver)) = &mut self.receiving {
                    let _half_done = append(receiver, offset_bytes, &parts);
                }
            }
            Some(Job::Work(SnapshotWork::Install { .. })) => {
                if let Some((_, receiver)) = self.receiving.take() {
                    drop(state_file::install(receiver));
                }
            }
            None => {}
        }
    }
}

impl World {
    /// Gives the snapshotter something to do, if there is something and it is idle. Returns whether
    /// it has taken anything.
    pub(super) fn ring_snapshotter(&mut self, place: Place) -> bool {
        let slowest = self.plan.snapshot_max;
        let process = self.process(place);
        if process.snapshotter.busy_with.is_some() {
            return false;
        }
        let frozen = process.shelf.frozen.take().map(|(id, state)| Job::Save(id, Box::new(state)));
        let job = frozen.or_else(|| process.server.take_snapshot_work().map(Job::Work));
        let Some(job) = job else { return false };
        process.snapshotter.busy_with = Some(job);
        let at = self.now + self.random.between(1, slowest);
        let life = self.machines[usize::from(place)].life;
        self.queue.push(at, Event::Snapshot(place, life));
        true
    }

    /// Now and then somebody asks a server for a snapshot, or its leader to hand over.
    pub(super) fn operator_acts(&mut self, place: Place) {
        if self.peace || !self.random.chance(self.plan.operator) {
            return;
        }
        let to = id_of(self.random.below(self.plan.servers as u64) as Place);
        let to = Some(to).filter(|_| self.random.chance(5_000));
        let server = self.server(place);
        if server.raft().is_leader() {
            let begun = server.transfer_leadership(to).is_ok();
            self.stats.handovers += u64::from(begun);
        } else {
            server.request_snapshot();
        }
    }

    /// The snapshotter has done what it was busy with.
    pub(super) fn snapshot_done(&mut self, place: Place) -> Checked {
        self.tell_time(place);
        let job = self.process(place).snapshotter.busy_with.take().expect("it was busy");
        match job {
            Job::Save(id, state) => self.saved(place, id, &state)?,
            Job::Work(SnapshotWork::Store {
                transfer,
                snapshot,
                total_bytes,
                offset_bytes,
                parts,
            }) => {
                self.store(place, transfer, (snapshot, total_bytes), offset_bytes, &parts);
            }
            Job::Work(SnapshotWork::Install { transfer, snapshot }) => {
                self.install(place, transfer, snapshot)?;
            }
        }
        self.after(place)
    }

    fn saved(&mut self, place: Place, id: SnapshotId, state: &StateMachine) -> Checked {
        self.checks.state(place, state)?;
        let servers = self.plan.servers;
        match save(&self.process(place).snapshotter.snapshots, servers, id, state) {
            Ok(file) => {
                self.tell(|| format!("{} saves snapshot {id}", id_of(place)));
                self.stats.snapshots += 1;
                let bytes = file.length_bytes();
                self.server(place).snapshot_saved(id, bytes);
                self.published(place, file);
            }
            Err(_) => self.server(place).snapshot_failed(id),
        }
        Ok(())
    }

    fn store(
        &mut self,
        place: Place,
        transfer: TransferId,
        (snapshot, total_bytes): (SnapshotId, u64),
        offset_bytes: u64,
        parts: &[Bytes],
    ) {
        let Process { server, snapshotter, .. } = self.process(place);
        if offset_bytes == 0 {
            let receiver = snapshotter.snapshots.receive(snapshot, total_bytes).ok();
            snapshotter.receiving = receiver.map(|receiver| (transfer, receiver));
        }
        let receiver = snapshotter.receiving.as_mut().filter(|(ours, _)| *ours == transfer);
        match receiver.map(|(_, receiver)| append(receiver, offset_bytes, parts)) {
            Some(Ok(stored)) => server.snapshot_stored(transfer, stored),
            Some(Err(_)) | None => {
                snapshotter.receiving = None;
                server.snapshot_refused(transfer);
            }
        }
    }

    fn install(&mut self, place: Place, transfer: TransferId, id: SnapshotId) -> Checked {
        let receiving = self.process(place).snapshotter.receiving.take();
        let Some((_, receiver)) = receiving.filter(|(ours, _)| *ours == transfer) else {
            self.server(place).snapshot_refused(transfer);
            return Ok(());
        };
        let (file, state) = match state_file::install(receiver) {
            Ok(installed) => installed,
            Err(StateFileError::File(SnapshotError::Io { .. })) => {
                self.server(place).snapshot_refused(transfer);
                return Ok(());
            }
            Err(error) => {
                return ensure(false, "A snapshot that was received is whole", || {
                    format!("{}: {error}", id_of(place))
                });
            }
        };
        self.checks.state(place, &state)?;
        self.tell(|| format!("{} installs snapshot {id}", id_of(place)));
        self.stats.installs += 1;
        let bytes = file.length_bytes();
        let process = self.process(place);
        process.shelf.restored.push((id, state));
        if !process.server.snapshot_installed(transfer, id, bytes) {
            process.shelf.take_back(id);
        }
        self.published(place, file);
        Ok(())
    }

    /// A new snapshot is on the disk: older ones go, and the log before it.
    fn published(&mut self, place: Place, file: SnapshotFile<Directory>) {
        let machine = &mut self.machines[usize::from(place)];
        let process = machine.process.as_mut().expect("it has just saved a snapshot");
        let used = process.server.raft().snapshots_in_use();
        machine.disk.published(file.id());
        let _stay_a_while = process.snapshotter.snapshots.keep_only(&file);
        process.snapshotter.files.push(file);
        process.snapshotter.files.retain(|file| used.contains(&file.id()));
    }
}

fn save(
    snapshots: &Snapshots<Directory>,
    servers: usize,
    id: SnapshotId,
    state: &StateMachine,
) -> Result<SnapshotFile<Directory>, state_file::StateFileError> {
    let membership: Vec<ServerId> = (0..servers as Place).map(id_of).collect();
    state_file::save(snapshots, CLUSTER, membership, id, state)
}

fn append(
    receiver: &mut Receiver<Directory>,
    mut offset_bytes: u64,
    parts: &[Bytes],
) -> Result<u64, SnapshotError> {
    for part in parts {
        receiver.store(offset_bytes, &part.0)?;
        offset_bytes += part.0.len() as u64;
    }
    Ok(offset_bytes)
}

/// When snapshots are taken in a run, and how they travel.
pub(super) fn draw(random: &mut Random) -> SnapshotOptions {
    let chunk_bytes = random.pick(&[30, 300, 100_000]);
    SnapshotOptions {
        log_bytes_max: random.pick(&[300, 3_000, u64::MAX]),
        log_entries_max: random.pick(&[3, 20, 100, u64::MAX]),
        age_ticks_max: random.pick(&[50, 500, u64::MAX]),
        retry_ticks: random.between(1, 50),
        tail_bytes: random.pick(&[0, 200, 2_000]),
        forget_entries_max: random.pick(&[1, 7, u64::MAX]),
        // With less, a slow follower of a busy cluster would be sent snapshots for ever (S83).
        catch_up_bytes_max: random.pick(&[20_000, 100_000]),
        chunk_bytes,
        window_bytes_max: chunk_bytes * random.pick(&[1, 3]),
    }
}
