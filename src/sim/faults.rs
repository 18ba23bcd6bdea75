//! What can go wrong, as data: a fault has a beginning, an end and a kind.
//!
//! Faults stand in a list that is drawn before the run begins (`schedule`), and so a
//! failing run can be repeated with parts of the list left out until what remains is what it takes.

use std::fmt;

use super::disk::Ending;
use super::queue::{Micros, Place};

/// One tick of every server's clock, in microseconds, while the clock is right.
pub const TICK: Micros = 10_000;

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
    /// A disk fails once, at one of its next operations, and works again afterwards, as if nothing
    /// had been: but what was written and not synced is gone. The server must end itself.
    BadDisk(Place),
    /// A disk is full: no file can grow. A server that reserves its space lives on, and takes
    /// writes again when there is room; another must end itself, and comes back then.
    FullDisk(Place),
    /// Something happens to a leader, at a moment of its work. Chance alone strikes followers
    /// mostly and idle leaders the rest of the time, and logs differ only where a leader was lost
    /// between two steps of what it was doing.
    Leader(Moment, LeaderFault),
}

/// When a leader is struck: at once, or the next time that any leader gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Whoever leads now.
    Now,
    /// It has just been elected, and nobody else has its no-op.
    Elected,
    /// Its own disk has just synced an entry that is not committed.
    Synced,
    /// It has just sent entries to one follower, and not yet to the others.
    Sent,
    /// It has just committed, and nobody else knows.
    Committed,
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
    /// Its clock runs late: it believes to lead long after the others have given it up.
    Clock(u32),
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
            LeaderFault::Clock(percent) => FaultKind::Clock(leader, percent),
        }
    }
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
            FaultKind::BadDisk(who) => write!(out, "the disk of n{} fails once", name(who)),
            FaultKind::FullDisk(who) => write!(out, "the disk of n{} is full", name(who)),
            FaultKind::Leader(Moment::Now, what) => write!(out, "the leader then: {what:?}"),
            FaultKind::Leader(moment, what) => {
                write!(out, "the next leader that is at {moment:?}: {what:?}")
            }
        }
    }
}

fn names(bits: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |place| bits & (1 << place) != 0).map(|place| place + 1)
}
