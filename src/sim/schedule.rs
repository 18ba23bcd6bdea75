//! The misfortunes of one run: which, when, how long, and whom they strike.

use super::disk::Ending;
use super::faults::{Fault, FaultKind, Kinds, LeaderFault, Moment};
use super::queue::Place;
use super::random::Random;

/// Faults drawn for one run. A run ends by its steps, so the last ones may never happen.
const FAULTS_MAX: usize = 400;

/// Draws the faults of a run, in the order in which they begin.
pub(super) fn draw(random: &mut Random, servers: usize, kinds: Kinds) -> Vec<Fault> {
    let pause_max = random.pick(&[30_000, 200_000, 1_000_000]);
    let lasts_max = random.pick(&[10_000, 300_000, 2_000_000]);
    let everything = [
        (kinds.crashes, FaultGroup::Crash),
        (kinds.partitions, FaultGroup::Partition),
        (kinds.messages, FaultGroup::Break),
        (kinds.freezes, FaultGroup::Freeze),
        (kinds.clocks, FaultGroup::Clock),
        (kinds.disks, FaultGroup::Disk),
    ];
    let groups: Vec<FaultGroup> =
        everything.into_iter().filter_map(|(on, group)| on.then_some(group)).collect();
    let at_leader = random.pick(&[0, 2_000, 7_000]);
    let mut faults = Vec::new();
    let mut at = 0;
    while !groups.is_empty() && faults.len() < FAULTS_MAX {
        at += random.between(1, pause_max);
        let group = random.pick(&groups);
        let kind = if random.chance(at_leader) {
            group.draw_for_leader(random, servers)
        } else {
            group.draw(random, servers)
        };
        faults.push(Fault { at, lasts: random.between(1_000, lasts_max), kind });
    }
    faults
}

#[derive(Clone, Copy)]
enum FaultGroup {
    Crash,
    Partition,
    Break,
    Freeze,
    Clock,
    Disk,
}

impl FaultGroup {
    fn draw_for_leader(self, random: &mut Random, servers: usize) -> FaultKind {
        let what = match self {
            FaultGroup::Crash => {
                LeaderFault::Crash(random.pick(&[Ending::Killed, Ending::PowerLost]))
            }
            FaultGroup::Partition => match random.below(3) {
                0 => LeaderFault::Isolate,
                1 => LeaderFault::Silence,
                _ => LeaderFault::OneFriend(random.below(servers as u64) as Place),
            },
            FaultGroup::Freeze => LeaderFault::Freeze,
            FaultGroup::Disk => LeaderFault::HungDisk,
            FaultGroup::Break | FaultGroup::Clock => return self.draw(random, servers),
        };
        let moments =
            [Moment::Now, Moment::Elected, Moment::Synced, Moment::Sent, Moment::Committed];
        FaultKind::Leader(random.pick(&moments), what)
    }

    fn draw(self, random: &mut Random, servers: usize) -> FaultKind {
        let place = |random: &mut Random| random.below(servers as u64) as Place;
        let all = ((1u16 << servers) - 1) as u8;
        match self {
            FaultGroup::Crash => {
                let who = match random.below(8) {
                    0 => all,
                    1 | 2 => (random.bits() as u8 & all) | 1 << place(random),
                    _ => 1 << place(random),
                };
                FaultKind::Crash(who, random.pick(&[Ending::Killed, Ending::PowerLost]))
            }
            FaultGroup::Partition => FaultKind::Partition(draw_partition(random, servers)),
            FaultGroup::Break => FaultKind::Break(place(random), place(random)),
            FaultGroup::Freeze => FaultKind::Freeze(place(random)),
            FaultGroup::Clock => {
                FaultKind::Clock(place(random), random.pick(&[25, 50, 90, 110, 200, 400]))
            }
            FaultGroup::Disk => match random.below(4) {
                0 => FaultKind::SlowDisk(place(random), random.pick(&[3, 30, 300])),
                1 => FaultKind::HungDisk(place(random)),
                2 => FaultKind::FullDisk(place(random)),
                _ => FaultKind::BadDisk(place(random)),
            },
        }
    }
}

/// Every shape in which a network falls apart.
fn draw_partition(random: &mut Random, servers: usize) -> [u8; 8] {
    let all = ((1u16 << servers) - 1) as u8;
    let side = random.bits() as u8 & all;
    let one = random.position(servers);
    let other = random.position(servers);
    let shape = random.below(6);
    let mut blocked = [0u8; 8];
    for (from, blocked) in blocked.iter_mut().enumerate().take(servers) {
        let bit = 1u8 << from;
        let in_side = side & bit != 0;
        *blocked = match shape {
            0 => {
                if in_side {
                    !side
                } else {
                    side
                }
            } // two halves
            1 => {
                if in_side {
                    !side
                } else {
                    0
                }
            } // two halves, one direction
            2 => {
                if from == one {
                    1 << other
                } else {
                    0
                }
            } // one link, one direction
            3 => {
                if from == one {
                    !bit
                } else {
                    1 << one
                }
            } // one server alone
            4 if from == one => 0, // a bridge: both halves hear only `one`
            4 => (if in_side { !side } else { side }) & !(1 << one),
            _ => {
                // A ring: everybody hears only its neighbours.
                let next = (from + 1) % servers;
                let previous = (from + servers - 1) % servers;
                !(1 << next | 1 << previous)
            }
        } & all
            & !bit;
    }
    blocked
}
