//! What the log means: an independent reading of it, from PROTOCOL's sentences and not from `kv`.
//!
//! The state machine keeps what *is*, and has to be clever about what was: tombstones, a horizon,
//! overdue keys. A chronicle simply keeps everything that ever happened to a key, with the index of
//! the entry at which it did. So the rules read like the specification:
//!
//! - a key exists at an index if the last entry that touched it has left it a value, and no stamp
//!   up to that index has reached its deadline;
//! - a watched key has changed if any entry since has touched it, or if it has come or gone;
//! - a number of ONCE is executed when it is the client's next one, and answered from memory if it
//!   is not.
//!
//! It answers for every index of the past, which is what the judge of reads asks for. What a run of
//! the simulator is too short for is left out: the bounds on how long ago a WATCH may be, how many
//! clients of ONCE are remembered, and how much one reply may hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::kv::command::{
    Bytes, Command, Condition, Deadline, DeadlineFormat, ExpireCondition, Expiry, Operation,
    Outcome, Query, RequestId, SetAnswer, Watch, Write,
};
use crate::limits::ONCE_ANSWERS_MAX;

/// Everything that has happened up to an index of the log.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    /// The highest stamp of the entries up to each index, from 1.
    clock_ms: Vec<u64>,
    /// What has become of each key: the entries that touched it, and what they left of it.
    keys: BTreeMap<Bytes, Vec<(u64, Option<Held>)>>,
    /// What each client of ONCE was answered, in the order of its numbers.
    once: BTreeMap<Bytes, Vec<Outcome>>,
    /// The requests that were executed.
    executed: BTreeSet<RequestId>,
    /// Of each server, its newest life and the lowest number of it that it still waits for.
    floors: BTreeMap<u32, (u64, u64)>,
}

/// A key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    value: Bytes,
    /// The entry that last touched it.
    version: u64,
    deadline_ms: Option<i128>,
}

impl Chronicle {
    /// The log has another entry, with this stamp.
    pub fn entry(&mut self, stamp_ms: u64) {
        self.clock_ms.push(self.clock_at(self.index()).max(stamp_ms));
    }

    /// Whether the request that stands in this entry is to be executed: for the first time, and
    /// only if its server still waits for it.
    pub fn admit(&mut self, request: RequestId, floor: u64) -> bool {
        let RequestId { server, incarnation, serial } = request;
        let waits_for = self.floors.entry(server).or_default();
        *waits_for = (*waits_for).max((incarnation, floor));
        (incarnation, serial) >= *waits_for && self.executed.insert(request)
    }

    /// The entry executes this.
    pub fn execute(&mut self, write: &Write) -> Outcome {
        match write {
            Write::Command(command) => self.command(command),
            Write::Transaction { watches, .. } if watches.iter().any(|it| self.has_changed(it)) => {
                Outcome::Aborted
            }
            Write::Transaction { operations, .. } => {
                let each = |operation: &Operation| match operation {
                    Operation::Command(command) => self.command(command),
                    Operation::Query(query) => self.answer(query, self.index()),
                };
                Outcome::List(operations.iter().map(each).collect())
            }
            Write::Once { client, sequence, command } => self.once(client, *sequence, command),
        }
    }

    /// What this question is answered by the state as it was after the entry at `index`.
    pub fn answer(&self, query: &Query, index: u64) -> Outcome {
        let get = |key: &Bytes| self.at(key, index);
        let value = |key: &Bytes| value_of(get(key));
        match query {
            Query::Get { key } => value(key),
            Query::GetVersioned { key } => match get(key) {
                None => Outcome::Nothing,
                Some(held) => Outcome::List(vec![
                    Outcome::Value(held.value.clone()),
                    Outcome::Integer(held.version.cast_signed()),
                ]),
            },
            Query::Exists { keys } => count(keys.iter().filter(|key| get(key).is_some()).count()),
            Query::Length { key } => count(get(key).map_or(0, |held| held.value.len())),
            Query::GetMany { keys } => Outcome::List(keys.iter().map(value).collect()),
            Query::Range { from, to, pairs_max } => {
                let range = self.keys.range(from.clone()..).map(|(key, _)| key);
                let range = range.take_while(|key| to.as_ref().is_none_or(|to| *key < to));
                let pairs = range.filter_map(|key| Some((key, get(key)?))).take(*pairs_max);
                let both = |(key, held): (&Bytes, &Held)| [key.clone(), held.value.clone()];
                Outcome::List(pairs.flat_map(both).map(Outcome::Value).collect())
            }
            Query::Count => count(self.keys.keys().filter(|key| get(key).is_some()).count()),
            Query::TimeToLive { key, format } => {
                let Some(held) = get(key) else { return Outcome::Integer(-2) };
                let Some(deadline_ms) = held.deadline_ms else { return Outcome::Integer(-1) };
                integer(match format {
                    DeadlineFormat::Milliseconds => deadline_ms - i128::from(self.clock_at(index)),
                    DeadlineFormat::UnixMilliseconds => deadline_ms,
                    _ => unreachable!("clients of the simulator do not ask for seconds"),
                })
            }
            Query::Watch { keys } => Outcome::Watched {
                seen_at: index,
                existed: keys.iter().map(|key| get(key).is_some()).collect(),
            },
            _ => unreachable!("clients of the simulator do not ask {query}"),
        }
    }

