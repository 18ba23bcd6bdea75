//! The bytes of a snapshot file.
//!
//! A file is a sequence of frames and nothing else: one header, any number of blocks, one end. All
//! numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0  | 4 | kind: `RSH1` the header, `RSB1` a block, `RSE1` the end |
//! | 4  | 4 | length of the payload |
//! | 8  | 4 | CRC-32 of: the CRC of the frame before (0 for the header), bytes 0–7, the payload |
//! | 12 | … | payload |
//!
//! - The header's payload: format version (2 bytes, 1), then a [`Header`] in postcard.
//! - A block's payload: one or more items, each with its length (4 bytes) before it.
//! - The end's payload: the number of items (8 bytes).
//!
//! Each CRC covers the one before, so the last one vouches for the whole file: a frame that is
//! lost, doubled or from another file breaks the chain. The end, and that nothing follows it, tell
//! a file that was cut or has grown. Equal headers and items give equal bytes, on whichever server.
//!
//! Kind, length and CRC of the header and the two bytes of its version keep their meaning in all
//! later formats, so that a program can name what it cannot read.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::limits::SNAPSHOT_ITEM_BYTES_MAX;
use crate::raft::types::{NUMBER_MAX, ServerId, SnapshotId};

/// The format this program writes and reads.
pub const FORMAT_VERSION: u16 = 1;
/// What stands before a frame's payload, in bytes.
pub const FRAME_HEAD_BYTES: usize = 12;
/// What stands before an item, in bytes.
pub const ITEM_HEAD_BYTES: usize = 4;
/// Longest payload of a frame, in bytes: a block with one item of full size.
pub const PAYLOAD_BYTES_MAX: usize = ITEM_HEAD_BYTES + SNAPSHOT_ITEM_BYTES_MAX;

/// Zeros must not check.
const SEED: u32 = 0x53_4E_41_50;
/// Most servers of a membership, and bytes of a cluster's id: what is beyond was crafted.
const MEMBERS_MAX: usize = 255;
const CLUSTER_ID_BYTES_MAX: usize = 255;

/// What a snapshot says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster's unique id.
    pub cluster_id: String,
    /// The cluster's servers at this index.
    pub membership: Vec<ServerId>,
    /// What it stands for: all entries up to and including this one.
    pub id: SnapshotId,
    /// The state machine's hash of its state at this index.
    pub state_hash: u64,
    /// The number of keys, for people.
    pub keys: u64,
}

impl Header {
    /// Whether a snapshot can say this. A file may be crafted, and what it says must not trip the
    /// core later (S98).
    pub fn check(&self) -> Result<(), &'static str> {
        let last = self.id.last;
        if !super::is_some(self.id) {
            return Err("it stands for no entry");
        }
        if last.index.0 > NUMBER_MAX || last.term.0 > NUMBER_MAX {
            return Err("its index or term is beyond all numbers");
        }
        if self.membership.is_empty() || self.membership.len() > MEMBERS_MAX {
            return Err("its membership cannot be one");
        }
        if self.cluster_id.len() > CLUSTER_ID_BYTES_MAX {
            return Err("its cluster's id is too long");
        }
        Ok(())
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first.
    Header,
    /// Items.
    Block,
    /// The last.
    End,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Header, Kind::Block, Kind::End];

    fn magic(self) -> [u8; 4] {
        match self {
            Kind::Header => *b"RSH1",
            Kind::Block => *b"RSB1",
            Kind::End => *b"RSE1",
        }
    }
}

/// What stands before a frame's payload. Nothing of it has been checked.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    /// What the frame is.
    pub kind: Kind,
    /// How long it says its payload is, in bytes.
    pub payload_bytes: u32,
    /// The CRC it says it has.
    pub crc: u32,
}

impl FrameHead {
    /// `None`: there is no frame of ours here.
    pub fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<FrameHead> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.magic() == bytes[..4])?;
        Some(FrameHead { kind, payload_bytes: u32_at(bytes, 4), crc: u32_at(bytes, 8) })
    }
}

/// The CRC of a frame with this payload, behind the frame that has `previous_crc`.
pub fn crc(previous_crc: u32, kind: Kind, payload: &[u8]) -> u32 {
    let length = u32::try_from(payload.len()).expect("payloads are bounded");
    let mut hasher = Hasher::new_with_initial(SEED);
    hasher.update(&previous_crc.to_le_bytes());
    hasher.update(&kind.magic());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Fills in what stands before a payload that has room for it, and returns the frame's CRC.
pub fn finish(previous_crc: u32, kind: Kind, frame: &mut [u8]) -> u32 {
    let (head, payload) = frame.split_at_mut(FRAME_HEAD_BYTES);
    let crc = crc(previous_crc, kind, payload);
    let length = u32::try_from(payload.len()).expect("payloads are bounded");
    head[..4].copy_from_slice(&kind.magic());
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The frame of a header, still without what stands before its payload.
pub fn header_frame(header: &Header) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD_BYTES];
    frame.extend(FORMAT_VERSION.to_le_bytes());
    postcard::to_extend(header, frame).expect("a Vec takes whatever it is given")
}

/// The version in a header's payload, and what follows it; `None` if there is none.
pub fn split_version(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (version, rest) = payload.split_first_chunk()?;
    Some((u16::from_le_bytes(*version), rest))
}

/// The header in what follows the version.
pub fn decode_header(bytes: &[u8]) -> Result<Header, &'static str> {
    let (header, rest) = postcard::take_from_bytes::<Header>(bytes).map_err(|_| "no header")?;
    if !rest.is_empty() {
        return Err("something follows its header");
    }
    header.check()?;
    Ok(header)
}

/// The number at an offset of at least four more bytes.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}
