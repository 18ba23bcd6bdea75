//! What the functions of the table take their arguments from, with the checks that many share.

use crate::kv::command::{Bytes, parse_integer};
use crate::protocol::bounds::Limits;
use crate::protocol::error::{Wrong, shown};

/// The arguments after the command word; `Arity` has counted those that must be there.
pub struct Arguments<'a> {
    /// The command, in capitals.
    pub command: &'static str,
    /// What a client may ask for.
    pub limits: &'a Limits,
    words: std::vec::IntoIter<Bytes>,
}

impl<'a> Arguments<'a> {
    /// The arguments of a command.
    pub fn new(
        command: &'static str,
        words: std::vec::IntoIter<Bytes>,
        limits: &'a Limits,
    ) -> Arguments<'a> {
        Arguments { command, limits, words }
    }

    /// How many are left.
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// All that are left.
    pub fn into_words(self) -> std::vec::IntoIter<Bytes> {
        self.words
    }

    /// The next, if there is one.
    pub fn next(&mut self) -> Option<Bytes> {
        self.words.next()
    }

    /// The next, which is there.
    pub fn word(&mut self) -> Bytes {
        self.words.next().expect("the arity was checked")
    }

    /// A key.
    pub fn key(&mut self) -> Result<Bytes, Wrong> {
        at_most(self.word(), "bytes of the key", self.limits.key_bytes)
    }

    /// One end of a range. Who goes on after the longest key asks from that key and `\0`.
    pub fn bound(&mut self) -> Result<Bytes, Wrong> {
        at_most(self.word(), "bytes of a range's end", self.limits.key_bytes + 1)
    }

    /// A glob.
    pub fn pattern(&mut self) -> Result<Bytes, Wrong> {
        at_most(self.word(), "bytes of the pattern", self.limits.key_bytes)
    }

    /// A value.
    pub fn value(&mut self) -> Result<Bytes, Wrong> {
        at_most(self.word(), "bytes of the value", self.limits.value_bytes)
    }

    /// All that are left, as keys.
    pub fn keys(mut self) -> Result<Vec<Bytes>, Wrong> {
        (0..self.count()).map(|_| self.key()).collect()
    }

    /// A 64-bit integer.
    pub fn number(&mut self) -> Result<i64, Wrong> {
        parse_integer(&self.word()).ok_or(Wrong::NotInteger)
    }

    /// A log index, a sequence number: from `min` on.
    pub fn position(&mut self, min: u64) -> Result<u64, Wrong> {
        let number = u64::try_from(self.number()?).ok();
        number.filter(|number| *number >= min).ok_or(Wrong::NotInteger)
    }

    /// The argument of the option `name`, which the client must give.
    pub fn argument_of(&mut self, name: &str) -> Result<Bytes, Wrong> {
        let command = self.command;
        self.next().ok_or_else(|| Wrong::Syntax(format!("{command}: {name} takes an argument")))
    }

    /// The number that the option `name` takes.
    pub fn number_of(&mut self, name: &str) -> Result<i64, Wrong> {
        parse_integer(&self.argument_of(name)?).ok_or(Wrong::NotInteger)
    }

    /// `[LIMIT n]`, and nothing after it.
    pub fn limit(mut self, max: usize) -> Result<usize, Wrong> {
        let Some(word) = self.next() else {
            return Ok(max);
        };
        let number = self.next();
        if !is(&word, "LIMIT") || number.is_none() || self.count() > 0 {
            return Err(self.unexpected("LIMIT n", &word));
        }
        let number = number.and_then(|number| usize::try_from(parse_integer(&number)?).ok());
        number.filter(|number| (1..=max).contains(number)).ok_or_else(|| {
            Wrong::Other(format!("{}: LIMIT takes a number from 1 to {max}", self.command))
        })
    }

    /// The error for an option that the command does not have.
    pub fn unexpected(&self, expected: &str, got: &[u8]) -> Wrong {
        Wrong::Syntax(format!("{}: expected {expected}, got {}", self.command, shown(got)))
    }
}

/// Whether a client's word is this one; `name` is in capitals.
pub fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn at_most(argument: Bytes, what: &str, max: usize) -> Result<Bytes, Wrong> {
    let bytes = argument.len();
    if bytes > max {
        return Err(Wrong::TooBig(format!("{what}: {bytes}, the limit is {max}")));
    }
    Ok(argument)
}
