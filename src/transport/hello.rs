//! The handshake: who is there, before anything else is believed.
//!
//! A greeting is `magic | version u32 | kind u8 | length u16 | body | CRC u32`. This framing, and
//! that a refusal's body is text, stay the same in all versions, so that two versions can tell each
//! other apart. The dialler greets; the acceptor answers with its own hello or with a refusal.
//!
//! Servers speak the version of the older of the two, if that is at most one older than ours: so a
//! cluster can be upgraded one server at a time. The dialler greets in its own version; if that is
//! refused and the refusal names one that we speak, `dial` greets again in that one. The acceptor
//! answers in the version that it was greeted in.
//!
//! Both sides check the other: an address in `cluster.toml` may by now belong to another cluster
//! (S92), to another server, or to something that is no server at all (S94). Either side may also
//! ask its caller whether the other's past fits (an incarnation that went back, S20). It is no
//! proof against a stranger who lies (S91): that takes keys, which are not here.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{CLUSTER_NAME_BYTES_MAX, GREETING_BYTES_MAX, HANDSHAKE_MS_MAX};
use crate::raft::types::ServerId;

/// The version of everything servers say to each other.
pub const PEER_PROTOCOL_VERSION: u32 = 3;

/// The oldest version that we speak with a server that knows no later one. It lacks snapshots and
/// the handing over of leadership: [`Frame::without_what_is_new`](super::frame::Frame).
pub const OLDEST_PEER_PROTOCOL_VERSION: u32 = 2;

/// Time for a whole handshake; the acceptor may have to write to its disk in it.
pub const HANDSHAKE_MAX: Duration = Duration::from_millis(HANDSHAKE_MS_MAX);

/// How every greeting begins, and nothing that a client or a browser says.
const MAGIC: [u8; 8] = *b"RAFTPEER";
/// Length of what precedes the body, in bytes.
const HEADER_BYTES: usize = 15;
/// Kinds of greetings: the dialler's, and the acceptor's two answers.
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster it belongs to, and behind a `+` the backup that it was restored from, if it was:
    /// at most `CLUSTER_NAME_BYTES_MAX` bytes long.
    pub cluster_id: String,
    /// Its id.
    pub server: ServerId,
    /// Its durable count of starts.
    pub incarnation: u64,
    /// Drawn at random at each start: tells clones of one data directory apart.
    pub run_id: u64,
}

#[derive(Serialize, Deserialize)]
struct Hello {
    identity: Identity,
    /// The server that the dialler means to reach.
    receiver: ServerId,
}

/// Why two servers will not talk. Each names both values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another protocol version.
    #[error("their peer-protocol version is {theirs}, ours is {ours}: upgrade the older one")]
    Version {
        /// The other's.
        theirs: u32,
        /// This server's.
        ours: u32,
    },
    /// Another cluster (S92).
    #[error(
        "their cluster id is {theirs:?}, ours is {ours:?}: check the addresses in cluster.toml"
    )]
    Cluster {
        /// The other's.
        theirs: String,
        /// This server's.
        ours: String,
    },
    /// The cluster's id is the same, and the data are not: one of the two was not restored, or from
    /// another backup.
    #[error(
        "their data and ours do not come from the same backup: they are {theirs:?}, we are \
         {ours:?}. All servers of a cluster are to be restored from one file: restore the others, \
         each into an empty directory"
    )]
    Origin {
        /// The other's id and origin.
        theirs: String,
        /// This server's.
        ours: String,
    },
    /// Another server answers at this address.
    #[error("{expected} was expected here, this is {found}: check the addresses in cluster.toml")]
    Server {
        /// Who was to be reached.
        expected: ServerId,
        /// Who was reached.
        found: ServerId,
    },
    /// The server has reached itself.
    #[error("{0} has dialled itself: check the addresses in cluster.toml")]
    Itself(ServerId),
    /// Two processes run under one id (S20).
    #[error("{server} runs twice, as {theirs:016x} and as {ours:016x}: stop the copy")]
    Twice {
        /// The id both claim.
        server: ServerId,
        /// The other's run id.
        theirs: u64,
        /// This server's run id.
        ours: u64,
    },
    /// No member of the cluster.
    #[error("{server} is none of our peers, which are {}: check cluster.toml", names(peers))]
    Unknown {
        /// Who asks.
        server: ServerId,
        /// Who may.
        peers: Vec<ServerId>,
    },
    /// What the caller remembers of the server does not fit; its words.
    #[error("{0}")]
    History(String),
}

