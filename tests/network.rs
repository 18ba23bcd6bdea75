//! Servers in network namespaces of their own, cut off from each other in every way.
//!
//! It needs root and `ip`, so it belongs to the wide suite: `RAFT_TEST_WIDE=1 cargo test --test
//! network`. With the variable set, a machine that cannot run it fails it.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::client::{Answer, Client};
use support::load::Load;
use support::{Cluster, LEADER_WITHIN, wait_for, wide};

/// Runs `ip` and says whether it succeeded.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("`ip` cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// `ip` that must succeed.
fn must(arguments: &str) {
    ip(arguments).unwrap_or_else(|error| {
        panic!("the wide suite needs root and iproute2 with network namespaces: {error}")
    });
}

/// One bridge in our own namespace, and a namespace for each server, tied to it by a cable. The
/// clients of the tests are on the bridge: they reach all servers whatever is cut between these.
struct Network {
    tag: String,
    subnet: String,
    servers: usize,
}

impl Network {
    fn new(servers: usize, number: u32) -> Network {
        let unique = (std::process::id() % 60) * 4 + number;
        let network =
            Network { tag: format!("rt{unique}"), subnet: format!("10.213.{unique}"), servers };
        let Network { tag, subnet, .. } = &network;
        must(&format!("link add {tag}b type bridge"));
        must(&format!("addr add {subnet}.254/24 dev {tag}b"));
        must(&format!("link set {tag}b up"));
        for id in 1..=servers {
            let (space, cable) = (network.space(id), format!("{tag}c{id}"));
            must(&format!("netns add {space}"));
            must(&format!("link add {cable} type veth peer name eth0 netns {space}"));
            must(&format!("link set {cable} master {tag}b up"));
            must(&format!("-n {space} addr add {subnet}.{id}/24 dev eth0"));
            must(&format!("-n {space} link set eth0 up"));
            must(&format!("-n {space} link set lo up"));
        }
        network
    }

    fn space(&self, id: usize) -> String {
        format!("{}s{id}", self.tag)
    }

    fn cluster(&self) -> Cluster {
        let place = |id| {
            let host = format!("{}.{id}", self.subnet);
            (format!("{host}:7001"), format!("{host}:7101"), Some(self.space(id)))
        };
        let cluster = Cluster::prepare_at((1..=self.servers).map(place).collect());
        for id in 1..=self.servers {
            cluster.init(id);
            cluster.serve(id);
        }
        cluster.leader();
        cluster
    }

    /// What `from` sends to `to` vanishes.
    fn cut(&self, from: usize, to: usize) {
        must(&format!("-n {} route add blackhole {}.{to}/32", self.space(from), self.subnet));
    }

    fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    fn others(&self, id: usize) -> impl Iterator<Item = usize> {
        (1..=self.servers).filter(move |other| *other != id)
    }

    /// Nobody hears it.
    fn mute(&self, id: usize) {
        self.others(id).for_each(|other| self.cut(id, other));
    }

    /// It hears nobody.
    fn deafen(&self, id: usize) {
        self.others(id).for_each(|other| self.cut(other, id));
    }

    fn isolate(&self, id: usize) {
        self.mute(id);
        self.deafen(id);
    }

    fn heal(&self) {
        for id in 1..=self.servers {
            must(&format!("-n {} route flush type blackhole", self.space(id)));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whatever was made goes; what a failed start did not make cannot.
        for id in 1..=self.servers {
            let _ = ip(&format!("link del {}c{id}", self.tag));
            let _ = ip(&format!("netns del {}", self.space(id)));
        }
        let _ = ip(&format!("link del {}b", self.tag));
    }
}

fn skipped() -> bool {
    if !wide() {
        println!("belongs to the wide suite, which needs root: RAFT_TEST_WIDE=1");
    }
    !wide()
}

/// The present term of the leader.
fn term(cluster: &Cluster) -> u64 {
    cluster.status(cluster.leader()).expect("the leader answers").term
}

/// S6, S21, S27, S49–S51: under load, the leader is cut off whole, in one direction, and from one
/// other.
#[test]
fn partitions_of_every_shape_leave_a_linearizable_history() {
    if skipped() {
        return;
    }
    let network = Network::new(3, 0);
    let cluster = network.cluster();
    let load = Load::hopping(&cluster.addresses());
    let other = |leader: usize| leader % 3 + 1;
    let seen = load.run(|| {
        let shapes: [&dyn Fn(usize); 5] = [
            &|leader| network.isolate(leader),
            &|leader| network.mute(leader),
            &|leader| network.deafen(leader),
            &|leader| network.cut_both(leader, other(leader)),
            &|leader| network.cut(leader, other(leader)),
        ];
        for shape in shapes {
            shape(cluster.leader());
            // Whatever is cut, two servers still reach each other: the cluster must serve.
            serves_within(&cluster, LEADER_WITHIN);
            std::thread::sleep(Duration::from_secs(2)); // load under the partition
            network.heal();
            cluster.leader();
            serves_within(&cluster, LEADER_WITHIN);
        }
    });
    seen.check();
    cluster.leader();
    cluster.assert_servers_equal(&load.keys);
}

fn serves_within(cluster: &Cluster, within: Duration) {
    let mut client = Client::connect(cluster.addresses());
    wait_for("a write is answered", within, || match client.ask("INCR probe") {
        Answer::Done(_) => Some(()),
        _ => {
            client.hop();
            None
        }
    });
}

/// S11, S13 (diss. §9.6): a follower that was alone for many election timeouts comes back and
/// deposes nobody: pre-vote kept its term where it was.
#[test]
fn a_rejoining_follower_does_not_depose_the_leader() {
    if skipped() {
        return;
    }
    let network = Network::new(3, 1);
    let cluster = network.cluster();
    let (leader, follower, before) = (cluster.leader(), cluster.follower(), term(&cluster));
    network.isolate(follower);
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let status = cluster.status(follower).expect("the follower answers");
        assert_eq!(status.term, before, "a server that nobody hears raises no term");
        std::thread::sleep(Duration::from_millis(200));
    }
    network.heal();
    assert!(matches!(cluster.client(leader).ask("SET rejoined yes"), Answer::Done(_)));
    let commit = cluster.status(leader).expect("the leader answers").commit;
    wait_for("the follower catches up", LEADER_WITHIN, || {
        cluster.status(follower).filter(|status| status.applied >= commit)
    });
    assert_eq!((cluster.leader(), term(&cluster)), (leader, before), "the same leader and term");
}

/// S14: the leader and one follower do not reach each other, and both reach the third. At most one
/// election follows, and it ends.
#[test]
fn one_cut_link_causes_at_most_one_election() {
    if skipped() {
        return;
    }
    let network = Network::new(3, 2);
    let cluster = network.cluster();
    let (leader, follower, before) = (cluster.leader(), cluster.follower(), term(&cluster));
    network.cut_both(leader, follower);
    let end = Instant::now() + Duration::from_secs(15);
    let mut client =
        cluster.client((1..=3).find(|id| ![leader, follower].contains(id)).expect("3"));
    while Instant::now() < end {
        let answer = client.ask("INCR through-the-third");
        assert!(matches!(answer, Answer::Done(_)), "the third server serves: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = term(&cluster);
    assert!(after <= before + 1, "terms {before} to {after}: more than one election");
    network.heal();
    cluster.leader();
    cluster.assert_servers_equal(&["through-the-third".to_owned()]);
}
