//! Everything about a run that is decided before it begins.
//!
//! *Swarm testing* (Groce et al., 2012): a run in which everything goes wrong a little finds less
//! than many runs in which a few things, different each time, go wrong a lot. A run that is always
//! crashing never fills a window; one that always loses messages never has two leaders with long
//! logs. So each seed first draws which kinds of trouble exist in its world at all, and how bad
//! they are; then the habits of network, disks and clients, the bounds and timings of the servers,
//! and the faults with their times (`schedule`).

use super::absence::Absence;
use super::faults::{Fault, Kinds, TICK};
use super::queue::Micros;
use super::random::{PerTenThousand, Random};
use super::schedule;
use super::snapshots;
use crate::storage::reserve::Reservation;
use crate::{gateway, raft};

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
    /// How long one tick of each server takes, in hundredths of what it should: no two clocks run
    /// alike.
    pub tick_percent: [u64; 8],
    /// How long a worker thread takes to wake up, at most.
    pub wake_max: Micros,
    /// How long each server's state machine takes for what it is handed at once, at most (S24).
    pub apply_max: [Micros; 8],
    /// How long a socket is busy with one batch of messages, at most.
    pub socket_max: Micros,
    /// How long a snapshotter is busy with one thing, at most.
    pub snapshot_max: Micros,
    /// How often an operator asks a server for something, at each tick.
    pub operator: PerTenThousand,
    /// What goes wrong, by the time at which it begins.
    pub faults: Vec<Fault>,
    /// What lasts on, for a time, when the faults have ended.
    pub absence: Option<Absence>,
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
    /// Whether second copies may straggle, and arrive when their senders and receivers have had
    /// other lives and other terms.
    pub stragglers: bool,
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
    /// What the journal reserves; without it a full disk ends the server.
    pub reservation: Option<Reservation>,
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
    /// How often one goes to another server although it was served well: what one server has
    /// answered, the next must know.
    pub hop: PerTenThousand,
    /// How often one hangs up with requests under way.
    pub hang_up: PerTenThousand,
    /// How many keys they share.
    pub keys: u64,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// Reads among the plain requests.
    pub reads: PerTenThousand,
    /// Requests that are not plain: with time, transactions and repetitions (`requests`).
    pub beyond_plain: PerTenThousand,
}

