//! What goes wrong in a run: drawn from the seed before it begins, and data from then on.
//!
//! *Swarm testing* (Groce et al., 2012): a run in which everything goes wrong a little finds less
//! than many runs in which a few things, different each time, go wrong a lot. A run that is always
//! crashing never fills a window; one that always loses messages never has two leaders with long
//! logs. So each seed first draws which kinds of trouble exist in its world at all, and how bad
//! they are.
//!
//! Faults have a beginning and an end and stand in a list. A failing run is repeated with parts of
//! the list left out until what remains is what it takes: see `report`.

use std::fmt;

use super::disk::Ending;
use super::queue::{Micros, Place};
use super::random::{PerTenThousand, Random};
use crate::{gateway, raft};

/// One tick of every server's clock, in microseconds, while the clock is right.
pub const TICK: Micros = 10_000;

/// Faults drawn for one run. A run ends by its steps, so the last ones may never happen.
const FAULTS_MAX: usize = 400;

/// Which kinds of trouble a run may have. Each seed draws its own from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Servers crash and come back.
    pub crashes: bool,
    /// The network falls apart.
    pub partitions: bool,
    /// Messages are lost, doubled, late, overtaken; connections break.
    pub messages: bool,
    /// Servers stop for a while without noticing.
    pub freezes: bool,
    /// Clocks tick too fast and too slowly.
    pub clocks: bool,
    /// Disks are slow, hang, fail.
    pub disks: bool,
    /// Clients hop, hang up and lose patience.
    pub clients: bool,
}

impl Kinds {
    /// All trouble.
    pub const ALL: Kinds = Kinds {
        crashes: true,
        partitions: true,
        messages: true,
        freezes: true,
        clocks: true,
        disks: true,
        clients: true,
    };

    /// No trouble.
    pub const NONE: Kinds = Kinds {
        crashes: false,
        partitions: false,
        messages: false,
        freezes: false,
        clocks: false,
        disks: false,
        clients: false,
    };

    /// From a list such as `crashes,disks`; `all` and `none` are words too.
    pub fn parse(list: &str) -> Result<Kinds, String> {
        let mut kinds = Kinds::NONE;
        for word in list.split(',') {
            match word.trim() {
                "all" => kinds = Kinds::ALL,
                "none" => {}
                "crashes" => kinds.crashes = true,
                "partitions" => kinds.partitions = true,
                "messages" => kinds.messages = true,
                "freezes" => kinds.freezes = true,
                "clocks" => kinds.clocks = true,
                "disks" => kinds.disks = true,
                "clients" => kinds.clients = true,
                other => {
                    return Err(format!(
                        "no fault is called {other:?}; there are crashes, partitions, messages, \
                         freezes, clocks, disks, clients, all and none"
                    ));
                }
            }
        }
        Ok(kinds)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.crashes, "crashes"),
            (self.partitions, "partitions"),
            (self.messages, "messages"),
            (self.freezes, "freezes"),
            (self.clocks, "clocks"),
            (self.disks, "disks"),
            (self.clients, "clients"),
        ];
        let chosen: Vec<&str> = words.iter().filter_map(|(on, word)| on.then_some(*word)).collect();
        match chosen.len() {
            0 => out.write_str("none"),
            7 => out.write_str("all"),
            _ => out.write_str(&chosen.join(",")),
        }
    }
}

/// Everything about a run that is decided before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed it was drawn from.
    pub seed: u64,
    /// How many servers.
    pub servers: usize,
    /// The core's timings and bounds.
    pub raft: raft::Options,
    /// The gateway's.
    pub gateway: gateway::Options,
    /// How messages travel.
    pub network: NetworkHabits,
    /// How disks behave.
    pub disk: DiskHabits,
    /// How clients behave.
    pub clients: ClientHabits,
    /// How long a worker thread takes to wake up, at most.
    pub wake_max: Micros,
    /// How long a socket is busy with one batch of messages, at most.
    pub socket_max: Micros,
    /// What goes wrong, by the time at which it begins.
    pub faults: Vec<Fault>,
}

