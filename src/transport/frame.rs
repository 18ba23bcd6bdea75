//! Frames: how messages between servers look on a connection.
//!
//! A frame is `length u32 | CRC of the payload u32 | CRC of these eight bytes u32 | payload`,
//! numbers little-endian, the payload postcard. The header has a CRC of its own, because a damaged
//! length would otherwise be noticed only after up to 16 MiB of further traffic (S57).
//!
//! A frame has no meaning of its own: what is sent as one may be received as two, or two as one.
//! Only the order of the messages of each kind counts.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::gateway::message::GatewayMessage;
use crate::limits::{FRAME_BYTES_MAX, LINK_IDLE_BYTES_MAX};
use crate::raft::message::{Malformed, Message};

/// Length of what precedes the payload, in bytes.
const HEADER_BYTES: usize = 12;

/// Bytes that one read may bring at first; the buffer grows only with what has really arrived,
/// never because a header claims much.
const READ_BYTES: usize = 64 * 1024;

/// What one server tells another at once: Raft's messages first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Messages for the receiver's core.
    pub raft: Vec<Message>,
    /// Messages for the receiver's gateway.
    pub gateway: Vec<GatewayMessage>,
}

impl Frame {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.raft.is_empty() && self.gateway.is_empty()
    }

    /// Appends the encoded frame to `buffer`; an empty one appends nothing, and one with more
    /// messages than fit becomes several. A single message always fits: what may enter a log or a
    /// forward is bounded far below a frame (S56).
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEADER_BYTES]);
        postcard::to_io(self, &mut *buffer).expect("writing to memory cannot fail");
        let (header, payload) = buffer[start..].split_at_mut(HEADER_BYTES);
        if payload.len() > FRAME_BYTES_MAX {
            let bytes = payload.len();
            buffer.truncate(start);
            let (first, second) = self.split();
            assert!(!first.is_empty(), "a single message of {bytes} bytes does not fit a frame");
            first.encode(buffer);
            return second.encode(buffer);
        }
        let length = u32::try_from(payload.len()).expect("FRAME_BYTES_MAX fits in 32 bits");
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        let check = crc32fast::hash(&header[..8]);
        header[8..].copy_from_slice(&check.to_le_bytes());
    }

    /// What of it a server knows that speaks version 2.
    pub fn without_what_is_new(&self) -> Frame {
        let known = |message: &&Message| message.is_known_to_version_2();
        let known_to_gateways = |message: &&GatewayMessage| message.is_known_to_version_2();
        Frame {
            raft: self.raft.iter().filter(known).cloned().collect(),
            gateway: self.gateway.iter().filter(known_to_gateways).cloned().collect(),
        }
    }

    /// Two frames that say the same. The first is empty only if there is a single message.
    fn split(&self) -> (Frame, Frame) {
        if !self.raft.is_empty() && !self.gateway.is_empty() {
            let raft = Frame { raft: self.raft.clone(), gateway: Vec::new() };
            return (raft, Frame { raft: Vec::new(), gateway: self.gateway.clone() });
        }
        let (raft, raft_rest) = self.raft.split_at(self.raft.len() / 2);
        let (gateway, gateway_rest) = self.gateway.split_at(self.gateway.len() / 2);
        let first = Frame { raft: raft.to_vec(), gateway: gateway.to_vec() };
        (first, Frame { raft: raft_rest.to_vec(), gateway: gateway_rest.to_vec() })
    }
}

/// Why the bytes of a peer are no frame. The connection is dropped: nothing behind it can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The header's CRC does not match.
    #[error("a frame header is damaged")]
    Header,
    /// The length is 0 or beyond the bound.
    #[error("a frame claims {0} bytes; 1 to {FRAME_BYTES_MAX} are possible")]
    Length(usize),
    /// The payload's CRC does not match.
    #[error("a frame of {0} bytes is damaged")]
    Payload(usize),
    /// The payload is no frame, or something follows it.
    #[error("a frame of {0} bytes cannot be decoded")]
    Undecodable(usize),
    /// A message that cannot be right.
    #[error("a message is malformed: {0}")]
    Message(#[from] Malformed),
}

/// Takes bytes as they come and gives frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Received bytes are `buffer[start..end]`; behind them is room for the next read.
    buffer: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
    /// Where the received bytes end.
    end: usize,
}

impl FrameReader {
    /// Reads once. `Ok(0)` is the end of the stream. Requires that `next_frame` has given all it
    /// has: that keeps the buffer within twice the largest frame.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == 0 && self.buffer.len() > LINK_IDLE_BYTES_MAX {
            self.buffer = Vec::new(); // one large frame must not hold its memory for ever
        }
        if self.buffer.len() - self.end < READ_BYTES / 2 {
            self.buffer.resize((self.end * 2).max(READ_BYTES), 0);
        }
        let count = source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next frame that has arrived completely.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let received = &self.buffer[self.start..self.end];
        let Some((header, rest)) = received.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        if number(&header[8..]) != crc32fast::hash(&header[..8]) {
            return Err(FrameError::Header);
        }
        let length = number(header) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32fast::hash(payload) != number(&header[4..]) {
            return Err(FrameError::Payload(length));
        }
        // The decoder asks for no more memory than the bytes that are there can fill: a claimed
        // count of 2^60 ends with the bytes, not with the memory.
        let Ok((frame, [])) = postcard::take_from_bytes::<Frame>(payload) else {
            return Err(FrameError::Undecodable(length));
        };
        frame.raft.iter().try_for_each(Message::check_shape)?;
        self.start += HEADER_BYTES + length;
        Ok(Some(frame))
    }
}

/// The first four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
