//! How long keys live, in log time.
//!
//! No server looks at its own clock to decide what a key holds. The leader stamps each entry, and a
//! deadline is a number of milliseconds on the scale of the stamps: a relative one counts from the
//! highest stamp applied when its entry is applied. So all servers find the same keys expired at
//! the same entry, whatever their clocks say.

use super::command::{Bytes, Deadline, ExpireCondition, Expiry};
use super::outcome::Outcome;
use super::query::DeadlineFormat;
use super::store::{Entry, Store};

/// What a deadline comes to for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The key does not expire.
    Endless,
    /// It expires at this time, which is to come.
    Until(u64),
    /// It has expired already: it must not stay.
    Over,
}

impl Store {
    /// What becomes of a key of this deadline; `None` if the number is too large to be a time.
    pub(super) fn lifetime(&self, deadline: Deadline) -> Option<Lifetime> {
        let clock_ms = i64::try_from(self.clock_ms()).ok()?;
        let at_ms = match deadline {
            Deadline::In(span_ms) => clock_ms.checked_add(span_ms)?,
            Deadline::At(at_ms) => at_ms,
        };
        if at_ms <= clock_ms {
            return Some(Lifetime::Over);
        }
        Some(Lifetime::Until(u64::try_from(at_ms).expect("what is beyond the clock is above 0")))
    }

    /// What becomes of the key of a SET.
    pub(super) fn lifetime_after_set(&self, key: &Bytes, expiry: Expiry) -> Option<Lifetime> {
        match expiry {
            Expiry::Never => Some(Lifetime::Endless),
            Expiry::Keep => Some(match self.get(key).and_then(|found| found.deadline_ms) {
                Some(deadline_ms) => Lifetime::Until(deadline_ms),
                None => Lifetime::Endless,
            }),
            Expiry::Set(deadline) => self.lifetime(deadline),
        }
    }

    pub(super) fn expire(
        &mut self,
        entry: &mut Entry<'_>,
        key: &Bytes,
        deadline: Deadline,
        condition: ExpireCondition,
    ) -> Outcome {
        let Some(lifetime) = self.lifetime(deadline) else { return Outcome::BadDeadline };
        let Some(found) = self.get(key) else { return Outcome::Integer(0) };
        let current_ms = found.deadline_ms.unwrap_or(u64::MAX);
        // Whatever is over counts as now: all keys that exist have a later deadline.
        let new_ms = match lifetime {
            Lifetime::Until(deadline_ms) => deadline_ms,
            Lifetime::Over | Lifetime::Endless => self.clock_ms(),
        };
        let holds = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::IfNone => found.deadline_ms.is_none(),
            ExpireCondition::IfSome => found.deadline_ms.is_some(),
            ExpireCondition::IfLater => new_ms > current_ms,
            ExpireCondition::IfSooner => new_ms < current_ms,
            ExpireCondition::IfSomeAndSooner => found.deadline_ms.is_some() && new_ms < current_ms,
        };
        if holds {
            self.live_for(entry, key, lifetime);
        }
        Outcome::Integer(i64::from(holds))
    }

    pub(super) fn persist(&mut self, entry: &mut Entry<'_>, key: &Bytes) -> Outcome {
        let had_one = self.get(key).is_some_and(|found| found.deadline_ms.is_some());
        if had_one {
            self.set_deadline(entry, key, None);
        }
        Outcome::Integer(i64::from(had_one))
    }

    pub(super) fn get_and_expire(
        &mut self,
        entry: &mut Entry<'_>,
        key: &Bytes,
        expiry: Expiry,
    ) -> Outcome {
        let Some(lifetime) = self.lifetime_after_set(key, expiry) else {
            return Outcome::BadDeadline;
        };
        let Some(found) = self.get(key) else { return Outcome::Nothing };
        let value = found.value.clone();
        match expiry {
            Expiry::Never => {
                self.persist(entry, key);
            }
            Expiry::Keep => {}
            Expiry::Set(_) => self.live_for(entry, key, lifetime),
        }
        Outcome::Value(value)
    }

    /// TTL and its kin. `now_ms` is what one server takes for the log time now, at least the clock.
    /// It is only shown: a key that exists has time left, if only less than a millisecond.
    pub(super) fn time_to_live(&self, key: &Bytes, format: DeadlineFormat, now_ms: u64) -> Outcome {
        let Some(found) = self.get(key) else { return Outcome::Integer(-2) };
        let Some(deadline_ms) = found.deadline_ms else { return Outcome::Integer(-1) };
        let left_ms = deadline_ms.saturating_sub(now_ms.max(self.clock_ms()));
        let seconds = |ms: u64| ms / 1000 + u64::from(ms % 1000 >= 500);
        let number = match format {
            DeadlineFormat::Seconds => seconds(left_ms),
            DeadlineFormat::Milliseconds => left_ms,
            DeadlineFormat::UnixSeconds => seconds(deadline_ms),
            DeadlineFormat::UnixMilliseconds => deadline_ms,
        };
        Outcome::Integer(i64::try_from(number).expect("deadlines are 63-bit numbers"))
    }

    fn live_for(&mut self, entry: &mut Entry<'_>, key: &Bytes, lifetime: Lifetime) {
        match lifetime {
            Lifetime::Endless => self.set_deadline(entry, key, None),
            Lifetime::Until(deadline_ms) => self.set_deadline(entry, key, Some(deadline_ms)),
            Lifetime::Over => {
                self.remove(entry, key);
            }
        }
    }
}