impl Plan {
    /// Draws a world.
    pub fn draw(seed: u64, servers: Option<usize>, allowed: Kinds) -> Plan {
        let mut random = Random::part(seed, 1);
        // Small odd clusters are where people run it; every size must work.
        let servers = servers.unwrap_or_else(|| random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]));
        let kinds = draw_kinds(&mut random, allowed);
        let heartbeat_ticks = random.ticks(1, 5);
        let election_min_ticks = heartbeat_ticks * random.ticks(2, 7) + 1;
        let election_max_ticks = election_min_ticks + random.ticks(2, 15);
        let append_bytes_max = random.pick(&[100, 1_000, 100_000]);
        let raft = raft::Options {
            heartbeat_ticks,
            election_min_ticks,
            election_max_ticks,
            append_bytes_max,
            window_bytes_max: append_bytes_max * random.pick(&[1, 3, 20]),
            uncommitted_bytes_max: random.pick(&[500, 5_000, 500_000]),
            snapshots: snapshots::draw(&mut Random::part(seed, 10)),
        };
        let gateway = gateway::Options {
            pending_bytes_max: random.pick(&[1_000, 20_000, 1_000_000]),
            deadline_ticks: random.between(20, 200),
            resend_ticks: random.between(3, 20),
            backoff_ticks: random.between(1, 5),
            forward_bytes_max: random.pick(&[64, 1_000, 100_000]),
        };
        let network = NetworkHabits::draw(&mut random, kinds);
        let mut disk = DiskHabits::draw(&mut random, kinds);
        disk.reservation = draw_reservation(&mut Random::part(seed, 13));
        let mut clients = ClientHabits::draw(&mut random, kinds);
        clients.beyond_plain = Random::part(seed, 8).pick(&[0, 3_000, 7_000]);
        let drifts: &[u64] = if kinds.clocks { &[100, 90, 110, 50, 200, 400] } else { &[100] };
        let worst = random.position(drifts.len()) + 1;
        let tick_percent = std::array::from_fn(|_| random.pick(&drifts[..worst]));
        let wake_max = random.pick(&[0, 0, 50, 3_000]);
        let appliers: &[Micros] = if random.chance(5_000) { &[0] } else { &[0, 3_000, 50_000] };
        let apply_max = std::array::from_fn(|_| random.pick(appliers));
        let socket_max = random.pick(&[0, 30, 2_000]);
        let operator = Random::part(seed, 12).pick(&[0, 10, 100]);
        let faults = schedule::draw(&mut random, servers, kinds);
        Plan {
            seed,
            servers,
            raft,
            gateway,
            network,
            disk,
            clients,
            tick_percent,
            wake_max,
            apply_max,
            socket_max,
            snapshot_max: Random::part(seed, 11).pick(&[10, 3_000, 200_000]),
            operator: if kinds == Kinds::NONE { 0 } else { operator },
            faults,
            absence: Absence::draw(seed, servers, kinds),
        }
    }

    /// Ends all trouble: from now on the cluster has no excuse.
    pub fn make_peace(&mut self) {
        self.network.loss = 0;
        self.network.twice = 0;
        self.network.stragglers = false;
        self.network.late = 0;
        self.clients.hang_up = 0;
        self.tick_percent = [100; 8];
        // What the paper asks for (§5.6): broadcastTime ≪ electionTimeout. Nobody can be elected
        // where votes take longer than patience lasts, so peace grants that and no more: of the
        // shortest timeout, a message, a wake-up and a busy socket take a twentieth each, a sync a
        // tenth, and all that a vote takes together a little less than a half.
        let timeout = u64::from(self.raft.election_min_ticks) * TICK;
        // And nobody can be served where what all clients ask at once takes longer than a request
        // may take. An entry takes nine such times at most (`entry_takes_max`): if they are an
        // eighteenth of each client's share of a deadline, one request of each takes half of it.
        let deadline = self.gateway.deadline_ticks * TICK;
        let clients = self.clients.count as u64;
        let way_max = (timeout / 20).min(deadline / clients / 18);
        self.network.delay_max = self.network.delay_max.min(way_max).max(self.network.delay_min);
        self.wake_max = self.wake_max.min(way_max);
        self.socket_max = self.socket_max.min(way_max);
        self.apply_max = self.apply_max.map(|apply_max| apply_max.min(way_max));
        self.disk.sync_max = self.disk.sync_max.min(timeout / 10).min(deadline / clients / 18);
        // Clients that ask more than that would never be served either, nor those that give up
        // before their gateway does and ask again: what they asked first still has its turn, so the
        // more they ask, the longer is the line. How fast they could do so is up to them alone, and
        // no cluster is faster than every client.
        let together = deadline / 2 / clients / self.entry_takes_max();
        self.clients.pipeline_max = self.clients.pipeline_max.min(together.max(1) as usize);
        self.clients.patience = self.clients.patience.max(deadline * 5 / 4);
    }

    /// What one entry takes at most from leader to follower and back, where windows and writes are
    /// so small that each goes alone: two ways with their wake-ups and sockets, a sync, and the
    /// slowest state machine.
    pub fn entry_takes_max(&self) -> Micros {
        2 * (self.network.delay_max + self.wake_max + self.socket_max)
            + self.wake_max
            + self.apply_max.into_iter().max().unwrap_or(0)
            + self.disk.sync_max
    }

    /// The same for a chunk of a snapshot, which the snapshotter stores.
    pub fn chunk_takes_max(&self) -> Micros {
        2 * (self.network.delay_max + self.wake_max + self.socket_max)
            + self.wake_max
            + self.snapshot_max
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

fn draw_reservation(random: &mut Random) -> Option<Reservation> {
    random.chance(8_000).then(|| Reservation {
        step_bytes: random.pick(&[100, 1_000, 10_000]),
        ahead_bytes: random.pick(&[1_500, 5_000, 20_000]),
        kept_bytes: 1_000,
        ready_max: random.position(4),
    })
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
            stragglers: random.chance(7_000) && kinds.messages,
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
            reservation: None,
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
            hop: if kinds.clients { random.pick(&[0, 1_000, 5_000]) } else { 0 },
            hang_up: if kinds.clients { random.pick(&[0, 50, 500]) } else { 0 },
            keys: random.between(1, 6),
            value_bytes_max: random.pick(&[8, 60, 400]),
            reads: random.pick(&[1_000, 4_000, 8_000]),
            beyond_plain: 0,
        }
    }
}
