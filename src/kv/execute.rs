//! What each command does to the store.
//!
//! `execute` is a function: equal stores that execute equal commands in equal entries are equal
//! afterwards and give equal outcomes. That, and a log that all servers agree on, is the whole of
//! "replicated state machine" (§2). So nothing here looks at a clock, at a setting, or at the order
//! of a hash table.
//!
//! A command does all it says or nothing: an outcome such as `TooBig` leaves the store untouched.

use byteview::ByteView;

use super::command::{Bytes, Command, Condition, SetAnswer, parse_integer};
use super::expiry::Lifetime;
use super::outcome::Outcome;
use super::store::{Entry, Store, Versioned};
use crate::limits::FLUSHED_KEYS_MAX;

impl Store {
    /// Executes a command of this entry.
    pub(super) fn execute(&mut self, entry: &mut Entry<'_>, command: Command) -> Outcome {
        match command {
            Command::Set { key, value, condition, expiry, answer } => {
                match self.lifetime_after_set(&key, expiry) {
                    None => Outcome::BadDeadline,
                    Some(lifetime) => self.set(entry, key, value, &condition, lifetime, answer),
                }
            }
            Command::Delete { keys } => {
                integer(keys.iter().filter(|key| self.delete(entry, key).is_some()).count())
            }
            Command::DeleteIfEqual { key, old } => {
                let is_equal = self.get(&key).is_some_and(|found| found.value == old);
                if is_equal {
                    self.remove(entry, &key);
                }
                Outcome::Integer(i64::from(is_equal))
            }
            Command::GetAndDelete { key } => match self.delete(entry, &key) {
                Some(found) => Outcome::Value(found.value),
                None => Outcome::Nothing,
            },
            Command::GetAndExpire { key, expiry } => self.get_and_expire(entry, &key, expiry),
            Command::Append { key, value, value_bytes_max } => {
                self.append(entry, key, value, value_bytes_max)
            }
            Command::CompareAndSet { key, old, new } => match self.get(&key) {
                None => Outcome::Nothing,
                Some(found) if found.value != old => Outcome::Integer(0),
                Some(_) => {
                    self.change(entry, key, |_| new);
                    Outcome::Integer(1)
                }
            },
            Command::Increment { key, delta } => self.increment(entry, key, delta),
            Command::SetMany { pairs, if_absent } => self.set_many(entry, pairs, if_absent),
            Command::Expire { key, deadline, condition } => {
                self.expire(entry, &key, deadline, condition)
            }
            Command::Persist { key } => self.persist(entry, &key),
            Command::SetRange { key, offset, value, value_bytes_max } => {
                self.set_range(entry, key, offset, &value, value_bytes_max)
            }
            Command::Rename { key, new_key, if_absent } => {
                self.rename(entry, &key, new_key, if_absent)
            }
            Command::Copy { key, new_key, replace } => {
                let Some(found) = self.get(&key).cloned() else { return Outcome::Integer(0) };
                if !replace && self.get(&new_key).is_some() {
                    return Outcome::Integer(0);
                }
                self.put(entry, new_key, found.value, found.deadline_ms);
                Outcome::Integer(1)
            }
            // Every server stops for as long as this takes, so it is bounded.
            Command::Flush if self.len() > FLUSHED_KEYS_MAX => {
                Outcome::TooMany { keys_max: FLUSHED_KEYS_MAX }
            }
            Command::Flush => {
                self.clear(entry);
                Outcome::Done
            }
        }
    }

    /// Deletes a key if it exists.
    fn delete(&mut self, entry: &mut Entry<'_>, key: &Bytes) -> Option<Versioned> {
        self.get(key)?;
        self.remove(entry, key)
    }

