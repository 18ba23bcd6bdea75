//! From a line to its arguments: blanks, quotes and escapes.
//!
//! Quotes are special only at the start of an argument, so `SET j {"a":1}` and `SET s it's` mean
//! what they look like. In double quotes a backslash escapes, in single quotes it does so only
//! before `'`.

use memchr::{memchr, memchr2};
use thiserror::Error;

use crate::kv::command::Bytes;

/// Why a line cannot be taken apart. Columns count bytes from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuotingError {
    /// A quote is never closed.
    #[error("column {column}: the quote that begins here is not closed")]
    Unclosed {
        /// Where the quote opens.
        column: usize,
    },
    /// Something other than a blank follows a closing quote.
    #[error("column {column}: expected a space after the closing quote")]
    AfterQuote {
        /// Where it stands.
        column: usize,
    },
    /// An escape that does not exist.
    #[error(
        r#"column {column}: unknown escape; known are \\ \" \n \r \t \0 and \x with 2 hex digits"#
    )]
    Escape {
        /// Where its backslash stands.
        column: usize,
    },
    /// A NUL or CR outside quotes.
    #[error(r#"column {column}: NUL and CR need double quotes: "\0", "\r""#)]
    ControlByte {
        /// Where it stands.
        column: usize,
    },
    /// More arguments than a request may have.
    #[error("the line has more than {arguments_max} arguments")]
    TooMany {
        /// How many it may have.
        arguments_max: usize,
    },
}

/// Takes a line, without its end, apart. No arguments means that the line is blank.
pub fn split(line: &[u8], arguments_max: usize) -> Result<Vec<Bytes>, QuotingError> {
    let mut arguments = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|byte| is_blank(**byte)).count();
        if at == line.len() {
            return Ok(arguments);
        }
        if arguments.len() == arguments_max {
            return Err(QuotingError::TooMany { arguments_max });
        }
        let (argument, end) = match line[at] {
            b'"' => double_quoted(line, at)?,
            b'\'' => single_quoted(line, at)?,
            _ => bare(line, at)?,
        };
        arguments.push(Bytes::from(argument));
        at = end;
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The argument that begins at `start`, and where it ends.
fn bare(line: &[u8], start: usize) -> Result<(Vec<u8>, usize), QuotingError> {
    let rest = &line[start..];
    let length = memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
    match memchr2(b'\r', 0, &rest[..length]) {
        Some(at) => Err(QuotingError::ControlByte { column: start + at + 1 }),
        None => Ok((rest[..length].to_vec(), start + length)),
    }
}

fn double_quoted(line: &[u8], start: usize) -> Result<(Vec<u8>, usize), QuotingError> {
    let mut argument = Vec::new();
    let mut at = start + 1;
    loop {
        // Runs without anything special are copied at once.
        let special = memchr2(b'"', b'\\', &line[at..]);
        let special = at + special.ok_or(QuotingError::Unclosed { column: start + 1 })?;
        argument.extend_from_slice(&line[at..special]);
        if line[special] == b'"' {
            return close(line, argument, special + 1);
        }
        let (byte, length) =
            unescape(&line[special + 1..]).ok_or(QuotingError::Escape { column: special + 1 })?;
        argument.push(byte);
        at = special + 1 + length;
    }
}

/// The byte that an escape stands for, and the escape's length after its backslash.
fn unescape(after: &[u8]) -> Option<(u8, usize)> {
    match after {
        [byte @ (b'\\' | b'"'), ..] => Some((*byte, 1)),
        [b'n', ..] => Some((b'\n', 1)),
        [b'r', ..] => Some((b'\r', 1)),
        [b't', ..] => Some((b'\t', 1)),
        [b'0', ..] => Some((0, 1)),
        [b'x', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let byte = digit(*high)? * 16 + digit(*low)?;
            Some((u8::try_from(byte).expect("two hex digits are one byte"), 3))
        }
        _ => None,
    }
}

fn single_quoted(line: &[u8], start: usize) -> Result<(Vec<u8>, usize), QuotingError> {
    let mut argument = Vec::new();
    let mut at = start + 1;
    loop {
        let quote = memchr(b'\'', &line[at..]);
        let quote = at + quote.ok_or(QuotingError::Unclosed { column: start + 1 })?;
        argument.extend_from_slice(&line[at..quote]);
        if quote == at || line[quote - 1] != b'\\' {
            return close(line, argument, quote + 1);
        }
        *argument.last_mut().expect("the backslash was copied") = b'\'';
        at = quote + 1;
    }
}

fn close(line: &[u8], argument: Vec<u8>, end: usize) -> Result<(Vec<u8>, usize), QuotingError> {
    match line.get(end) {
        Some(byte) if !is_blank(*byte) => Err(QuotingError::AfterQuote { column: end + 1 }),
        _ => Ok((argument, end)),
    }
}
