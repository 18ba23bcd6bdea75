//! Ten million mangled requests: whatever arrives, the conversation neither panics nor allocates
//! more than was received allows, and the network's cuts change nothing.
//!
//! `RAFT_TEST_WIDE=1` runs ten million executions instead of 300,000 (use `--release`), and
//! `RAFT_TEST_SEED=n` begins with seed n. Each execution has its own seed, which a failure names.
//!
//! A binary with one test: the allocator counts for the whole process, and nobody else may allocate
//! meanwhile.

use std::hint::black_box;

use peak_alloc::PeakAlloc;
use raft_server::kv::command::{Bytes, Change};
use raft_server::protocol::{Conversation, Dialect, Input, Limits, Reply, Request};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that may be allocated at once for each byte received: the buffer, twice its size while it
/// grows and once more while it moves, the arguments, and the request made of them. A one-byte
/// argument of an inline request takes 40 bytes as `Bytes` and its allocation.
const ALLOCATED_PER_BYTE_MAX: usize = 64;

/// Bytes that may be allocated whatever is received: a reply such as COMMAND DOCS, which is as
/// large as the table.
const ALLOCATED_CONSTANT: usize = 768 * 1024;

/// SplitMix64: small, and every seed is a good one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.below(from.len())]
    }
}

/// Words that commands are made of, and numbers at the edges.
const WORDS: &[&[u8]] = &[
    b"GET",
    b"SET",
    b"DEL",
    b"MSET",
    b"MGET",
    b"INCR",
    b"INCRBY",
    b"APPEND",
    b"CAS",
    b"GETEX",
    b"SCAN",
    b"RANGE",
    b"PREFIX",
    b"KEYS",
    b"EXPIRE",
    b"PEXPIREAT",
    b"MULTI",
    b"EXEC",
    b"DISCARD",
    b"WATCH",
    b"UNWATCH",
    b"ONCE",
    b"HELLO",
    b"CLIENT",
    b"CONFIG",
    b"FEED",
    b"RESET",
    b"SELECT",
    b"ECHO",
    b"PING",
    b"GETRANGE",
    b"WAITINDEX",
    b"LOG",
    b"SETEX",
    b"DELEX",
    b"TTL",
    b"NX",
    b"XX",
    b"IFEQ",
    b"IFVER",
    b"EX",
    b"PX",
    b"EXAT",
    b"PXAT",
    b"KEEPTTL",
    b"PERSIST",
    b"MATCH",
    b"COUNT",
    b"LIMIT",
    b"FROM",
    b"STALE",
    b"GT",
    b"LT",
    b"SETNAME",
    b"SETINFO",
    b"GETNAME",
    b"LIB-NAME",
    b"0",
    b"1",
    b"2",
    b"3",
    b"-1",
    b"10",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"1.5",
    b"k",
    b"k2",
    b"value",
    b"",
    b"a b",
    b"\xff\x00\r\n",
    b"*",
    b"'",
    b"\"",
];

/// Pieces that a stream may be broken with.
const FRAGMENTS: &[&[u8]] = &[
    b"*",
    b"*1\r\n",
    b"*2\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*1025\r\n",
    b"*1048577\r\n",
    b"*99999999999999999999\r\n",
    b"$",
    b"$3\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$1048577\r\n",
    b"$536870912\r\n",
    b"$536870913\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\x16",
    b" ",
    b"\"",
    b"'",
    b"\\x",
    b"\\",
    b"POST / HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"-ERR\r\n",
    b"GET k\n",
    b"QUIT\r\n",
    b"COMMAND DOCS set\r\n",
    b"HELP SET\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
];

