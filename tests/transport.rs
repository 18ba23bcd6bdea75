//! Peer bytes on real loopback sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use raft_server::limits::{CLUSTER_ID_BYTES_MAX, DIAL_PAUSE_MS_MAX, DIAL_PAUSE_MS_MIN};
use raft_server::raft::message::{Message, PreVoteReply, TimeoutNow};
use raft_server::raft::types::{ServerId, Term};
use raft_server::transport::dial::{Backoff, DialError, dial};
use raft_server::transport::frame::Frame;
use raft_server::transport::hello::{self, HelloError, Identity, Refusal};
use raft_server::transport::link::{PeerLink, Sent};
use raft_server::transport::listener::{Accepted, Inbound, Listener, ReceiveError, accept_hello};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Longer than anything here takes on a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn identity(cluster: &str, server: u32) -> Identity {
    let (server, run_id) = (ServerId(server), u64::from(server) + 100);
    Identity { cluster_id: cluster.to_owned(), server, incarnation: 1, run_id }
}

/// A frame that can be told from others by its term.
fn frame(term: u64) -> Frame {
    let reply = PreVoteReply { term: Term(term), granted: true, leader_heard: false };
    Frame { raft: vec![Message::PreVoteReply(reply)], gateway: vec![] }
}

fn listener() -> (Listener, String) {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_address().expect("it is bound").to_string();
    (listener, address)
}

fn accept(listener: &mut Listener) -> (TcpStream, SocketAddr) {
    match listener.accept() {
        Accepted::Connection(stream, address) => (stream, address),
        other => panic!("no connection but {other:?}"),
    }
}

fn no_memory(_: &Identity) -> Result<(), String> {
    Ok(())
}

/// `ours`, whose only peer is server 1, accepts one connection, while `dialler` does its part.
fn meet_as<T>(
    ours: &Identity,
    check: impl Fn(&Identity) -> Result<(), String> + Send,
    dialler: impl FnOnce(&str) -> T,
) -> (T, Result<Inbound, HelloError>) {
    let (mut listener, address) = listener();
    thread::scope(|scope| {
        let acceptor = scope.spawn(move || {
            let (stream, _) = accept(&mut listener);
            accept_hello(stream, ours, &[ServerId(1)], &mut |theirs| check(theirs))
        });
        (dialler(&address), acceptor.join().expect("the acceptor does not panic"))
    })
}

/// Server 2 of cluster `a` accepts one connection.
fn meet<T>(dialler: impl FnOnce(&str) -> T) -> (T, Result<Inbound, HelloError>) {
    meet_as(&identity("a", 2), no_memory, dialler)
}

/// Server 1 of cluster `a` has an open link to server 2.
fn linked() -> (PeerLink, Inbound) {
    let (dialled, inbound) = meet(|at| dial(at, &identity("a", 1), ServerId(2), &mut no_memory));
    let link = PeerLink::default();
    link.install(dialled.expect("good hello"));
    (link, inbound.expect("good hello"))
}

fn send(link: &PeerLink, frame: &Frame) -> Sent {
    link.lock_if_up().expect("the link is up").send(frame)
}

/// Waits for a condition, with a bound.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "in vain: {what}");
        thread::yield_now();
    }
}

// ---- The handshake. ----

/// What two servers say to each other when `dialler` wants to reach `wanted` and `ours` answers:
/// the dialler's words, and the acceptor's.
fn refusal(dialler: &Identity, wanted: u32, ours: &Identity) -> (String, HelloError) {
    let (dialled, inbound) =
        meet_as(ours, no_memory, |at| dial(at, dialler, ServerId(wanted), &mut no_memory));
    let Err(DialError::Hello { source, .. }) = dialled else { panic!("not refused") };
    assert!(matches!(source, HelloError::RefusedByPeer(_)), "{source}");
    (source.to_string(), inbound.expect_err("refused"))
}

