//! Bringing a server up, thread by thread, and down again.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};

use crate::config::{Effective, Limits, Storage};
use crate::gateway::{self, Answered};
use crate::kv::StateMachine;
use crate::limits;
use crate::observe::events::log_event;
use crate::observe::logger::{self, Logger};
use crate::raft::event::Event;
use crate::raft::quorum::Membership;
use crate::raft::types::ServerId;
use crate::raft::{self, Recovered};
use crate::server::Server;
use crate::server::divergence::{Difference, StateHash};
use crate::state_file;
use crate::storage::disk::RealDisk;
use crate::storage::identity::{DataDirectory, Expected, random_number};
use crate::storage::journal::{Journal, Options};
use crate::storage::pace::{Hurry, Pace};
use crate::storage::recovery;
use crate::storage::snapshot::{self, SnapshotFile, Snapshots};
use crate::transport::hello::Identity;
use crate::transport::listener::{Listener, ListenerCloser};

use super::admin::Admins;
use super::applier::{self, Applier};
use super::backup::Backups;
use super::caretaker::{self, Caretaker, caretaker};
use super::client::Clients;
use super::connections::{Connections, connections_max};
use super::crowd::crowd;
use super::doorbell::{Bell, doorbell};
use super::ending::{self, Diverged, Ending, LAST_WORDS_MAX, Patience, ServeError};
use super::history::History;
use super::insight::Insights;
use super::links::Links;
use super::lobby::Lobby;
use super::monitor::{Deliver, Monitor, Workers};
use super::peer_receiver::PeerReceivers;
use super::peer_sender::PeerSender;
use super::peers::Peers;
use super::progress::{Doing, Progress};
use super::report::Reporter;
use super::snapshot_files::SnapshotFiles;
use super::snapshotter::{Shelf, Snapshotter};
use super::space::Keeper;
use super::{log_writer, ticker};

/// Milliseconds of one tick: all timeouts of the core and the gateway are multiples of it.
const TICK_MS: u64 = 10;

/// Runs the server until it is told to stop (`Ok`) or cannot go on. Call it once in a process. Why
/// it cannot go on is for the caller to tell, once, with the exit code that belongs to it.
pub fn serve(config: &Effective) -> Result<(), ServeError> {
    let logger = start_logger()?;
    let ended = run(config, &logger);
    if ended.is_ok() {
        log::info!("stopped");
    }
    logger.flush(LAST_WORDS_MAX);
    ended
}

fn run(config: &Effective, logger: &Logger) -> Result<(), ServeError> {
    let id = ServerId(config.id);
    logger::set_context(config.id, 0, b'F');
    log::info!(
        "raft-server version={} config={} data={} cluster={} server={id}",
        env!("CARGO_PKG_VERSION"),
        config.file.display(),
        config.data.display(),
        config.cluster,
    );
    let directory = DataDirectory::open(&config.data, &expected(config))?;
    // Addresses before the journal: a server that cannot listen has not lived.
    let client_listener = Listener::bind(&config.client_listen)?;
    let peer_listener = Listener::bind(&config.peer_listen)?;
    for (name, listener) in [("client", &client_listener), ("peer", &peer_listener)] {
        announce(name, listener)?;
    }
    if let Some(origin) = &directory.identity().restored {
        log::info!("restored from a backup of cluster={} {}", origin.cluster_id, origin.snapshot);
    }
    let (since, doing) = (Instant::now(), Doing::new("verifying the newest snapshot"));
    let lobby = Lobby::new(since, doing.clone());
    let stop_accepting = receive_clients(&lobby, client_listener)?;
    let opened = open_storage(config, &directory, &Progress::new(since, doing))?;
    log::info!("disk probe sync_micros={}", directory.time_a_sync()?.as_micros());
    ending::end_on_panic(logger.clone());
    let (endings_sender, endings) = ending::endings()?;

    let running = Running::start(config, &directory, opened, endings_sender)?;
    running.listen(config, &lobby, peer_listener)?;
    let ended = endings.recv().expect("the signals thread holds a sender for ever");
    match ended {
        Ending::Signal(signal) => {
            log::info!("signal={signal}: stops accepting, answers what can be answered");
            stop_accepting.close();
            match ending::hand_over(&running.monitor, &endings)? {
                Patience::Some => ending::drain(&running.monitor, &running.connections, &endings),
                Patience::None => Ok(()),
            }
        }
        Ending::Disk(error) => Err(error.into()),
        Ending::Diverged(how) => Err(how.into()),
    }
}

