//! Which requests have been seen, so that each is executed at most once (§8; diss. §6.3).
//!
//! A gateway that does not hear whether its command entered a log sends it again, perhaps to
//! another leader; then it may stand in the log twice. The second one must be ignored, on every
//! server alike.
//!
//! To remember every request for ever would take memory for ever, so each command carries its
//! gateway's *floor*: the lowest serial that it still waits for. What lies below has been answered
//! or given up and will not be sent again; one number remembers all of it. Above the floor we keep
//! ranges. In steady state serials are applied in order, the ranges merge into the floor, and a
//! server's record is a few numbers. Example: floor 4, then 6 and 7 are applied: `4, [6..=7]`. When
//! 4 and 5 arrive: `8, []`.
//!
//! A server that restarts forgets what it waited for and counts a new *incarnation* from serial 1.
//! The first command of it replaces the record, and leftovers of the old incarnation are ignored
//! from then on: nobody waits for them, and executing them late would surprise whoever has read in
//! between.
//!
//! The table is a function of the commands applied and of nothing else, and part of every snapshot.

use std::collections::BTreeMap;

use super::digest::{Digest, Kind, Sum};
use super::snapshot::{Checked, Record, ensure};
use crate::kv::command::RequestId;
use crate::lab::{Rule, removed};

/// The request ids seen, of all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    /// By server number; an entry for each server that ever had a command applied.
    servers: BTreeMap<u32, Seen>,
}

/// The requests seen of the newest incarnation of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    /// The newest incarnation that a command was applied of.
    incarnation: u64,
    /// Every serial below it is ignored: it was seen, or its gateway has given it up. Only rises.
    floor: u64,
    /// Serials seen above the floor, as first → last of each range. Ranges neither touch each other
    /// nor the floor, so equal knowledge is an equal value.
    ranges: BTreeMap<u64, u64>,
    /// Of the hashes of the ranges.
    sum: Sum,
}

impl Sessions {
    /// Records a request that an entry carries, and says whether it is to be executed: true exactly
    /// once for a request id, false for older incarnations and for what its gateway no longer waits
    /// for.
    pub fn admit(&mut self, request: RequestId, floor: u64) -> bool {
        assert!(floor <= request.serial, "a gateway waits for the request that it sends");
        let newest = Seen::new(request.incarnation, floor);
        let seen = self.servers.entry(request.server).or_insert_with(|| newest.clone());
        if request.incarnation < seen.incarnation && !removed(Rule::OlderLivesAreOver) {
            return false;
        }
        if request.incarnation > seen.incarnation {
            *seen = newest;
        }
        seen.raise_floor(floor);
        seen.insert(request.serial) || removed(Rule::RequestsAreExecutedOnce)
    }

    /// Whether an entry with this id would be ignored. After a snapshot has replaced the entries in
    /// between, a gateway asks this about each request it waits for: true means that its outcome is
    /// unknown for good, false that it must go on waiting.
    pub fn contains(&self, request: RequestId) -> bool {
        self.servers.get(&request.server).is_some_and(|seen| {
            request.incarnation < seen.incarnation
                || request.incarnation == seen.incarnation && seen.contains(request.serial)
        })
    }

    /// How many ranges are kept above the floors: the part of the table that can grow.
    pub fn ranges(&self) -> usize {
        self.servers.values().map(|seen| seen.ranges.len()).sum()
    }

    /// The hash of the table. There are few servers, so only the ranges have a sum that is kept.
    pub(super) fn hash(&self) -> u64 {
        self.servers
            .iter()
            .fold(Digest::of(Kind::Table), |digest, (server, seen)| {
                let digest = digest.number(u64::from(*server)).number(seen.incarnation);
                digest.number(seen.floor).number(seen.ranges.len() as u64).number(seen.sum.value())
            })
            .value()
    }

    /// All of it, for a snapshot.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.servers.iter().flat_map(|(server, seen)| {
            let Seen { incarnation, floor, .. } = *seen;
            let ranges = seen.ranges.iter().map(|(&first, &last)| Record::Range { first, last });
            [Record::Server { server: *server, incarnation, floor }].into_iter().chain(ranges)
        })
    }

    /// Takes the next server of a snapshot.
    pub(super) fn load_server(&mut self, server: u32, incarnation: u64, floor: u64) -> Checked {
        let last = self.servers.last_key_value();
        ensure(last.is_none_or(|(last, _)| *last < server), "servers are not in order")?;
        self.servers.insert(server, Seen::new(incarnation, floor));
        Ok(())
    }

    /// Takes the next range of the server that came last. It must not touch what is before it.
    pub(super) fn load_range(&mut self, first: u64, last: u64) -> Checked {
        let seen = self.servers.last_entry().ok_or("a range of serials belongs to no server")?;
        let seen = seen.into_mut();
        // Serials are below the last number of all, so adding one is safe.
        ensure(first <= last && last < u64::MAX, "a range of serials is none")?;
        let before = seen.ranges.last_key_value().map_or(seen.floor, |(_, last)| last + 1);
        ensure(before < first, "ranges of serials touch")?;
        seen.sum.add(range_hash(first, last));
        seen.ranges.insert(first, last);
        Ok(())
    }

    /// Computes the sums afresh.
    pub(super) fn sum_up(&mut self) {
        for seen in self.servers.values_mut() {
            seen.sum = seen.ranges.iter().map(|(first, last)| range_hash(*first, *last)).collect();
        }
    }
}

/// The hash of one range.
fn range_hash(first: u64, last: u64) -> u64 {
    Digest::of(Kind::Range).number(first).number(last).value()
}