/// Both sides must learn why, with both values: one of them is looked at first.
#[track_caller]
fn assert_names(heard: &str, error: &HelloError, values: &[&str]) {
    for value in values {
        assert!(heard.contains(value), "{value} is missing at the dialler: {heard}");
        assert!(error.to_string().contains(value), "{value} is missing here: {error}");
    }
}

/// S92: two clusters must not merge; also with ids of full length both are named.
#[test]
fn another_cluster_is_refused() {
    let (theirs, ours) = ("b".repeat(CLUSTER_ID_BYTES_MAX), "a".repeat(CLUSTER_ID_BYTES_MAX));
    let (heard, error) = refusal(&identity(&theirs, 1), 2, &identity(&ours, 2));
    assert!(matches!(error, HelloError::Refused(Refusal::Cluster { .. })));
    assert_names(&heard, &error, &[&format!("{theirs:?}"), &format!("{ours:?}")]);
}

/// One cluster id, and two pasts: servers that were not restored from the same backup must not
/// count in one majority. The longest names that there are can be said.
#[test]
fn a_server_that_began_with_another_backup_is_refused() {
    let made = "a".repeat(CLUSTER_ID_BYTES_MAX);
    let number = i64::MAX;
    let restored = format!("{made}+{number}.{number}.{:016x}", u64::MAX);
    let later = format!("{made}+7.1.{:016x}", 1);
    for (theirs, ours) in [(&made, &restored), (&restored, &made), (&later, &restored)] {
        let (heard, error) = refusal(&identity(theirs, 1), 2, &identity(ours, 2));
        assert!(matches!(error, HelloError::Refused(Refusal::Origin { .. })), "{error}");
        assert_names(&heard, &error, &["same backup", theirs.as_str(), ours.as_str()]);
    }
}

/// An address in cluster.toml that belongs to another server.
#[test]
fn another_server_is_refused() {
    let (heard, error) = refusal(&identity("a", 1), 3, &identity("a", 2));
    assert!(matches!(error, HelloError::Refused(Refusal::Server { .. })));
    assert_names(&heard, &error, &["n3 was expected", "this is n2"]);
}

/// S91: only members are listened to.
#[test]
fn an_unknown_server_is_refused() {
    let (heard, error) = refusal(&identity("a", 9), 2, &identity("a", 2));
    assert!(matches!(error, HelloError::Refused(Refusal::Unknown { .. })));
    assert_names(&heard, &error, &["n9", "n1"]);
}

/// A server whose peer's address is its own.
#[test]
fn a_server_does_not_talk_to_itself() {
    let (heard, error) = refusal(&identity("a", 2), 1, &identity("a", 2));
    assert!(matches!(error, HelloError::Refused(Refusal::Itself(ServerId(2)))));
    assert_names(&heard, &error, &["n2", "itself"]);
}

/// S20: a copied data directory, or one id given twice.
#[test]
fn two_processes_under_one_id_are_refused() {
    let twin = Identity { run_id: 0xabc, ..identity("a", 2) };
    let (heard, error) = refusal(&twin, 2, &identity("a", 2));
    assert!(matches!(error, HelloError::Refused(Refusal::Twice { .. })));
    let (theirs, ours) = (format!("{:016x}", 0xabc), format!("{:016x}", 102));
    assert_names(&heard, &error, &["n2", &theirs, &ours]);
}

/// S20: each side asks its memory; the words arrive at the other without what could forge a line.
#[test]
fn a_past_that_does_not_fit_is_refused_by_either_side() {
    let remembers = |_: &Identity| Err("was at 5,\nis at \"1\"\u{202e}".to_owned());
    let dialler = |at: &str| dial(at, &identity("a", 1), ServerId(2), &mut no_memory);
    let (dialled, inbound) = meet_as(&identity("a", 2), remembers, dialler);
    assert!(matches!(inbound, Err(HelloError::Refused(Refusal::History(_)))));
    let Err(DialError::Hello { source: HelloError::RefusedByPeer(heard), .. }) = dialled else {
        panic!("not refused")
    };
    assert_eq!(heard, "was at 5,\\nis at \"1\"\\u{202e}");

    let (dialled, _) =
        meet(|at| dial(at, &identity("a", 1), ServerId(2), &mut |theirs| remembers(theirs)));
    let Err(DialError::Hello { source, .. }) = dialled else { panic!("not refused") };
    assert!(matches!(source, HelloError::Refused(Refusal::History(_))));
}