/// What a server found on its disk.
struct Opened {
    journal: Journal<RealDisk>,
    recovered: Recovered,
    incarnation: u64,
    run_id: u64,
    /// The state at the snapshot that `recovered` begins with; empty without one.
    state: StateMachine,
    snapshots: Snapshots<RealDisk>,
    /// Makes them be written and removed without rests.
    hurry: Hurry,
    /// That snapshot.
    newest: Option<SnapshotFile<RealDisk>>,
}

/// Begins to accept clients, which wait in the lobby. Returns what ends that.
fn receive_clients(lobby: &Arc<Lobby>, listener: Listener) -> Result<ListenerCloser, ServeError> {
    let closer = listener.closer();
    let (accepting, attending) = (Arc::clone(lobby), Arc::clone(lobby));
    spawn("client-accept", move || accepting.accept(listener))?;
    spawn("lobby", move || attending.attend())?;
    Ok(closer)
}

fn open_storage(
    config: &Effective,
    directory: &DataDirectory,
    progress: &Progress,
) -> Result<Opened, ServeError> {
    let mut options = snapshot::Options::new(config.cluster.clone());
    let hurry = Hurry::default();
    options.pace = Pace::Considerate(hurry.clone());
    let (snapshots, found) = Snapshots::open(directory.snapshots_disk()?, options)?;
    for error in &found.damaged {
        log::error!("{error}; trying to do without it");
    }
    warn_of_strangers("snapshots", &found.unrecognised);
    progress.stage("building the state from its snapshot");
    let state = load_state(found.newest.as_ref())?;
    progress.stage("reading the journal");
    let since = Instant::now();
    let run_id = random_number()?;
    let mut options = Options::new(directory.identity().journal_id, run_id);
    options.segment_bytes = config.storage.segment_bytes;
    let (journal, recovered) = recovery::open(directory.journal_disk()?, options, found.id())?;
    let report = &recovered.report;
    if report.cut_bytes > 0 {
        log::info!(
            "ignored bytes={} behind the last batch: of a write that a crash interrupted, or from \
             before the segment was used again",
            report.cut_bytes
        );
    }
    warn_of_strangers("journal", &report.unrecognised);
    log::info!(
        "recovered term={} vote={:?} snapshot={} entries={} last={} segments={} run={} ms={}",
        recovered.hard_state.current_term,
        recovered.hard_state.voted_for.map(|vote| vote.0),
        recovered.snapshot,
        recovered.entries.len(),
        recovered.entries.last().map_or(recovered.snapshot.last, |entry| entry.id),
        report.segments,
        recovered.incarnation,
        since.elapsed().as_millis(),
    );
    let incarnation = recovered.incarnation;
    let recovered = Recovered {
        hard_state: recovered.hard_state,
        snapshot: recovered.snapshot,
        snapshot_bytes: found.newest.as_ref().map_or(0, SnapshotFile::length_bytes),
        entries: recovered.entries,
    };
    let newest = found.newest;
    // The journal goes on behind it, so it has replaced those before it. The server may have ended
    // before it removed them, and on a full disk there may never be another one that does.
    if let Some(Err(error)) = newest.as_ref().map(|newest| snapshots.keep_only(newest)) {
        log::error!("older snapshots stay: {error}");
    }
    Ok(Opened { journal, recovered, incarnation, run_id, state, snapshots, hurry, newest })
}

fn load_state(newest: Option<&SnapshotFile<RealDisk>>) -> Result<StateMachine, ServeError> {
    let Some(file) = newest else { return Ok(StateMachine::default()) };
    let since = Instant::now();
    let state = state_file::load(file)?;
    log::info!(
        "loaded snapshot={} keys={} bytes={} ms={}",
        file.id(),
        file.header().keys,
        file.length_bytes(),
        since.elapsed().as_millis(),
    );
    Ok(state)
}

