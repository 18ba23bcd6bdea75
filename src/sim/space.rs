//! Room on a simulated disk: what the log writer does about it, and what must be true of it.

use super::bounds::is_a_terms_first;
use super::checks::{Checked, Violation, ensure};
use super::disk::Ending;
use super::faults::TICK;
use super::queue::{Event, Place};
use super::world::{Machine, World, id_of};
use crate::gateway::{Level, Space};
use crate::storage::error::JournalError;
use crate::storage::reserve;

/// What a deletion takes here, in bytes.
const DELETION_BYTES: u64 = 200;

impl World {
    /// Between two writes the log writer reserves, and tells the server how much room there is.
    /// Returns whether the server is still there.
    pub(super) fn tend_disk(&mut self, place: Place) -> Result<bool, Violation> {
        let wanted = self.process(place).server.raft().wanted_bytes();
        match self.machines[usize::from(place)].disk.tend(wanted) {
            Ok(_) => {
                self.tell_time(place);
                self.tell_room(place);
                self.after(place)?;
                Ok(true)
            }
            Err(error) => {
                self.write_failed(place, &error)?;
                Ok(false)
            }
        }
    }

    /// Tells a server how much room its disk has.
    pub(super) fn tell_room(&mut self, place: Place) {
        let disk = &self.machines[usize::from(place)].disk;
        let room_bytes = disk.room_bytes();
        let level = Level::of(disk.is_full() && disk.reserves(), room_bytes, DELETION_BYTES);
        let server = self.server(place);
        let is_news = server.space().level != level;
        server.set_room(room_bytes);
        if is_news {
            server.set_space(Space { level, used_bytes: 0, limit_bytes: 0 });
            self.tell(|| format!("{} says that its room is {level:?}", id_of(place)));
        }
    }

    /// There is no room even for a write that waits for none: only terms, votes and the
    /// no-ops of new leaders may come to that, when all that was kept for them is used up.
    pub(super) fn write_waits(&mut self, place: Place) -> Checked {
        let Machine { disk, process, life, .. } = &self.machines[usize::from(place)];
        let entries = disk.pending_entries();
        let is_noop = process
            .as_ref()
            .is_some_and(|process| is_a_terms_first(entries, process.server.raft().log()));
        ensure(is_noop || entries.is_empty(), "A full disk is no end", || {
            format!("{}: no room for {} entries that were accepted", id_of(place), entries.len())
        })?;
        self.queue.push(self.now + TICK, Event::Synced(place, *life));
        Ok(())
    }

    /// A write has failed: the server ends, and comes back later. A full disk is no reason.
    pub(super) fn write_failed(&mut self, place: Place, error: &JournalError) -> Checked {
        let full = matches!(error, JournalError::Io { source, .. } if reserve::is_no_space(source));
        let reserves = self.machines[usize::from(place)].disk.reserves();
        ensure(!full || !reserves, "A full disk is no end", || {
            format!("{} ends: {error}", id_of(place))
        })?;
        self.tell(|| format!("{}: a write fails, the server ends", id_of(place)));
        let back = self.now + self.random.between(10_000, 200_000);
        self.queue.push(back, Event::Restart(place));
        self.crash(place, Ending::Killed)
    }
}
