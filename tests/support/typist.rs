//! A person at netcat: types lines and reads what comes back.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer takes.
pub const REPLY_WITHIN: Duration = Duration::from_secs(15);

/// A connection on which lines are typed.
pub struct Typist(pub BufReader<TcpStream>);

impl Typist {
    pub fn at(address: &str) -> Typist {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(REPLY_WITHIN)).expect("a socket option");
        Typist(BufReader::new(stream))
    }

    pub fn type_in(&mut self, lines: &str) {
        self.0.get_mut().write_all(lines.as_bytes()).expect("the server reads");
    }

    /// The next line of a reply; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line comes in time");
        line.trim_end().to_owned()
    }

    /// What a request answers: one line, or all of a list.
    pub fn ask(&mut self, request: &str) -> Vec<String> {
        self.type_in(&format!("{request}\n"));
        self.reply()
    }

    pub fn reply(&mut self) -> Vec<String> {
        let first = self.line();
        let count = first.strip_prefix('*').and_then(|count| count.parse::<usize>().ok());
        let mut lines = vec![first];
        for _ in 0..count.unwrap_or(0) {
            lines.extend(self.reply());
        }
        lines
    }

    pub fn one(&mut self, request: &str) -> String {
        let reply = self.ask(request);
        assert_eq!(reply.len(), 1, "{request}: {reply:?}");
        reply[0].clone()
    }

    pub fn number_of_reply(&mut self) -> i64 {
        let reply = self.line();
        reply.strip_prefix(':').and_then(|number| number.parse().ok()).expect("a number")
    }

    pub fn number(&mut self, request: &str) -> i64 {
        let reply = self.one(request);
        let number = reply.strip_prefix(':').and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{request}: {reply}"))
    }
}