fn warn_of_strangers(directory: &str, names: &[String]) {
    for name in names {
        log::warn!("the directory {directory:?} holds {name:?}, which is not ours: left alone");
    }
}

/// A server whose threads are at work.
struct Running {
    monitor: Arc<Monitor<Deliveries>>,
    connections: Arc<Connections>,
    links: Arc<Links>,
    peers: Arc<Peers>,
    history: Arc<History>,
    files: Arc<SnapshotFiles>,
}

impl Running {
    /// Starts the threads that need no listener.
    fn start(
        config: &Effective,
        directory: &DataDirectory,
        opened: Opened,
        endings: Sender<Ending>,
    ) -> Result<Running, ServeError> {
        let Opened { journal, recovered, incarnation, run_id, state, snapshots, hurry, newest } =
            opened;
        let id = ServerId(config.id);
        let peers = Arc::new(Peers::new(
            Identity {
                cluster_id: directory.identity().name_among_peers(),
                server: id,
                incarnation,
                run_id,
            },
            other_members(config),
            directory.peers_met()?,
        ));
        let (log_writer_button, log_writer_bell) = doorbell();
        let (applier_sender, applier_receiver) = crossbeam_channel::bounded(1);
        let (buttons, mut bells): (Vec<_>, BTreeMap<ServerId, Bell>) = peers
            .ids()
            .into_iter()
            .map(|peer| {
                let (button, bell) = doorbell();
                ((peer, button), (peer, bell))
            })
            .unzip();
        let (snapshotter_button, snapshotter_bell) = doorbell();
        let files = Arc::new(SnapshotFiles::default());
        newest.into_iter().for_each(|file| files.add(file));
        let links = Arc::new(Links::new(buttons, Arc::clone(&files)));
        let most = connections_max(config.limits.connections, peers.ids().len());
        let connections = Arc::new(Connections::new(most));
        let monitor = Arc::new(Monitor::new(
            server(config, recovered, incarnation, run_id),
            Duration::from_millis(TICK_MS),
            Workers {
                log_writer: log_writer_button.clone(),
                applier: applier_sender,
                snapshotter: snapshotter_button.clone(),
            },
            Arc::clone(&links),
            Deliveries { id, connections: Arc::clone(&connections), endings: endings.clone() },
        ));
        let history =
            Arc::new(History::new(state.applied_index(), config.limits.feed_history_bytes));
        let running = Running { monitor, connections, links, peers, history, files };

        let pace = Pace::Considerate(hurry.clone());
        let keeper = keeper(config, hurry);
        let disk = directory.journal_disk()?;
        let (caretaker, tools) = caretaker(disk, pace, log_writer_button.clone());
        spawn("caretaker", move || caretaker::run(&tools))?;
        running.start_log_writer(journal, caretaker, keeper, log_writer_bell, endings)?;
        let shelf = Shelf::new(snapshotter_button);
        let history = Arc::clone(&running.history);
        let applier = Applier::new(state, history, config.limits.reply_bytes, shelf.clone());
        running.start_applier(applier, applier_receiver)?;
        let snapshotter = Snapshotter {
            monitor: Arc::clone(&running.monitor),
            shelf,
            snapshots,
            files: Arc::clone(&running.files),
            bell: snapshotter_bell,
            log_writer: log_writer_button,
            cluster_id: config.cluster.clone(),
            membership: config.members.iter().map(|member| ServerId(member.id)).collect(),
        };
        spawn("snapshotter", move || snapshotter.run())?;
        for peer in running.peers.ids() {
            let bell = bells.remove(&peer).expect("each peer has a bell");
            running.start_sender(peer, bell)?;
        }
        let monitor = Arc::clone(&running.monitor);
        spawn("ticker", move || ticker::run(&monitor))?;
        Ok(running)
    }

