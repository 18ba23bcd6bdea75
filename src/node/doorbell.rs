//! A bell that wakes one worker. It says "look again", never what for: the worker takes everything
//! that has gathered, so a bell that rings twice before it is heard is as good as one.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The button: any number of threads may hold one.
#[derive(Clone, Debug)]
pub struct Button {
    sender: Sender<()>,
}

/// The bell: one worker waits at it.
#[derive(Debug)]
pub struct Bell {
    receiver: Receiver<()>,
}

/// A button and its bell. The channel holds one ring; a second one before it is heard is dropped.
pub fn doorbell() -> (Button, Bell) {
    let (sender, receiver) = bounded(1);
    (Button { sender }, Bell { receiver })
}

impl Button {
    /// Rings. Never blocks.
    pub fn ring(&self) {
        let _already_ringing = self.sender.try_send(());
    }
}

impl Bell {
    /// Waits for a ring. Returns `false` when no button is left and none will come.
    pub fn wait(&self) -> bool {
        self.receiver.recv().is_ok()
    }

    /// Waits for a ring, but not longer than `patience`. Returns whether it rang.
    pub fn wait_at_most(&self, patience: Duration) -> bool {
        match self.receiver.recv_timeout(patience) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }
}
