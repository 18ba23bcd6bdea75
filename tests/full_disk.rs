//! Real processes whose data directories fill up: a state, and no end (S35).
//!
//! A small `quota_bytes` is a small disk. Real file systems that are full belong to the wide suite:
//! `RAFT_TEST_WIDE=1 cargo test --test full_disk`, as root, for it mounts some.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::client::{Answer, Client};
use support::{Cluster, LEADER_WITHIN, wait_for, wide};

/// Requests are small here, and so is what is reserved for the largest.
const LIMITS: &str = "key_bytes = 1024\nvalue_bytes = 4096\nline_bytes = 16384\n\
                      request_bytes = 16384\ntransaction_bytes = 16384";

/// How large the values are that fill a disk.
const VALUE_BYTES: usize = 4000;

/// Within this, a server notices that its disk is full or not any more, and says so.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

fn prepared(servers: usize, quota_bytes: u64) -> Cluster {
    let cluster = Cluster::prepare(servers);
    let storage = format!(
        "[storage]\nsegment_bytes = 65536\nsnapshot_bytes = 131072\nquota_bytes = {quota_bytes}\n"
    );
    let text = fs::read_to_string(cluster.config()).expect("prepare wrote it");
    fs::write(cluster.config(), format!("[limits]\n{LIMITS}\n\n{storage}\n{text}")).expect("ours");
    cluster
}

fn started(servers: usize, quota_bytes: u64) -> Cluster {
    let cluster = prepared(servers, quota_bytes);
    for id in 1..=servers {
        cluster.init(id);
        cluster.serve(id);
    }
    cluster.leader();
    cluster
}

fn value(number: usize) -> String {
    format!("{number:06}").repeat(VALUE_BYTES / 6)
}

/// For so long nothing is taken, and no snapshot that is under way makes room: it is full.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Sets keys until they are refused for want of room; returns what was acknowledged.
fn fill(client: &mut Client, prefix: &str) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(60);
    let mut taken = Instant::now();
    for number in 0.. {
        assert!(Instant::now() < end, "the disk does not fill up");
        let (key, value) = (format!("{prefix}{number}"), value(number));
        match client.ask(&format!("SET {key} {value}")) {
            Answer::Done(reply) => {
                assert_eq!(reply, "+OK");
                kept.insert(key, value);
                taken = Instant::now();
            }
            Answer::Refused(reply)
                if reply.starts_with("-NOSPACE ") && taken.elapsed() > FULL_FOR =>
            {
                break;
            }
            Answer::Refused(_) => std::thread::sleep(Duration::from_millis(20)),
            Answer::Unknown(_) => {} // it was under way when the disk became full
        }
    }
    assert!(kept.len() > 20, "only {} keys fit", kept.len());
    kept
}

fn assert_there(client: &mut Client, kept: &BTreeMap<String, String>) {
    for (key, value) in kept {
        assert_eq!(client.ask_until_answered(&format!("GET {key}")), format!("+{value}"));
    }
}

/// Deletes this many of the keys.
fn delete(client: &mut Client, kept: &mut BTreeMap<String, String>, count: usize) {
    for _ in 0..count {
        let (key, _) = kept.pop_first().expect("there are as many");
        let reply =
            wait_for("a deletion", NOTICED_WITHIN, || match client.ask(&format!("DEL {key}")) {
                Answer::Done(reply) => Some(reply),
                Answer::Refused(_) | Answer::Unknown(_) => None,
            });
        assert!(reply == ":1" || reply == ":0", "{reply}"); // after an unknown one it is gone
    }
}

fn serves_again(client: &mut Client) {
    wait_for("there is room again", NOTICED_WITHIN, || {
        matches!(client.ask("SET again yes"), Answer::Done(reply) if reply == "+OK").then_some(())
    });
}

/// S35: writes that need room are refused, reads and deletions go on, and when they have made room
/// service resumes by itself, at every server. Nobody ends.
#[test]
fn a_full_cluster_reads_on_deletes_and_serves_again() {
    let cluster = started(3, 2 * 1024 * 1024);
    for id in [cluster.leader(), cluster.follower()] {
        let mut client = cluster.client(id);
        let mut kept = fill(&mut client, &format!("from{id}-"));
        assert_there(&mut client, &kept);
        wait_for("a majority says that it is full", NOTICED_WITHIN, || {
            let says_so = |id: &usize| cluster.log_text(*id).contains("disk full");
            ((1..=3).filter(says_so).count() >= 2).then_some(())
        });
        let most = kept.len() * 3 / 4;
        delete(&mut client, &mut kept, most);
        serves_again(&mut client);
        assert_there(&mut client, &kept);
        let rest = kept.len();
        delete(&mut client, &mut kept, rest);
        for id in 1..=3 {
            assert!(cluster.exited(id).is_none(), "server {id} has ended");
        }
    }
}

