//! What a start is busy with, told to whoever waits for it: a line each second, beginning with the
//! second one. A start that takes no longer says nothing.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(1);

/// What a start is busy with. Clones tell of the same start.
#[derive(Clone, Debug)]
pub struct Doing {
    stage: Arc<Mutex<&'static str>>,
}

impl Doing {
    /// Busy with this.
    pub fn new(stage: &'static str) -> Doing {
        Doing { stage: Arc::new(Mutex::new(stage)) }
    }

    /// With what now.
    pub fn now(&self) -> &'static str {
        *self.stage.lock()
    }
}

/// Tells until it is dropped.
#[derive(Debug)]
pub struct Progress {
    doing: Doing,
    /// Dropped with it, which its thread notices.
    _until: Sender<()>,
}

impl Progress {
    /// Begins at `since`. Without a thread nothing is told, and nothing else is lost.
    pub fn new(since: Instant, doing: Doing) -> Progress {
        let (_until, ended) = bounded(0);
        let stage = doing.clone();
        let tell = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                log::info!("still {} seconds={}", stage.now(), since.elapsed().as_secs());
            }
        };
        if let Err(error) = thread::Builder::new().name("progress".to_owned()).spawn(tell) {
            log::warn!("no thread to tell how the start goes on: {error}");
        }
        Progress { doing, _until }
    }

    /// The next stage.
    pub fn stage(&self, doing: &'static str) {
        *self.doing.stage.lock() = doing;
    }
}
