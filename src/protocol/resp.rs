//! Replies for programs: RESP2 and RESP3.
//!
//! Both consist of a sign, a length or a number, CR LF, and what has that length; RESP3 adds types
//! that RESP2 has to express by others:
//!
//! ```text
//!                   RESP2                 RESP3
//! nothing           $-1                   _
//! no list           *-1                   _
//! map of 2 pairs    *4 …                  %2 …
//! text for people   $5 hello              =9 txt:hello
//! a change          (refused by FEED)     >4 $4 feed :15 $… key $… value, or _ if deleted
//! ```

use crate::kv::command::Change;
use crate::protocol::line::print_sentence;
use crate::protocol::reply::Reply;

/// Which RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RESP2.
    Two,
    /// RESP3.
    Three,
}

/// Appends the reply to `out`.
pub fn print(reply: &Reply, version: Version, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Text(text) => {
            out.push(b'+');
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Reply::Integer(number) => print_number(b':', *number, out),
        Reply::Nothing if version == Version::Two => out.extend_from_slice(b"$-1\r\n"),
        Reply::NoList if version == Version::Two => out.extend_from_slice(b"*-1\r\n"),
        Reply::Nothing | Reply::NoList => out.extend_from_slice(b"_\r\n"),
        Reply::Value(value) => print_bulk(value, out),
        Reply::List(items) => {
            print_length(b'*', items.len(), out);
            items.iter().for_each(|item| print(item, version, out));
        }
        Reply::Map(pairs) => {
            match version {
                Version::Two => print_length(b'*', 2 * pairs.len(), out),
                Version::Three => print_length(b'%', pairs.len(), out),
            }
            for (name, value) in pairs {
                print(name, version, out);
                print(value, version, out);
            }
        }
        Reply::Lines(lines) => print_lines(lines, version, out),
        Reply::Change(change) => print_change(change, version, out),
        Reply::Error(error) => {
            out.push(b'-');
            print_sentence(&error.for_programs(), out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn print_change(change: &Change, version: Version, out: &mut Vec<u8>) {
    let Change { index, key, value } = change;
    print_length(if version == Version::Three { b'>' } else { b'*' }, 4, out);
    print_bulk(b"feed", out);
    out.extend_from_slice(format!(":{index}\r\n").as_bytes());
    print_bulk(key, out);
    match value {
        Some(value) => print_bulk(value, out),
        None => print(&Reply::Nothing, version, out),
    }
}

/// Each line ends with CR LF, as clients expect it of INFO.
fn print_lines(lines: &[String], version: Version, out: &mut Vec<u8>) {
    let length: usize = lines.iter().map(|line| line.len() + 2).sum();
    match version {
        Version::Two => print_length(b'$', length, out),
        Version::Three => {
            print_length(b'=', "txt:".len() + length, out);
            out.extend_from_slice(b"txt:");
        }
    }
    for line in lines {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn print_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    print_length(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn print_length(sigil: u8, length: usize, out: &mut Vec<u8>) {
    print_number(sigil, i64::try_from(length).expect("memory is below 2^63 bytes"), out);
}

fn print_number(sigil: u8, number: i64, out: &mut Vec<u8>) {
    out.push(sigil);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}
