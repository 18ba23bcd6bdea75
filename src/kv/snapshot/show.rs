//! The keys in the items of a snapshot, to be looked at one by one: no state is built, so no more
//! than an item is in memory.
//!
//! What is shown was only decoded: whether the items are a state at all, in order and with the hash
//! that they should have, is for [`Restore`](super::Restore) to say.

use super::{ENCODING, Octets, Record, RestoreError};

/// One key, still lying in its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The log index of its last write.
    pub version: u64,
    /// When it expires, in milliseconds of log time; `None`: never.
    pub deadline_ms: Option<u64>,
}

/// Hands out the keys in one item, the `number`-th of its snapshot, until one of them is refused.
pub fn pairs<E: From<RestoreError>>(
    number: u64,
    item: &[u8],
    each: &mut impl FnMut(Pair<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = item;
    while !rest.is_empty() {
        let (record, behind) = postcard::take_from_bytes(rest).map_err(|_| {
            let what = "its bytes are no record that this version knows";
            RestoreError::Damaged { item: number, what }
        })?;
        rest = behind;
        match record {
            Record::Encoding(found) if found != ENCODING => {
                return Err(RestoreError::Encoding { found }.into());
            }
            Record::Pair { key: Octets(key), value: Octets(value), version, deadline_ms } => {
                each(Pair { key, value, version, deadline_ms })?;
            }
            _ => {}
        }
    }
    Ok(())
}
