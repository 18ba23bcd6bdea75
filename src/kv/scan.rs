//! SCAN and KEYS: all keys, a page at a time or all at once.
//!
//! A client walks through the keys with a cursor, and between two pages keys come and go, servers
//! restart, and the next page may be asked of another server. Still every key that was there all
//! the time must come at least once. So the cursor is no memory of ours, but a *place* in an order
//! that never changes: where a key stands follows from the key alone. "Cursor c" means: all at
//! places below c have been told. Keys with equal places are never split between two pages, as a
//! cursor could not say where among them to go on.
//!
//! Why not the order of the keys themselves? A cursor is a number, and a key does not fit into one.
//! But keys are often made by counting, and then the next one differs from the last in its end.
//! So the hash is of the key without its last two bytes, and these follow as they are: new keys
//! that are neighbours by name are neighbours here too, and find in the processor's cache what the
//! one before them needed. (With a hash of all bytes, keeping this order was half of applying new
//! keys.)

use super::answer::Asking;
use super::command::Bytes;
use super::digest::{Fnv1a, spread};
use super::glob;
use super::outcome::Outcome;
use super::store::Store;
use crate::limits::{RANGE_PAIRS_MAX, SCAN_KEYS_MAX, TRANSACTION_WORK_MAX};

/// How many bytes at the end of a key are not hashed.
const END_BYTES: usize = 2;

/// How many bits of a position come from the hash: with the end and the mark 53, as some clients
/// keep cursors in floating-point numbers, which can count so far.
const HASH_BITS: u32 = 36;

/// A bit that all positions have. In cursors of servers that hashed all bytes it is not set:
/// whoever brings one begins anew, and is told some keys twice instead of missing some. (The other
/// way there is no help: such a server takes a cursor of ours for one behind all keys.)
const ORDER_MARK: u64 = 1 << 52;

/// The place of a key in the order of SCAN.
pub(super) fn position(key: &[u8]) -> u64 {
    let (stem, end) = key.split_at(key.len().saturating_sub(END_BYTES));
    let mut hash = Fnv1a::new();
    hash.raw(stem);
    // The high bits of FNV-1a know little of a short stem's last bytes.
    let hash = spread(hash.value()) >> (u64::BITS - HASH_BITS);
    let place = end.iter().fold(hash, |place, byte| place << u8::BITS | u64::from(*byte));
    ORDER_MARK | place
}

/// What it takes to look at a key: 1, and more if comparing it with the pattern can take long.
fn work(key: &[u8], pattern: Option<&Bytes>) -> usize {
    1 + pattern.map_or(0, |pattern| key.len() * pattern.len() / 1024)
}

impl Store {
    /// One page of SCAN.
    pub(super) fn scan(
        &self,
        cursor: u64,
        pattern: Option<&Bytes>,
        count: usize,
        asking: &mut Asking,
    ) -> Outcome {
        if asking.work_left == 0 {
            return Outcome::TooMany { keys_max: TRANSACTION_WORK_MAX };
        }
        let work_max = count.clamp(1, SCAN_KEYS_MAX).min(asking.work_left);
        let (mut work_done, mut bytes, mut last) = (0, 0, None);
        let mut next_cursor = 0;
        let mut keys = Vec::new();
        for (position, key, exists) in self.scan_from(cursor) {
            if work_done >= work_max && last != Some(position) {
                next_cursor = position;
                break;
            }
            last = Some(position);
            work_done += work(key, pattern);
            if exists && pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
                bytes += key.len();
                keys.push(Outcome::Value(Bytes::from(key)));
            }
            if bytes > asking.reply_bytes_max {
                return Outcome::ReplyTooBig { bytes_max: asking.reply_bytes_max };
            }
        }
        asking.work_left = asking.work_left.saturating_sub(work_done);
        let next_cursor = Outcome::Value(Bytes::from(next_cursor.to_string()));
        Outcome::List(vec![next_cursor, Outcome::List(keys)])
    }

    /// All keys that a pattern describes. Those that do not begin like it are not looked at.
    pub(super) fn keys(&self, pattern: &Bytes, asking: &mut Asking) -> Outcome {
        let prefix = Bytes::from(glob::literal_prefix(pattern));
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for (key, found) in self.iter_from(&prefix) {
            if !key.starts_with(&prefix) {
                break;
            }
            let Some(left) = asking.work_left.checked_sub(work(key, Some(pattern))) else {
                return Outcome::TooMany { keys_max: TRANSACTION_WORK_MAX };
            };
            asking.work_left = left;
            if found.is_some() && glob::matches(pattern, key) {
                if keys.len() == RANGE_PAIRS_MAX {
                    return Outcome::TooMany { keys_max: RANGE_PAIRS_MAX };
                }
                bytes += key.len();
                if bytes > asking.reply_bytes_max {
                    return Outcome::ReplyTooBig { bytes_max: asking.reply_bytes_max };
                }
                keys.push(Outcome::Value(Bytes::from(key)));
            }
        }
        Outcome::List(keys)
    }
}