/// How messages travel.
#[derive(Clone, Debug)]
pub struct NetworkHabits {
    /// Connections that keep order and break as a whole, as TCP; otherwise each message for itself.
    pub ordered: bool,
    /// The fastest way, in microseconds.
    pub delay_min: Micros,
    /// The slowest usual way.
    pub delay_max: Micros,
    /// How often a message is much slower.
    pub late: PerTenThousand,
    /// How slow "much slower" is at most.
    pub late_max: Micros,
    /// How often a message (or the whole connection) is lost.
    pub loss: PerTenThousand,
    /// How often a message arrives twice.
    pub twice: PerTenThousand,
    /// How often a closed connection is noticed only when it is replaced.
    pub silent_close: PerTenThousand,
}

/// How disks behave.
#[derive(Clone, Debug)]
pub struct DiskHabits {
    /// The fastest sync, in microseconds.
    pub sync_min: Micros,
    /// The slowest usual one.
    pub sync_max: Micros,
    /// Bytes that the log writer takes at once.
    pub write_bytes_max: usize,
    /// Bytes after which the journal begins another segment.
    pub segment_bytes: u64,
}

/// How clients behave.
#[derive(Clone, Debug)]
pub struct ClientHabits {
    /// How many.
    pub count: usize,
    /// Requests that one sends without waiting.
    pub pipeline_max: usize,
    /// Pause between two requests, at most.
    pub think_max: Micros,
    /// How long one waits for an answer.
    pub patience: Micros,
    /// How often one hangs up with requests under way.
    pub hang_up: PerTenThousand,
    /// How many keys they share.
    pub keys: u64,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// Reads among the requests.
    pub reads: PerTenThousand,
}

/// Something goes wrong, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at: Micros,
    /// How long it lasts.
    pub lasts: Micros,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// These servers (a bit each) end; they come back when the fault ends.
    Crash(u8, Ending),
    /// Messages from server i to the servers in `blocked[i]` (a bit each) do not arrive.
    Partition([u8; 8]),
    /// The connections between two servers break, once.
    Break(Place, Place),
    /// A server stops, and goes on later without noticing (SIGSTOP, a paused virtual machine).
    Freeze(Place),
    /// A server's clock ticks this many times slower or faster, in hundredths.
    Clock(Place, u32),
    /// A disk takes this many times longer.
    SlowDisk(Place, u32),
    /// A disk does nothing.
    HungDisk(Place),
    /// A disk's next write or sync fails. The server ends itself.
    BadDisk(Place),
    /// Something happens to whoever leads when the fault begins. Chance alone strikes followers
    /// mostly, and logs differ only where a leader was lost in the middle of its work.
    Leader(LeaderFault),
    /// The same happens to the next leader, this long after its election. That is when logs differ
    /// most, and when most is at stake (Figure 8).
    NewLeader(LeaderFault, Micros),
}

/// What happens to a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderFault {
    /// It crashes.
    Crash(Ending),
    /// Nobody hears it and it hears nobody.
    Isolate,
    /// Nobody hears it.
    Silence,
    /// It reaches one other server only.
    OneFriend(Place),
    /// It freezes.
    Freeze,
    /// Its disk hangs.
    HungDisk,
}

impl LeaderFault {
    /// What that means when the leader is at this place.
    pub fn at(self, leader: Place, servers: usize) -> FaultKind {
        let all = ((1u16 << servers) - 1) as u8;
        let alone = |mutual: bool| {
            let mut blocked = [0u8; 8];
            for (from, blocked) in blocked.iter_mut().enumerate().take(servers) {
                let is_leader = from == usize::from(leader);
                *blocked = match (is_leader, mutual) {
                    (true, _) => all & !(1 << leader),
                    (false, true) => 1 << leader,
                    (false, false) => 0,
                };
            }
            blocked
        };
        match self {
            LeaderFault::Crash(ending) => FaultKind::Crash(1 << leader, ending),
            LeaderFault::Isolate => FaultKind::Partition(alone(true)),
            LeaderFault::Silence => FaultKind::Partition(alone(false)),
            LeaderFault::OneFriend(friend) => {
                let mut blocked = alone(true);
                blocked[usize::from(leader)] &= !(1 << friend);
                blocked[usize::from(friend)] &= !(1 << leader);
                FaultKind::Partition(blocked)
            }
            LeaderFault::Freeze => FaultKind::Freeze(leader),
            LeaderFault::HungDisk => FaultKind::HungDisk(leader),
        }
    }
}

