//! What a leader knows about one follower (Figure 2: `nextIndex[]`, `matchIndex[]`), and the window
//! that bounds what is under way to it.
//!
//! A leader first *probes*: it asks with one empty message at a time until the follower confirms
//! where the two logs agree. From then on it *streams*: it sends entries as they come, without
//! waiting for the last acknowledgement, as long as those under way fit into the window. A follower
//! that says its log does not match sends us back to probing, further back. And if what it needs
//! next is in the log no more, it is sent a snapshot (§7), in parts, within a window of its own.

use std::collections::VecDeque;

use super::message::Round;
use super::types::{Index, SnapshotId};
use crate::lab::{Rule, removed};

/// Messages in one tick that only tell a follower the commit index, though nobody there waits for
/// it: enough for who writes now and then to find there at once what he has written, and few beside
/// the writes of a single busy client.
pub const COMMITS_TOLD_MAX: u32 = 4;

/// The leader's view of one follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Index of the next entry to send (Figure 2). Always above `match_index`.
    pub next_index: Index,
    /// The follower's disk agrees with our log up to here (Figure 2). Never falls: it is what the
    /// follower *said* after its sync, not what we sent.
    pub match_index: Index,
    /// How entries are sent.
    pub mode: Mode,
    /// Ticks since the follower last answered in this term, or since the term began: a new leader
    /// gives everybody the benefit of the doubt.
    pub heard_ago_ticks: u32,
    /// The next message is to ask for an echo: a heartbeat, or a read that has waited too long.
    pub echo_due: bool,
    /// The last round stamped on a message to this follower.
    pub round_sent: Round,
    /// The last round that the follower echoed.
    pub round_echoed: Round,
    /// How far the follower knows that entries are committed, if it has got the last message: it
    /// believes no more than it has been sent.
    pub commit_sent: Index,
    /// The follower's clients wait for the entries up to here.
    pub commit_awaited: Index,
    /// So many messages that only tell the commit index may be sent until the next tick, though
    /// nobody there waits for it.
    pub commits_to_tell: u32,
    /// Entries under way: the last index of each message and its bytes.
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
}

/// How entries are sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Looking for the last entry on which the logs agree, one empty message at a time.
    Probe {
        /// A probe is under way; the next heartbeat allows another.
        sent: bool,
    },
    /// The logs agree before `next_index`: entries are sent as they come, within the window.
    Stream,
    /// The follower needs what only a snapshot holds; `next_index` is the one behind it.
    Snapshot(Transfer),
}

/// A snapshot on its way to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// Its length in bytes.
    pub total_bytes: u64,
    /// So much of it has been handed to the transport.
    pub sent_bytes: u64,
    /// So much of it the follower has stored, as far as it has said.
    pub stored_bytes: u64,
    /// Nothing has been heard for a heartbeat: ask how far it has come.
    pub ask: bool,
}

impl Transfer {
    /// Where the next part begins and how long it is; an empty one only asks. `None` if nothing is
    /// to be sent now.
    pub fn next_part(&self, chunk_bytes: u64, window_bytes_max: u64) -> Option<(u64, u64)> {
        let left = self.total_bytes - self.sent_bytes;
        let under_way = self.sent_bytes.saturating_sub(self.stored_bytes);
        let length = left.min(chunk_bytes);
        // An empty window admits a part of any length.
        let fits = under_way == 0 || under_way + length <= window_bytes_max;
        if length > 0 && fits {
            return Some((self.sent_bytes, length));
        }
        self.ask.then_some((self.sent_bytes, 0))
    }

    /// A part of this length has been handed to the transport.
    pub fn sent(&mut self, length_bytes: u64) {
        self.sent_bytes += length_bytes;
        self.ask = false;
    }

    /// The follower has stored so much. Less than before means that it has started again, a gap
    /// that parts were lost: then we go on from there. If an old reply makes us, parts are sent
    /// twice, and the follower steps over them.
    pub fn stored(&mut self, stored_bytes: u64, gap: bool) {
        let stored_bytes = stored_bytes.min(self.total_bytes);
        if gap || stored_bytes < self.stored_bytes || stored_bytes > self.sent_bytes {
            self.sent_bytes = stored_bytes;
        }
        self.stored_bytes = stored_bytes;
    }

    /// What was under way may be lost: begin again where the follower said it was, and ask it.
    fn begin_again(&mut self) {
        self.sent_bytes = self.stored_bytes;
        self.ask = true;
    }
}

