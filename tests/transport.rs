//! Peer bytes on real loopback sockets (S57, S92, S94).

use std::io::Write;
use std::net::TcpStream;

use raft_server::raft::message::{Message, PreVoteReply};
use raft_server::raft::types::{ServerId, Term};
use raft_server::transport::dial::{DialError, dial};
use raft_server::transport::frame::{Frame, FrameReader};
use raft_server::transport::hello::{HelloError, Identity};
use raft_server::transport::link::{PeerLink, Sent};
use raft_server::transport::listener::{Accepted, Inbound, Listener, accept_hello};

fn identity(cluster: &str, server: u32) -> Identity {
    let (server, run_id) = (ServerId(server), u64::from(server) + 100);
    Identity { cluster_id: cluster.to_owned(), server, incarnation: 1, run_id }
}

fn frame() -> Frame {
    let reply = PreVoteReply { term: Term(7), granted: true, leader_heard: false };
    Frame { raft: vec![Message::PreVoteReply(reply)], gateway: vec![] }
}

/// Server 2 of cluster `a` accepts one connection, while `dialler` does its part.
fn meet<T>(dialler: impl FnOnce(&str) -> T) -> (T, Result<Inbound, HelloError>) {
    let mut listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_address().expect("it is bound").to_string();
    std::thread::scope(|scope| {
        let acceptor = scope.spawn(move || match listener.accept() {
            Accepted::Connection(stream, _) => {
                accept_hello(stream, &identity("a", 2), &[ServerId(1)], &mut |_| Ok(()))
            }
            other => panic!("no connection but {other:?}"),
        });
        (dialler(&address), acceptor.join().expect("the acceptor does not panic"))
    })
}

/// What is sent after a good hello arrives.
#[test]
fn a_frame_crosses_a_link() {
    let (dialled, inbound) = meet(|at| dial(at, &identity("a", 1), ServerId(2), &mut |_| Ok(())));
    let link = PeerLink::default();
    link.install(dialled.expect("good hello").0);
    let mut right = link.try_acquire().expect("idle");
    assert!(matches!(right.send(&frame()), Sent::All));
    assert_eq!(inbound.expect("good hello").receive().expect("a frame"), frame());
}

/// S92: two clusters must not merge; both ids are named.
#[test]
fn another_cluster_is_refused_with_both_ids() {
    let (dialled, _) = meet(|at| dial(at, &identity("b", 1), ServerId(2), &mut |_| Ok(())));
    let Err(DialError::Hello { source, .. }) = dialled else { panic!("not refused") };
    let text = source.to_string();
    assert!(text.contains("\"a\"") && text.contains("\"b\""), "{text}");
}

/// S94: a browser on the peer port gets nowhere.
#[test]
fn http_is_no_peer() {
    let (_stream, inbound) = meet(|at| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        stream
    });
    assert!(matches!(inbound, Err(HelloError::NotAPeer(_))));
}

/// S57: any flipped bit is an error at once, never a panic and never a frame.
#[test]
fn every_flipped_bit_is_noticed_at_once() {
    let mut bytes = Vec::new();
    frame().encode(&mut bytes);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut reader = FrameReader::default();
        reader.read_from(&mut &bytes[..]).expect("memory");
        assert!(reader.next_frame().is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
