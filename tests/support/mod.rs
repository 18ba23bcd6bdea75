//! Clusters of real processes: start, kill, pause and restart servers of the binary that users run.
#![allow(dead_code)] // each test binary uses its own part

pub mod client;
pub mod load;
pub mod request;
pub mod typist;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use client::Client;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_raft-server");

/// The longest that a cluster may take to have a leader that has committed in its own term.
pub const LEADER_WITHIN: Duration = Duration::from_secs(10);

/// Whether the wide suite was asked for: longer runs, and tests that need root.
pub fn wide() -> bool {
    std::env::var_os("RAFT_TEST_WIDE").is_some_and(|value| value == "1")
}

/// Asks until the answer is there; panics with `what` when the time is over.
pub fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where tests look for ports: below those that systems give to whoever connects. One of those
/// could be gone before its server has taken it, or while it is down.
const PORTS: Range<u32> = 10_000..32_000;

/// Ports of loopback that nobody listens at, all different, and no other test of this process gets
/// them.
fn free_ports(count: usize) -> Vec<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101); // other processes look elsewhere
    let port = || {
        let place = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
        u16::try_from(PORTS.start + place).expect("ports are below 65,536")
    };
    let all = std::iter::repeat_with(port).take(PORTS.len());
    let free = all.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let ports: Vec<u16> = free.take(count).collect();
    assert_eq!(ports.len(), count, "loopback has no free ports within {PORTS:?}");
    ports
}

/// What `raft-server status` says of one server.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub role: String,
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
    pub committed_in_term: bool,
    pub first_index: u64,
    pub snapshot: u64,
}

/// A running server; its output goes to a file.
struct Server {
    child: Option<Child>,
    client_address: String,
    peer_address: String,
    log: PathBuf,
    /// The network namespace to run in, if not our own.
    namespace: Option<String>,
}

/// Some servers, their directory, and the children to end when the test does.
pub struct Cluster {
    dir: TempDir,
    pub id: String,
    servers: Mutex<Vec<Server>>,
}

impl Cluster {
    /// Writes cluster.toml, initializes and starts `count` servers, and waits for a leader.
    pub fn start(count: usize) -> Cluster {
        let cluster = Cluster::prepare(count);
        for id in 1..=count {
            cluster.init(id);
            cluster.serve(id);
        }
        cluster.leader();
        cluster
    }

    /// Writes cluster.toml for servers on loopback and starts nothing.
    pub fn prepare(count: usize) -> Cluster {
        let ports = free_ports(2 * count);
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let pair = |two: &[u16]| (address(&two[0]), address(&two[1]), None);
        Cluster::prepare_at(ports.chunks(2).map(pair).collect())
    }