/// The bytes that `dialler` greets server 2 with.
fn greeting(dialler: &Identity) -> Vec<u8> {
    let (mut listener, address) = listener();
    let dialler = dialler.clone();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let stream = TcpStream::connect(address).expect("it listens");
            let deadline = Instant::now() + PATIENCE;
            let version = hello::PEER_PROTOCOL_VERSION;
            hello::greet(&stream, version, &dialler, ServerId(2), &mut no_memory, deadline)
        });
        let (mut stream, _) = accept(&mut listener);
        let mut header = [0; 15];
        stream.read_exact(&mut header).expect("a header");
        let mut rest = vec![0; usize::from(header[13]) + usize::from(header[14]) * 256 + 4];
        stream.read_exact(&mut rest).expect("a body");
        drop(stream);
        assert!(thread.join().expect("no panic").is_err(), "nobody answers");
        [&header[..], &rest].concat()
    })
}

/// A greeting as the next version may write it: another version, another body.
fn with_version(mut greeting: Vec<u8>, version: u32) -> Vec<u8> {
    let end = greeting.len() - 4;
    greeting[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&greeting[..end]).to_le_bytes();
    greeting[end..].copy_from_slice(&crc);
    greeting
}

/// Sends bytes to a server, and returns what it answered before it closed.
fn say(at: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    // A reset is an end as well: not all that we said was read.
    let _closed_or_reset = stream.read_to_end(&mut answer);
    answer
}

/// An upgrade that went too far must be recognisable in the log of either side.
#[test]
fn another_version_is_refused() {
    let bytes = with_version(greeting(&identity("a", 1)), 77);
    let (answer, inbound) = meet(|at| say(at, &bytes));
    let error = inbound.expect_err("refused");
    assert!(matches!(error, HelloError::Refused(Refusal::Version { theirs: 77, ours: 3 })));
    let heard = String::from_utf8_lossy(&answer).into_owned();
    assert_names(&heard, &error, &["77", "ours is 3"]);
}

/// A cluster is upgraded one server at a time: an older server that dials us is answered in its own
/// version, and one that refuses ours is greeted again in its own. What it does not know, it is not
/// sent: it would drop the connection.
#[test]
fn a_server_one_version_older_is_spoken_with() {
    let bytes = with_version(greeting(&identity("a", 1)), 2);
    let (answer, inbound) = meet(|at| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(&bytes).expect("it reads");
        let mut header = [0; 12];
        stream.read_exact(&mut header).expect("an answer");
        header
    });
    assert!(inbound.is_ok(), "{inbound:?}");
    assert_eq!(answer[8..12], 2_u32.to_le_bytes());

    let (mut listener, address) = listener();
    let dialled = thread::scope(|scope| {
        let dialler = scope.spawn(|| {
            let ours = identity("a", 1);
            dial(&address, &ours, ServerId(2), &mut no_memory)
        });
        // As the older version does: it refuses every other one, and says which is its own.
        let (mut stream, _) = accept(&mut listener);
        let mut header = [0; 12];
        stream.read_exact(&mut header).expect("a greeting");
        assert_eq!(header[8..12], 3_u32.to_le_bytes());
        let mut refusal = [&b"RAFTPEER"[..], &2_u32.to_le_bytes(), &[3, 0, 0], &[0; 4]].concat();
        refusal = with_version(refusal, 2);
        stream.write_all(&refusal).expect("it reads");
        let (stream, _) = accept(&mut listener);
        let ours = identity("a", 2);
        let inbound = accept_hello(stream, &ours, &[ServerId(1)], &mut no_memory);
        (dialler.join().expect("no panic").expect("it is reached"), inbound.expect("good hello"))
    });
    let (dialled, mut inbound) = dialled;
    assert_eq!(dialled.version, 2);
    let link = PeerLink::default();
    link.install(dialled);
    let timeout_now = Message::TimeoutNow(TimeoutNow { term: Term(1) });
    let mut both = frame(7);
    both.raft.push(timeout_now);
    assert!(matches!(send(&link, &both), Sent::All));
    assert_eq!(inbound.receive().expect("a frame"), frame(7));
}

