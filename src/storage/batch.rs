//! The bytes of a batch: the unit of writing, syncing and believing.
//!
//! A segment file is a sequence of batches and nothing else. All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0  | 4 | magic `RJB1` |
//! | 4  | 2 | format version, 3; batches of version 2 are read, too |
//! | 6  | 2 | zero |
//! | 8  | 8 | journal id: random, drawn by `init` |
//! | 16 | 8 | segment number, the one in the file's name |
//! | 24 | 8 | batch number: from 1, rising by one for ever, across segments and starts |
//! | 32 | 4 | length of the payload |
//! | 36 | 4 | CRC of the previous batch (0 before the first) |
//! | 40 | 4 | CRC-32 of bytes 0–39, seed `HEADER_SEED` |
//! | 44 | 4 | CRC-32 of bytes 0–39 and the payload, seed `BATCH_SEED` |
//! | 48 | … | payload: records in postcard, one after the other; none in a seal |
//!
//! Why a CRC of the header alone: after damage, a header that checks is evidence by itself. Batch
//! n+1 is written only after n was synced, so the header of n+1, even if its own payload is torn,
//! proves that n was whole once. Why the seeds are not zero: zeros must not check. Why the batch's
//! CRC leaves the header's CRC out: a CRC over bytes followed by their CRC is the same for all
//! bytes, and the chain through empty batches would prove nothing. Why a journal id: nobody who can
//! choose a value can make it look like one of our headers.
//!
//! Bytes 0–43 keep their meaning in all later formats, so that a program can name what it cannot
//! read.

use crc32fast::Hasher;

use crate::lab::{Rule, removed};

/// The format this program writes. Version 3 has the records that let the log begin behind a
/// snapshot; all others are as in version 2.
pub const FORMAT_VERSION: u16 = 3;
/// The oldest format this program reads.
pub const FORMAT_VERSION_OLDEST: u16 = 2;
/// The first format in which each segment begins with what precedes it.
pub const FORMAT_VERSION_WITH_HEADS: u16 = 3;
/// Length of a batch's header, in bytes.
pub const HEADER_BYTES: usize = 48;
/// The first bytes of each batch.
pub const MAGIC: [u8; 4] = *b"RJB1";

/// The header's own CRC begins here; what precedes it is covered by both CRCs.
const CHECKED_BYTES: usize = 40;
const HEADER_SEED: u32 = 0x52_41_46_54;
const BATCH_SEED: u32 = 0x4A_4F_55_52;

/// What stands before a batch's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format of the batch.
    pub version: u16,
    /// Which journal the batch belongs to.
    pub journal_id: u64,
    /// The number of the segment it was written to.
    pub segment: u64,
    /// The number of the batch.
    pub batch: u64,
    /// The length of the payload.
    pub payload_bytes: u32,
    /// The CRC of the batch before this one.
    pub previous_crc: u32,
    /// The CRC of this batch.
    pub crc: u32,
}

impl Header {
    /// The header at the start of `bytes`, if there is one and its own CRC checks. Whether the
    /// payload does is for [`payload_of`] to say.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        if bytes[..4] != MAGIC
            || u32_at(bytes, 40) != crc(HEADER_SEED, &bytes[..CHECKED_BYTES], &[])
        {
            return None;
        }
        Some(Header {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            journal_id: u64_at(bytes, 8),
            segment: u64_at(bytes, 16),
            batch: u64_at(bytes, 24),
            payload_bytes: u32_at(bytes, 32),
            previous_crc: u32_at(bytes, 36),
            crc: u32_at(bytes, 44),
        })
    }

    /// Whether this program can read the batch.
    pub fn is_known(&self) -> bool {
        (FORMAT_VERSION_OLDEST..=FORMAT_VERSION).contains(&self.version)
    }

    /// The length of the whole batch, in bytes.
    pub fn batch_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }
}

/// The payload of the batch at the start of `bytes`, if all of it is there and its CRC checks.
pub fn payload_of<'a>(header: &Header, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let payload = bytes.get(HEADER_BYTES..header.batch_bytes())?;
    let checks = crc(BATCH_SEED, &bytes[..CHECKED_BYTES], payload) == header.crc;
    (checks || removed(Rule::PayloadIsChecked)).then_some(payload)
}

/// Fills in the header of a batch whose payload already stands behind `HEADER_BYTES` bytes of room,
/// and returns the batch's CRC. `payload_bytes` and `crc` of the given header are not looked at.
pub fn finish(header: &Header, batch: &mut [u8]) -> u32 {
    let payload_bytes =
        u32::try_from(batch.len() - HEADER_BYTES).expect("take_write bounds what one write holds");
    batch[..4].copy_from_slice(&MAGIC);
    batch[4..6].copy_from_slice(&header.version.to_le_bytes());
    batch[6..8].fill(0);
    batch[8..16].copy_from_slice(&header.journal_id.to_le_bytes());
    batch[16..24].copy_from_slice(&header.segment.to_le_bytes());
    batch[24..32].copy_from_slice(&header.batch.to_le_bytes());
    batch[32..36].copy_from_slice(&payload_bytes.to_le_bytes());
    batch[36..40].copy_from_slice(&header.previous_crc.to_le_bytes());
    let header_crc = crc(HEADER_SEED, &batch[..CHECKED_BYTES], &[]);
    batch[40..44].copy_from_slice(&header_crc.to_le_bytes());
    let batch_crc = crc(BATCH_SEED, &batch[..CHECKED_BYTES], &batch[HEADER_BYTES..]);
    batch[44..48].copy_from_slice(&batch_crc.to_le_bytes());
    batch_crc
}

fn crc(seed: u32, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}
