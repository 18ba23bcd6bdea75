//! Backup and restore: from a running cluster under load into a new one, with real processes; what
//! is refused; and every crash of a restore. Rows of `scenarios.md`: S34–S36, S43, S45, S72.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raft_server::kv::command::RequestId;
use raft_server::kv::{StateMachine, encoding};
use raft_server::raft::types::{EntryId, Index, ServerId, SnapshotId, Stamp, Term};
use raft_server::state_file::{self, StateFileError};
use raft_server::storage::disk::{Disk, RealDisk};
use raft_server::storage::identity::{
    DIRECTORY_FORMAT, DataDirectory, DirectoryError, Expected, Identity, Origin,
};
use raft_server::storage::init::{fill_behind, restore};
use raft_server::storage::journal::Options;
use raft_server::storage::recording_disk::{Cuts, Files, RecordingDisk};
use raft_server::storage::recovery;
use raft_server::storage::snapshot::format::{FRAME_HEAD_BYTES, Kind, finish};
use raft_server::storage::snapshot::{self, Snapshots};
use support::client::Answer;
use support::{BINARY, Cluster, output_within, text, wait_for};

/// Longer than a backup of a small cluster may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

fn raft_server(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    output_within(command, WITHIN)
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Takes a backup from this server, which must succeed.
fn backup(cluster: &Cluster, id: usize, to: &Path) {
    let output = raft_server(&["backup", "--to", path_text(to), &cluster.address(id)]);
    assert!(output.status.success(), "{}", text(&output));
    let mode = to.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others cannot read it (S97)");
    assert_eq!(leftovers(to), Vec::<String>::new());
}

/// What else lies beside a file under a name that begins with its.
fn leftovers(file: &Path) -> Vec<String> {
    let name = file.file_name().expect("it has a name").to_string_lossy().into_owned();
    let directory = fs::read_dir(file.parent().expect("it has a place")).expect("it is ours");
    let names = directory.map(|entry| entry.expect("it is ours").file_name());
    let names = names.map(|other| other.to_string_lossy().into_owned());
    names.filter(|other| other.starts_with(&name) && *other != name).collect()
}

fn restore_command(cluster: &Cluster, id: usize, file: &Path) -> Output {
    let mut command = cluster.command("restore", id, &cluster.data(id));
    command.arg(file);
    output_within(command, WITHIN)
}

/// Restores this server, which must succeed, and starts it.
fn begin_with(cluster: &Cluster, id: usize, file: &Path) {
    let output = restore_command(cluster, id, file);
    assert!(output.status.success(), "{}", text(&output));
    cluster.serve(id);
}

/// A key's value, version, and deadline.
type Told = (String, u64, Option<u64>);

/// What `snapshot dump --state` says that a file holds.
fn dumped(file: &Path) -> BTreeMap<String, Told> {
    let output = raft_server(&["snapshot", "dump", "--state", "--json", path_text(file)]);
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let lines = lines
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(line).expect("one object each") });
    let told = |line: &serde_json::Value| {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let version = line["version"].as_u64()?;
        Some((text("key")?, (text("value")?, version, line["deadline_ms"].as_u64())))
    };
    lines.filter_map(|line| told(&line)).collect()
}

fn done(answer: Answer) -> Option<String> {
    if let Answer::Done(reply) = answer { Some(reply) } else { None }
}

/// Keys with values, versions and deadlines, ONCE, and servers in a later life than their first.
fn filled() -> Cluster {
    let cluster = Cluster::start(3);
    let mut client = cluster.client(1);
    for number in 0..50 {
        client.ask_until_answered(&format!("SET key{number} value{number}"));
    }
    for number in 0..50 {
        client.ask_until_answered(&format!("SET key{number} again NX"));
        client.ask_until_answered(&format!("APPEND key{number} !"));
    }
    client.ask_until_answered("DEL key7");
    client.ask_until_answered("SET long 1 EX 1000");
    client.ask_until_answered("SET brief 1 EX 8");
    assert_eq!(client.ask_until_answered("ONCE till-7 1 INCRBY balance 10"), ":10");
    for id in 1..=3 {
        cluster.restart(id);
        cluster.leader();
        // Numbers that its servers' first lives in the new cluster will count through again.
        for number in 0..20 {
            cluster.client(id).ask_until_answered(&format!("SET life{id} {number}"));
        }
    }
    cluster
}

