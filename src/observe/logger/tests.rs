//! The queue, with a sink that stands for stderr. `tests/logger.rs` has the whole in a process.

use std::sync::mpsc;
use std::thread;

use super::*;

/// Longer than anything here takes on a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hands on what is written, and writes only when it is let: a pipe that somebody else reads.
struct Pipe {
    /// Each byte string that was written.
    written: mpsc::Sender<Vec<u8>>,
    /// One message lets one write happen; when the sender is gone, all do.
    permits: mpsc::Receiver<()>,
    /// Told when a write begins to wait.
    waits: mpsc::Sender<()>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _nobody_listens_any_more = self.waits.send(());
        let _open_for_all = self.permits.recv();
        let _nobody_listens_any_more = self.written.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A logger for `lines_max` lines whose thread already holds one line that it cannot write.
struct Stuck {
    logger: Logger,
    queue: Queue,
    permits: mpsc::Sender<()>,
    written: mpsc::Receiver<Vec<u8>>,
}

fn stuck(lines_max: usize) -> Stuck {
    let (written_sender, written) = mpsc::channel();
    let (permits, permits_receiver) = mpsc::channel();
    let (waits_sender, waits) = mpsc::channel();
    let mut pipe = Pipe { written: written_sender, permits: permits_receiver, waits: waits_sender };
    let logger = Logger::new(lines_max);
    let mut queue = logger.queue();
    logger.state.running.store(true, Ordering::Release);
    queue.write_all(b"stuck\n").expect("a queue takes everything");
    let runner = logger.clone();
    thread::spawn(move || runner.write_to(&mut pipe));
    waits.recv_timeout(PATIENCE).expect("the thread writes the first line");
    Stuck { logger, queue, permits, written }
}

/// Everything up to the report, as text.
fn until_report(written: &mpsc::Receiver<Vec<u8>>) -> String {
    let mut all = String::new();
    while !all.contains("fast enough\n") {
        let bytes = written.recv_timeout(PATIENCE).expect("dropped lines are reported");
        all.push_str(&String::from_utf8(bytes).expect("lines are text"));
    }
    all
}

/// S69: with a stderr that nobody reads, logging costs a counter; the count is reported although
/// nobody logs any more. A blocking queue would hang this test.
#[test]
fn a_full_queue_drops_counts_and_never_blocks() {
    let mut stuck = stuck(4);
    for line in 0..10 {
        stuck
            .queue
            .write_all(format!("line {line}\n").as_bytes())
            .expect("a queue takes everything");
    }
    drop(stuck.permits);
    let mut all = until_report(&stuck.written);
    stuck.logger.flush(PATIENCE);
    all.extend(stuck.written.try_iter().map(|bytes| String::from_utf8(bytes).expect("text")));
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines[0], "stuck");
    for kept in ["line 0", "line 1", "line 2", "line 3"] {
        assert!(lines.contains(&kept), "{kept} is missing in {lines:?}");
    }
    assert!(all.contains("6 log lines were dropped"), "{all}");
}

/// A drop that is counted only after the queue has run empty (its thread was paused in between)
/// must not wait for the next line.
#[test]
fn a_late_count_is_reported_though_nothing_follows() {
    let stuck = stuck(4);
    drop(stuck.permits);
    stuck.logger.flush(PATIENCE);
    stuck.logger.state.dropped.fetch_add(3, Ordering::Relaxed);
    assert!(until_report(&stuck.written).contains("3 log lines were dropped"));
}

/// A process that ends must not wait for ever for a stderr that nobody reads.
#[test]
fn flush_waits_for_the_lines_but_not_for_ever() {
    let mut stuck = stuck(1);
    let limit = Duration::from_millis(50);
    let begun = Instant::now();
    stuck.logger.flush(limit); // it is queued, and not reached
    stuck.logger.flush(limit); // it does not even fit
    assert!(begun.elapsed() >= 2 * limit, "there was something to wait for");
    assert!(begun.elapsed() < PATIENCE, "bounded in time");

    drop(stuck.permits);
    stuck.logger.flush(PATIENCE);
    stuck.queue.write_all(b"last\n").expect("a queue takes everything");
    stuck.logger.flush(PATIENCE);
    let all: Vec<u8> = stuck.written.try_iter().flatten().collect();
    assert_eq!(String::from_utf8(all).expect("lines are text"), "stuck\nlast\n");
}

/// S95: one message is one line, whatever a key or a peer has put into it.
#[test]
fn control_characters_are_spelled_out_and_giants_are_cut() {
    assert_eq!(escaped("a\r\nERROR n1\0\u{1b}[2J\u{85}"), "a\\r\\nERROR n1\\u{0}\\u{1b}[2J\\u{85}");
    assert_eq!(escaped("\"quoted\" ö"), "\"quoted\" ö");
    let cut = escaped(&"ö".repeat(LOG_MESSAGE_BYTES_MAX));
    assert!(cut.len() < LOG_MESSAGE_BYTES_MAX + 16 && cut.ends_with("(cut)"), "{}", cut.len());
}
