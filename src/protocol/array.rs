//! A RESP array of bulk strings, `*2\r\n$3\r\nGET\r\n$5\r\ncolor\r\n`: how programs send a request.
//!
//! An array is taken part by part: its count, and for each argument a length and a body. Between
//! two parts nothing but this small state is kept, so it does not matter where the network has cut
//! the bytes, and nothing recurses. A claimed count or length reserves nothing: a vector grows by
//! what has arrived.
//!
//! An array beyond a limit is a request that can be refused and stepped over, for it says itself
//! where it ends: the rest of it is dropped as it arrives, the client gets its TOOBIG and may go
//! on. Only claims beyond everything sane, and arrays that are none, end the connection.

use crate::kv::command::{Bytes, parse_integer};
use crate::limits::{SKIPPED_ARGUMENTS_MAX, SKIPPED_BYTES_MAX};
use crate::protocol::bounds::Limits;
use crate::protocol::close::Malformed;
use crate::protocol::error::Wrong;

/// Longest line with a count or a length, in bytes, CR LF included. Longer ones are no numbers.
const NUMBER_LINE_BYTES_MAX: usize = 32;

/// Longest command word that is kept of a request that is refused, in bytes.
const WORD_BYTES_MAX: usize = 32;

/// An array that is arriving.
#[derive(Clone, Debug, Default)]
pub struct Array {
    expected: Expected,
    /// Arguments that are still to come, the one that is arriving included.
    remaining: usize,
    arguments: Vec<Bytes>,
    /// The lengths so far of all its arguments, in bytes.
    claimed_bytes: usize,
    /// Bytes that were taken.
    taken_bytes: usize,
    /// The length of its first argument is known.
    has_word: bool,
    /// Why its arguments are dropped instead of kept.
    too_big: Option<String>,
}

/// Which part of an array comes next.
#[derive(Clone, Copy, Debug, Default)]
enum Expected {
    /// `*` and how many arguments.
    #[default]
    Count,
    /// `$` and how many bytes.
    Length,
    /// So many bytes, to be kept, and CR LF.
    Body(usize),
    /// So many bytes, to be dropped.
    Skip(usize),
    /// CR LF after what was dropped.
    SkipEnd,
}

/// What there is of the array.
pub enum Taken {
    /// Not all.
    More,
    /// All, and there is nothing in it.
    Empty,
    /// All.
    Arguments(Vec<Bytes>),
    /// All, but it was beyond a limit; and its first argument, if that was short.
    Wrong(Wrong, Bytes),
    /// It is no array.
    Malformed(Malformed),
}

impl Array {
    /// Takes what it can use from the front of `bytes`, and says how many bytes that was.
    pub fn take(&mut self, bytes: &[u8], limits: &Limits) -> (usize, Taken) {
        let mut used = 0;
        loop {
            match self.take_part(&bytes[used..], limits) {
                Ok(None) => return (used, Taken::More),
                Ok(Some(part_bytes)) => used += part_bytes,
                Err(malformed) => return (used, Taken::Malformed(malformed)),
            }
            if self.remaining == 0 {
                return (used, self.take_result());
            }
        }
    }