impl Progress {
    /// At the start of a term: nothing is known, so begin with the last entry before the leader's
    /// own (Figure 2 initialises `nextIndex` to the leader's last log index + 1).
    pub fn new(next_index: Index) -> Progress {
        Progress {
            next_index,
            match_index: Index::ZERO,
            mode: Mode::Probe { sent: false },
            heard_ago_ticks: 0,
            echo_due: true,
            round_sent: Round(0),
            round_echoed: Round(0),
            commit_sent: Index::ZERO,
            commit_awaited: Index::ZERO,
            commits_to_tell: COMMITS_TOLD_MAX,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// How many bytes of entries may be sent now, or `None` if not even the next one, of
    /// `entry_bytes`. The window bounds entries only, and an empty window admits one of any size.
    pub fn room_bytes(&self, entry_bytes: usize, window_bytes_max: usize) -> Option<usize> {
        let room = window_bytes_max.saturating_sub(self.in_flight_bytes);
        let admits = self.in_flight.is_empty() || entry_bytes <= room;
        (self.mode == Mode::Stream && admits).then_some(room)
    }

    /// The follower is to get this snapshot, and after it the entries behind it.
    pub fn send_snapshot(&mut self, snapshot: SnapshotId, total_bytes: u64) {
        assert!(snapshot.last.index > self.match_index, "what matches needs no snapshot");
        self.next_index = snapshot.last.index.next();
        let (sent_bytes, stored_bytes, ask) = (0, 0, false);
        let transfer = Transfer { snapshot, total_bytes, sent_bytes, stored_bytes, ask };
        self.mode = Mode::Snapshot(transfer);
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// The connection is new: what was sent of a snapshot may be lost.
    pub fn snapshot_resumes(&mut self) {
        if let Mode::Snapshot(transfer) = &mut self.mode {
            transfer.begin_again();
        }
    }

    /// Entries from `next_index` up to `last` have been handed to the transport.
    pub fn sent(&mut self, last: Index, bytes: usize) {
        assert!(self.mode == Mode::Stream, "only a follower that agrees is sent entries");
        assert!(last >= self.next_index, "what is sent is new");
        self.next_index = last.next();
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
    }

    /// The follower's disk agrees with our log up to `match_index`. If that is all we have sent or
    /// asked about, it streams from now on; one whose disk is behind what we probe for leaves us
    /// probing until it acknowledges. Old replies may arrive late, so a lower number says nothing.
    pub fn matched(&mut self, match_index: Index) {
        if match_index.next() >= self.next_index {
            self.mode = Mode::Stream; // the probe is answered: the logs agree before `next_index`
        }
        self.match_index = self.match_index.max(match_index);
        self.next_index = self.next_index.max(self.match_index.next());
        let frees = |last| last <= match_index || removed(Rule::OnlyMatchFreesTheWindow);
        while self.in_flight.front().is_some_and(|&(last, _)| frees(last)) {
            let (_, bytes) = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= bytes;
        }
    }

    /// A message was taken that tells how far entries are committed, of those up to its last one,
    /// and this round if an echo is wanted.
    pub fn told(&mut self, commit_index: Index, round: Round) {
        self.commit_sent = commit_index;
        if round > Round(0) {
            self.round_sent = round;
            self.echo_due = false;
            if let Mode::Probe { sent } = &mut self.mode {
                *sent = true;
            }
        }
    }

    /// The log was cut before `next_index`. A follower that is being probed may have more than we
    /// know: ask it about the first place that is left.
    pub fn probe_forward(&mut self, next_index: Index) {
        assert!(matches!(self.mode, Mode::Probe { .. }), "a stream is where it said it is");
        self.next_index = self.next_index.max(next_index);
        self.mode = Mode::Probe { sent: false };
    }

    /// Goes back to looking for agreement, with `next_index` first. What was under way is
    /// forgotten: it is either acknowledged later (then `matched` says so) or lost. That goes for
    /// what was told and asked, too: an answer can come and end the probe before it is sent.
    pub fn probe(&mut self, next_index: Index) {
        assert!(next_index > self.match_index, "what matches needs no probe");
        assert!(next_index <= self.next_index, "a probe goes back, never forward");
        self.next_index = next_index;
        self.mode = Mode::Probe { sent: false };
        if !removed(Rule::LostNewsIsToldAgain) {
            self.commit_sent = Index::ZERO;
            self.round_sent = self.round_echoed;
        }
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// A heartbeat is due. It also repeats a probe, or a part of a snapshot, that may have been
    /// lost: the follower says how far it is, and what it has is not taken twice.
    pub fn heartbeat(&mut self) {
        self.echo_due = true;
        match &mut self.mode {
            Mode::Probe { sent } => *sent = false,
            Mode::Snapshot(transfer) => transfer.ask = true,
            Mode::Stream => {}
        }
    }

    /// Bytes of entries under way.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }
}