/// How a handshake ended otherwise than well.
#[derive(Debug, Error)]
pub enum HelloError {
    /// We refused, and told the other side why.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other side speaks only this older version, which we speak too: greet it in that one.
    #[error("the other side speaks version {0}")]
    Older(u32),
    /// The other side refused; its words, with everything escaped that could forge a log line.
    #[error("refused by the other side: {0}")]
    RefusedByPeer(String),
    /// Something else speaks here: a client, a browser, a port scanner (S94).
    #[error("not a peer: the first bytes are \"{0}\"")]
    NotAPeer(String),
    /// It looks like a greeting and is none.
    #[error("malformed greeting: {0}")]
    Malformed(&'static str),
    /// It took too long.
    #[error("the handshake was not complete in time")]
    TimedOut,
    /// The connection failed.
    #[error("the handshake failed: {0}")]
    Io(#[from] io::Error),
}

/// What the caller knows of a server's past; an error is the reason to refuse it.
pub type CheckHistory<'a> = dyn FnMut(&Identity) -> Result<(), String> + 'a;

/// The dialler's side, in this version. Leaves the stream's timeouts changed.
pub fn greet(
    stream: &TcpStream,
    version: u32,
    ours: &Identity,
    receiver: ServerId,
    check: &mut CheckHistory,
    deadline: Instant,
) -> Result<Identity, HelloError> {
    assert!(ours.cluster_id.len() <= CLUSTER_NAME_BYTES_MAX, "the configuration bounds its length");
    let hello = Hello { identity: ours.clone(), receiver };
    send(stream, version, HELLO, &encode(&hello), deadline)?;
    let (theirs, kind, body) = receive(stream, deadline)?;
    if kind == REFUSAL {
        if theirs < version && check_version(theirs).is_ok() {
            return Err(HelloError::Older(theirs));
        }
        return Err(HelloError::RefusedByPeer(escaped(&String::from_utf8_lossy(&body))));
    }
    check_version(theirs).map_err(HelloError::Refused)?;
    if kind != WELCOME {
        return Err(HelloError::Malformed("neither a welcome nor a refusal"));
    }
    let theirs: Identity = decode(&body)?;
    check_length(&theirs)?;
    check_identity(&theirs, ours).map_err(HelloError::Refused)?;
    if theirs.server != receiver {
        let refusal = Refusal::Server { expected: receiver, found: theirs.server };
        return Err(HelloError::Refused(refusal));
    }
    check(&theirs).map_err(|text| HelloError::Refused(Refusal::History(text)))?;
    Ok(theirs)
}

/// The acceptor's side. `check` may write to the disk: the welcome leaves only after it.
pub fn answer(
    stream: &TcpStream,
    ours: &Identity,
    peers: &[ServerId],
    check: &mut CheckHistory,
    deadline: Instant,
) -> Result<Identity, HelloError> {
    let (version, kind, body) = receive(stream, deadline)?;
    let judged = check_version(version).map_err(HelloError::Refused).and_then(|()| {
        if kind != HELLO {
            return Err(HelloError::Malformed("not a hello"));
        }
        let hello: Hello = decode(&body)?;
        check_length(&hello.identity)?;
        check_hello(&hello, ours, peers).map_err(HelloError::Refused)?;
        check(&hello.identity).map_err(|text| HelloError::Refused(Refusal::History(text)))?;
        Ok(hello.identity)
    });
    match judged {
        Ok(theirs) => {
            send(stream, version, WELCOME, &encode(ours), deadline)?;
            Ok(theirs)
        }
        Err(HelloError::Refused(refusal)) => {
            let text = refusal.to_string();
            let text = &text.as_bytes()[..text.len().min(GREETING_BYTES_MAX)];
            // Telling is a courtesy: our own log has the reason, whether the other hears it or not.
            drop(send(stream, PEER_PROTOCOL_VERSION, REFUSAL, text, deadline));
            Err(HelloError::Refused(refusal))
        }
        Err(error) => Err(error),
    }
}

/// Spells out everything that is not plain text, but leaves quotation marks: the words of a refusal
/// are for people (S95).
fn escaped(words: &str) -> String {
    let spell = |letter: char| match letter {
        '"' | '\'' | '\\' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    };
    words.chars().map(spell).collect()
}

fn names(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(ServerId::to_string).collect();
    names.join(", ")
}

fn check_version(theirs: u32) -> Result<(), Refusal> {
    let ours = PEER_PROTOCOL_VERSION;
    let spoken = OLDEST_PEER_PROTOCOL_VERSION..=ours;
    if spoken.contains(&theirs) { Ok(()) } else { Err(Refusal::Version { theirs, ours }) }
}

/// So that a refusal has room for both cluster ids.
fn check_length(theirs: &Identity) -> Result<(), HelloError> {
    if theirs.cluster_id.len() > CLUSTER_NAME_BYTES_MAX {
        return Err(HelloError::Malformed("its cluster id is too long"));
    }
    Ok(())
}

fn check_identity(theirs: &Identity, ours: &Identity) -> Result<(), Refusal> {
    if theirs.cluster_id != ours.cluster_id {
        let (theirs, ours) = (theirs.cluster_id.clone(), ours.cluster_id.clone());
        let id = |name: &str| name.split('+').next().unwrap_or_default().to_owned();
        return Err(match id(&theirs) == id(&ours) {
            true => Refusal::Origin { theirs, ours },
            false => Refusal::Cluster { theirs, ours },
        });
    }
    if theirs.run_id == ours.run_id {
        return Err(Refusal::Itself(ours.server));
    }
    if theirs.server == ours.server {
        let (theirs, ours_run) = (theirs.run_id, ours.run_id);
        return Err(Refusal::Twice { server: ours.server, theirs, ours: ours_run });
    }
    Ok(())
}

fn check_hello(hello: &Hello, ours: &Identity, peers: &[ServerId]) -> Result<(), Refusal> {
    check_identity(&hello.identity, ours)?;
    if hello.receiver != ours.server {
        return Err(Refusal::Server { expected: hello.receiver, found: ours.server });
    }
    let server = hello.identity.server;
    if !peers.contains(&server) {
        return Err(Refusal::Unknown { server, peers: peers.to_vec() });
    }
    Ok(())
}

fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("writing to memory cannot fail")
}

fn decode<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, HelloError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(HelloError::Malformed("its body cannot be decoded")),
    }
}

