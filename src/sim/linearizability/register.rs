//! One key's register, written from PROTOCOL's sentences alone and not from `kv::store`, so that
//! the two can disagree: a mistake in the store then shows as an answer that nothing explains.

use std::fmt;

use crate::kv::command::{Bytes, Command, Condition, Outcome};
use crate::limits::VALUE_BYTES_MAX;

/// What an operation asks of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// GET → the value, or nothing.
    Get,
    /// EXISTS → 1 or 0.
    Exists,
    /// STRLEN → the length, 0 if absent.
    Length,
    /// SET value, under a condition → done, or nothing if the condition does not hold.
    Set {
        /// The new value.
        value: Bytes,
        /// When it is set.
        condition: Condition,
    },
    /// DEL → 1 or 0: how many existed.
    Delete,
    /// DELEX IFEQ old → 1 or 0: whether it had this value, and is deleted. A key that expires does
    /// the same, with the value that was given the deadline.
    DeleteIfEqual {
        /// The value it must have.
        old: Bytes,
    },
    /// APPEND value → the new length.
    Append {
        /// What is added.
        value: Bytes,
    },
    /// CAS old new → 1, 0 if not equal, nothing if absent.
    CompareAndSet {
        /// The value it must have.
        old: Bytes,
        /// The value it gets.
        new: Bytes,
    },
    /// INCR and its kin → the new value.
    Increment {
        /// What is added.
        delta: i64,
    },
}