impl Plan {
    /// Draws a world.
    pub fn draw(seed: u64, servers: Option<usize>, allowed: Kinds) -> Plan {
        let mut random = Random::part(seed, 1);
        // Small odd clusters are where people run it; every size must work.
        let servers = servers.unwrap_or_else(|| random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]));
        let kinds = draw_kinds(&mut random, allowed);
        let heartbeat_ticks = random.ticks(1, 5);
        let election_min_ticks = heartbeat_ticks * random.ticks(2, 4) + 1;
        let election_max_ticks = election_min_ticks + random.ticks(2, 15);
        let append_bytes_max = random.pick(&[100, 1_000, 100_000]);
        let raft = raft::Options {
            heartbeat_ticks,
            election_min_ticks,
            election_max_ticks,
            append_bytes_max,
            window_bytes_max: append_bytes_max * random.pick(&[1, 3, 20]),
            uncommitted_bytes_max: random.pick(&[500, 5_000, 500_000]),
        };
        let gateway = gateway::Options {
            pending_bytes_max: random.pick(&[1_000, 20_000, 1_000_000]),
            deadline_ticks: random.between(20, 200),
            resend_ticks: random.between(3, 20),
            backoff_ticks: random.between(1, 5),
            forward_bytes_max: random.pick(&[64, 1_000, 100_000]),
        };
        let network = NetworkHabits::draw(&mut random, kinds);
        let disk = DiskHabits::draw(&mut random, kinds);
        let clients = ClientHabits::draw(&mut random, kinds);
        let wake_max = random.pick(&[0, 0, 50, 3_000]);
        let socket_max = random.pick(&[0, 30, 2_000]);
        let faults = draw_faults(&mut random, servers, kinds);
        Plan { seed, servers, raft, gateway, network, disk, clients, wake_max, socket_max, faults }
    }

    /// Ends all trouble: from now on the cluster has no excuse.
    pub fn make_peace(&mut self) {
        self.network.loss = 0;
        self.network.twice = 0;
        self.network.late = 0;
        self.clients.hang_up = 0;
        self.network.delay_max = self.network.delay_max.min(1_000).max(self.network.delay_min);
        // A disk that syncs one entry at a time, slowly, may have a long way to go.
        self.disk.sync_max = self.disk.sync_max.min(300);
        self.disk.write_bytes_max = self.disk.write_bytes_max.max(10_000);
    }
}

/// Of the kinds that are allowed, a seed has each with two chances in three.
fn draw_kinds(random: &mut Random, allowed: Kinds) -> Kinds {
    let mut draw = |allowed: bool| random.chance(6_600) && allowed;
    Kinds {
        crashes: draw(allowed.crashes),
        partitions: draw(allowed.partitions),
        messages: draw(allowed.messages),
        freezes: draw(allowed.freezes),
        clocks: draw(allowed.clocks),
        disks: draw(allowed.disks),
        clients: draw(allowed.clients),
    }
}

impl NetworkHabits {
    fn draw(random: &mut Random, kinds: Kinds) -> NetworkHabits {
        let delay_min = random.between(20, 500);
        let mut rate = |choices: &[PerTenThousand]| {
            let drawn = random.pick(choices);
            if kinds.messages { drawn } else { 0 }
        };
        let loss = rate(&[0, 1, 20, 100, 500, 2_000]);
        let twice = rate(&[0, 0, 100, 1_000]);
        let late = rate(&[0, 50, 500, 2_000]);
        NetworkHabits {
            ordered: random.chance(5_000),
            delay_min,
            delay_max: delay_min + random.pick(&[1, 200, 3_000, 15_000]),
            late,
            late_max: random.pick(&[20_000, 100_000, 1_000_000]),
            loss,
            twice,
            silent_close: random.pick(&[0, 2_000, 8_000]),
        }
    }
}

