//! Which bytes of a segment are batches, and what stands behind the first that is not one.
//!
//! Bytes in, findings out; nothing here touches a disk. The chain says what the next batch must be:
//! its number and the CRC of the one before. Where the bytes are anything else the walk of a
//! segment ends, and the question is what that means; `find_later` looks for the evidence that
//! decides it.

use super::batch::{self, Header};
use crate::lab::{Rule, removed};
use crate::raft::types::NUMBER_MAX;

/// Where the chain stands: what the next batch has to say about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The number of the next batch.
    pub next_batch: u64,
    /// The CRC of the batch before it.
    pub previous_crc: u32,
}

impl Chain {
    /// Before the first batch of a journal.
    pub const BEGINNING: Chain = Chain { next_batch: 1, previous_crc: 0 };

    /// Before the first batch of a segment whose predecessors are gone: what its header says.
    pub fn before(bytes: &[u8], journal_id: u64, segment: u64) -> Option<Chain> {
        let header = Header::decode(bytes)?;
        let ours = header.journal_id == journal_id && header.segment == segment;
        let chain = Chain { next_batch: header.batch, previous_crc: header.previous_crc };
        (ours && header.batch <= NUMBER_MAX).then_some(chain)
    }

    /// The chain after a batch.
    pub fn after(header: &Header) -> Chain {
        let next_batch = header.batch.checked_add(1).expect("nobody writes 2^64 batches");
        Chain { next_batch, previous_crc: header.crc }
    }
}

/// The batch at `offset` of a segment, if it is the one that the chain expects there, whole and
/// well.
pub fn batch_at<'a>(
    bytes: &'a [u8],
    offset: usize,
    journal_id: u64,
    segment: u64,
    chain: &Chain,
) -> Option<(Header, &'a [u8])> {
    let header = Header::decode(&bytes[offset..])?;
    let expected = header.journal_id == journal_id
        && header.is_known()
        && header.segment == segment
        && header.batch == chain.next_batch
        && header.previous_crc == chain.previous_crc;
    if !expected && !removed(Rule::BatchesAreChained) {
        return None;
    }
    Some((header, batch::payload_of(&header, &bytes[offset..])?))
}

/// The first header at or behind `from` that checks by itself, is of this journal and has a higher
/// number than `batch`: the proof that `batch` was synced once. Lower numbers are what a recycled
/// segment held before. An equal number proves nothing: it may be the torn batch itself.
pub fn find_later(
    bytes: &[u8],
    from: usize,
    journal_id: u64,
    batch: u64,
) -> Option<(usize, Header)> {
    headers(bytes, from).find(|(_, found)| found.journal_id == journal_id && found.batch > batch)
}

/// All headers at or behind `from` that check by themselves, wherever they begin.
fn headers(bytes: &[u8], from: usize) -> impl Iterator<Item = (usize, Header)> {
    let candidates = bytes.get(from..).unwrap_or_default().windows(batch::MAGIC.len()).enumerate();
    candidates
        .filter(|(_, window)| *window == batch::MAGIC)
        .filter_map(move |(at, _)| Some((from + at, Header::decode(&bytes[from + at..])?)))
}