    fn set(
        &mut self,
        entry: &mut Entry<'_>,
        key: Bytes,
        value: Bytes,
        condition: &Condition,
        lifetime: Lifetime,
        answer: SetAnswer,
    ) -> Outcome {
        // Most SETs ask nothing of the old value, and need not look for it.
        let is_plain = *condition == Condition::Always && answer != SetAnswer::Old;
        let found = if is_plain { None } else { self.get(&key) };
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => found.is_none(),
            Condition::IfPresent => found.is_some(),
            Condition::IfEqual(old) => found.is_some_and(|found| found.value == *old),
            Condition::IfVersion(version) => found.map_or(0, |found| found.version) == *version,
        };
        let outcome = match (answer, holds) {
            (SetAnswer::Done, true) => Outcome::Done,
            (SetAnswer::Done, false) => Outcome::Nothing,
            (SetAnswer::Flag, _) => Outcome::Integer(i64::from(holds)),
            (SetAnswer::Old, _) => {
                found.map_or(Outcome::Nothing, |found| Outcome::Value(found.value.clone()))
            }
        };
        if holds {
            match lifetime {
                Lifetime::Endless => self.put(entry, key, value, None),
                Lifetime::Until(deadline_ms) => self.put(entry, key, value, Some(deadline_ms)),
                Lifetime::Over => {
                    self.remove(entry, &key);
                }
            }
        }
        outcome
    }

    fn append(
        &mut self,
        entry: &mut Entry<'_>,
        key: Bytes,
        addition: Bytes,
        value_bytes_max: u64,
    ) -> Outcome {
        let current_bytes = self.get(&key).map(|found| found.value.len());
        let bytes = current_bytes.unwrap_or(0) + addition.len();
        if bytes as u64 > value_bytes_max {
            let bytes_max = usize::try_from(value_bytes_max).expect("it is less than a length");
            return Outcome::TooBig { bytes, bytes_max };
        }
        if current_bytes.is_none() {
            self.put(entry, key, addition, None);
        } else {
            self.change(entry, key, |current| ByteView::fused(current, &addition).into());
        }
        integer(bytes)
    }

    fn set_range(
        &mut self,
        entry: &mut Entry<'_>,
        key: Bytes,
        offset: u64,
        part: &Bytes,
        value_bytes_max: u64,
    ) -> Outcome {
        let found = self.get(&key);
        let current = found.map_or(Bytes::default(), |found| found.value.clone());
        if part.is_empty() {
            return integer(current.len());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(part.len());
        let bytes = current.len().max(end);
        if bytes as u64 > value_bytes_max {
            let bytes_max = usize::try_from(value_bytes_max).expect("it is less than a length");
            return Outcome::TooBig { bytes, bytes_max };
        }
        let mut value = ByteView::with_size(bytes);
        let mut room = value.get_mut().expect("nobody else has it yet");
        room[..current.len()].copy_from_slice(&current);
        room[start..end].copy_from_slice(part);
        drop(room);
        let value = Bytes::from(value);
        match found {
            Some(_) => self.change(entry, key, |_| value),
            None => self.put(entry, key, value, None),
        }
        integer(bytes)
    }

    fn rename(
        &mut self,
        entry: &mut Entry<'_>,
        key: &Bytes,
        new_key: Bytes,
        if_absent: bool,
    ) -> Outcome {
        let Some(found) = self.get(key).cloned() else { return Outcome::NoSuchKey };
        if if_absent && self.get(&new_key).is_some() {
            return Outcome::Integer(0);
        }
        // A key that gets its own name stays as it is.
        if *key != new_key {
            self.remove(entry, key);
            self.put(entry, new_key, found.value, found.deadline_ms);
        }
        if if_absent { Outcome::Integer(1) } else { Outcome::Done }
    }

    fn increment(&mut self, entry: &mut Entry<'_>, key: Bytes, delta: i64) -> Outcome {
        let current = self.get(&key).map(|found| parse_integer(&found.value));
        let Some(number) = current.unwrap_or(Some(0)) else { return Outcome::NotInteger };
        let Some(sum) = number.checked_add(delta) else { return Outcome::Overflow };
        let value = Bytes::from(sum.to_string());
        match current {
            Some(_) => self.change(entry, key, |_| value),
            None => self.put(entry, key, value, None),
        }
        Outcome::Integer(sum)
    }

    fn set_many(
        &mut self,
        entry: &mut Entry<'_>,
        pairs: Vec<(Bytes, Bytes)>,
        if_absent: bool,
    ) -> Outcome {
        if if_absent && pairs.iter().any(|(key, _)| self.get(key).is_some()) {
            return Outcome::Integer(0);
        }
        for (key, value) in pairs {
            self.put(entry, key, value, None);
        }
        if if_absent { Outcome::Integer(1) } else { Outcome::Done }
    }
}

/// A count as an outcome.
pub(super) fn integer(count: usize) -> Outcome {
    Outcome::Integer(i64::try_from(count).expect("lengths in memory fit into 63 bits"))
}
