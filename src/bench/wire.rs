//! SET and GET as bytes, and their answers back: RESP, or a line each way.

use serde::Serialize;

/// How requests are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Arrays of bulk strings, as Redis' clients send them.
    Resp,
    /// A line, as a person types it.
    Line,
}

/// One answer, whatever it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A text: `+OK`, or a value.
    Text(&'a [u8]),
    /// No such key.
    Nothing,
    /// `-CODE prose`, without the sign.
    Error(&'a [u8]),
}

/// What is neither of these: whoever answers it does not speak this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What a person must know about an answer that begins with `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Certainly not executed; asking again is safe.
    Refused,
    /// May have been executed.
    Unknown,
    /// Will never be executed: the request is wrong.
    Wrong,
}

/// First words of refusals. What is not known counts as wrong, so that it is seen.
const REFUSED: [&[u8]; 8] = [
    b"NOLEADER",
    b"CLUSTERDOWN",
    b"NOTLEADER",
    b"MOVED",
    b"TRYAGAIN",
    b"LOADING",
    b"NOSPACE",
    b"SHUTDOWN",
];

impl Family {
    /// The family of an error by its first word.
    pub fn of(error: &[u8]) -> Family {
        let word = error.split(|byte| *byte == b' ').next().unwrap_or_default();
        match word {
            b"UNKNOWN" => Family::Unknown,
            word if REFUSED.contains(&word) => Family::Refused,
            _ => Family::Wrong,
        }
    }
}

impl Protocol {
    /// Begins a SET of `key` to `value_bytes` bytes; the value and [`Protocol::end_set`] follow.
    pub fn begin_set(self, key: &[u8], value_bytes: usize, output: &mut Vec<u8>) {
        match self {
            Protocol::Resp => {
                output.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                push_bulk(output, key);
                push_length(output, value_bytes);
            }
            Protocol::Line => {
                output.extend_from_slice(b"SET ");
                output.extend_from_slice(key);
                output.push(b' ');
            }
        }
    }

    /// What follows the value of a SET.
    pub fn end_set(self, output: &mut Vec<u8>) {
        output.extend_from_slice(if self == Protocol::Resp { b"\r\n" } else { b"\n" });
    }

    /// A GET of `key`.
    pub fn get(self, key: &[u8], output: &mut Vec<u8>) {
        match self {
            Protocol::Resp => {
                output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                push_bulk(output, key);
            }
            Protocol::Line => {
                output.extend_from_slice(b"GET ");
                output.extend_from_slice(key);
                output.push(b'\n');
            }
        }
    }

    /// The first answer in `bytes` and its length, if all of it is there.
    pub fn reply(self, bytes: &[u8]) -> Result<Option<(usize, Reply<'_>)>, Malformed> {
        let Some(&sign) = bytes.first() else { return Ok(None) };
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = &bytes[1..end.max(1)];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let reply = match sign {
            b'+' => Reply::Text(line),
            b'-' => Reply::Error(line),
            b'_' if line.is_empty() => Reply::Nothing,
            b'$' if self == Protocol::Resp && line == b"-1" => Reply::Nothing,
            b'$' if self == Protocol::Resp => return bulk(bytes, line, end + 1),
            _ => return Err(Malformed),
        };
        Ok(Some((end + 1, reply)))
    }
}

/// The bulk string whose bytes begin at `start`, after its length.
fn bulk<'a>(
    bytes: &'a [u8],
    length: &[u8],
    start: usize,
) -> Result<Option<(usize, Reply<'a>)>, Malformed> {
    let length = std::str::from_utf8(length).map_err(|_| Malformed)?;
    let length: u32 = length.parse().map_err(|_| Malformed)?;
    let end = start + length as usize;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((end + 2, Reply::Text(&bytes[start..end])))),
        Some(_) => Err(Malformed),
    }
}

fn push_bulk(output: &mut Vec<u8>, bytes: &[u8]) {
    push_length(output, bytes.len());
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

fn push_length(output: &mut Vec<u8>, length: usize) {
    output.push(b'$');
    push_decimal(output, length as u64);
    output.extend_from_slice(b"\r\n");
}

/// A number as text; `write!` would cost a tenth of a pipelined request.
pub fn push_decimal(output: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted is what was answered: an answer is whole, or it is not there yet.
    #[test]
    fn an_answer_is_taken_only_when_all_of_it_has_come() {
        let cases: [(Protocol, &[u8], Reply); 7] = [
            (Protocol::Resp, b"+OK\r\n", Reply::Text(b"OK")),
            (Protocol::Resp, b"$5\r\na\r\nbc\r\n", Reply::Text(b"a\r\nbc")),
            (Protocol::Resp, b"$0\r\n\r\n", Reply::Text(b"")),
            (Protocol::Resp, b"$-1\r\n", Reply::Nothing),
            (Protocol::Resp, b"_\r\n", Reply::Nothing),
            (Protocol::Line, b"-NOLEADER since 3 s\n", Reply::Error(b"NOLEADER since 3 s")),
            (Protocol::Line, b"_\n", Reply::Nothing),
        ];
        for (protocol, bytes, reply) in cases {
            for length in 0..bytes.len() {
                assert_eq!(protocol.reply(&bytes[..length]), Ok(None), "{bytes:?} to {length}");
            }
            let with_more = [bytes, b"+next"].concat();
            assert_eq!(protocol.reply(&with_more), Ok(Some((bytes.len(), reply))));
        }
        for foreign in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"$1\r\nabc", b"\n", b":1\r\n"] {
            assert_eq!(Protocol::Resp.reply(foreign), Err(Malformed), "{foreign:?}");
        }
        assert_eq!(Protocol::Line.reply(b"$3\nabc\n"), Err(Malformed));
    }

    #[test]
    fn requests_are_spelled_as_the_protocol_says() {
        let mut bytes = Vec::new();
        Protocol::Resp.begin_set(b"k10", 2, &mut bytes);
        bytes.extend_from_slice(b"ab");
        Protocol::Resp.end_set(&mut bytes);
        Protocol::Resp.get(b"k10", &mut bytes);
        let expected =
            "*3\r\n$3\r\nSET\r\n$3\r\nk10\r\n$2\r\nab\r\n*2\r\n$3\r\nGET\r\n$3\r\nk10\r\n";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        bytes.clear();
        Protocol::Line.begin_set(b"k10", 2, &mut bytes);
        bytes.extend_from_slice(b"ab");
        Protocol::Line.end_set(&mut bytes);
        Protocol::Line.get(b"k10", &mut bytes);
        assert_eq!(String::from_utf8_lossy(&bytes), "SET k10 ab\nGET k10\n");
    }

    /// README, "What is guaranteed": the first word tells which of the families it is.
    #[test]
    fn errors_are_told_apart_by_their_first_word() {
        assert_eq!(Family::of(b"NOLEADER no leader"), Family::Refused);
        assert_eq!(Family::of(b"CLUSTERDOWN No leader"), Family::Refused);
        assert_eq!(Family::of(b"UNKNOWN deadline"), Family::Unknown);
        assert_eq!(Family::of(b"ERR unknown command"), Family::Wrong);
        assert_eq!(Family::of(b"NOLEADERS"), Family::Wrong);
    }
}