fn send(
    mut stream: &TcpStream,
    version: u32,
    kind: u8,
    body: &[u8],
    deadline: Instant,
) -> Result<(), HelloError> {
    assert!(body.len() <= GREETING_BYTES_MAX, "cluster ids and refusals are cut to fit");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.push(kind);
    let length = u16::try_from(body.len()).expect("GREETING_BYTES_MAX fits in 16 bits");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(HelloError::TimedOut);
    }
    stream.set_write_timeout(Some(left))?;
    stream.write_all(&bytes).map_err(late)
}

fn receive(stream: &TcpStream, deadline: Instant) -> Result<(u32, u8, Vec<u8>), HelloError> {
    let mut bytes = Vec::new();
    receive_until(stream, HEADER_BYTES, &mut bytes, deadline)?;
    let length = usize::from(u16::from_le_bytes([bytes[13], bytes[14]]));
    if length > GREETING_BYTES_MAX {
        return Err(HelloError::Malformed("it is too long"));
    }
    receive_until(stream, HEADER_BYTES + length + 4, &mut bytes, deadline)?;
    let (checked, crc) = bytes.split_at(HEADER_BYTES + length);
    if crc32fast::hash(checked).to_le_bytes() != crc {
        return Err(HelloError::Malformed("it is damaged"));
    }
    let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    Ok((version, bytes[12], checked[HEADER_BYTES..].to_vec()))
}

/// Reads until `bytes` has `wanted` bytes, not one more: what follows belongs to the frames.
fn receive_until(
    mut stream: &TcpStream,
    wanted: usize,
    bytes: &mut Vec<u8>,
    deadline: Instant,
) -> Result<(), HelloError> {
    while bytes.len() < wanted {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HelloError::TimedOut);
        }
        stream.set_read_timeout(Some(left))?;
        let mut chunk = [0_u8; GREETING_BYTES_MAX];
        let room = (wanted - bytes.len()).min(chunk.len());
        match stream.read(&mut chunk[..room]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(late(error)),
        }
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(HelloError::NotAPeer(bytes.escape_ascii().to_string()));
        }
    }
    Ok(())
}

fn late(error: io::Error) -> HelloError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HelloError::TimedOut,
        _ => HelloError::Io(error),
    }
}