    fn start_log_writer(
        &self,
        mut journal: Journal<RealDisk>,
        caretaker: Caretaker,
        mut keeper: Keeper,
        bell: Bell,
        endings: Sender<Ending>,
    ) -> Result<(), ServeError> {
        let monitor = Arc::clone(&self.monitor);
        let quiet = Duration::from_millis(TICK_MS);
        spawn("log-writer", move || {
            let error =
                log_writer::run(&*monitor, &bell, &mut journal, &caretaker, &mut keeper, quiet);
            endings.send(Ending::Disk(error)).expect("main waits for it");
        })
    }

    fn start_applier(
        &self,
        applier: Applier,
        handed_over: Receiver<Box<Applier>>,
    ) -> Result<(), ServeError> {
        let monitor = Arc::clone(&self.monitor);
        spawn("applier", move || {
            monitor.apply(Box::new(applier));
            applier::run(&monitor, &handed_over);
        })
    }

    fn start_sender(&self, peer: ServerId, bell: Bell) -> Result<(), ServeError> {
        let sender = PeerSender {
            monitor: Arc::clone(&self.monitor),
            links: Arc::clone(&self.links),
            peers: Arc::clone(&self.peers),
            peer,
            bell,
        };
        spawn(&format!("peer-send-{}", peer.0), move || sender.run())
    }

    /// Starts to accept peers, and lets clients in.
    fn listen(
        &self,
        config: &Effective,
        lobby: &Lobby,
        peer_listener: Listener,
    ) -> Result<(), ServeError> {
        let receivers = Arc::new(PeerReceivers {
            monitor: Arc::clone(&self.monitor),
            links: Arc::clone(&self.links),
            peers: Arc::clone(&self.peers),
            last_connection: AtomicU64::new(0),
            strangers: AtomicUsize::new(0),
        });
        spawn("peer-accept", move || receivers.accept(peer_listener))?;

        let clients = Arc::new(Clients {
            monitor: Arc::clone(&self.monitor),
            connections: Arc::clone(&self.connections),
            limits: Arc::new(config.limits.clone()),
            history: Arc::clone(&self.history),
            insights: Insights {
                monitor: Arc::clone(&self.monitor),
                connections: Arc::clone(&self.connections),
                reporter: Reporter { cluster: config.cluster.clone(), tick_ms: TICK_MS },
                config: config.clone(),
                started: Instant::now(),
            },
            admins: Admins {
                monitor: Arc::clone(&self.monitor),
                members: config.members.clone(),
                backups: Backups::new(Arc::clone(&self.monitor), Arc::clone(&self.files)),
            },
            tick_ms: TICK_MS,
        });
        let crowd_error =
            |source| ServeError::System { doing: "preparing to wait for clients", source };
        let (door, crowd) = crowd().map_err(crowd_error)?;
        let readers = Arc::clone(&clients);
        spawn("client-read", move || crowd.run(&readers))?;
        lobby.open(Box::new(move |socket, peer| clients.let_in(socket, peer, &door)));
        Ok(())
    }
}

/// Where what leaves the mutex goes.
struct Deliveries {
    id: ServerId,
    connections: Arc<Connections>,
    endings: Sender<Ending>,
}

impl Deliver for Deliveries {
    fn answers(&self, answers: Vec<Answered>) {
        self.connections.deliver(answers);
    }

    fn events(&self, events: Vec<Event>) {
        for event in events {
            log_event(self.id, &event);
        }
    }

    fn difference(&self, difference: Difference) {
        match difference {
            Difference::Ours { at: StateHash { index, hash: ours }, theirs } => {
                let how = Diverged { index, ours, theirs };
                log::error!("{how}");
                let _another_reason_came_first = self.endings.try_send(Ending::Diverged(how));
            }
            Difference::Theirs { server, at: StateHash { index, hash }, theirs } => log::error!(
                "the state of {server} is not ours: at index {index} its hash is {theirs:016x}, \
                 ours {hash:016x}; a third server would tell who is wrong"
            ),
        }
    }
}

