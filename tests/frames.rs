//! Frames as bytes: what comes out is what went in, however the bytes arrive; and nothing that is
//! no frame gets through (S56, S57).

use raft_server::gateway::message::{GatewayMessage, QuestionId};
use raft_server::kv::command::{self, Bytes};
use raft_server::kv::encoding;
use raft_server::limits::{
    APPEND_BYTES_MAX, ARGUMENTS_MAX, FORWARD_BYTES_MAX, FRAME_BYTES_MAX, REQUEST_BYTES_MAX,
};
use raft_server::raft::message::{
    AppendEntries, AppendEntriesReply, Message, Mismatch, PreVoteReply, Round,
};
use raft_server::raft::types::{Command, Entry, EntryId, Index, NUMBER_MAX, Payload, Stamp, Term};
use raft_server::transport::frame::{Frame, FrameError, FrameReader};

/// Length of a frame's header, in bytes.
const HEADER_BYTES: usize = 12;

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// A frame that can be told from others by its term, with a message of each kind.
fn frame(term: u64) -> Frame {
    let reply = PreVoteReply { term: Term(term), granted: true, leader_heard: false };
    let question = QuestionId { incarnation: 3, serial: term };
    Frame {
        raft: vec![Message::PreVoteReply(reply)],
        gateway: vec![GatewayMessage::ReadQuestion { question }],
    }
}

/// A header as it should be, before a payload that need not.
fn with_header(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    claiming(length, payload)
}

/// A header that claims another length.
fn claiming(length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(payload).to_le_bytes());
    let check = crc32fast::hash(&bytes);
    bytes.extend(check.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads everything, in parts that end at these positions.
fn read(bytes: &[u8], ends: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::default();
    let mut frames = Vec::new();
    let mut start = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        let mut part = &bytes[start..end];
        while !part.is_empty() {
            reader.read_from(&mut part).expect("memory can be read");
            while let Some(frame) = reader.next_frame()? {
                frames.push(frame);
            }
        }
        start = end;
    }
    Ok(frames)
}

/// TCP knows no frames: a read may end anywhere.
#[test]
fn frames_survive_being_split_at_every_byte() {
    let frames = [frame(1), frame(u64::from(u32::MAX)), frame(3)];
    let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            assert_eq!(
                read(&bytes, &[first, second]).as_deref(),
                Ok(&frames[..]),
                "{first} {second}"
            );
        }
    }
    let every_byte: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(read(&bytes, &every_byte).as_deref(), Ok(&frames[..]));
}

/// A connection may end within a frame: what is not there completely is not there.
#[test]
fn a_truncated_frame_is_no_frame() {
    let bytes = encoded(&frame(1));
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end], &[]), Ok(vec![]), "{end} bytes");
    }
}

/// S57: any flipped bit is an error at once, never a panic and never a frame.
#[test]
fn every_flipped_bit_is_noticed_at_once() {
    let good = encoded(&frame(1));
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = read(&bytes, &[]).expect_err("damaged");
        let expected = bit / 8 >= HEADER_BYTES;
        assert_eq!(matches!(error, FrameError::Payload(_)), expected, "bit {bit}: {error}");
    }
}

/// S57: an impossible length is refused when the header is there, not when so much has arrived.
#[test]
fn impossible_lengths_are_refused_by_the_header() {
    for length in [0, FRAME_BYTES_MAX + 1, u32::MAX as usize] {
        let bytes = claiming(u32::try_from(length).expect("32 bits"), &[]);
        assert_eq!(read(&bytes, &[]), Err(FrameError::Length(length)));
    }
    let bytes = claiming(u32::try_from(FRAME_BYTES_MAX).expect("32 bits"), &[]);
    assert_eq!(read(&bytes, &[]), Ok(vec![]), "the largest is waited for");
}

/// S57: what is whole and no frame; counts that would need more memory than there is end with the
/// bytes. A decoder that believed them would not return at all.
#[test]
fn hostile_payloads_are_undecodable() {
    let count = |count: u64| postcard::to_stdvec(&count).expect("memory");
    let huge = || [1 << 60, u64::MAX, 1 << 40, 1 << 32].map(count).into_iter();
    let append = vec![1, 4, 1, 0, 0]; // one AppendEntries: term 1, prev 0@T0
    let mut payloads: Vec<Vec<u8>> = huge().collect(); // Raft's messages
    payloads.extend(huge().map(|count| [vec![0], count].concat())); // the gateway's
    payloads.extend(huge().map(|count| [append.clone(), count].concat())); // entries
    payloads.extend(huge().map(|count| [vec![0, 1, 0, 1, 1, 0], count].concat())); // commands
    payloads.extend(huge().map(|count| [vec![0, 1, 0, 1, 1, 0, 1], count].concat())); // bytes
    payloads.push(b"GET / HTTP/1.1".to_vec());
    payloads.push([&encoded(&frame(1))[HEADER_BYTES..], b"more"].concat());
    for payload in payloads {
        let expected = Err(FrameError::Undecodable(payload.len()));
        assert_eq!(read(&with_header(&payload), &[]), expected, "{payload:?}");
    }
    assert_eq!(read(&with_header(&[0, 0]), &[]), Ok(vec![Frame::default()]), "harmless");
}

