//! What a start is busy with, told to whoever waits for it: a line each second, beginning with the
//! second one. A start that takes no longer says nothing.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

const INTERVAL: Duration = Duration::from_secs(1);

/// Tells until it is dropped.
#[derive(Debug)]
pub struct Progress {
    doing: Sender<&'static str>,
}

impl Progress {
    /// Begins, busy with `doing`. Without a thread nothing is told, and nothing else is lost.
    pub fn new(doing: &'static str) -> Progress {
        let (sender, receiver) = bounded(4);
        let tell = move || {
            let (since, mut doing) = (Instant::now(), doing);
            loop {
                match receiver.recv_timeout(INTERVAL) {
                    Ok(next) => doing = next,
                    Err(RecvTimeoutError::Timeout) => {
                        log::info!("still {doing} seconds={}", since.elapsed().as_secs());
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("progress".to_owned()).spawn(tell) {
            log::warn!("no thread to tell how the start goes on: {error}");
        }
        Progress { doing: sender }
    }

    /// The next stage.
    pub fn stage(&self, doing: &'static str) {
        let _nobody_listens = self.doing.try_send(doing);
    }
}