    /// Writes cluster.toml for servers at these client and peer addresses, in these namespaces.
    pub fn prepare_at(places: Vec<(String, String, Option<String>)>) -> Cluster {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let unique = dir.path().file_name().expect("it has a name").to_string_lossy();
        let id = format!("test-{}", unique.trim_start_matches('.').to_lowercase());
        let mut text = format!("[cluster]\nid = \"{id}\"\n");
        let mut servers = Vec::new();
        for (i, (client_address, peer_address, namespace)) in places.into_iter().enumerate() {
            let number = i + 1;
            text += &format!("\n[[server]]\nid = {number}\nclient = \"{client_address}\"\n");
            text += &format!("peer = \"{peer_address}\"\n");
            let log = dir.path().join(format!("{number}.log"));
            servers.push(Server { child: None, client_address, peer_address, log, namespace });
        }
        fs::write(dir.path().join("cluster.toml"), text).expect("the directory is ours");
        Cluster { dir, id, servers: Mutex::new(servers) }
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, Vec<Server>> {
        self.servers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn len(&self) -> usize {
        self.servers().len()
    }

    /// Adds settings to `[limits]` of the cluster's file. Before the servers start.
    pub fn limit(&self, settings: &str) {
        self.set("limits", settings);
    }

    /// Adds a section with these settings to the cluster's file. Before the servers start.
    pub fn set(&self, section: &str, settings: &str) {
        let text = fs::read_to_string(self.config()).expect("prepare wrote it");
        fs::write(self.config(), format!("[{section}]\n{settings}\n\n{text}")).expect("ours");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    pub fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("data-{id}"))
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn address(&self, id: usize) -> String {
        self.servers()[id - 1].client_address.clone()
    }

    pub fn peer_address(&self, id: usize) -> String {
        self.servers()[id - 1].peer_address.clone()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.servers().iter().map(|server| server.client_address.clone()).collect()
    }

    /// A command of the binary on this cluster's file and on `data`, in the server's namespace.
    pub fn command(&self, verb: &str, id: usize, data: &Path) -> Command {
        let namespace = self.servers()[id - 1].namespace.clone();
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespace, BINARY]); // it execs: the pid stays
                command
            }
            None => Command::new(BINARY),
        };
        command.arg(verb).arg("--config").arg(self.config());
        command.args(["--id", &id.to_string()]).arg("--data").arg(data);
        command.stdin(Stdio::null());
        command
    }

    pub fn init(&self, id: usize) {
        let output = self.command("init", id, &self.data(id)).output().expect("the binary runs");
        assert!(output.status.success(), "init {id}: {}", text(&output));
    }

    /// Starts a server; its output is added to its log file.
    pub fn serve(&self, id: usize) {
        let mut command = self.command("serve", id, &self.data(id));
        let mut servers = self.servers();
        let server = &mut servers[id - 1];
        assert!(server.child.is_none(), "server {id} runs already");
        let log = File::options().create(true).append(true).open(&server.log);
        let log = log.expect("the directory is ours");
        let copy = log.try_clone().expect("a file can be shared");
        let child = command.stdout(copy).stderr(log).spawn().expect("the binary runs");
        server.child = Some(child);
    }

    /// Runs `serve` where it must refuse, and returns what it said.
    pub fn serve_refused(&self, id: usize, data: &Path) -> Output {
        output_within(self.command("serve", id, data), Duration::from_secs(10))
    }

    fn pid(&self, id: usize) -> Pid {
        let servers = self.servers();
        let child = servers[id - 1].child.as_ref().expect("the server was started");
        Pid::from_child(child)
    }

    /// The most memory that a server has had.
    pub fn peak_memory_kib(&self, id: usize) -> usize {
        self.number_of_process(id, "VmHWM:")
    }

    /// How many threads a server has.
    pub fn threads(&self, id: usize) -> usize {
        self.number_of_process(id, "Threads:")
    }

    /// What Linux says about a server's process under this name.
    fn number_of_process(&self, id: usize, name: &str) -> usize {
        let pid = self.pid(id).as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = status.lines().find_map(|line| line.strip_prefix(name));
        let number = number.and_then(|text| text.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("Linux tells it")
    }

    pub fn signal(&self, id: usize, signal: Signal) {
        kill_process(self.pid(id), signal).expect("our own child can be signalled");
    }

    /// SIGKILL, and the wait for the end.
    pub fn kill(&self, id: usize) {
        self.signal(id, Signal::KILL);
        self.wait_exit(id, Duration::from_secs(10));
    }

    /// SIGSTOP, and the wait until all its threads have stopped: on a busy machine they go on for
    /// some milliseconds.
    pub fn pause(&self, id: usize) {
        self.signal(id, Signal::STOP);
        let stopped = waitid(WaitId::Pid(self.pid(id)), WaitIdOptions::STOPPED);
        stopped.expect("our own child can be waited for");
    }

    pub fn resume(&self, id: usize) {
        self.signal(id, Signal::CONT);
    }

    pub fn restart(&self, id: usize) {
        self.kill(id);
        self.serve(id);
    }

    /// Waits until a server has ended.
    pub fn wait_exit(&self, id: usize, within: Duration) -> ExitStatus {
        wait_for(&format!("server {id} ends"), within, || self.exited(id))
    }

    /// How a server ended, if it has; then it can be started again.
    pub fn exited(&self, id: usize) -> Option<ExitStatus> {
        let mut servers = self.servers();
        let child = servers[id - 1].child.as_mut().expect("the server was started");
        let status = child.try_wait().expect("our own child can be waited for")?;
        servers[id - 1].child = None;
        Some(status)
    }

    pub fn log_text(&self, id: usize) -> String {
        fs::read_to_string(&self.servers()[id - 1].log).unwrap_or_default()
    }

    /// What a server says of itself, if it answers.
    pub fn status(&self, id: usize) -> Option<Status> {
        let mut command = Command::new(BINARY);
        command.args(["status", &self.address(id), "--json"]);
        let output = output_within(command, Duration::from_secs(5));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let json = match &json {
            serde_json::Value::Array(all) => all.first()?.clone(),
            _ => json,
        };
        let number = |name: &str| json[name].as_u64().unwrap_or_default();
        Some(Status {
            role: json["role"].as_str()?.to_owned(),
            term: number("term"),
            commit: number("commit"),
            applied: number("applied"),
            first_index: number("first_index"),
            snapshot: number("snapshot"),
            committed_in_term: json["committed_in_term"].as_bool().unwrap_or_default(),
        })
    }

    /// The leader that has committed in its own term, newest term first; waits until there is one.
    pub fn leader(&self) -> usize {
        wait_for("a leader that has committed in its term", LEADER_WITHIN, || {
            let ids = 1..=self.len();
            let running = ids.filter(|id| self.servers()[id - 1].child.is_some());
            let answers = running.filter_map(|id| Some((id, self.status(id)?)));
            let leads = |s: &Status| s.role == "leader" && s.committed_in_term;
            answers.filter(|(_, s)| leads(s)).max_by_key(|(_, s)| s.term).map(|(id, _)| id)
        })
    }

    pub fn follower(&self) -> usize {
        let leader = self.leader();
        (1..=self.len()).find(|id| *id != leader).expect("more than one server")
    }

    pub fn client(&self, id: usize) -> Client {
        Client::connect(vec![self.address(id)])
    }

    /// Every key that was given a deadline is gone from every server, though nobody writes.
    pub fn assert_expired(&self, keys: &BTreeSet<String>) {
        for id in 1..=self.len() {
            let mut client = self.client(id);
            for key in keys {
                let line = format!("GET {key}");
                wait_for(&format!("{key} expires on server {id}"), LEADER_WITHIN, || {
                    (client.ask_until_answered(&line) == "_").then_some(())
                });
            }
        }
    }

    /// All pairs as each server tells them; panics unless all tell the same.
    pub fn assert_servers_equal(&self, keys: &[String]) {
        let read = |id: usize| -> Vec<String> {
            let mut client = self.client(id);
            keys.iter().map(|key| client.ask_until_answered(&format!("GET {key}"))).collect()
        };
        let first = read(1);
        for id in 2..=self.len() {
            assert_eq!(read(id), first, "servers 1 and {id} tell different values of {keys:?}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut servers = self.servers();
        for server in servers.iter_mut() {
            if let Some(child) = &mut server.child {
                // A stopped process is ended by SIGKILL too. It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for (i, server) in servers.iter().enumerate() {
                let log = fs::read_to_string(&server.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(30)..].join("\n  ");
                eprintln!("--- the last lines of server {}:\n  {tail}", i + 1);
            }
        }
    }
}

/// Both streams of a finished command, for messages.
pub fn text(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// Runs a command that must end by itself in time.
pub fn output_within(mut command: Command, within: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let end = Instant::now() + within;
    while child.try_wait().expect("our own child can be waited for").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let output = child.wait_with_output().expect("it was killed");
            panic!("{command:?} did not end within {within:?}: {}", self::text(&output));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it has ended")
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the directory is ours");
    let mode = fs::metadata(from).expect("it exists").permissions();
    fs::set_permissions(to, mode).expect("the directory is ours");
    for entry in fs::read_dir(from).expect("it can be read") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the directory is ours");
        }
    }
}
