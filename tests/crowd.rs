//! One thread reads from all clients that need not wait: none of them may hold up another.

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use support::typist::{REPLY_WITHIN, Typist};
use support::{Cluster, wait_for};

/// More clients than a server has threads by far, which all have been served.
const CLIENTS: usize = 200;

#[test]
fn idle_clients_cost_no_thread() {
    let cluster = Cluster::start(1);
    cluster.leader();
    let before = cluster.threads(1);
    let mut clients: Vec<Typist> = (0..CLIENTS).map(|_| Typist::at(&cluster.address(1))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.one(&format!("SET key{number} {number}")), "+OK");
    }
    assert!(cluster.threads(1) < before + 10, "{before} before, {} now", cluster.threads(1));
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.one(&format!("GET key{number}")), format!("+{number}"));
    }
}

/// The answer to a WATCH is waited for, and so is the rest of a request that comes byte by byte;
/// others go on meanwhile.
#[test]
fn whoever_waits_holds_up_nobody() {
    let cluster = Cluster::prepare(3);
    cluster.init(1);
    cluster.serve(1); // without the others there is no leader, and no answer before the deadline
    let address = cluster.address(1);
    let mut watcher = wait_for("it listens", REPLY_WITHIN, || {
        std::net::TcpStream::connect(&address).ok().map(|_| Typist::at(&address))
    });
    let mut typist = Typist::at(&address);
    let mut other = Typist::at(&address);
    let begun = Instant::now();
    watcher.type_in("WATCH key\nPING\n");
    typist.type_in("PI");
    for _ in 0..100 {
        assert_eq!(other.one("PING"), "+PONG");
    }
    typist.type_in("NG\n");
    assert_eq!(typist.line(), "+PONG");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(watcher.line().starts_with("-NOLEADER"), "the WATCH was not executed");
    assert_eq!(watcher.line(), "+PONG", "and the rest was understood");
    assert!(begun.elapsed() > Duration::from_secs(2), "it has waited: {:?}", begun.elapsed());
    assert_eq!(watcher.one("PING"), "+PONG", "on its own thread");
}

/// The end of a connection may arrive together with its last requests, and the system tells of it
/// once: it must be noticed although the read before it was not filled.
#[test]
fn what_comes_with_the_end_is_answered() {
    let cluster = Cluster::start(1);
    cluster.leader();
    for number in 0..300 {
        let mut client = Typist::at(&cluster.address(1));
        let socket = client.0.get_mut();
        socket.write_all(format!("SET end {number}\nGET end\n").as_bytes()).expect("it listens");
        socket.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(client.line(), "+OK");
        assert_eq!(client.line(), format!("+{number}"));
        assert_eq!(client.line(), "", "and closed");
    }
    wait_for("all places are free again", REPLY_WITHIN, || {
        let open = Typist::at(&cluster.address(1)).ask("CLIENT LIST");
        (open.len() < 10).then_some(())
    });
}
