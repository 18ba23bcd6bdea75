//! A server's disk: what it holds for certain, what is on its way there, and what a crash leaves.

use super::faults::DiskHabits;
use super::queue::Micros;
use super::random::Random;
use crate::raft::Recovered;
use crate::raft::durability::Write;
use crate::raft::types::{EntryId, HardState, Index};

/// What a disk holds for certain: what a server that crashed now would find at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Term and vote.
    pub hard_state: HardState,
    /// The ids of the entries from index 1. Their contents are the log's concern.
    entries: Vec<EntryId>,
}

impl Image {
    /// What the disk holds after this write.
    pub fn apply(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        for entry in &write.entries {
            self.entries.truncate(offset(entry.id.index));
            self.entries.push(entry.id);
        }
    }

    /// What recovery found.
    pub fn of(recovered: &Recovered) -> Image {
        let entries = recovered.entries.iter().map(|entry| entry.id).collect();
        Image { hard_state: recovered.hard_state, entries }
    }

    /// Whether this entry is on the disk.
    pub fn holds(&self, id: EntryId) -> bool {
        id == EntryId::ZERO || self.entries.get(offset(id.index)) == Some(&id)
    }

    /// Where the log on the disk ends.
    pub fn last(&self) -> EntryId {
        self.entries.last().copied().unwrap_or(EntryId::ZERO)
    }
}

fn offset(index: Index) -> usize {
    usize::try_from(index.0 - 1).expect("a log in memory is shorter than the address space")
}

/// One server's disk. It outlives the server's crashes.
#[derive(Debug)]
pub struct Disk {
    random: Random,
    /// Everything that is synced.
    image: Image,
    content: Recovered,
    /// Given to the disk and not synced.
    pending: Option<Write>,
    incarnation: u64,
    /// How many times slower than usual it is.
    pub slower: u64,
    /// It does nothing until this time.
    pub hangs_until: Micros,
    /// The next write or sync fails.
    pub fails_next: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64, place: u64) -> Disk {
        Disk {
            random: Random::part(seed, 100 + place),
            image: Image::default(),
            content: Recovered::default(),
            pending: None,
            incarnation: 0,
            slower: 1,
            hangs_until: 0,
            fails_next: false,
        }
    }

    /// What is synced.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether a write is not synced yet.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Begins a write. Returns when it is synced.
    pub fn begin(&mut self, now: Micros, habits: &DiskHabits, write: Write) -> Micros {
        assert!(self.pending.is_none(), "one write at a time");
        self.pending = Some(write);
        let takes = self.random.between(habits.sync_min, habits.sync_max) * self.slower;
        now.max(self.hangs_until) + takes
    }

    /// The write is synced. `None`: it failed, and nobody knows how much of it is on the disk.
    pub fn finish(&mut self) -> Option<Write> {
        if std::mem::take(&mut self.fails_next) {
            return None;
        }
        let write = self.pending.take().expect("a write was begun");
        self.image.apply(&write);
        apply(&mut self.content, &write);
        Some(write)
    }

    /// The server is gone. Of what was not synced, nothing, everything or a part is on the disk.
    pub fn crash(&mut self) {
        let Some(mut write) = self.pending.take() else { return };
        match self.random.below(3) {
            0 => return,
            1 => {}
            _ => {
                let kept = self.random.position(write.entries.len() + 1);
                write.entries.truncate(kept);
            }
        }
        apply(&mut self.content, &write);
    }

    /// A server starts: what it finds, and which of its lives this is.
    pub fn recover(&mut self) -> (Recovered, u64) {
        self.incarnation += 1;
        self.image = Image::of(&self.content);
        (self.content.clone(), self.incarnation)
    }
}

fn apply(content: &mut Recovered, write: &Write) {
    if let Some(hard_state) = write.hard_state {
        content.hard_state = hard_state;
    }
    for entry in &write.entries {
        content.entries.truncate(offset(entry.id.index));
        content.entries.push(entry.clone());
    }
}