fn server(config: &Effective, recovered: Recovered, incarnation: u64, seed: u64) -> Server {
    let membership = Membership::new(config.members.iter().map(|member| ServerId(member.id)));
    let ticks = |ms: u64| u32::try_from(ms.div_ceil(TICK_MS)).expect("the configuration is sane");
    let Limits { request_deadline_ms, gateway_bytes, uncommitted_bytes, .. } = config.limits;
    let raft_options = raft::Options {
        heartbeat_ticks: ticks(config.raft.heartbeat_ms),
        election_min_ticks: ticks(config.raft.election_ms[0]),
        election_max_ticks: ticks(config.raft.election_ms[1]),
        append_bytes_max: limits::APPEND_BYTES_MAX,
        window_bytes_max: limits::WINDOW_BYTES_MAX,
        uncommitted_bytes_max: uncommitted_bytes,
        snapshots: snapshot_options(config),
    };
    let gateway_options = gateway::Options {
        pending_bytes_max: gateway_bytes,
        deadline_ticks: request_deadline_ms.div_ceil(TICK_MS),
        resend_ticks: config.raft.election_ms[1].div_ceil(TICK_MS),
        backoff_ticks: 2,
        forward_bytes_max: limits::FORWARD_BYTES_MAX,
    };
    let id = ServerId(config.id);
    let mut server =
        Server::new(id, membership, raft_options, gateway_options, recovered, incarnation, seed);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    server.begin_log_time(u64::try_from(since_epoch.as_millis()).unwrap_or_default());
    server
}

/// Who looks after the space of the data directory.
fn keeper(config: &Effective, hurry: Hurry) -> Keeper {
    let Storage { quota_bytes, segment_bytes, .. } = config.storage;
    let request_bytes = config.limits.request_bytes.max(config.limits.transaction_bytes) as u64;
    // What an entry is larger than its request, at most.
    let entry_bytes_max = request_bytes + request_bytes / 4;
    Keeper::new(&config.data, quota_bytes, segment_bytes, entry_bytes_max, hurry)
}

fn snapshot_options(config: &Effective) -> raft::SnapshotOptions {
    let storage = &config.storage;
    raft::SnapshotOptions {
        log_bytes_max: storage.log_bytes_max(),
        log_entries_max: storage.snapshot_entries,
        age_ticks_max: storage.snapshot_age_s.saturating_mul(1000) / TICK_MS,
        retry_ticks: limits::SNAPSHOT_RETRY_MS / TICK_MS,
        tail_bytes: storage.log_tail_bytes,
        forget_entries_max: limits::FORGOTTEN_ENTRIES_MAX,
        catch_up_bytes_max: limits::LOG_CATCH_UP_BYTES_MAX,
        chunk_bytes: limits::SNAPSHOT_CHUNK_BYTES,
        window_bytes_max: limits::SNAPSHOT_WINDOW_BYTES_MAX,
    }
}

/// Whose data directory the configuration says it is.
pub fn expected(config: &Effective) -> Expected {
    Expected {
        cluster_id: config.cluster.clone(),
        server_id: ServerId(config.id),
        membership: config.members.iter().map(|member| ServerId(member.id)).collect(),
    }
}

fn other_members(config: &Effective) -> impl Iterator<Item = (ServerId, String)> + '_ {
    let others = config.members.iter().filter(|member| member.id != config.id);
    others.map(|member| (ServerId(member.id), member.peer.clone()))
}

/// Says where we listen, and warns when strangers could reach it: there is no authentication yet.
fn announce(name: &str, listener: &Listener) -> Result<(), ServeError> {
    let address: SocketAddr = listener
        .local_address()
        .map_err(|source| ServeError::System { doing: "asking where we listen", source })?;
    log::info!("listens for {name}s address={address}");
    let ip: IpAddr = address.ip();
    if !ip.is_loopback() {
        log::warn!(
            "{address} can be reached from other hosts and there is no authentication: let a \
             firewall admit only those who may read and write everything"
        );
    }
    Ok(())
}

fn start_logger() -> Result<Logger, ServeError> {
    let logger = logger::install().map_err(|error| ServeError::System {
        doing: "installing the logger",
        source: io::Error::other(error),
    })?;
    let writer = logger.clone();
    spawn("logger", move || writer.run())?;
    Ok(logger)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(drop).map_err(|source| ServeError::System { doing: "starting a thread", source })
}
