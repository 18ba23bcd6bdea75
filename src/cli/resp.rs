//! A connection to a server's client port that speaks as Redis clients do: a request is an array of
//! words, and an answer may hold any bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use raft_server::limits::{BACKUP_READ_BYTES_MAX, LINE_BYTES_MAX};

use super::status;

/// The most items of a list that is read.
const ITEMS_MAX: usize = 16;

/// How long a server may take to accept a request.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a server answers, as far as we ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A number.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several answers.
    List(Vec<Answer>),
    /// It was not done; the server's words, the code first.
    Error(String),
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `host:port`.
    pub fn open(address: &str) -> io::Result<Connection> {
        let stream = status::connect(address)?;
        stream.set_write_timeout(Some(WRITE_TIME_MAX))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer; no longer than `patience` for any part of it.
    pub fn ask(&mut self, words: &[&str], patience: Duration) -> io::Result<Answer> {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(patience))?;
        let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
        let request: String = words.iter().map(word).collect();
        stream.write_all(format!("*{}\r\n{request}", words.len()).as_bytes())?;
        self.answer(true)
    }

    fn answer(&mut self, may_be_list: bool) -> io::Result<Answer> {
        let line = self.line()?;
        let (sign, rest) = line.split_at_checked(1).ok_or_else(|| foreign(&line))?;
        let count = |max: usize| {
            let count = rest.parse().ok().filter(|count| *count <= max);
            count.ok_or_else(|| foreign(&line))
        };
        match sign {
            "-" => Ok(Answer::Error(rest.to_owned())),
            ":" => rest.parse().map(Answer::Integer).map_err(|_| foreign(&line)),
            "$" => {
                let mut bytes = vec![0; count(BACKUP_READ_BYTES_MAX)? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Answer::Bytes(bytes))
            }
            "*" if may_be_list => {
                let items = (0..count(ITEMS_MAX)?).map(|_| self.answer(false));
                items.collect::<io::Result<_>>().map(Answer::List)
            }
            _ => Err(foreign(&line)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        self.stream.by_ref().take(most).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(foreign(&String::from_utf8_lossy(&line))),
        }
    }
}

fn foreign(line: &str) -> io::Error {
    io::Error::other(format!("no raft-server: it answers {:?}", line.escape_debug().to_string()))
}