    /// How many entries there are.
    fn index(&self) -> u64 {
        self.clock_ms.len() as u64
    }

    /// The log time after the entry at `index`.
    fn clock_at(&self, index: u64) -> u64 {
        let before = usize::try_from(index).expect("the log is in memory");
        before.checked_sub(1).map_or(0, |position| self.clock_ms[position])
    }

    /// The key as it was after the entry at `index`, if it existed.
    fn at(&self, key: &Bytes, index: u64) -> Option<&Held> {
        let story = self.keys.get(key)?;
        let touches = story.partition_point(|(touched, _)| *touched <= index);
        let held = story[..touches].last()?.1.as_ref()?;
        let clock_ms = i128::from(self.clock_at(index));
        held.deadline_ms.is_none_or(|deadline_ms| deadline_ms > clock_ms).then_some(held)
    }

    fn get(&self, key: &Bytes) -> Option<Held> {
        self.at(key, self.index()).cloned()
    }

    /// This entry leaves the key so.
    fn touch(&mut self, key: &Bytes, left: Option<(Bytes, Option<i128>)>) {
        let version = self.index();
        let held = left.map(|(value, deadline_ms)| Held { value, version, deadline_ms });
        self.keys.entry(key.clone()).or_default().push((version, held));
    }

    fn has_changed(&self, watch: &Watch) -> bool {
        let story = self.keys.get(&watch.key);
        let last_touch = story.and_then(|story| story.last()).map_or(0, |(index, _)| *index);
        last_touch > watch.seen_at || self.get(&watch.key).is_some() != watch.existed
    }

