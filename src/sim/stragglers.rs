//! Stragglers: copies of old messages that arrive when their senders and receivers have had other
//! lives and other terms.
//!
//! Delays alone rarely bring them to where they hurt. So a few copies are kept and arrive at the
//! worst moments, of which there are two:
//!
//! - A server has just been elected: votes, refusals and acknowledgements of earlier terms arrive.
//! - A server has just come up and asks its first questions: what the first questions of its
//!   former life were answered arrives. Both lives count their questions from 1.

use super::queue::Place;
use super::random::Random;
use crate::server::Outgoing;

/// So many copies are kept; then a newer one takes the place of any of them.
const COPIES_MAX: usize = 32;

/// So many answers to each life are kept: its first.
const ANSWERS_MAX: usize = 4;

/// With so many questions of each life, its first, the answers to its former life arrive.
const QUESTIONS_MAX: u32 = 8;

/// A copy of an old message.
#[derive(Clone, Debug)]
pub(super) struct Straggler {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) content: Outgoing,
}

/// The copies that are kept.
#[derive(Debug, Default)]
pub(super) struct Stragglers {
    copies: Vec<Straggler>,
    lives: [Life; 8],
}

/// What one server's gateway says and hears first in this life, and what it heard in its last.
#[derive(Debug, Default)]
struct Life {
    questions: u32,
    answers: Vec<Straggler>,
    former_answers: Vec<Straggler>,
}

impl Stragglers {
    /// Keeps a copy of a message.
    pub(super) fn keep(&mut self, copy: Straggler, random: &mut Random) {
        if self.copies.len() < COPIES_MAX {
            self.copies.push(copy);
        } else {
            self.copies[random.position(COPIES_MAX)] = copy;
        }
    }

    /// A copy of some old message to `to`.
    pub(super) fn any_to(&self, to: Place, random: &mut Random) -> Option<Straggler> {
        let first = random.position(self.copies.len().max(1)).min(self.copies.len());
        let (late, early) = self.copies.split_at(first);
        early.iter().chain(late).find(|copy| copy.to == to).cloned()
    }

    /// All copies of messages to `to`, which has just been elected. They are not kept.
    pub(super) fn take_to(&mut self, to: Place) -> Vec<Straggler> {
        self.copies.extract_if(.., |copy| copy.to == to).collect()
    }

    /// A gateway has something to say to another. Returns what its former life was answered, if it
    /// is to hear that again.
    pub(super) fn asks(&mut self, message: Straggler) -> Vec<Straggler> {
        let hears = &mut self.lives[usize::from(message.to)];
        let from = usize::from(message.from);
        if hears.answers.len() < ANSWERS_MAX {
            hears.answers.push(message);
        }
        let asks = &mut self.lives[from];
        asks.questions += 1;
        if asks.questions > QUESTIONS_MAX { Vec::new() } else { asks.former_answers.clone() }
    }

    /// A server's life ends.
    pub(super) fn life_ends(&mut self, place: Place) {
        let life = &mut self.lives[usize::from(place)];
        if !life.answers.is_empty() {
            life.former_answers = std::mem::take(&mut life.answers);
        }
        life.questions = 0;
    }
}
