//! The state machine, written as naively as possible and from `command.rs` alone: a list of keys, a
//! list of everything that ever touched one, and all answers of every client. For tests.

use super::command::*;
use super::glob;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) version: u64,
    pub(super) deadline_ms: Option<i128>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) pairs: Vec<Pair>,
    /// Each key with each index that wrote or deleted it or changed its deadline.
    touches: Vec<(Bytes, u64)>,
    /// Each client of ONCE with its answers.
    answers: Vec<(Bytes, Outcome)>,
    clock_ms: i128,
    index: u64,
}

impl Model {
    pub(super) fn advance(&mut self, index: u64, stamp_ms: u64) {
        self.index = index;
        self.clock_ms = self.clock_ms.max(i128::from(stamp_ms));
        self.pairs.retain(|pair| pair.deadline_ms.is_none_or(|at| at > self.clock_ms));
    }

    pub(super) fn apply(&mut self, write: &Write) -> Outcome {
        match write {
            Write::Command(command) => self.execute(command),
            Write::Transaction { watches, operations } => {
                let has_changed = |watch: &Watch| {
                    self.find(&watch.key).is_some() != watch.existed
                        || self
                            .touches
                            .iter()
                            .any(|(key, at)| *key == watch.key && *at > watch.seen_at)
                };
                if watches.iter().any(has_changed) {
                    return Outcome::Aborted;
                }
                let each = |operation: &Operation| match operation {
                    Operation::Command(command) => self.execute(command),
                    Operation::Query(query) => self.query(query, self.clock_ms),
                };
                Outcome::List(operations.iter().map(each).collect())
            }
            Write::Once { client, sequence, command } => {
                let known = self.answers.iter().filter(|(name, _)| name == client);
                let known: Vec<_> = known.map(|(_, answer)| answer.clone()).collect();
                let count = known.len() as u64;
                if *sequence == count + 1 {
                    let answer = self.execute(command);
                    self.answers.push((client.clone(), answer.clone()));
                    return answer;
                }
                match sequence {
                    _ if count == 0 => Outcome::OnceUnknownClient,
                    0 => Outcome::OnceForgotten { last: count },
                    _ if *sequence > count => Outcome::OnceGap { expected: count + 1 },
                    _ => known[*sequence as usize - 1].clone(),
                }
            }
        }
    }

    fn find(&self, key: &Bytes) -> Option<Pair> {
        self.pairs.iter().find(|pair| pair.key == *key).cloned()
    }

    fn touch(&mut self, key: &Bytes) {
        self.touches.push((key.clone(), self.index));
    }

    fn remove(&mut self, key: &Bytes) {
        self.touch(key);
        self.pairs.retain(|pair| pair.key != *key);
    }

    fn put(&mut self, key: &Bytes, value: &[u8], deadline_ms: Option<i128>) {
        self.remove(key);
        if deadline_ms.is_none_or(|at| at > self.clock_ms) {
            let (key, value) = (key.clone(), Bytes::from(value.to_vec()));
            self.pairs.push(Pair { key, value, version: self.index, deadline_ms });
        }
    }

    /// With the deadline that the key has.
    fn replace(&mut self, key: &Bytes, value: &[u8]) {
        self.put(key, value, self.find(key).and_then(|pair| pair.deadline_ms));
    }

    /// In time, if that can be counted.
    fn time(&self, deadline: Deadline) -> Option<i128> {
        let at = match deadline {
            Deadline::In(span) => self.clock_ms + i128::from(span),
            Deadline::At(at) => i128::from(at),
        };
        (at <= i128::from(i64::MAX)).then_some(at)
    }