impl Seen {
    fn new(incarnation: u64, floor: u64) -> Seen {
        Seen { incarnation, floor, ranges: BTreeMap::new(), sum: Sum::default() }
    }

    fn contains(&self, serial: u64) -> bool {
        let range_before = self.ranges.range(..=serial).next_back();
        (serial < self.floor && !removed(Rule::FloorIsRespected))
            || range_before.is_some_and(|(_, last)| serial <= *last)
    }

    /// Records a serial; false if it was there.
    fn insert(&mut self, serial: u64) -> bool {
        if self.contains(serial) {
            return false;
        }
        // In order, as they mostly come: the ranges are left alone. (None is below the floor unless
        // its rule is removed.)
        if serial <= self.floor {
            self.raise_floor(serial + 1);
            return true;
        }
        let mut first = serial;
        let mut last = serial;
        // Grow over the neighbours that touch the serial.
        if let Some((before_first, before_last)) = self.ranges.range(..serial).next_back()
            && before_last + 1 == serial
        {
            first = *before_first;
            self.sum.subtract(range_hash(first, *before_last));
        }
        if let Some(after_last) = self.ranges.remove(&(serial + 1)) {
            last = after_last;
            self.sum.subtract(range_hash(serial + 1, last));
        }
        self.ranges.insert(first, last);
        self.sum.add(range_hash(first, last));
        true
    }

    /// Raises the floor to `floor`, and on over the ranges that it reaches.
    fn raise_floor(&mut self, floor: u64) {
        let risen = self.floor.max(floor);
        self.floor = if removed(Rule::FloorOnlyRises) { floor } else { risen };
        while let Some(range) = self.ranges.first_entry()
            && *range.key() <= self.floor
        {
            // A range that ends below the floor is simply forgotten.
            let (first, last) = range.remove_entry();
            self.sum.subtract(range_hash(first, last));
            self.floor = self.floor.max(last + 1);
        }
        assert!(
            self.ranges.first_key_value().is_none_or(|(first, _)| *first > self.floor),
            "equal knowledge is an equal value: what touches the floor is part of it"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn request(server: u32, incarnation: u64, serial: u64) -> RequestId {
        RequestId { server, incarnation, serial }
    }

    /// S71: a re-sent INCR must not count twice, however late its twin comes.
    #[test]
    fn a_request_is_admitted_once() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(request(1, 1, 5), 3));
        assert!(!sessions.admit(request(1, 1, 5), 3));
        assert!(sessions.admit(request(2, 1, 5), 3), "ids of two servers have nothing in common");
        assert!(sessions.contains(request(1, 1, 5)));
        assert!(!sessions.contains(request(1, 1, 4)));
        assert!(sessions.contains(request(1, 1, 2)), "below the floor: it will never be executed");
    }

    /// The gateway has given up what is below its floor: it may have said so to its client.
    #[test]
    fn a_request_below_the_floor_is_ignored() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(request(1, 1, 9), 8));
        assert!(!sessions.admit(request(1, 1, 7), 7));
        assert!(sessions.admit(request(1, 1, 8), 5), "a late, lower floor does not lower ours");
        assert!(!sessions.admit(request(1, 1, 6), 5));
    }

    /// A restarted server counts from 1 again; leftovers of its former life must not come after.
    #[test]
    fn a_new_incarnation_starts_afresh_and_ends_the_old_one() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(request(1, 1, 100), 100));
        assert!(sessions.admit(request(1, 2, 1), 1));
        assert!(!sessions.admit(request(1, 1, 101), 101));
        assert!(sessions.contains(request(1, 1, 101)));
        assert!(sessions.admit(request(1, 2, 2), 1));
    }

    /// The table is in every snapshot and in memory for ever: it must not grow with the requests.
    #[test]
    fn serials_in_order_take_no_ranges() {
        let mut sessions = Sessions::default();
        for serial in 1..1000 {
            assert!(sessions.admit(request(1, 1, serial), 1));
            assert_eq!(sessions.ranges(), 0);
        }
        assert!(sessions.admit(request(1, 1, 1001), 1));
        assert_eq!(sessions.ranges(), 1);
        assert!(sessions.admit(request(1, 1, 1000), 1));
        assert_eq!(sessions.ranges(), 0);
    }

    proptest! {
        /// The ranges are a way to write down a set: a plain set and a plain floor decide the same.
        #[test]
        fn ranges_decide_like_a_set(
            requests in proptest::collection::vec((1..3_u64, 1..40_u64, 0..40_u64), 0..120)
        ) {
            let mut sessions = Sessions::default();
            let (mut incarnation, mut floor, mut seen) = (0, 0, BTreeSet::new());
            for (its_incarnation, serial, its_floor) in requests {
                let its_floor = its_floor.min(serial);
                let admitted = sessions.admit(request(1, its_incarnation, serial), its_floor);
                if its_incarnation > incarnation {
                    (incarnation, floor, seen) = (its_incarnation, 0, BTreeSet::new());
                }
                let expected = if its_incarnation < incarnation {
                    false
                } else {
                    floor = floor.max(its_floor);
                    serial >= floor && seen.insert(serial)
                };
                prop_assert_eq!(admitted, expected);
                let mut summed_up = sessions.clone();
                summed_up.sum_up();
                prop_assert_eq!(&sessions, &summed_up);
                for serial in 0..42 {
                    let expected = serial < floor || seen.contains(&serial);
                    prop_assert_eq!(sessions.contains(request(1, incarnation, serial)), expected);
                }
            }
        }
    }
}
