//! What each query answers.
//!
//! Everybody waits while the applier answers, so what it does at once is bounded: replies are
//! measured before they are built, and a question that would look at many keys is handed back
//! *frozen*, with the store as it is, for another thread to answer.

use super::command::Bytes;
use super::execute::integer;
use super::outcome::Outcome;
use super::query::Query;
use super::store::Store;
use crate::limits::{QUERY_WORK_MAX, RANGE_BYTES_MAX, RANGE_PAIRS_MAX};

/// A query that takes long, and the store as it was when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrozenQuery {
    store: Store,
    query: Query,
    asking: Asking,
}

impl FrozenQuery {
    /// Answers it, however long it takes; never `Frozen`.
    pub fn answer(&self) -> Outcome {
        let mut asking = self.asking.clone();
        let outcome = self.store.answer(&self.query, &mut asking);
        asking.bounded(outcome)
    }
}

/// Under what circumstances a query is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asking {
    /// The index of the last entry applied.
    pub(super) applied_index: u64,
    /// What TTL takes for now, in milliseconds of log time.
    pub(super) now_ms: u64,
    /// How many keys may be looked at until the question is too long.
    pub(super) work_left: usize,
    /// The largest answer, in bytes of its keys and values.
    pub(super) reply_bytes_max: usize,
}

impl Asking {
    /// The outcome, if it is small enough. It only points to the values, so nothing large has been
    /// built yet.
    fn bounded(&self, outcome: Outcome) -> Outcome {
        match outcome.bytes() > self.reply_bytes_max {
            true => Outcome::ReplyTooBig { bytes_max: self.reply_bytes_max },
            false => outcome,
        }
    }
}

impl Store {
    /// Answers at once what can be answered at once, and freezes what cannot.
    pub(super) fn query(&self, query: &Query, mut asking: Asking) -> Outcome {
        let outcome = match query {
            Query::Get { key } => Some(self.value_or_nothing(key)),
            Query::Keys { .. } => None,
            // A RANGE over nothing but overdue keys may be too long, too.
            Query::Range { .. } => match self.answer(query, &mut asking) {
                Outcome::TooMany { .. } => None,
                outcome => Some(outcome),
            },
            _ => Some(self.answer(query, &mut asking)),
        };
        if let Some(outcome) = outcome {
            return asking.bounded(outcome);
        }
        asking.work_left = usize::MAX;
        let (store, query) = (self.clone(), query.clone());
        Outcome::Frozen(Box::new(FrozenQuery { store, query, asking }))
    }

    /// Answers, or says `TooMany` when the work allowed is done.
    pub(super) fn answer(&self, query: &Query, asking: &mut Asking) -> Outcome {
        match query {
            Query::Get { key } => self.value_or_nothing(key),
            Query::GetVersioned { key } => match self.get(key) {
                None => Outcome::Nothing,
                Some(found) => {
                    let version = i64::try_from(found.version).expect("an index fits into 63 bits");
                    let value = Outcome::Value(found.value.clone());
                    Outcome::List(vec![value, Outcome::Integer(version)])
                }
            },
            Query::GetRange { key, start, end } => self.get_range(key, *start, *end),
            Query::Exists { keys } => {
                integer(keys.iter().filter(|key| self.get(key).is_some()).count())
            }
            Query::Type { key } => {
                Outcome::Text(if self.get(key).is_some() { "string" } else { "none" })
            }
            Query::Length { key } => integer(self.get(key).map_or(0, |found| found.value.len())),
            Query::GetMany { keys } => {
                Outcome::List(keys.iter().map(|key| self.value_or_nothing(key)).collect())
            }
            Query::Range { from, to, pairs_max } => {
                self.range(from, to.as_ref(), *pairs_max, asking)
            }
            Query::Scan { cursor, pattern, count } => {
                self.scan(*cursor, pattern.as_ref(), *count, asking)
            }
            Query::Keys { pattern } => self.keys(pattern, asking),
            Query::Count => integer(self.len()),
            Query::TimeToLive { key, format } => self.time_to_live(key, *format, asking.now_ms),
            Query::Watch { keys } => Outcome::Watched {
                seen_at: asking.applied_index,
                existed: keys.iter().map(|key| self.get(key).is_some()).collect(),
            },
            Query::AppliedIndex => {
                let index = i64::try_from(asking.applied_index);
                Outcome::Integer(index.expect("an index fits into 63 bits"))
            }
            Query::Echo { message: None } => Outcome::Text("PONG"),
            Query::Echo { message: Some(message) } => Outcome::Value(message.clone()),
            Query::Acknowledge => Outcome::Done,
        }
    }

    fn value_or_nothing(&self, key: &Bytes) -> Outcome {
        self.get(key).map_or(Outcome::Nothing, |found| Outcome::Value(found.value.clone()))
    }

    /// A part is copied: sharing the value's memory, a byte would keep a megabyte, and nobody who
    /// counts bytes would see that.
    fn get_range(&self, key: &Bytes, start: i64, end: i64) -> Outcome {
        let Some(found) = self.get(key) else { return Outcome::Value(Bytes::default()) };
        let value = &found.value;
        let length = i64::try_from(value.len()).expect("lengths in memory fit into 63 bits");
        let from_left = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let (start, end) = (from_left(start).max(0), from_left(end).min(length - 1));
        if start > end {
            return Outcome::Value(Bytes::default());
        }
        let at = |at: i64| usize::try_from(at).expect("it lies within the value");
        let is_all = start == 0 && end == length - 1;
        Outcome::Value(if is_all { value.clone() } else { value[at(start)..=at(end)].into() })
    }

    /// Ends early rather than fail: the caller goes on after the last key it got, so there is
    /// always at least one pair if there is any.
    fn range(
        &self,
        from: &Bytes,
        to: Option<&Bytes>,
        pairs_max: usize,
        asking: &mut Asking,
    ) -> Outcome {
        let pairs_max = pairs_max.min(RANGE_PAIRS_MAX);
        let bytes_max = RANGE_BYTES_MAX.min(asking.reply_bytes_max);
        let mut list = Vec::new();
        let mut bytes = 0;
        for (key, found) in self.iter_from(from) {
            if list.len() == 2 * pairs_max || to.is_some_and(|to| key >= &to[..]) {
                break;
            }
            if asking.work_left == 0 {
                return Outcome::TooMany { keys_max: QUERY_WORK_MAX };
            }
            asking.work_left -= 1;
            let Some(found) = found else { continue };
            bytes += key.len() + found.value.len();
            if bytes > bytes_max && !list.is_empty() {
                break;
            }
            list.push(Outcome::Value(Bytes::from(key)));
            list.push(Outcome::Value(found.value.clone()));
        }
        Outcome::List(list)
    }
}
