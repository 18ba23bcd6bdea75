//! Frames: how messages between servers look on a connection.
//!
//! A frame is `length u32 | CRC of the payload u32 | CRC of these eight bytes u32 | payload`,
//! numbers little-endian, the payload postcard. The header has a CRC of its own, because a damaged
//! length would otherwise be noticed only after up to 16 MiB of further traffic (S57).

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::gateway::message::GatewayMessage;
use crate::limits::FRAME_BYTES_MAX;
use crate::raft::message::{Malformed, Message};

const HEADER_BYTES: usize = 12;

/// Bytes that one read may bring at first; the buffer grows only with what really arrived.
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

    /// Appends the encoded frame to `buffer`; an empty one appends nothing.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEADER_BYTES]);
        postcard::to_io(self, &mut *buffer).expect("writing to memory cannot fail");
        let (header, payload) = buffer[start..].split_at_mut(HEADER_BYTES);
        // What may enter a log or a forward is bounded far below a frame (S56).
        assert!(payload.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", payload.len());
        let length = u32::try_from(payload.len()).expect("FRAME_BYTES_MAX fits in 32 bits");
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        let check = crc32fast::hash(&header[..8]);
        header[8..].copy_from_slice(&check.to_le_bytes());
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
    start: usize,
    end: usize,
}

impl FrameReader {
    /// Reads once. `Ok(0)` is the end of the stream.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == 0 && self.buffer.len() > FRAME_BYTES_MAX / 16 {
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
        let Ok((frame, [])) = postcard::take_from_bytes::<Frame>(payload) else {
            return Err(FrameError::Undecodable(length));
        };
        frame.raft.iter().try_for_each(Message::check_shape)?;
        self.start += HEADER_BYTES + length;
        Ok(Some(frame))
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