    fn once(&mut self, client: &Bytes, sequence: u64, command: &Command) -> Outcome {
        let answers = self.once.get(client).map_or(&[][..], Vec::as_slice);
        let last = answers.len() as u64;
        if sequence == last + 1 {
            let outcome = self.command(command);
            self.once.entry(client.clone()).or_default().push(outcome.clone());
            outcome
        } else if last == 0 {
            Outcome::OnceUnknownClient
        } else if sequence > last {
            Outcome::OnceGap { expected: last + 1 }
        } else if last - sequence >= ONCE_ANSWERS_MAX as u64 {
            Outcome::OnceForgotten { last }
        } else {
            answers[usize::try_from(sequence - 1).expect("it is in memory")].clone()
        }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Set { key, value, condition, expiry, answer } => {
                let old = self.get(key);
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => old.is_none(),
                    Condition::IfPresent => old.is_some(),
                    Condition::IfEqual(value) => old.as_ref().is_some_and(|it| it.value == *value),
                    Condition::IfVersion(version) => {
                        old.as_ref().map_or(0, |it| it.version) == *version
                    }
                };
                if holds {
                    let deadline_ms = self.deadline_after(expiry, old.as_ref());
                    self.touch(key, Some((value.clone(), deadline_ms)));
                }
                match answer {
                    SetAnswer::Done if holds => Outcome::Done,
                    SetAnswer::Done => Outcome::Nothing,
                    SetAnswer::Old => value_of(old.as_ref()),
                    SetAnswer::Flag => flag(holds),
                }
            }
            Command::SetMany { pairs, if_absent } => {
                if *if_absent && pairs.iter().any(|(key, _)| self.get(key).is_some()) {
                    return flag(false);
                }
                pairs.iter().for_each(|(key, value)| self.touch(key, Some((value.clone(), None))));
                if *if_absent { flag(true) } else { Outcome::Done }
            }
            Command::Append { key, value, value_bytes_max } => {
                let old = self.get(key).map_or(Bytes::default(), |held| held.value);
                let whole = [&old[..], value].concat();
                let bytes_max = usize::try_from(*value_bytes_max).unwrap_or(usize::MAX);
                if whole.len() > bytes_max {
                    return Outcome::TooBig { bytes: whole.len(), bytes_max };
                }
                let length = count(whole.len());
                self.replace(key, whole.into());
                length
            }
            Command::SetRange { .. } | Command::Rename { .. } | Command::Copy { .. } => {
                unreachable!("the clients of the simulator do not say {command}")
            }
            Command::CompareAndSet { key, old, new } => match self.get(key) {
                None => Outcome::Nothing,
                Some(held) if held.value != *old => flag(false),
                Some(_) => {
                    self.replace(key, new.clone());
                    flag(true)
                }
            },
            Command::Increment { key, delta } => {
                let text = self.get(key).map_or(Bytes::from("0"), |held| held.value);
                let number = str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok());
                // Only the one spelling that INCR itself would write counts.
                let Some(number) = number.filter(|number| *number.to_string().as_bytes() == *text)
                else {
                    return Outcome::NotInteger;
                };
                let Some(sum) = number.checked_add(*delta) else { return Outcome::Overflow };
                self.replace(key, sum.to_string().into());
                Outcome::Integer(sum)
            }
            Command::Delete { keys } => {
                count(keys.iter().filter(|key| self.delete(key).is_some()).count())
            }
            Command::GetAndDelete { key } => value_of(self.delete(key).as_ref()),
            Command::DeleteIfEqual { key, old } => {
                let is_equal = self.get(key).is_some_and(|held| held.value == *old);
                flag(is_equal && self.delete(key).is_some())
            }
            Command::Flush => {
                for key in self.keys.keys().cloned().collect::<Vec<_>>() {
                    self.delete(&key);
                }
                Outcome::Done
            }
            Command::Expire { key, deadline, condition } => {
                let Some(held) = self.get(key) else { return flag(false) };
                let new_ms = self.time(deadline);
                let old_ms = held.deadline_ms;
                let holds = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => old_ms.is_none(),
                    ExpireCondition::IfSome => old_ms.is_some(),
                    // No deadline is the latest of all.
                    ExpireCondition::IfLater => old_ms.is_some_and(|old_ms| new_ms > old_ms),
                    ExpireCondition::IfSomeAndSooner => {
                        old_ms.is_some_and(|old_ms| new_ms < old_ms)
                    }
                    ExpireCondition::IfSooner => old_ms.is_none_or(|old_ms| new_ms < old_ms),
                };
                if holds {
                    self.touch(key, Some((held.value, Some(new_ms))));
                }
                flag(holds)
            }
            Command::Persist { key } => {
                let held = self.get(key).filter(|held| held.deadline_ms.is_some());
                let had_one = held.is_some();
                held.into_iter().for_each(|held| self.touch(key, Some((held.value, None))));
                flag(had_one)
            }
            Command::GetAndExpire { key, expiry } => {
                let held = self.get(key);
                if let Some(held) = &held {
                    let new_ms = self.deadline_after(expiry, Some(held));
                    // Only what it says is a change: PERSIST without a deadline says nothing.
                    if matches!(expiry, Expiry::Set(_)) || new_ms != held.deadline_ms {
                        self.touch(key, Some((held.value.clone(), new_ms)));
                    }
                }
                value_of(held.as_ref())
            }
        }
    }

    fn delete(&mut self, key: &Bytes) -> Option<Held> {
        let held = self.get(key)?;
        self.touch(key, None);
        Some(held)
    }

    /// Another value; the deadline stays.
    fn replace(&mut self, key: &Bytes, value: Bytes) {
        let deadline_ms = self.get(key).and_then(|held| held.deadline_ms);
        self.touch(key, Some((value, deadline_ms)));
    }

    fn time(&self, deadline: &Deadline) -> i128 {
        match deadline {
            Deadline::In(span_ms) => i128::from(self.clock_at(self.index())) + i128::from(*span_ms),
            Deadline::At(at_ms) => i128::from(*at_ms),
        }
    }

    fn deadline_after(&self, expiry: &Expiry, old: Option<&Held>) -> Option<i128> {
        match expiry {
            Expiry::Never => None,
            Expiry::Keep => old.and_then(|held| held.deadline_ms),
            Expiry::Set(deadline) => Some(self.time(deadline)),
        }
    }
}

fn value_of(held: Option<&Held>) -> Outcome {
    held.map_or(Outcome::Nothing, |held| Outcome::Value(held.value.clone()))
}

fn flag(holds: bool) -> Outcome {
    Outcome::Integer(i64::from(holds))
}

fn integer(number: i128) -> Outcome {
    Outcome::Integer(i64::try_from(number).expect("clients ask for no such times"))
}

fn count(number: usize) -> Outcome {
    integer(number as i128)
}