/// S72: all that was acknowledged before a backup is in it, nothing of it is half there, and a new
/// cluster goes on from it: versions, deadlines, ONCE, and new writes on every server.
#[test]
fn a_backup_under_load_is_restored_into_a_new_cluster() {
    let old = filled();
    let file = old.path().join("backup");
    let acknowledged = under_load(&old, || backup(&old, old.follower(), &file));
    let told = dumped(&file);
    let number = |key: &str| told[key].0.parse::<u64>().expect("a number");
    assert_eq!(told["left"].0, told["right"].0, "a transaction is half there");
    assert_eq!(told["left"].1, told["right"].1, "one entry is one version");
    assert!(number("left") >= acknowledged, "{} < {acknowledged}", number("left"));
    assert!(!told.contains_key("key7"));
    let output = raft_server(&["snapshot", "verify", path_text(&file)]);
    assert!(output.status.success(), "{}", text(&output));

    let new = Cluster::prepare(3);
    (1..=3).for_each(|id| begin_with(&new, id, &file));
    new.leader();
    for id in 1..=3 {
        let mut client = new.client(id);
        for (key, (value, version, deadline)) in &told {
            if deadline.is_none() {
                let expected = format!("*2\n+{value}\n:{version}");
                assert_eq!(client.ask_until_answered(&format!("GETV {key}")), expected);
            }
        }
        assert_eq!(client.ask_until_answered("EXISTS key7"), ":0");
    }
    // Every server's first write, and those after it, in its first life.
    for id in 1..=3 {
        let mut client = new.client(id);
        for number in 0..5 {
            let answer = client.ask(&format!("INCR new{id}"));
            assert_eq!(done(answer), Some(format!(":{}", number + 1)), "server {id}");
        }
    }
    let mut client = new.client(2);
    let version = client.ask_until_answered("GETV new1");
    let version: u64 = version.rsplit(':').next().and_then(|it| it.parse().ok()).expect("one");
    assert!(told.values().all(|(_, before, _)| *before < version), "versions rise");
    assert_eq!(client.ask_until_answered("ONCE till-7 1 INCRBY balance 10"), ":10");
    assert_eq!(client.ask_until_answered("GET balance"), "+10");
    assert_eq!(client.ask_until_answered("ONCE till-7 2 INCRBY balance 10"), ":20");
    let rest = client.ask_until_answered("PTTL long");
    let rest: u64 = rest.trim_start_matches(':').parse().expect("a number");
    assert!((1..=1_000_000).contains(&rest), "{rest}");
    new.assert_expired(&["brief".to_owned()].into());
    // And it is a cluster like any other.
    (1..=3).for_each(|id| new.restart(id));
    new.leader();
    new.assert_servers_equal(&["key1", "new1", "new3", "balance", "left"].map(String::from));
}

/// Runs `during` while clients write pairs. Returns the highest number that was acknowledged before
/// it began.
fn under_load(cluster: &Cluster, during: impl FnOnce()) -> u64 {
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut client = cluster.client(cluster.leader());
        let (stop, acknowledged) = (&stop, &acknowledged);
        scope.spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let lines = ["MULTI", "SET left N", "SET right N", "EXEC"];
                let lines = lines.map(|line| line.replace('N', &number.to_string()));
                if done(client.ask_all(&lines)).is_some_and(|reply| reply.starts_with('*')) {
                    acknowledged.store(number, Ordering::SeqCst);
                } else {
                    client.hop();
                }
            }
        });
        let enough = || (acknowledged.load(Ordering::SeqCst) > 100).then_some(());
        let stopper = StopOnDrop(stop);
        wait_for("the load gets somewhere", WITHIN, enough);
        let before = acknowledged.load(Ordering::SeqCst);
        during();
        drop(stopper);
        before
    })
}

/// The load ends even if the test does.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of one cluster, three files that a person may come with: whole, and of the right length.
fn small() -> (Cluster, PathBuf) {
    let cluster = Cluster::start(1);
    cluster.client(1).ask_until_answered("SET color blue");
    let file = cluster.path().join("backup");
    backup(&cluster, 1, &file);
    (cluster, file)
}

