//! Replies for people: the line dialect.
//!
//! One reply is one line whose first character tells its kind: `+` text, `-` error, `:` integer,
//! `_` nothing, `*N` "N answers follow", `>` a change that FEED tells. A value that would not fit
//! on a line, or could be taken for something else, is quoted; no byte a client has stored can end
//! a line and forge a second reply (S95).

use crate::kv::command::Change;
use crate::protocol::reply::Reply;

/// How a request line ended, and so how the lines of its reply end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// LF: what netcat and shell scripts send. A CR in the answer would spoil a
    /// script's `[ "$reply" = "+blue" ]`.
    Lf,
    /// CR LF: telnet, and Redis tools, which insist on it.
    CrLf,
}

impl LineEnd {
    /// The bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            LineEnd::Lf => b"\n",
            LineEnd::CrLf => b"\r\n",
        }
    }
}

/// Appends the reply's lines to `out`.
pub fn print(reply: &Reply, end: LineEnd, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK"),
        Reply::Text(text) => print_text(text.as_bytes(), out),
        Reply::Integer(number) => out.extend_from_slice(format!(":{number}").as_bytes()),
        Reply::Nothing | Reply::NoList => out.push(b'_'),
        Reply::Value(value) => print_text(value, out),
        Reply::List(items) => {
            print_count(items.len(), end, out);
            items.iter().for_each(|item| print(item, end, out));
            return; // every item has ended its own line
        }
        Reply::Map(pairs) => {
            print_count(2 * pairs.len(), end, out);
            for (name, value) in pairs {
                print(name, end, out);
                print(value, end, out);
            }
            return;
        }
        Reply::Lines(lines) => {
            print_count(lines.len(), end, out);
            for line in lines {
                print_text(line.as_bytes(), out);
                out.extend_from_slice(end.bytes());
            }
            return;
        }
        Reply::Change(change) => print_change(change, out),
        Reply::Error(error) => {
            out.extend_from_slice(format!("-{} ", error.code()).as_bytes());
            print_sentence(&error.to_string(), out);
        }
    }
    out.extend_from_slice(end.bytes());
}

fn print_count(count: usize, end: LineEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{count}").as_bytes());
    out.extend_from_slice(end.bytes());
}

/// An error may show what the client sent: whatever that is, it stays on this line.
pub fn print_sentence(text: &str, out: &mut Vec<u8>) {
    let is_control = |character: char| character.is_control();
    out.extend_from_slice(text.replace(is_control, "?").as_bytes());
}

/// `>15 SET color "dark blue"`: what follows the index could be typed.
fn print_change(change: &Change, out: &mut Vec<u8>) {
    let Change { index, key, value } = change;
    let word = if value.is_some() { "SET" } else { "DEL" };
    out.extend_from_slice(format!(">{index} {word}").as_bytes());
    for argument in [Some(key), value.as_ref()].into_iter().flatten() {
        out.push(b' ');
        let needs_quotes = |byte: &u8| matches!(byte, b' ' | b'\'');
        if is_plain(argument) && !argument.iter().any(needs_quotes) {
            out.extend_from_slice(argument);
        } else {
            print_quoted(argument, out);
        }
    }
}

fn print_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'+');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        print_quoted(text, out);
    }
}

/// Bytes that are looked at together.
const GLANCE_BYTES: usize = 64;

/// Whether the bytes can stand for themselves.
fn is_plain(text: &[u8]) -> bool {
    // All bytes of a chunk, without a question in between: the processor compares many at once. (To
    // look at one after the other took an eighth of the time of pipelined reads.)
    let has_control = text
        .chunks(GLANCE_BYTES)
        .any(|chunk| chunk.iter().fold(false, |found, byte| found | byte.is_ascii_control()));
    let first = text.first();
    !has_control && first.is_some_and(|first| *first != b'"') && std::str::from_utf8(text).is_ok()
}

fn print_quoted(text: &[u8], out: &mut Vec<u8>) {
    let is_utf8 = std::str::from_utf8(text).is_ok();
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => out.extend_from_slice(b"\\0"),
            byte if byte.is_ascii_control() || !is_utf8 && !byte.is_ascii() => {
                out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