/// S35, S27: all are killed while they are full, and come back with what they had, as full as
/// before.
#[test]
fn nothing_acknowledged_is_lost_when_all_are_killed_while_full() {
    let cluster = started(3, 2 * 1024 * 1024);
    let mut client = cluster.client(cluster.leader());
    let mut kept = fill(&mut client, "k");
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.serve(id);
    }
    let mut client = cluster.client(cluster.leader());
    assert_there(&mut client, &kept);
    let most = kept.len() * 3 / 4;
    delete(&mut client, &mut kept, most);
    serves_again(&mut client);
    assert_there(&mut client, &kept);
}

/// A file system of a few megabytes.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    fn mounted(place: PathBuf, bytes: u64) -> SmallDisk {
        fs::create_dir_all(&place).expect("the directory is ours");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "tmpfs"])
            .arg(&place)
            .status();
        assert!(mount.is_ok_and(|it| it.success()), "the wide suite needs root, to mount a tmpfs");
        SmallDisk { place }
    }

    /// Somebody else's file takes all that is left.
    fn fill(&self) {
        let zeros = vec![1; 4096];
        let mut file = fs::File::create(self.place.join("ballast")).expect("there is an inode");
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.place.join("ballast")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

/// S35: real file systems. With one follower full the cluster goes on; a full leader hands over;
/// with all full writes are refused and nobody ends; and when there is space again, service is.
#[test]
fn full_file_systems_stop_no_server() {
    if !wide() {
        return;
    }
    let cluster = prepared(3, 0);
    let disks: Vec<SmallDisk> =
        (1..=3).map(|id| SmallDisk::mounted(cluster.data(id), 16 * 1024 * 1024)).collect();
    for id in 1..=3 {
        cluster.init(id);
        cluster.serve(id);
    }
    let mut any = Client::connect(cluster.addresses());
    assert_eq!(any.ask_until_answered("SET before yes"), "+OK");

    let follower = cluster.follower();
    disks[follower - 1].fill();
    wait_for("it says so", NOTICED_WITHIN, || {
        cluster.log_text(follower).contains("disk full").then_some(())
    });
    let mut client = cluster.client(follower);
    for number in 0..100 {
        let reply = client.ask_until_answered(&format!("SET k{number} {}", value(number)));
        assert_eq!(reply, "+OK", "two of three have room");
    }
    disks[follower - 1].free();

    let leader = cluster.leader();
    disks[leader - 1].fill();
    wait_for("a full leader hands over", LEADER_WITHIN, || {
        (cluster.leader() != leader).then_some(())
    });
    assert_eq!(any.ask_until_answered("SET elsewhere yes"), "+OK");

    (1..=3).filter(|id| *id != leader).for_each(|id| disks[id - 1].fill());
    wait_for("all are full", NOTICED_WITHIN, || {
        let answer = any.ask("SET more no");
        matches!(answer, Answer::Refused(reply) if reply.starts_with("-NOSPACE ")).then_some(())
    });
    assert_eq!(any.ask_until_answered("GET elsewhere"), "+yes");
    // What is left for deletions is used up, too: it takes many of them, one after the other. Reads
    // go on, behind a new leader as well.
    wait_for("deletions are refused, too, and at once", NOTICED_WITHIN, || {
        (0..100).map(|_| any.ask("DEL before")).find_map(|answer| {
            matches!(answer, Answer::Refused(reply) if reply.starts_with("-NOSPACE ")).then_some(())
        })
    });
    for _ in 0..3 {
        let leader = cluster.leader();
        cluster.client(leader).ask(&format!("RAFT TRANSFER {}", leader % 3 + 1));
        assert_eq!(any.ask_until_answered("GET elsewhere"), "+yes");
    }
    disks.iter().for_each(SmallDisk::free);
    serves_again(&mut any);
    for id in 1..=3 {
        assert!(cluster.exited(id).is_none(), "server {id} has ended");
    }
}