/// A stream of requests, most of them well-formed, some broken on purpose.
fn stream(random: &mut Random, bytes: &mut Vec<u8>) {
    bytes.clear();
    for _ in 0..=random.below(4) {
        let count = 1 + random.below(6);
        if random.one_in(2) {
            bytes.extend_from_slice(format!("*{count}\r\n").as_bytes());
            for _ in 0..count {
                let word = random.pick(WORDS);
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        } else {
            for _ in 0..count {
                bytes.extend_from_slice(random.pick(WORDS));
                bytes.push(b' ');
            }
            bytes.extend_from_slice(if random.one_in(2) { b"\r\n" } else { b"\n" });
        }
    }
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 => {
                let fragment = random.pick(FRAGMENTS);
                bytes.splice(at..at, fragment.iter().copied());
            }
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            _ => {
                let end = (at + random.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}

/// Pushes the stream in pieces of the given lengths and prints what is asked for and answered.
fn converse(bytes: &[u8], mut length: impl FnMut() -> usize, printed: &mut Vec<u8>) {
    let limits = Limits { transaction_commands: 3, ..Limits::default() };
    let mut conversation = Conversation::new(1, String::new(), limits);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(length().clamp(1, rest.len()));
        conversation.push(piece);
        rest = after;
        while let Some(parsed) = conversation.next() {
            match parsed.input {
                Input::Reply(reply) => parsed.dialect.print(&reply, printed),
                Input::Close(reason) => reason.farewell(parsed.dialect, printed),
                Input::Request(request) => {
                    printed.extend_from_slice(b"asked\n");
                    if let Request::Watch { keys } = &request {
                        conversation.watched(Some((1, vec![true; keys.len()])));
                    }
                    black_box(request.bytes());
                }
            }
            // A received byte is held at most twice (while the buffer grows), or is a word.
            assert!(conversation.held_bytes() <= ALLOCATED_PER_BYTE_MAX * bytes.len() + 64);
        }
    }
    if let Some(parsed) = conversation.finish() {
        assert!(matches!(parsed.input, Input::Close(_)));
    }
}

fn execute(seed: u64, input: &mut Vec<u8>, printed: &mut [Vec<u8>; 2]) {
    let mut random = Random(seed);
    stream(&mut random, input);
    printed.iter_mut().for_each(Vec::clear);
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let whole = input.len();
    converse(input, || whole, &mut printed[0]);
    let allocated = ALLOCATOR.peak_usage().saturating_sub(before);
    let max = ALLOCATED_PER_BYTE_MAX * input.len() + ALLOCATED_CONSTANT;
    assert!(allocated <= max, "seed {seed}: {allocated} bytes allocated for {whole} received");
    converse(input, || random.below(9), &mut printed[1]);
    assert!(
        printed[0] == printed[1],
        "seed {seed}: the cuts changed the answers to {}",
        input.escape_ascii()
    );
}

/// S75, S88, S89: and a person who sees a failure gets its seed.
#[test]
fn mangled_requests_neither_panic_nor_allocate() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("RAFT_TEST_SEED").unwrap_or(1);
    let count = if number("RAFT_TEST_WIDE") == Some(1) { 10_000_000 } else { 300_000 };
    let (mut input, mut printed) = (Vec::new(), [Vec::new(), Vec::new()]);
    struct NameSeed(u64);
    impl Drop for NameSeed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("RAFT_TEST_SEED={} shows it", self.0);
            }
        }
    }
    for seed in first..first + count {
        let name = NameSeed(seed);
        execute(seed, &mut input, &mut printed);
        drop(name);
    }
    check_claims();
}

/// Claims alone, and the largest requests: what is allocated follows what was received.
fn check_claims() {
    let value = vec![b'x'; 1024 * 1024];
    let large =
        [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n".as_slice(), &value, b"\r\n"].concat();
    let tiny = [b"*1024\r\n".as_slice(), &b"$0\r\n\r\n".repeat(1024)].concat();
    let skipped = [b"*2\r\n$4\r\nECHO\r\n$536870000\r\n".as_slice(), &value].concat();
    for (input, per_byte_max) in [
        (b"*1024\r\n".as_slice(), 1),
        (b"*1048576\r\n", 1),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n", 1),
        (b"*2\r\n$4\r\nECHO\r\n$536870000\r\n", 1),
        (&large, 4),
        (&tiny, 16),
        (&skipped, 1),
    ] {
        let mut printed = Vec::with_capacity(1024);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        converse(input, || 16 * 1024, &mut printed);
        let allocated = ALLOCATOR.peak_usage().saturating_sub(before);
        let max = per_byte_max * input.len() + 64 * 1024;
        let shown = input[..input.len().min(40)].escape_ascii();
        assert!(allocated <= max, "{shown}: {allocated} bytes for {} received", input.len());
    }
    // Printers, too: a change of any bytes in any dialect.
    let change = Change { index: 1, key: Bytes::from(value), value: None };
    for dialect in [Dialect::Resp2, Dialect::Resp3] {
        let mut printed = Vec::new();
        dialect.print(&Reply::Change(change.clone()), &mut printed);
        assert!(printed.len() < change.key.len() + 64);
    }
}