/// S57: no damage to a greeting gets anybody in, or anything to panic.
#[test]
fn every_damaged_greeting_is_refused() {
    let good = greeting(&identity("a", 1));
    let (mut listener, address) = listener();
    thread::scope(|scope| {
        scope.spawn(|| {
            for position in 0..good.len() {
                let mut bad = good.clone();
                bad[position] ^= 0x11;
                let mut stream = TcpStream::connect(&address).expect("it listens");
                stream.write_all(&bad).expect("it is taken");
            }
        });
        for position in 0..good.len() {
            let (stream, _) = accept(&mut listener);
            let ours = identity("a", 2);
            let answer = accept_hello(stream, &ours, &[ServerId(1)], &mut no_memory);
            assert!(answer.is_err(), "byte {position}");
        }
    });
}

/// S94: a browser on the peer port is closed at its first line, and gets no byte.
#[test]
fn http_is_no_peer() {
    let request = b"POST / HTTP\r\nHost: x\r\n\r\nSET a b\r\n";
    let (answer, inbound) = meet(|at| say(at, request));
    assert!(answer.is_empty(), "{answer:?}");
    let error = inbound.expect_err("refused");
    assert!(matches!(error, HelloError::NotAPeer(_)));
    assert!(error.to_string().contains("POST / HTTP\\r\\n"), "escaped: {error}");
}

/// S57: a byte now and then does not hold a handshake open: the deadline is for the whole.
#[test]
fn slow_bytes_do_not_pass_the_deadline() {
    let mut bytes = greeting(&identity("a", 1));
    bytes.pop(); // the last one never comes
    let (mut listener, address) = listener();
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let slow = scope.spawn(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            bytes.into_iter().any(|byte| {
                let _it_may_have_given_up = stream.write_all(&[byte]);
                // Slower than would be in time, and faster than a deadline for each byte.
                is_over.recv_timeout(Duration::from_millis(40)).is_ok()
            })
        });
        let (stream, _) = accept(&mut listener);
        let deadline = Instant::now() + Duration::from_millis(200);
        let answer =
            hello::answer(&stream, &identity("a", 2), &[ServerId(1)], &mut no_memory, deadline);
        assert!(matches!(answer, Err(HelloError::TimedOut)), "{answer:?}");
        let _it_has_sent_all = over.send(());
        assert!(slow.join().expect("no panic"), "it was over before all bytes were there");
    });
}

// ---- Links. ----

/// What is sent after a good hello arrives, also in the same packet as the hello.
#[test]
fn a_frame_crosses_a_link() {
    let (link, mut inbound) = linked();
    assert!(matches!(send(&link, &frame(7)), Sent::All));
    assert_eq!(inbound.receive().expect("a frame"), frame(7));

    let mut bytes = greeting(&identity("a", 1));
    frame(8).encode(&mut bytes);
    let (stream, inbound) = meet(|at| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(&bytes).expect("it reads");
        stream
    });
    assert_eq!(inbound.expect("good hello").receive().expect("a frame"), frame(8));
    drop(stream);
}

/// S57: garbage ends the connection with a reason, and the end of one is an end, not an error.
#[test]
fn garbage_after_the_hello_ends_the_connection() {
    let bytes = [greeting(&identity("a", 1)), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat();
    let (_, inbound) = meet(|at| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(&bytes).expect("it reads");
    });
    let received = inbound.expect("good hello").receive();
    assert!(matches!(received, Err(ReceiveError::Frame(_))), "{received:?}");

    let (link, mut inbound) = linked();
    drop(link);
    assert!(matches!(inbound.receive(), Err(ReceiveError::Closed)));
}