impl Action {
    /// What a command asks of each of its keys, in its order.
    pub fn of_command(command: &Command) -> Vec<(Bytes, Action)> {
        let set =
            |value: &Bytes| Action::Set { value: value.clone(), condition: Condition::Always };
        match command {
            Command::Set { key, value, condition, .. } => {
                let (value, condition) = (value.clone(), condition.clone());
                vec![(key.clone(), Action::Set { value, condition })]
            }
            Command::Delete { keys } => keys.iter().map(|k| (k.clone(), Action::Delete)).collect(),
            Command::DeleteIfEqual { key, old } => {
                vec![(key.clone(), Action::DeleteIfEqual { old: old.clone() })]
            }
            Command::Append { key, value, .. } => {
                vec![(key.clone(), Action::Append { value: value.clone() })]
            }
            Command::CompareAndSet { key, old, new } => {
                let (old, new) = (old.clone(), new.clone());
                vec![(key.clone(), Action::CompareAndSet { old, new })]
            }
            Command::Increment { key, delta } => {
                vec![(key.clone(), Action::Increment { delta: *delta })]
            }
            Command::SetMany { pairs, .. } => {
                pairs.iter().map(|(key, value)| (key.clone(), set(value))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether it may change the key at all.
    pub(super) fn is_write(&self) -> bool {
        !matches!(self, Action::Get | Action::Exists | Action::Length)
    }

    /// Whether its answer and the value it leaves are the same for every value it meets.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Action::Set { condition: Condition::Always, .. })
    }

    /// Whether this answer tells that the key was left as it was, whatever its value was.
    pub(super) fn left_unchanged(&self, outcome: &Outcome) -> bool {
        match self {
            Action::Get | Action::Exists | Action::Length => true,
            Action::Set { .. } => *outcome == Outcome::Nothing,
            Action::Delete | Action::DeleteIfEqual { .. } => *outcome == Outcome::Integer(0),
            Action::Append { .. } => matches!(outcome, Outcome::TooBig { .. }),
            Action::CompareAndSet { .. } => *outcome != Outcome::Integer(1),
            Action::Increment { .. } => *outcome == Outcome::NotInteger,
        }
    }

    /// Executes it: the value afterwards (`None` inside for an absent key; `None` outside for
    /// "as it was") and the answer.
    pub(super) fn execute(&self, value: Option<&[u8]>) -> (Option<Option<Vec<u8>>>, Outcome) {
        match self {
            Action::Get => (None, value.map_or(Outcome::Nothing, text)),
            Action::Exists => (None, Outcome::Integer(i64::from(value.is_some()))),
            Action::Length => (None, Outcome::Integer(length(value.unwrap_or_default()))),
            Action::Set { value: new, condition } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => value.is_none(),
                    Condition::IfPresent => value.is_some(),
                    Condition::IfEqual(old) => value == Some(old.as_ref()),
                    Condition::IfVersion(_) => false,
                };
                match holds {
                    true => (Some(Some(new.to_vec())), Outcome::Done),
                    false => (None, Outcome::Nothing),
                }
            }
            Action::Delete => match value {
                Some(_) => (Some(None), Outcome::Integer(1)),
                None => (None, Outcome::Integer(0)),
            },
            Action::DeleteIfEqual { old } => match value == Some(old.as_ref()) {
                true => (Some(None), Outcome::Integer(1)),
                false => (None, Outcome::Integer(0)),
            },
            Action::Append { value: more } => {
                let whole = [value.unwrap_or_default(), more.as_ref()].concat();
                match whole.len() <= VALUE_BYTES_MAX {
                    true => {
                        let answer = Outcome::Integer(length(&whole));
                        (Some(Some(whole)), answer)
                    }
                    false => {
                        (None, Outcome::TooBig { bytes: whole.len(), bytes_max: VALUE_BYTES_MAX })
                    }
                }
            }
            Action::CompareAndSet { old, new } => match value {
                None => (None, Outcome::Nothing),
                Some(value) if *value == **old => (Some(Some(new.to_vec())), Outcome::Integer(1)),
                Some(_) => (None, Outcome::Integer(0)),
            },
            Action::Increment { delta } => {
                match integer(value).and_then(|number| number.checked_add(*delta)) {
                    Some(sum) => (Some(Some(sum.to_string().into_bytes())), Outcome::Integer(sum)),
                    None => (None, Outcome::NotInteger),
                }
            }
        }
    }
}

fn text(value: &[u8]) -> Outcome {
    Outcome::Value(Bytes::from(value.to_vec()))
}

fn length(value: &[u8]) -> i64 {
    i64::try_from(value.len()).expect("values are far shorter than 2^63 bytes")
}

/// The number that a value stands for: only the one spelling that INCR itself would write counts.
fn integer(value: Option<&[u8]>) -> Option<i64> {
    let Some(value) = value else { return Some(0) };
    let number: i64 = str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

/// Bytes as a person reads them, cut where they get long.
pub(super) struct Text<'a>(pub &'a [u8]);

/// Bytes of a value that a transcript shows.
const TEXT_BYTES_SHOWN: usize = 60;

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(TEXT_BYTES_SHOWN)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        match self.0.len() > TEXT_BYTES_SHOWN {
            true => write!(f, "… ({} bytes)", self.0.len()),
            false => Ok(()),
        }
    }
}

/// An outcome as a person reads it.
pub(super) struct Shown<'a>(pub &'a Outcome);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Done => write!(f, "OK"),
            Outcome::Nothing => write!(f, "nothing"),
            Outcome::Integer(number) => write!(f, "{number}"),
            Outcome::Value(value) => write!(f, "{}", Text(value)),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Get => write!(f, "GET"),
            Action::Exists => write!(f, "EXISTS"),
            Action::Length => write!(f, "STRLEN"),
            Action::Set { value, condition } => {
                write!(f, "SET {}", Text(value))?;
                match condition {
                    Condition::Always => Ok(()),
                    Condition::IfAbsent => write!(f, " NX"),
                    Condition::IfPresent => write!(f, " XX"),
                    Condition::IfEqual(old) => write!(f, " IFEQ {}", Text(old)),
                    Condition::IfVersion(version) => write!(f, " IFVER {version}"),
                }
            }
            Action::Delete => write!(f, "DEL"),
            Action::DeleteIfEqual { old } => write!(f, "DELEX IFEQ {}", Text(old)),
            Action::Append { value } => write!(f, "APPEND {}", Text(value)),
            Action::CompareAndSet { old, new } => write!(f, "CAS {} {}", Text(old), Text(new)),
            Action::Increment { delta } => write!(f, "INCRBY {delta}"),
        }
    }
}
