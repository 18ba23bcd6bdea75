//! Replies for people: the line dialect.
//!
//! One reply is one line whose first character tells its kind: `+` text, `-` error, `:` integer,
//! `_` nothing, `*N` "N lines follow". A value that would not fit on a line, or could be taken for
//! something else, is quoted; no byte a client has stored can end a line and forge a second reply
//! (S95).

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
        Reply::Nothing => out.push(b'_'),
        Reply::Value(value) => print_text(value, out),
        Reply::List(items) => {
            print_count(items.len(), end, out);
            items.iter().for_each(|item| print(item, end, out));
            return; // every item has ended its own line
        }
        Reply::Lines(lines) => {
            print_count(lines.len(), end, out);
            for line in lines {
                print_text(line.as_bytes(), out);
                out.extend_from_slice(end.bytes());
            }
            return;
        }
        Reply::Error(error) => {
            // An error may show what the client sent: whatever that is, it stays on this line.
            let text = format!("-{} {error}", error.code());
            out.extend(
                text.chars()
                    .map(|c| if c.is_control() { '?' } else { c })
                    .collect::<String>()
                    .bytes(),
            );
        }
    }
    out.extend_from_slice(end.bytes());
}

fn print_count(count: usize, end: LineEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{count}").as_bytes());
    out.extend_from_slice(end.bytes());
}

fn print_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'+');
    let is_utf8 = std::str::from_utf8(text).is_ok();
    let is_plain = is_utf8
        && text.first().is_some_and(|first| *first != b'"')
        && !text.iter().any(u8::is_ascii_control);
    if is_plain {
        out.extend_from_slice(text);
        return;
    }
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