    fn execute(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Set { key, value, condition, expiry, answer } => {
                let found = self.find(key);
                let deadline_ms = match expiry {
                    Expiry::Never => None,
                    Expiry::Keep => found.as_ref().and_then(|pair| pair.deadline_ms),
                    Expiry::Set(deadline) => match self.time(*deadline) {
                        None => return Outcome::BadDeadline,
                        at => at,
                    },
                };
                let holds = match (condition, &found) {
                    (Condition::Always, _) => true,
                    (Condition::IfAbsent, found) => found.is_none(),
                    (Condition::IfPresent, found) => found.is_some(),
                    (Condition::IfEqual(old), Some(found)) => found.value == *old,
                    (Condition::IfEqual(_), None) => false,
                    (Condition::IfVersion(version), Some(found)) => found.version == *version,
                    (Condition::IfVersion(version), None) => *version == 0,
                };
                if holds {
                    self.put(key, value, deadline_ms);
                }
                match answer {
                    SetAnswer::Done if holds => Outcome::Done,
                    SetAnswer::Done => Outcome::Nothing,
                    SetAnswer::Old => value_of(found),
                    SetAnswer::Flag => flag(holds),
                }
            }
            Command::Delete { keys } => {
                let before = self.pairs.len();
                for key in keys {
                    if self.find(key).is_some() {
                        self.remove(key);
                    }
                }
                Outcome::Integer((before - self.pairs.len()) as i64)
            }
            Command::DeleteIfEqual { key, old } => {
                let is_equal = self.find(key).is_some_and(|pair| pair.value == *old);
                if is_equal {
                    self.remove(key);
                }
                flag(is_equal)
            }
            Command::GetAndDelete { key } => {
                let found = self.find(key);
                if found.is_some() {
                    self.remove(key);
                }
                value_of(found)
            }
            Command::Flush => {
                for pair in self.pairs.clone() {
                    self.remove(&pair.key);
                }
                Outcome::Done
            }
            Command::GetAndExpire { .. } | Command::Expire { .. } | Command::Persist { .. } => {
                self.execute_deadline(command)
            }
            Command::Rename { key, new_key, if_absent } => match self.find(key) {
                None => Outcome::NoSuchKey,
                Some(_) if *if_absent && self.find(new_key).is_some() => flag(false),
                Some(found) => {
                    if key != new_key {
                        self.remove(key);
                        self.put(new_key, &found.value, found.deadline_ms);
                    }
                    if *if_absent { flag(true) } else { Outcome::Done }
                }
            },
            Command::Copy { key, new_key, replace } => match self.find(key) {
                Some(found) if *replace || self.find(new_key).is_none() => {
                    self.put(new_key, &found.value, found.deadline_ms);
                    flag(true)
                }
                _ => flag(false),
            },
            _ => self.execute_value(command),
        }
    }

    /// The commands that change a value.
    fn execute_value(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Append { key, value, value_bytes_max } => {
                let old = self.find(key).map_or(Bytes::default(), |pair| pair.value);
                let both = [old.to_vec(), value.to_vec()].concat();
                if both.len() as u64 > *value_bytes_max {
                    let bytes_max = *value_bytes_max as usize;
                    return Outcome::TooBig { bytes: both.len(), bytes_max };
                }
                self.replace(key, &both);
                Outcome::Integer(both.len() as i64)
            }
            Command::SetRange { key, offset, value, value_bytes_max } => {
                let mut whole = self.find(key).map_or(Vec::new(), |pair| pair.value.to_vec());
                if value.is_empty() {
                    return Outcome::Integer(whole.len() as i64);
                }
                let start = *offset as usize;
                let bytes = whole.len().max(start + value.len());
                if bytes as u64 > *value_bytes_max {
                    return Outcome::TooBig { bytes, bytes_max: *value_bytes_max as usize };
                }
                whole.resize(bytes, 0);
                whole.splice(start..start + value.len(), value.to_vec());
                self.replace(key, &whole);
                Outcome::Integer(bytes as i64)
            }
            Command::CompareAndSet { key, old, new } => match self.find(key) {
                None => Outcome::Nothing,
                Some(pair) if pair.value == *old => {
                    self.replace(key, new);
                    flag(true)
                }
                Some(_) => flag(false),
            },
            Command::Increment { key, delta } => {
                let text = self.find(key).map_or(Bytes::from("0"), |pair| pair.value);
                let text = String::from_utf8(text.to_vec()).unwrap_or_default();
                let number = text.parse::<i64>().ok();
                let Some(number) = number.filter(|number| number.to_string() == text) else {
                    return Outcome::NotInteger;
                };
                match i64::try_from(i128::from(number) + i128::from(*delta)) {
                    Err(_) => Outcome::Overflow,
                    Ok(sum) => {
                        self.replace(key, sum.to_string().as_bytes());
                        Outcome::Integer(sum)
                    }
                }
            }
            Command::SetMany { pairs, if_absent } => {
                if *if_absent && pairs.iter().any(|(key, _)| self.find(key).is_some()) {
                    return flag(false);
                }
                pairs.iter().for_each(|(key, value)| self.put(key, value, None));
                if *if_absent { flag(true) } else { Outcome::Done }
            }
            _ => unreachable!("{command} is another one's"),
        }
    }

    /// The commands that change a deadline.
    fn execute_deadline(&mut self, command: &Command) -> Outcome {
        let (key, deadline) = match command {
            Command::GetAndExpire { key, expiry: Expiry::Set(deadline) } => (key, Some(*deadline)),
            Command::GetAndExpire { key, .. } | Command::Persist { key } => (key, None),
            Command::Expire { key, deadline, .. } => (key, Some(*deadline)),
            _ => unreachable!("{command} is another one's"),
        };
        let new_ms = deadline.map(|deadline| self.time(deadline));
        if new_ms == Some(None) {
            return Outcome::BadDeadline;
        }
        let new_ms = new_ms.flatten();
        let found = self.find(key);
        let old_ms = found.as_ref().and_then(|pair| pair.deadline_ms);
        let endless = |at: Option<i128>| at.unwrap_or(i128::MAX);
        let holds = found.is_some()
            && match command {
                Command::Expire { condition, .. } => match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => old_ms.is_none(),
                    ExpireCondition::IfSome => old_ms.is_some(),
                    ExpireCondition::IfLater => endless(new_ms) > endless(old_ms),
                    ExpireCondition::IfSomeAndSooner => {
                        old_ms.is_some() && endless(new_ms) < endless(old_ms)
                    }
                    ExpireCondition::IfSooner => endless(new_ms) < endless(old_ms),
                },
                Command::GetAndExpire { expiry: Expiry::Keep, .. } => false,
                _ => new_ms.is_some() || old_ms.is_some(),
            };
        if holds && let Some(found) = &found {
            self.put(key, &found.value, new_ms);
        }
        if matches!(command, Command::GetAndExpire { .. }) { value_of(found) } else { flag(holds) }
    }

    pub(super) fn query(&self, query: &Query, now_ms: i128) -> Outcome {
        let value = |key| value_of(self.find(key));
        let mut sorted = self.pairs.clone();
        sorted.sort();
        match query {
            Query::Get { key } => value(key),
            Query::GetVersioned { key } => match self.find(key) {
                None => Outcome::Nothing,
                Some(pair) => Outcome::List(vec![
                    Outcome::Value(pair.value),
                    Outcome::Integer(pair.version as i64),
                ]),
            },
            Query::GetRange { key, start, end } => {
                let value = self.find(key).map_or(Bytes::default(), |pair| pair.value);
                let length = value.len() as i64;
                let from_left = |at: i64| if at < 0 { at + length } else { at };
                let range = from_left(*start)..=from_left(*end);
                let at = (0..length).zip(&value[..]);
                let bytes = at.filter(|(at, _)| range.contains(at)).map(|(_, byte)| *byte);
                Outcome::Value(bytes.collect::<Vec<u8>>().into())
            }
            Query::Exists { keys } => {
                Outcome::Integer(keys.iter().filter(|key| self.find(key).is_some()).count() as i64)
            }
            Query::Type { key } => {
                Outcome::Text(if self.find(key).is_some() { "string" } else { "none" })
            }
            Query::Length { key } => {
                Outcome::Integer(self.find(key).map_or(0, |pair| pair.value.len() as i64))
            }
            Query::GetMany { keys } => Outcome::List(keys.iter().map(value).collect()),
            Query::Range { from, to, pairs_max } => {
                sorted.retain(|pair| {
                    pair.key >= *from && to.as_ref().is_none_or(|to| pair.key < *to)
                });
                let pairs = sorted.into_iter().take(*pairs_max);
                let both = |pair: Pair| [Outcome::Value(pair.key), Outcome::Value(pair.value)];
                Outcome::List(pairs.flat_map(both).collect())
            }
            Query::Keys { pattern } => {
                sorted.retain(|pair| glob::matches(pattern, &pair.key));
                Outcome::List(sorted.into_iter().map(|pair| Outcome::Value(pair.key)).collect())
            }
            Query::Scan { .. } => unreachable!("its order is the store's own: it has its own test"),
            Query::Count => Outcome::Integer(self.pairs.len() as i64),
            Query::TimeToLive { key, format } => Outcome::Integer(match self.find(key) {
                None => -2,
                Some(Pair { deadline_ms: None, .. }) => -1,
                Some(Pair { deadline_ms: Some(at), .. }) => {
                    let left = (at - now_ms.max(self.clock_ms)).max(0);
                    let ms = match format {
                        DeadlineFormat::Seconds => (left + 500) / 1000,
                        DeadlineFormat::Milliseconds => left,
                        DeadlineFormat::UnixSeconds => (at + 500) / 1000,
                        DeadlineFormat::UnixMilliseconds => at,
                    };
                    ms as i64
                }
            }),
            Query::Watch { keys } => Outcome::Watched {
                seen_at: self.index,
                existed: keys.iter().map(|key| self.find(key).is_some()).collect(),
            },
            Query::AppliedIndex => Outcome::Integer(self.index as i64),
            Query::Echo { message: Some(message) } => Outcome::Value(message.clone()),
            Query::Echo { message: None } => Outcome::Text("PONG"),
            Query::Acknowledge => Outcome::Done,
        }
    }
}

fn value_of(found: Option<Pair>) -> Outcome {
    found.map_or(Outcome::Nothing, |pair| Outcome::Value(pair.value))
}

fn flag(holds: bool) -> Outcome {
    Outcome::Integer(i64::from(holds))
}