    /// What it holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        let bodies: usize = self.arguments.iter().map(|argument| argument.len()).sum();
        bodies + self.arguments.capacity() * size_of::<Bytes>()
    }

    /// What the request takes while it is being answered, in bytes: what was dropped takes nothing.
    pub fn kept_bytes(&self) -> usize {
        if self.too_big.is_some() { 0 } else { self.taken_bytes }
    }

    fn take_result(&mut self) -> Taken {
        match &self.too_big {
            Some(text) => {
                let word = self.arguments.pop().unwrap_or_default();
                Taken::Wrong(Wrong::TooBig(text.clone()), word)
            }
            None if self.arguments.is_empty() => Taken::Empty,
            None => Taken::Arguments(std::mem::take(&mut self.arguments)),
        }
    }

    /// Takes one part; how many bytes it has, or `None` if it is not complete.
    fn take_part(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        let taken = match self.expected {
            Expected::Count => self.take_count(bytes, limits)?,
            Expected::Length => self.take_length(bytes, limits)?,
            Expected::Body(length) => self.take_body(bytes, length)?,
            Expected::Skip(length) => self.skip(bytes, length),
            Expected::SkipEnd => match bytes.get(..2) {
                None => None,
                Some(b"\r\n") => {
                    self.next_argument();
                    Some(2)
                }
                Some(_) => return Err(Malformed::End),
            },
        };
        self.taken_bytes += taken.unwrap_or(0);
        Ok(taken)
    }

    fn take_count(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        let Some((count, taken)) = number_line(bytes, Malformed::Count, Malformed::CountTooLong)?
        else {
            return Ok(None);
        };
        self.remaining = usize::try_from(count).unwrap_or(0); // negative: nothing
        if self.remaining > SKIPPED_ARGUMENTS_MAX {
            return Err(Malformed::Count);
        }
        if self.remaining > limits.arguments {
            self.refuse(format!("arguments: {count}, the limit is {}", limits.arguments));
        }
        self.expected = Expected::Length;
        Ok(Some(taken))
    }

    fn take_length(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        if let Some(sigil) = bytes.first().filter(|first| **first != b'$') {
            return Err(Malformed::Sigil(*sigil));
        }
        let Some((length, taken)) =
            number_line(bytes, Malformed::Length, Malformed::LengthTooLong)?
        else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_negative| Malformed::Length)?;
        self.claimed_bytes = self.claimed_bytes.saturating_add(length);
        if self.claimed_bytes > SKIPPED_BYTES_MAX {
            return Err(Malformed::Length);
        }
        if length > limits.value_bytes {
            let max = limits.value_bytes;
            self.refuse(format!("bytes of an argument: {length}, the limit is {max}"));
        } else if self.claimed_bytes > limits.request_bytes {
            let (bytes, max) = (self.claimed_bytes, limits.request_bytes);
            self.refuse(format!("bytes of the request: {bytes} or more, the limit is {max}"));
        }
        // Even of what is refused it must be known which command it was.
        let is_word = !self.has_word && length <= WORD_BYTES_MAX;
        self.has_word = true;
        let skips = self.too_big.is_some() && !is_word;
        self.expected = if skips { Expected::Skip(length) } else { Expected::Body(length) };
        Ok(Some(taken))
    }

    fn take_body(&mut self, bytes: &[u8], length: usize) -> Result<Option<usize>, Malformed> {
        let Some(end) = bytes.get(length..length + 2) else {
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(Malformed::End);
        }
        self.arguments.push(Bytes::from(&bytes[..length]));
        self.next_argument();
        Ok(Some(length + 2))
    }

    fn skip(&mut self, bytes: &[u8], length: usize) -> Option<usize> {
        if bytes.is_empty() && length > 0 {
            return None;
        }
        let skipped = length.min(bytes.len());
        let rest = length - skipped;
        self.expected = if rest == 0 { Expected::SkipEnd } else { Expected::Skip(rest) };
        Some(skipped)
    }

    fn next_argument(&mut self) {
        self.remaining -= 1;
        self.expected = Expected::Length;
    }

    /// Keeps nothing of it any more but its command word. The first reason is the one to tell.
    fn refuse(&mut self, why: String) {
        self.too_big.get_or_insert(why);
        self.arguments.truncate(1);
        self.arguments.shrink_to_fit();
        self.arguments.retain(|word| word.len() <= WORD_BYTES_MAX);
    }
}

/// The number in `*3\r\n` or `$3\r\n`, and the length of that line; `None` if it is not complete.
/// All is decided by the first few bytes, however they arrive.
fn number_line(
    bytes: &[u8],
    invalid: Malformed,
    too_long: Malformed,
) -> Result<Option<(i64, usize)>, Malformed> {
    let head = &bytes[..bytes.len().min(NUMBER_LINE_BYTES_MAX)];
    let Some(line_feed) = head.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = head.len() == NUMBER_LINE_BYTES_MAX;
        return if is_too_long { Err(too_long) } else { Ok(None) };
    };
    let digits = head[1..line_feed].strip_suffix(b"\r").ok_or(invalid)?;
    let number = parse_integer(digits).ok_or(invalid)?;
    Ok(Some((number, line_feed + 1)))
}
