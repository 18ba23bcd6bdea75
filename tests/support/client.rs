//! A client that knows the three kinds of answer and hops between servers. It speaks lines, or RESP
//! as any Redis client does; what it hears is spelled as lines either way, so that tests compare
//! one spelling.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a client knows after it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lines of a reply, without the end of the last one.
    Done(String),
    /// Certainly not executed.
    Refused(String),
    /// Possibly executed: no answer, a lost connection, or the server said so.
    Unknown(String),
}

/// Longer than the server's own deadline of 5 s.
const REPLY_WITHIN: Duration = Duration::from_secs(8);

/// The codes of PROTOCOL's refused family, in both spellings.
const REFUSED: [&str; 8] = [
    "-NOLEADER",
    "-CLUSTERDOWN",
    "-TRYAGAIN",
    "-LOADING",
    "-NOSPACE",
    "-SHUTDOWN",
    "-NOTLEADER",
    "-MOVED",
];

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// A line for each request.
    Lines,
    /// An array of its words for each request.
    Resp,
}

/// One client, connected to at most one of its servers.
pub struct Client {
    addresses: Vec<String>,
    voice: Voice,
    next: usize,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects when it is first used.
    pub fn connect(addresses: Vec<String>) -> Client {
        Client::speaking(Voice::Lines, addresses)
    }

    /// The same, in this voice.
    pub fn speaking(voice: Voice, addresses: Vec<String>) -> Client {
        Client { addresses, voice, next: 0, stream: None }
    }

    /// Leaves the present server for the next one.
    pub fn hop(&mut self) {
        self.stream = None;
        self.next = (self.next + 1) % self.addresses.len();
    }

    /// Sends one request and waits for its reply. Words are separated by single spaces.
    pub fn ask(&mut self, line: &str) -> Answer {
        self.ask_all(&[line.to_owned()])
    }

    /// Sends requests at once, and returns the reply to the last: of a transaction, what EXEC says.
    pub fn ask_all(&mut self, lines: &[String]) -> Answer {
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
        let bytes: String = lines.iter().map(|line| self.voice.request(line)).collect();
        if let Err(error) = stream.get_mut().write_all(bytes.as_bytes()) {
            self.stream = None;
            return Answer::Unknown(format!("write: {error}"));
        }
        let mut reply = String::new();
        for _ in lines {
            match self.voice.reply(stream) {
                Ok(lines) => reply = lines,
                Err(error) => {
                    self.stream = None;
                    return Answer::Unknown(format!("read: {error}"));
                }
            }
        }
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

impl Voice {
    fn request(self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match self {
            Voice::Lines => format!("{line}\n"),
            Voice::Resp => {
                let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
                format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>())
            }
        }
    }

    /// One reply, spelled as lines.
    fn reply(self, stream: &mut BufReader<TcpStream>) -> io::Result<String> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::Error::other("the connection ended"));
        }
        let line = line.trim_end().to_owned();
        let count = line.get(1..).and_then(|count| count.parse::<i64>().ok());
        match (line.as_bytes().first(), count) {
            (Some(b'*' | b'$'), Some(-1)) => Ok("_".to_owned()),
            (Some(b'*'), Some(count)) => {
                let items = (0..count).map(|_| self.reply(stream));
                let items: Vec<String> = items.collect::<io::Result<_>>()?;
                Ok(format!("{line}\n{}", items.join("\n")))
            }
            (Some(b'$'), Some(count)) if self == Voice::Resp => {
                let mut bytes = vec![0; usize::try_from(count).expect("a length") + 2];
                stream.read_exact(&mut bytes)?;
                let text = String::from_utf8_lossy(&bytes);
                Ok(format!("+{}", text.trim_end()))
            }
            _ => Ok(line),
        }
    }
}