/// S34, S98: what is no backup is refused before anything is made, with words and a code.
#[test]
fn what_is_no_backup_is_refused() {
    let (old, file) = small();
    let whole = fs::read(&file).expect("it is ours");
    let bad = old.path().join("bad");
    let new = Cluster::prepare(1);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let cut = whole[..whole.len() - 5].to_vec();
    let grown = [&whole[..], b"x"].concat();
    let cases = [
        (flipped, "damaged"),
        (cut, "damaged"),
        (grown, "damaged"),
        (b"[cluster]\nid = \"what is this?\"\n".to_vec(), "no part of a snapshot"),
        (Vec::new(), "ends too early"),
        (of_a_later_format(&whole), "has format 2, and this program knows format 1"),
    ];
    for (bytes, words) in cases {
        fs::write(&bad, bytes).expect("it is ours");
        for output in [
            restore_command(&new, 1, &bad),
            raft_server(&["snapshot", "verify", path_text(&bad)]),
            raft_server(&["snapshot", "dump", "--state", path_text(&bad)]),
        ] {
            assert_eq!(output.status.code(), Some(5), "{}", text(&output));
            assert!(text(&output).contains(words), "{words}: {}", text(&output));
        }
        assert!(!new.data(1).exists(), "nothing is made of it");
    }
    assert_eq!(restore_command(&new, 1, &old.path().join("none")).status.code(), Some(1));
    let own = restore_command(&old, 1, &file);
    assert_eq!(own.status.code(), Some(3), "{}", text(&own));
    assert!(text(&own).contains("an id of its own"), "{}", text(&own));
    let output = restore_command(&new, 1, &file);
    assert!(output.status.success(), "{}", text(&output));
    let again = restore_command(&new, 1, &file);
    assert_eq!(again.status.code(), Some(4), "{}", text(&again));
    assert!(text(&again).contains("already holds a server's data"), "{}", text(&again));
    new.serve(1);
    new.leader();
    assert_eq!(new.client(1).ask_until_answered("GET color"), "+blue");
}

/// A header that checks, of a format that is yet to come.
fn of_a_later_format(whole: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(whole[4..8].try_into().expect("four bytes"));
    let mut frame = whole[..FRAME_HEAD_BYTES + length as usize].to_vec();
    frame[FRAME_HEAD_BYTES] = 2;
    finish(0, Kind::Header, &mut frame);
    frame
}

/// A backup that does not come leaves the file of that name as it was.
#[test]
fn a_backup_that_fails_leaves_nothing_behind() {
    let (cluster, file) = small();
    let whole = fs::read(&file).expect("it is ours");
    let address = cluster.address(1);
    let to = path_text(&file);
    let output = raft_server(&["backup", "--to", to, &address]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("--force"), "{}", text(&output));
    assert_eq!(fs::read(&file).expect("it is ours"), whole);

    cluster.client(1).ask_until_answered("SET color green");
    // What an interrupted one has left is no obstacle.
    fs::write(cluster.path().join("backup.new"), b"half").expect("it is ours");
    let output = raft_server(&["backup", "--force", "--json", "--to", to, &address]);
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((json["keys"].as_u64(), json["cluster"].as_str()), (Some(1), Some(&*cluster.id)));
    let length = fs::metadata(&file).expect("it is there").len();
    assert_eq!(json["bytes"].as_u64(), Some(length));
    assert_eq!(dumped(&file)["color"].0, "green");
    assert_eq!(leftovers(&file), Vec::<String>::new());

    let other = cluster.path().join("other");
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").to_string()
    };
    let output = raft_server(&["backup", "--to", path_text(&other), &nobody]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(raft_server(&["backup", &nobody]).status.code(), Some(2));
    let output = raft_server(&["backup", "--to", path_text(&other), &nobody, &address]);
    assert!(output.status.success(), "the next one is asked: {}", text(&output));
}

/// Without a majority it is not known what was acknowledged.
#[test]
fn a_backup_without_a_majority_is_refused() {
    let cluster = Cluster::start(3);
    cluster.client(1).ask_until_answered("SET color blue");
    cluster.kill(1);
    cluster.kill(2);
    let file = cluster.path().join("backup");
    let output = raft_server(&["backup", "--to", path_text(&file), &cluster.address(3)]);
    assert_eq!(output.status.code(), Some(10), "{}", text(&output));
    assert!(!file.exists() && leftovers(&file).is_empty());
}

