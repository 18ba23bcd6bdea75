//! The caretaker: does to the journal's files what no write should wait for.
//!
//! The log writer hands it one chore at a time (see [`chores`]), and asks between two writes
//! whether it is done.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::storage::chores::{self, Chore};
use crate::storage::disk::{RealDisk, RealFile};
use crate::storage::error::JournalError;
use crate::storage::journal::Journal;
use crate::storage::pace::Pace;
use crate::storage::reserve::Spare;

use super::doorbell::Button;

type Done<F> = Result<Option<Spare<F>>, JournalError>;

/// The log writer's way to the caretaker.
#[derive(Debug)]
pub struct Caretaker {
    chores: Sender<Chore>,
    done: Receiver<Done<RealFile>>,
}

/// What the thread of the caretaker has.
#[derive(Debug)]
pub struct Tools {
    disk: RealDisk,
    pace: Pace,
    chores: Receiver<Chore>,
    done: Sender<Done<RealFile>>,
    log_writer: Button,
}

/// A caretaker for the journal on `disk`, who works at this pace. The bell that `log_writer` rings
/// tells that a chore is done.
pub fn caretaker(disk: RealDisk, pace: Pace, log_writer: Button) -> (Caretaker, Tools) {
    let (chores, given) = bounded(1);
    let (tell, done) = bounded(1);
    (Caretaker { chores, done }, Tools { disk, pace, chores: given, done: tell, log_writer })
}

impl Caretaker {
    /// Tells the journal what has been done, and asks it for what is to be done next. Never blocks.
    /// After an error the process must end.
    pub fn tend(&self, journal: &mut Journal<RealDisk>) -> Result<(), JournalError> {
        if let Ok(done) = self.done.try_recv() {
            journal.finish_chore(done)?;
        }
        if let Some(chore) = journal.take_chore() {
            self.chores.send(chore).expect("the caretaker lives as long as the process");
        }
        Ok(())
    }
}

/// The body of the thread `caretaker`.
pub fn run(tools: &Tools) {
    for chore in &tools.chores {
        let done = chores::perform(&tools.disk, &chore, &tools.pace);
        if tools.done.send(done).is_err() {
            return;
        }
        tools.log_writer.ring();
    }
}
