//! Replication at the leader (§5.3): what to send to each follower, what its replies mean, when an
//! entry is committed (§5.4.2), and when to give up (diss. §6.2).
//!
//! Sending is a question: "what would I tell this follower now?". Ten proposals made while its
//! socket was busy leave as one message, cost it one sync, and come back as one reply.

use std::collections::{BTreeMap, VecDeque};

use super::event::{Event, StepDownReason};
use super::message::{AppendEntries, AppendEntriesReply, Mismatch, Round};
use super::progress::{COMMITS_TOLD_MAX, Mode, Progress};
use super::read_index::PendingRead;
use super::transfer::Handover;
use super::types::{Command, Entry, EntryId, Index, Payload, ServerId, Stamp};
use super::{Raft, Refused, Role};
use crate::lab::{Rule, removed};

/// Volatile state on leaders (Figure 2), reinitialized after election.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// What we know about each follower: `nextIndex[]` and `matchIndex[]`.
    pub(super) progress: BTreeMap<ServerId, Progress>,
    /// The index of this term's no-op, its first entry. Before it is committed the leader does not
    /// know what is.
    pub(super) noop: Index,
    /// Ticks since the last heartbeat.
    heartbeat_elapsed_ticks: u32,
    /// The last round that was begun. Only a read begins a new one; heartbeats repeat it. It starts
    /// at 1, because 0 asks for no echo.
    pub(super) round: Round,
    /// Reads waiting for a round, in the order they arrived.
    pub(super) reads: VecDeque<PendingRead>,
    /// The highest round that a read was waiting for at the last tick.
    pub(super) round_wanted_at_tick: Round,
    /// For so many ticks there are many reads: one came while another was waiting.
    pub(super) many_reads_ticks_left: u32,
    /// Leadership is being handed over.
    pub(super) handover: Option<Handover>,
}

impl Leader {
    /// At the start of a term: `noop` is the index its no-op is about to get.
    pub(super) fn new(peers: impl Iterator<Item = ServerId>, noop: Index) -> Leader {
        Leader {
            progress: peers.map(|peer| (peer, Progress::new(noop))).collect(),
            noop,
            heartbeat_elapsed_ticks: 0,
            round: Round(1),
            reads: VecDeque::new(),
            round_wanted_at_tick: Round(0),
            many_reads_ticks_left: 0,
            handover: None,
        }
    }

    /// What was sent to `peer` may be lost: ask it where it stands. While it has not said yet, the
    /// place we were asking about is as good as before: `match_index` is only where we begin to
    /// know, and going back to it would send a follower the whole log.
    pub(super) fn probe_again(&mut self, peer: ServerId) {
        let Some(progress) = self.progress.get_mut(&peer) else { return };
        match progress.mode {
            Mode::Probe { .. } => progress.probe(progress.next_index),
            Mode::Stream => progress.probe(progress.match_index.next()),
            Mode::Snapshot(_) => progress.snapshot_resumes(),
        }
    }
}

impl Raft {
    /// [L1] Heartbeats, and the two ways in which a leader finds out that it is none.
    pub(super) fn tick_leader(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let heartbeat = self.ticks_until_heartbeat(leader) <= 1;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.heartbeat_elapsed_ticks += 1;
        if heartbeat {
            leader.heartbeat_elapsed_ticks = 0;
        }
        let ask_all = leader.tick_reads();
        for progress in leader.progress.values_mut() {
            progress.echo_due |= ask_all;
            progress.heard_ago_ticks = progress.heard_ago_ticks.saturating_add(1);
            if !removed(Rule::TicksTellTheCommit) {
                progress.commits_to_tell = COMMITS_TOLD_MAX;
            }
            if heartbeat {
                progress.heartbeat();
            }
        }
        self.tick_handover(heartbeat);
        let patience_ticks = self.options.election_max_ticks;
        if !self.hears_a_majority_within(patience_ticks) && !removed(Rule::LeaderNeedsAMajority) {
            self.step_down(StepDownReason::NoMajority);
        } else if self.disk_holds_up_a_majority() && !removed(Rule::HungDiskDoesNotLead) {
            self.step_down(StepDownReason::HungDisk);
        }
    }