/// BACKUP as a program meets it: nothing without BEGIN, and the same bytes however they are asked.
#[test]
fn a_snapshot_stays_at_hand_for_its_connection() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    client.ask_until_answered("SET color blue");
    let refused = done(client.ask("BACKUP READ 1 0 10")).expect("an answer");
    assert!(refused.starts_with("-ERR BACKUP READ: no BACKUP BEGIN"), "{refused}");
    let index = client.ask_until_answered("LASTINDEX");
    let index = index.trim_start_matches(':');
    let begun = done(client.ask(&format!("BACKUP BEGIN {index}"))).expect("an answer");
    let numbers: Vec<&str> = begun.lines().skip(1).map(|line| &line[1..]).collect();
    let [first, _, length] = numbers[..] else { panic!("index, term and length: {begun}") };
    assert!(first.parse::<u64>().expect("an index") >= index.parse().expect("an index"));
    let read = |client: &mut support::client::Client, offset: &str| {
        done(client.ask(&format!("BACKUP READ {first} {offset} 4"))).expect("an answer")
    };
    assert_eq!(read(&mut client, "0"), "+RSH1");
    assert_eq!(read(&mut client, length), "+\"\"", "nothing is behind its end");
    // A newer snapshot takes its place on disk, and not here.
    let mut other = cluster.client(1);
    other.ask_until_answered("SET color green");
    let later = other.ask_until_answered("LASTINDEX");
    let begun = done(other.ask(&format!("BACKUP BEGIN {}", &later[1..]))).expect("an answer");
    assert!(!begun.contains(&format!(":{first}\n")), "{begun}");
    assert_eq!(read(&mut client, "0"), "+RSH1");
}

/// S45: servers that were restored, and one that was not, do not make one cluster. Two of three
/// that were win …
#[test]
fn an_empty_server_does_not_join_restored_ones() {
    let (_old, file) = small();
    let new = Cluster::prepare(3);
    new.init(3);
    new.serve(3);
    (1..=2).for_each(|id| begin_with(&new, id, &file));
    assert!(new.leader() <= 2);
    assert_eq!(new.client(1).ask_until_answered("GET color"), "+blue");
    assert_refused_for_origin(&new, 3);
    assert_eq!(new.status(3).expect("it answers").applied, 0, "it is told nothing");
}

/// … and one of three does not lose what it has to two that are empty.
#[test]
fn restored_data_is_not_replaced_by_empty_servers() {
    let (_old, file) = small();
    let new = Cluster::prepare(3);
    for id in 2..=3 {
        new.init(id);
        new.serve(id);
    }
    begin_with(&new, 1, &file);
    assert!(new.leader() >= 2);
    new.client(2).ask_until_answered("SET color red");
    assert_refused_for_origin(&new, 1);
    assert_refused_for_origin(&new, 2);
    assert_eq!(done(new.client(1).ask("GET color STALE")), Some("+blue".to_owned()));
}

fn assert_refused_for_origin(cluster: &Cluster, id: usize) {
    wait_for(&format!("server {id} says why it is alone"), WITHIN, || {
        cluster.log_text(id).contains("do not come from the same backup").then_some(())
    });
}

fn expected() -> Expected {
    Expected {
        cluster_id: "new".to_owned(),
        server_id: ServerId(1),
        membership: vec![ServerId(1), ServerId(2)],
    }
}

/// A state with something in it, and what it stands for.
fn state() -> (StateMachine, SnapshotId) {
    let mut machine = StateMachine::default();
    for index in 1..=5_u64 {
        let key = format!("key{index}").into_bytes();
        let write = raft_server::kv::command::Command::Increment { key: key.into(), delta: 7 };
        let mut bytes = encoding::encode(&write.into());
        encoding::stamp(&mut bytes, RequestId { server: 1, incarnation: 1, serial: index }, index);
        machine.apply(index, 100 * index, &bytes, &mut Vec::new());
    }
    machine.forget_servers();
    let last = EntryId::new(Term(4), Index(5));
    (machine, SnapshotId { last, stamp: Stamp(500) })
}

fn origin() -> Origin {
    let (machine, snapshot) = state();
    Origin { cluster_id: "old".to_owned(), snapshot, state_hash: machine.state_hash() }
}