/// S53: a peer that restarts is noticed without sending, and the link works again after a new dial.
#[test]
fn a_link_is_mended_after_the_peer_restarts() {
    let (link, inbound) = linked();
    assert!(link.check_open());
    drop(inbound);
    until("the closed connection is noticed", || !link.check_open());
    assert!(link.lock_if_up().is_none(), "the link is down");

    let (dialled, inbound) = meet(|at| dial(at, &identity("a", 1), ServerId(2), &mut no_memory));
    link.install(dialled.expect("good hello"));
    assert!(link.check_open());
    assert!(matches!(send(&link, &frame(2)), Sent::All));
    assert_eq!(inbound.expect("good hello").receive().expect("a frame"), frame(2));
}

/// A frame that is recognisable and large enough to fill a socket soon.
fn large_frame(term: u64) -> Frame {
    Frame { raft: vec![frame(term).raft.remove(0); 100_000], gateway: vec![] }
}

/// Sends until the socket takes no more; returns the term of the last frame.
fn fill(link: &PeerLink) -> u64 {
    let since = Instant::now();
    for term in 1.. {
        match send(link, &large_frame(term)) {
            Sent::All => assert!(since.elapsed() < PATIENCE, "the socket takes everything"),
            Sent::Rest => return term,
            Sent::Broken(error) => panic!("broken: {error}"),
        }
    }
    unreachable!("it returns or panics")
}

/// S51: whoever passes by is not held up by a peer that does not read; nothing is lost or mixed up
/// when it reads again.
#[test]
fn what_a_full_socket_did_not_take_follows_in_order() {
    let (link, mut inbound) = linked();
    let last = fill(&link);
    let mut wire = link.lock_if_up().expect("the link is up");
    assert!(wire.has_remainder());
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut received = Vec::new();
            while received.len() < (last as usize + 1) * 100_000 {
                received.extend(inbound.receive().expect("frames").raft);
            }
            received
        });
        let since = Instant::now();
        while !matches!(wire.finish_blocking(), Sent::All) {
            assert!(since.elapsed() < PATIENCE, "the peer reads");
        }
        assert!(!wire.has_remainder());
        assert!(matches!(wire.send_blocking(&large_frame(last + 1)), Sent::All | Sent::Rest));
        while wire.has_remainder() {
            assert!(matches!(wire.finish_blocking(), Sent::All | Sent::Rest));
        }
        let sent = (1..=last + 1).flat_map(|term| large_frame(term).raft);
        assert!(reader.join().expect("no panic").into_iter().eq(sent), "all, in order");
    });
}

/// Half a frame must not begin a new connection.
#[test]
fn a_remainder_is_not_carried_to_a_new_connection() {
    let (link, stuck) = linked();
    fill(&link);
    drop(stuck);
    let since = Instant::now();
    loop {
        let Some(mut wire) = link.lock_if_up() else { break };
        if let Sent::Broken(_) = wire.finish_blocking() {
            assert!(!wire.has_remainder());
        }
        assert!(since.elapsed() < PATIENCE, "the peer has closed");
    }
    let (dialled, inbound) = meet(|at| dial(at, &identity("a", 1), ServerId(2), &mut no_memory));
    link.install(dialled.expect("good hello"));
    assert!(matches!(send(&link, &frame(3)), Sent::All));
    assert_eq!(inbound.expect("good hello").receive().expect("a frame"), frame(3));
}

