//! A client of the line dialect that knows the three kinds of answer and hops between servers.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a client knows after it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A reply line without its end.
    Done(String),
    /// Certainly not executed.
    Refused(String),
    /// Possibly executed: no answer, a lost connection, or the server said so.
    Unknown(String),
}

/// Longer than the server's own deadline of 5 s.
const REPLY_WITHIN: Duration = Duration::from_secs(8);

/// The codes of PROTOCOL's refused family.
const REFUSED: [&str; 6] =
    ["-NOLEADER", "-TRYAGAIN", "-LOADING", "-NOSPACE", "-SHUTDOWN", "-NOTLEADER"];

/// One client, connected to at most one of its servers.
pub struct Client {
    addresses: Vec<String>,
    next: usize,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects when it is first used.
    pub fn connect(addresses: Vec<String>) -> Client {
        Client { addresses, next: 0, stream: None }
    }

    /// Leaves the present server for the next one.
    pub fn hop(&mut self) {
        self.stream = None;
        self.next = (self.next + 1) % self.addresses.len();
    }

    /// Sends one line and waits for the first line of its reply.
    pub fn ask(&mut self, line: &str) -> Answer {
        if self.stream.is_none() {
            let address: SocketAddr =
                self.addresses[self.next].parse().expect("tests use numeric addresses");
            match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                Ok(stream) => {
                    stream.set_nodelay(true).expect("a socket option");
                    stream.set_read_timeout(Some(REPLY_WITHIN)).expect("a socket option");
                    stream.set_write_timeout(Some(REPLY_WITHIN)).expect("a socket option");
                    self.stream = Some(BufReader::new(stream));
                }
                Err(error) => return Answer::Refused(format!("not connected: {error}")),
            }
        }
        let stream = self.stream.as_mut().expect("just connected");
        if let Err(error) = stream.get_mut().write_all(format!("{line}\n").as_bytes()) {
            self.stream = None;
            return Answer::Unknown(format!("write: {error}"));
        }
        let mut reply = String::new();
        match stream.read_line(&mut reply) {
            Ok(_) if reply.ends_with('\n') => {}
            Ok(_) => {
                self.stream = None;
                return Answer::Unknown("the connection ended".to_owned());
            }
            Err(error) => {
                self.stream = None;
                return Answer::Unknown(format!("read: {error}"));
            }
        }
        let reply = reply.trim_end().to_owned();
        match reply.split(' ').next() {
            Some("-UNKNOWN") => Answer::Unknown(reply),
            Some(code) if REFUSED.contains(&code) => Answer::Refused(reply),
            _ => Answer::Done(reply),
        }
    }

    /// Asks what may be asked again, until there is an answer.
    pub fn ask_until_answered(&mut self, line: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.ask(line) {
                Answer::Done(reply) => return reply,
                other => assert!(Instant::now() < end, "{line}: no answer within 20 s: {other:?}"),
            }
            self.hop();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