fn write_snapshot<D: Disk>(disk: D) -> Result<(), Unwritten> {
    let (machine, id) = state();
    let Expected { cluster_id, membership, .. } = expected();
    state_file::save_restored(disk, &cluster_id, membership, id, &machine)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    File(#[from] StateFileError),
}

/// Starts as a server does, and checks that all of the backup is there.
fn start(path: &Path) -> Result<(), DirectoryError> {
    let directory = DataDirectory::open(path, &expected())?;
    directory.peers_met()?;
    assert_eq!(directory.identity().restored, Some(origin()));
    let options = snapshot::Options::new("new".to_owned());
    let opened = Snapshots::open(directory.snapshots_disk()?, options);
    let (_, found) = opened.expect("an identity comes after what it says");
    let file = found.newest.as_ref().expect("an identity comes after what it says");
    let (machine, id) = state();
    assert_eq!((found.id(), state_file::load(file).expect("it is whole")), (id, machine));
    let options = Options::new(directory.identity().journal_id, 5);
    let (_, recovered) = recovery::open(directory.journal_disk()?, options, id)?;
    assert_eq!((recovered.snapshot, recovered.entries.len()), (id, 0));
    assert!(recovered.hard_state.current_term >= id.last.term, "its term has been");
    Ok(())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// S35, S36, S43: wherever `restore` is interrupted and whatever the crash keeps, a start refuses,
/// or all of the backup is there; and `restore` can be run again.
#[test]
fn a_restore_interrupted_anywhere_is_run_again() {
    let Expected { cluster_id, server_id, membership } = expected();
    let identity = Identity {
        format: DIRECTORY_FORMAT,
        cluster_id,
        server_id,
        membership,
        journal_id: 0xFEED,
        restored: Some(origin()),
    };
    let [root, journal, snapshots] = [(); 3].map(|()| RecordingDisk::default());
    fill_behind(&root, &journal, snapshots.clone(), &identity, write_snapshot)
        .expect("the disks are well");
    let mut states: Vec<[Files; 3]> = Vec::new();
    for operations in 0..=snapshots.operations() {
        snapshots.crash_states(operations, Cuts::Few, &mut |files| {
            states.push([Files::new(), Files::new(), files]);
        });
    }
    for operations in 0..=journal.operations() {
        journal.crash_states(operations, Cuts::Few, &mut |files| {
            states.push([Files::new(), files, snapshots.files()]);
        });
    }
    for operations in 0..=root.operations() {
        root.crash_states(operations, Cuts::Few, &mut |files| {
            states.push([files, journal.files(), snapshots.files()]);
        });
    }
    let mut complete = 0;
    for state in &states {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path();
        for (name, files) in ["", "journal", "snapshots"].iter().zip(state) {
            let directory = path.join(name);
            let _ = fs::create_dir(&directory);
            set_mode(&directory, 0o700);
            for (name, bytes) in files {
                fs::write(directory.join(name), bytes).expect("it is ours");
                set_mode(&directory.join(name), 0o600);
            }
        }
        fs::create_dir(path.join("tmp")).expect("it is ours");
        set_mode(&path.join("tmp"), 0o700);
        match start(path) {
            Ok(()) => complete += 1,
            Err(DirectoryError::NotInitialized(_)) => {
                restore(path, &expected(), origin(), write_snapshot::<RealDisk>)
                    .unwrap_or_else(|error| panic!("{error} in {state:?}"));
                start(path).expect("it is complete now");
            }
            Err(error) => panic!("{error} in {state:?}"),
        }
    }
    println!("{} states of an interrupted restore, {complete} of them complete", states.len());
    assert!(complete > 0 && complete < states.len());
}

/// A start takes the snapshot with the highest index: that of another backup must not lie there.
#[test]
fn an_interrupted_restore_is_not_continued_with_another_backup() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("1");
    restore(&path, &expected(), origin(), write_snapshot::<RealDisk>).expect("it is empty");
    fs::remove_file(path.join("identity.json")).expect("as an interrupted one leaves it");
    let mut other = origin();
    other.snapshot.last.index = Index(4);
    let refused = restore(&path, &expected(), other, |_| -> Result<(), Unwritten> {
        panic!("nothing is written")
    });
    let refused = refused.expect_err("another backup's snapshot is there");
    let found = matches!(&refused, Unwritten::Directory(DirectoryError::NotEmpty { .. }));
    assert!(found, "{refused}");
    let made = raft_server::storage::init::init(&path, &expected());
    assert!(matches!(made, Err(DirectoryError::NotEmpty { .. })), "init is no way around");
    restore(&path, &expected(), origin(), write_snapshot::<RealDisk>).expect("the same one");
    start(&path).expect("it is complete now");
}