/// S52: a peer that is away costs no time, and is left in peace more and more.
#[test]
fn a_closed_port_fails_at_once_and_the_backoff_grows() {
    let (listener, address) = listener();
    drop(listener);
    let since = Instant::now();
    let dialled = dial(&address, &identity("a", 1), ServerId(2), &mut no_memory);
    assert!(matches!(dialled, Err(DialError::Connect { .. })), "{dialled:?}");
    assert!(since.elapsed() < PATIENCE / 4, "{:?}", since.elapsed());
    assert!(dialled.expect_err("refused").to_string().contains(&address));

    let mut backoff = Backoff::new(7);
    for round in 0..2 {
        for failure in 0..20 {
            assert_eq!(backoff.failures(), failure);
            let most = (DIAL_PAUSE_MS_MIN << failure).min(DIAL_PAUSE_MS_MAX);
            let pause = backoff.next_pause().as_millis() as u64;
            assert!((most / 2..=most).contains(&pause), "round {round}: {pause} of {most} ms");
        }
        backoff.reset();
    }
    let pauses = |seed| {
        let mut backoff = Backoff::new(seed);
        (0..9).map(|_| backoff.next_pause()).collect::<Vec<_>>()
    };
    assert_ne!(pauses(1), pauses(2), "servers do not dial in step");
}

// ---- The listener. ----

/// A stopping server ends its accept loop at once, whether or not somebody connects.
#[test]
fn a_listener_is_closed_from_another_thread() {
    let (mut listener, address) = listener();
    let closer = listener.closer();
    let (first, is_first) = mpsc::channel();
    let loop_thread = thread::spawn(move || {
        loop {
            match listener.accept() {
                Accepted::Connection(..) => drop(first.send(())),
                Accepted::Trouble(error) => panic!("{error}"),
                Accepted::Closed => return matches!(listener.accept(), Accepted::Closed),
            }
        }
    });
    let _connection = TcpStream::connect(address).expect("it listens");
    is_first.recv_timeout(PATIENCE).expect("it accepts");
    closer.close();
    until("the loop ends", || loop_thread.is_finished());
    assert!(loop_thread.join().expect("no panic"), "closed for ever");
}

/// What the child process of the next test is told by.
const SHORTAGE_CHILD: &str = "TRANSPORT_TEST_SHORTAGE";

/// S65: without descriptors a connection is refused, and waiting for one costs nothing; with
/// descriptors again, the next one is accepted. In a process of its own, which has a limit of its
/// own.
#[test]
fn without_descriptors_connections_are_refused_and_nothing_spins() {
    if std::env::var_os(SHORTAGE_CHILD).is_some() {
        return in_shortage();
    }
    let this = std::env::current_exe().expect("a test knows where it is");
    let name = "without_descriptors_connections_are_refused_and_nothing_spins";
    let output = std::process::Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(SHORTAGE_CHILD, "1")
        .output()
        .expect("a test can be started again");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !words.contains("panicked"), "{words}");
}

fn client() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("there are descriptors");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

fn in_shortage() {
    let (mut listener, address) = listener();
    let address: SocketAddr = address.parse().expect("it is numeric");
    let closer = listener.closer();
    let (mut refused, accepted) = (client(), client());
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
    let null = || std::fs::File::open("/dev/null");
    let mut all: Vec<_> = std::iter::from_fn(|| null().ok()).collect();

    thread::scope(|scope| {
        // Accepting begins before anybody connects: it must wait, not fail.
        let acceptor = scope.spawn(move || {
            let outcome = listener.accept();
            (outcome, listener)
        });
        refused.connect(&address.into()).expect("the system accepts first");
        let end = refused.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(io::ErrorKind::ConnectionReset)), "{end:?}");
        let (outcome, mut listener) = acceptor.join().expect("no panic");
        assert!(matches!(outcome, Accepted::Trouble(_)), "{outcome:?}");

        // One descriptor comes back while it waits with its reserve: the connection is kept.
        let acceptor = scope.spawn(move || {
            let outcome = listener.accept();
            (outcome, listener)
        });
        all.pop();
        accepted.connect(&address.into()).expect("the system accepts first");
        let (outcome, mut listener) = acceptor.join().expect("no panic");
        assert!(matches!(outcome, Accepted::Connection(..)), "{outcome:?}");

        // Closing wakes also the accept that waits in a shortage, and it has not spun until then.
        let acceptor = scope.spawn(move || listener.accept());
        closer.close();
        assert!(matches!(acceptor.join().expect("no panic"), Accepted::Closed));
    });
}