/// S93: a message that would break the core's arithmetic ends with its frame.
#[test]
fn a_malformed_message_is_refused() {
    let error = read(&encoded(&frame(u64::MAX)), &[]).expect_err("beyond any term");
    assert!(matches!(error, FrameError::Message(_)), "{error}");
}

// ---- Sizes. ----

/// The largest command that a request can become: most bytes, most arguments, largest numbers.
fn largest_command() -> Command {
    let pairs = (ARGUMENTS_MAX - 1) / 2;
    let value = Bytes::from(vec![b'x'; REQUEST_BYTES_MAX / pairs + 1]);
    let key = Bytes::from(vec![b'k'; 1024]);
    let command = command::Command::SetMany { pairs: vec![(key, value); pairs], if_absent: false };
    let bytes = encoding::encode(&command.into());
    assert!(bytes.len() > REQUEST_BYTES_MAX, "not smaller than what is possible");
    Command::from(&bytes[..])
}

fn entries(command: &Command, count: usize) -> Vec<Entry> {
    let id = |index| EntryId { term: Term(NUMBER_MAX), index: Index(index) };
    let first = NUMBER_MAX - count as u64;
    let payload = || Payload::Command(command.clone());
    (1..=count as u64)
        .map(|at| Entry { id: id(first + at), stamp: Stamp(at), payload: payload() })
        .collect()
}

/// Everything that one `take_messages` may return at once and more: replies of each kind, an
/// AppendEntries and a Forward, both full.
fn largest_frame(entries: Vec<Entry>, commands: Vec<Command>) -> Frame {
    let far = EntryId { term: Term(NUMBER_MAX), index: Index(NUMBER_MAX) };
    let last = entries.last().map_or(far, |entry| entry.id);
    let prev = EntryId { index: Index(last.index.0 - entries.len() as u64), ..last };
    let reply = AppendEntriesReply {
        term: far.term,
        round: Round(NUMBER_MAX),
        match_index: far.index,
        mismatch: Some(Mismatch { prev_index: far.index, hint: far }),
    };
    let (term, leader_commit, round) = (far.term, far.index, Round(NUMBER_MAX));
    let append = AppendEntries { term, prev, entries, leader_commit, round };
    let (incarnation, attempt, part) = (u64::MAX, u64::MAX, u64::MAX);
    let forward = GatewayMessage::Forward { incarnation, attempt, part, commands };
    let question = QuestionId { incarnation, serial: u64::MAX };
    let mut gateway = vec![GatewayMessage::ReadRefused { question }; 10_000];
    gateway.push(forward);
    Frame {
        raft: vec![Message::AppendEntriesReply(reply), Message::AppendEntries(append)],
        gateway,
    }
}

/// S56: whatever the core and the gateway may hand out fits one frame, at both ends: one giant, or
/// as many of the smallest as the byte bounds admit.
#[test]
fn the_largest_that_can_be_sent_fits_one_frame() {
    let giant = largest_command();
    let tiny = Command::from(&[0; encoding::HEADER_BYTES + 1][..]);
    let many_entries = APPEND_BYTES_MAX / (Entry::OVERHEAD_BYTES + tiny.len());
    let many_commands = FORWARD_BYTES_MAX / tiny.len();
    let largest = [
        largest_frame(entries(&giant, 1), vec![giant.clone()]),
        largest_frame(entries(&tiny, many_entries), vec![tiny.clone(); many_commands]),
    ];
    for frame in largest {
        let bytes = encoded(&frame);
        assert!(bytes.len() <= HEADER_BYTES + FRAME_BYTES_MAX, "{} bytes", bytes.len());
        let half = bytes.len() / 2;
        assert!(read(&bytes, &[half]) == Ok(vec![frame]), "one frame, the same again");
    }
}

/// The weights by which the core and the gateway count are not below what is sent.
#[test]
fn an_entry_weighs_at_least_what_it_takes_on_the_wire() {
    for entry in entries(&largest_command(), 1) {
        let bytes = postcard::to_stdvec(&entry).expect("memory").len();
        assert!(bytes <= entry.bytes(), "{bytes} bytes weigh {}", entry.bytes());
    }
}

/// Replies that gather while a peer is away have a byte bound nowhere: too many for one frame go
/// into several, in order. (A panic at `encode` would be the end of the server.)
#[test]
fn too_many_messages_for_one_frame_go_into_several() {
    let question = |serial| QuestionId { incarnation: u64::MAX, serial: u64::MAX - serial };
    let refused = |serial| GatewayMessage::ReadRefused { question: question(serial) };
    let command = largest_command();
    let forward = |part| {
        let commands = vec![command.clone()];
        GatewayMessage::Forward { incarnation: 1, attempt: 1, part, commands }
    };
    let mut sent = frame(1);
    sent.gateway.extend((0..6).map(forward));
    sent.gateway.extend((0..1000).map(refused));

    let frames = read(&encoded(&sent), &[]).expect("good frames");
    assert!(frames.len() > 1);
    assert!(!frames.iter().any(Frame::is_empty));
    let raft: Vec<_> = frames.iter().flat_map(|frame| frame.raft.clone()).collect();
    let gateway: Vec<_> = frames.iter().flat_map(|frame| frame.gateway.clone()).collect();
    assert!(raft == sent.raft && gateway == sent.gateway, "the same messages, in order");
}

/// Whoever has nothing to say costs the peer nothing.
#[test]
fn an_empty_frame_is_not_sent() {
    assert!(encoded(&Frame::default()).is_empty());
}