impl DiskHabits {
    fn draw(random: &mut Random, kinds: Kinds) -> DiskHabits {
        let slowest: &[Micros] = if kinds.disks { &[100, 3_000, 30_000] } else { &[100, 1_000] };
        DiskHabits {
            sync_min: 20,
            sync_max: random.pick(slowest),
            write_bytes_max: random.pick(&[1, 300, 1_000_000]),
            segment_bytes: random.pick(&[500, 5_000, 50_000]),
        }
    }
}

impl ClientHabits {
    fn draw(random: &mut Random, kinds: Kinds) -> ClientHabits {
        ClientHabits {
            count: random.position(6) + 1,
            pipeline_max: random.pick(&[1, 1, 3, 8]),
            think_max: random.pick(&[1_000, 10_000, 50_000]),
            patience: random.pick(&[100_000, 1_000_000, 5_000_000]),
            hang_up: if kinds.clients { random.pick(&[0, 50, 500]) } else { 0 },
            keys: random.between(1, 6),
            value_bytes_max: random.pick(&[8, 60, 400]),
            reads: random.pick(&[1_000, 4_000, 8_000]),
        }
    }
}

fn draw_faults(random: &mut Random, servers: usize, kinds: Kinds) -> Vec<Fault> {
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
    let at_election = random.pick(&[0, 3_000, 8_000]);
    let mut faults = Vec::new();
    let mut at = 0;
    while !groups.is_empty() && faults.len() < FAULTS_MAX {
        at += random.between(1, pause_max);
        let group = random.pick(&groups);
        let kind = if random.chance(at_leader) {
            let kind = group.draw_for_leader(random, servers);
            match kind {
                FaultKind::Leader(what) if random.chance(at_election) => {
                    FaultKind::NewLeader(what, random.between(0, 20_000))
                }
                kind => kind,
            }
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
        FaultKind::Leader(match self {
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
        })
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
            FaultGroup::Disk => match random.below(3) {
                0 => FaultKind::SlowDisk(place(random), random.pick(&[3, 30, 300])),
                1 => FaultKind::HungDisk(place(random)),
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

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.at as f64 / 1e6, (self.at + self.lasts) as f64 / 1e6);
        write!(out, "{from:.6} .. {to:.6}  {}", self.kind)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place: &Place| place + 1;
        match self {
            FaultKind::Crash(who, ending) => {
                write!(out, "{ending:?}:")?;
                names(*who).try_for_each(|name| write!(out, " n{name}"))
            }
            FaultKind::Partition(blocked) => {
                write!(out, "messages do not arrive")?;
                for (from, blocked) in blocked.iter().enumerate().filter(|(_, to)| **to != 0) {
                    write!(out, "; n{} to", from + 1)?;
                    names(*blocked).try_for_each(|name| write!(out, " n{name}"))?;
                }
                Ok(())
            }
            FaultKind::Break(a, b) => {
                write!(out, "the connections between n{} and n{} break", name(a), name(b))
            }
            FaultKind::Freeze(who) => write!(out, "n{} freezes", name(who)),
            FaultKind::Clock(who, percent) => {
                write!(out, "the ticks of n{} take {percent} % of their time", name(who))
            }
            FaultKind::SlowDisk(who, times) => {
                write!(out, "the disk of n{} is {times} times slower", name(who))
            }
            FaultKind::HungDisk(who) => write!(out, "the disk of n{} hangs", name(who)),
            FaultKind::BadDisk(who) => write!(out, "the next write of n{} fails", name(who)),
            FaultKind::Leader(what) => write!(out, "the leader then: {what:?}"),
            FaultKind::NewLeader(what, after) => {
                write!(out, "the next leader, {after} µs after its election: {what:?}")
            }
        }
    }
}

fn names(bits: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |place| bits & (1 << place) != 0).map(|place| place + 1)
}