    /// How many ticks it takes until the next heartbeat of `leader`, which we are, if nothing else
    /// happens; 0, too, means the next tick.
    pub(super) fn ticks_until_heartbeat(&self, leader: &Leader) -> u32 {
        let has_all = |progress: &Progress| {
            progress.mode == Mode::Stream && progress.match_index == self.log.last_index()
        };
        let is_at_rest = leader.reads.is_empty()
            && leader.handover.is_none()
            && leader.progress.values().all(has_all);
        let interval_ticks = match is_at_rest {
            true if removed(Rule::LeadersBeatAtRest) => u32::MAX,
            true => self.options.heartbeat_at_rest_ticks(),
            false => self.options.heartbeat_ticks,
        };
        interval_ticks.saturating_sub(leader.heartbeat_elapsed_ticks)
    }

    /// Check-quorum (diss. §6.2): a leader that no majority answers must not keep its clients
    /// waiting. It hears itself.
    pub(super) fn hears_a_majority_within(&self, ticks: u32) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.membership.has_majority(|server| {
            server == self.id || leader.progress[&server].heard_ago_ticks <= ticks
        })
    }

    /// Our oldest write has not been synced for an election timeout, *and* a majority without us is
    /// further: one of them would do better. If all disks are slow, stepping down helps
    /// nobody.
    fn disk_holds_up_a_majority(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.durable.write_age_ticks() > self.options.election_max_ticks
            && self.membership.has_majority(|server| {
                let further = leader.progress.get(&server).map(|it| it.match_index);
                further > Some(self.durable.index()) || removed(Rule::SlowDisksLead)
            })
    }

    /// What an entry that we append from now on is stamped with, if we lead; but never less than
    /// the entry before it.
    pub fn set_log_time(&mut self, now: Stamp) {
        self.log_time = now;
    }

    /// Appends a command to the leader's log [L2]. The caller answers its client when the state
    /// machine has applied the entry, and only if the entry applied at that index has the returned
    /// term.
    pub fn propose(&mut self, command: Command) -> Result<EntryId, Refused> {
        self.propose_payload(Payload::Command(command))
    }

    /// Appends an entry that carries nothing but its stamp, for what waits for a time.
    pub fn propose_time(&mut self) -> Result<EntryId, Refused> {
        self.propose_payload(Payload::Noop)
    }

    fn propose_payload(&mut self, payload: Payload) -> Result<EntryId, Refused> {
        if !matches!(self.role, Role::Leader(_)) {
            return Err(Refused::NotLeader { hint: self.leader() });
        }
        if self.is_handing_over() {
            return Err(Refused::Transferring);
        }
        let settled = self.commit_index.min(self.durable.index());
        let bytes = self.log.bytes_between(settled, self.log.last_index());
        let bounded = bytes > 0 && !removed(Rule::UncommittedIsBounded);
        if bounded && bytes + payload.len() as u64 > self.options.uncommitted_bytes_max as u64 {
            return Err(Refused::TooMuchUncommitted { bytes });
        }
        if !removed(Rule::RoomIsReserved) {
            self.check_room(payload.len())?;
        }
        let id = self.append_own(payload);
        self.check_invariants();
        Ok(id)
    }

    /// [L2] Appends an entry of our own term. It leaves for the disk and for the followers with
    /// their next takes. Its stamp is at least that of the entry before it.
    pub(super) fn append_own(&mut self, payload: Payload) -> EntryId {
        assert!(self.is_leader(), "only the leader creates entries");
        let id = EntryId::new(self.current_term, self.log.last_index().next());
        let stamp = match self.log.last_stamp() {
            last if last > self.log_time && !removed(Rule::StampsNeverFall) => last,
            _ => self.log_time,
        };
        self.log.append(Entry { id, stamp, payload });
        id
    }

    /// Whether there is something to tell this follower.
    pub(super) fn has_append_entries(&self, to: ServerId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let Some(progress) = leader.progress.get(&to) else { return false };
        self.wants_echo(leader, to) || self.owes_commit(progress) || self.room(progress).is_some()
    }

    /// [L3] What we would tell this follower now: entries within the window, the commit index, and
    /// a round if somebody waits for the echo. An empty message has `prev = next_index - 1`, what
    /// was sent last, so that the follower notices when that was lost.
    pub(super) fn take_append_entries(&mut self, to: ServerId) -> Option<AppendEntries> {
        if !self.has_append_entries(to) {
            return None;
        }
        let Role::Leader(leader) = &self.role else { return None };
        let progress = &leader.progress[&to];
        let echo = self.wants_echo(leader, to);
        let next = progress.next_index;
        // A follower that is being sent a snapshot is asked about no entry: with ZERO all agree.
        let mut prev = match progress.mode {
            Mode::Snapshot(_) => EntryId::ZERO,
            _ => self.log.id_at(next.previous()),
        };
        let entries = match self.room(progress) {
            Some(_) if removed(Rule::MessagesAreBounded) => self.log.slice(next, usize::MAX),
            Some(room) => self.log.slice(next, room.min(self.options.append_bytes_max)),
            None => Vec::new(),
        };
        if entries.is_empty() && removed(Rule::HeartbeatFollowsWhatWasSent) {
            prev = self.log.id_at(progress.match_index.max(self.log.base().index));
        }
        let Role::Leader(leader) = &mut self.role else { return None };
        // A round begins with the first message that is taken after a read arrived, not when it
        // arrived or was asked for: only then does an echo prove anything about the time since.
        if echo {
            leader.round = leader.round.max(leader.round_wanted());
        }
        let round = if echo { leader.round } else { Round(0) };
        let progress = leader.progress.get_mut(&to).expect("asked above");
        if let Some(last) = entries.last() {
            progress.sent(last.id.index, entries.iter().map(Entry::bytes).sum());
        } else if !echo {
            progress.commits_to_tell = progress.commits_to_tell.saturating_sub(1);
        }
        // The follower believes no more than that [AE5].
        progress.told(self.commit_index.min(prev.index.plus(entries.len() as u64)), round);
        let leader_commit = self.commit_index;
        Some(AppendEntries { term: self.current_term, prev, entries, leader_commit, round })
    }

    /// A follower has answered. Late and doubled answers are harmless: everything here only rises.
    pub(super) fn handle_append_entries_reply(
        &mut self,
        from: ServerId,
        reply: &AppendEntriesReply,
    ) {
        let current = reply.term == self.current_term;
        assert!(current || removed(Rule::StaleRepliesAreDropped), "step runs the term rules first");
        let last_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        assert!(
            reply.match_index <= last_index,
            "Log Matching: {from} vouches for entries that its leader does not have"
        );
        if reply.match_index > progress.match_index || !removed(Rule::EchoesAreHeard) {
            progress.heard_ago_ticks = 0;
        }
        progress.round_echoed = progress.round_echoed.max(reply.round);
        let matched = match reply.mismatch {
            None if removed(Rule::MatchIsWhatWasSaid) => progress.next_index.previous(),
            _ => reply.match_index,
        };
        progress.matched(matched);
        // The log went on meanwhile, and may have been cut behind the snapshot that it has now.
        let is_gone = progress.next_index <= self.log.base().index;
        if let Some(mismatch) = reply.mismatch {
            self.back_up(from, mismatch);
        }
        if is_gone {
            self.send_snapshots();
        }
        self.advance_commit_index(); // [L4]
        self.confirm_reads();
    }

    /// [L3] The follower's log does not match: look further back, a whole term at a time.
    ///
    /// A refusal at or below what is known to match was overtaken by the reply that told us so. One
    /// at or after `next_index` was overtaken by our own going back, because of an earlier refusal
    /// or of `link_renewed`: obeying its hint could lead forward, past entries that the follower
    /// does not have.
    fn back_up(&mut self, follower: ServerId, mismatch: Mismatch) {
        let Role::Leader(leader) = &mut self.role else { return };
        let progress = leader.progress.get_mut(&follower).expect("asked by the caller");
        let prev = mismatch.prev_index;
        let overtaken = prev <= progress.match_index || prev >= progress.next_index;
        if matches!(progress.mode, Mode::Snapshot(_)) {
            return; // it was about the log, and that is decided
        }
        if overtaken && !removed(Rule::OvertakenRefusalsAreIgnored) {
            return;
        }
        let agree_at_most = self.log.last_not_after(mismatch.hint).index.min(mismatch.hint.index);
        let next = agree_at_most.next().min(prev).max(progress.match_index.next());
        progress.probe(next);
        self.record(Event::Mismatched { follower, prev, next });
        self.send_snapshots(); // if the log does not reach back so far
    }

    /// [L4] The commit rule (§5.3, §5.4.2). An entry of *our* term that is on a majority of disks
    /// is committed, and with it all before it. An older one is not, however many copies it has: a
    /// server without it could still win an election and replace it (Figure 8).
    /// It is enough to look at the highest index that is on a majority: terms never fall along the
    /// log, so if that one is of an older term, all before it are too.
    pub(super) fn advance_commit_index(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let on_majority = self.membership.committed_index(|server| {
            // We send while we write (diss. §10.2.1), so we count ourselves like any follower: by
            // our disk.
            if server == self.id && removed(Rule::LeaderCountsItsDisk) {
                self.log.last_index()
            } else if server == self.id {
                self.durable.index()
            } else {
                leader.progress[&server].match_index
            }
        });
        let is_ours = self.log.term_at(on_majority) == Some(self.current_term)
            || removed(Rule::CommitOnlyOwnTerm);
        if on_majority > self.commit_index && is_ours {
            self.commit_up_to(on_majority);
            self.confirm_reads();
        }
    }

    /// Clients of this follower wait for the entry at `index`: if we lead, it is told at once what
    /// is committed, until it knows of that one.
    pub fn await_commit(&mut self, follower: ServerId, index: Index) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.progress.get_mut(&follower) {
            progress.commit_awaited = progress.commit_awaited.max(index);
        }
    }

    /// Whether the follower is to be told how far entries are committed, and nothing else: at once
    /// if its clients wait for one of them, else up to `COMMITS_TOLD_MAX` times in a tick. The rest
    /// goes with the next entries or the next tick: a message for each commit would cost a single
    /// writer a tenth of its writes.
    fn owes_commit(&self, progress: &Progress) -> bool {
        let is_awaited =
            progress.commit_sent < progress.commit_awaited && !removed(Rule::WhoWaitsIsToldAtOnce);
        self.commit_is_news(progress) && (is_awaited || progress.commits_to_tell > 0)
    }

    fn commit_is_news(&self, progress: &Progress) -> bool {
        let known_at_most = self.commit_index.min(progress.next_index.previous());
        progress.commit_sent < known_at_most && progress.mode == Mode::Stream
    }

    /// Whether a follower learns with the next tick how far entries are committed.
    pub(super) fn tick_tells_commit(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.progress.values().any(|it| self.commit_is_news(it) && it.commits_to_tell == 0)
    }

    /// Whether the follower should echo: heartbeats keep check-quorum alive, a probe wants an
    /// answer, and reads wait for their round. A message that only carries entries is answered when
    /// they are durable, and one that only carries a commit index not at all.
    fn wants_echo(&self, leader: &Leader, to: ServerId) -> bool {
        let progress = &leader.progress[&to];
        progress.echo_due
            || progress.mode == (Mode::Probe { sent: false })
            || self.reads_ask(leader, to)
    }

    /// How many bytes of entries this follower may be sent now; `None` if it may get none or there
    /// are none.
    fn room(&self, progress: &Progress) -> Option<usize> {
        if progress.mode != Mode::Stream || progress.next_index > self.log.last_index() {
            return None;
        }
        let next_bytes = self.log.bytes_at(progress.next_index);
        progress.room_bytes(next_bytes, self.options.window_bytes_max)
    }
}
