//! A witness of elections: it hears what a server was told and watches what the server makes of it.
//!
//! Most mistakes around clocks and consent lose no data; they cost an election now and then, or an
//! outage that looks like bad luck. So they are not looked for in what becomes of the cluster. The
//! witness stands beside one server, sees each message that reaches it, and holds what the server
//! does next against the rules that everybody can read in Figure 2:
//!
//! - who hears nobody for an election timeout stands up [F2], and who was reset does not before;
//! - a term is spent only with a majority's pre-votes, and led only with a majority's votes [C2];
//! - who is told a higher term adopts it [ALL2], and a pre-vote moves none (diss. §9.6);
//! - a leader has something to say to everybody as often as its heartbeats are due [L1];
//! - a leader gives up only for a reason: it is not answered, or its disk holds up the others;
//! - who is asked for an echo has something to say at once, and says nothing that it was not asked;
//! - what is committed is told in time: at once to whoever waits for it, and to all with a tick;
//! - a read asks everybody if those whom it asked first keep it waiting.

use super::checks::{Checked, ensure};
use super::leaders;
use super::queue::Place;
use super::world::id_of;
use crate::gateway::message::GatewayMessage;
use crate::kv::encoding;
use crate::raft::event::{Event, StepDownReason};
use crate::raft::message::{Message, PreVoteReply, Round};
use crate::raft::types::{Index, Payload, ServerId, Term};
use crate::raft::{Options, Raft, Role};

/// What has reached one server, in one of its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness {
    /// Ticks since its election clock may last have been reset.
    waited_ticks: u32,
    /// It has a reason to try sooner: its leader's connection ended, or others refused it.
    hurried: bool,
    /// It leads.
    leads: bool,
    /// Who would vote for it, in which term (a bit each).
    consents: (Term, u8),
    /// Who has voted for it.
    votes: (Term, u8),
    /// The term for which a leader has told it to stand.
    successor_in: Term,
    /// As leader: ticks since each peer's last answer.
    answered_ticks: [u32; 8],
    /// As leader, at its last tick: its write is overdue and a majority is further.
    disk_is_overdue: bool,
    /// The highest round that each peer has asked it to echo, in that peer's last term.
    asked: [(Term, Round); 8],
    /// As leader: ticks since each peer was last sent something.
    silent_ticks: [u32; 8],
    /// How far each peer was last told that entries are committed, and in which term.
    told: [(Term, Index); 8],
    /// As leader: the highest round that it has asked each peer to echo, and in which term.
    asks: [(Term, Round); 8],
    /// As leader, before its last tick: the round that its oldest read was waiting for.
    awaited: Option<(Term, Round)>,
    /// The same, if it was waiting for it before the tick before that, too.
    overdue: Option<(Term, Round)>,
    /// The last connection that each peer has opened to it.
    pub(super) newest: [u32; 8],
}

impl Witness {
    /// The server is about to tick.
    pub(super) fn before_tick(&mut self, raft: &Raft, options: &Options) -> Checked {
        let awaited = raft.round_awaited().map(|round| (raft.current_term(), round));
        self.overdue = awaited.filter(|_| awaited == self.awaited);
        self.awaited = awaited;
        ensure(
            raft.is_leader() || self.waited_ticks <= options.election_max_ticks,
            "Who hears nobody stands up",
            || format!("{} has waited for {} ticks", raft.id(), self.waited_ticks),
        )?;
        let waits_for_disk = matches!(raft.role(), Role::Candidate(_))
            && raft.durable().hard_state() != raft.hard_state();
        if raft.is_leader() {
            self.answered_ticks.iter_mut().for_each(|ticks| *ticks += 1);
            // In this tick the write becomes one tick older.
            self.disk_is_overdue = raft.durable().write_age_ticks() >= options.election_max_ticks
                && holds_up_a_majority(raft);
        } else if !waits_for_disk {
            self.waited_ticks += 1;
        }
        Ok(())
    }

    /// Messages from a peer are about to reach the server.
    pub(super) fn before_step(
        &mut self,
        raft: &Raft,
        from: Place,
        messages: &[Message],
        options: &Options,
    ) -> Told {
        let mut told = Told::default();
        for message in messages {
            if must_be_adopted(raft, message, messages, options) {
                told.term = told.term.max(message.term());
            }
            match message {
                Message::PreVoteReply(reply) if reply.granted => {
                    count(&mut self.consents, reply.term, from);
                }
                Message::PreVoteReply(reply) => {
                    let asks = matches!(raft.role(), Role::PreCandidate(_));
                    self.hurry(asks && reply.leader_heard);
                }
                Message::RequestVoteReply(reply) if reply.granted => {
                    count(&mut self.votes, reply.term, from);
                }
                Message::RequestVoteReply(_) => {
                    self.hurry(matches!(raft.role(), Role::Candidate(_)));
                }
                Message::AppendEntries(append) => {
                    let asked = &mut self.asked[usize::from(from)];
                    *asked = (*asked).max((append.term, append.round));
                    told.append = Some((append.term, append.round));
                    if append.term >= raft.current_term() {
                        self.reset();
                    }
                }
                Message::AppendEntriesReply(reply) if reply.term == raft.current_term() => {
                    self.answered_ticks[usize::from(from)] = 0;
                }
                Message::InstallSnapshot(part) if part.term >= raft.current_term() => self.reset(),
                Message::InstallSnapshotReply(reply) if reply.term == raft.current_term() => {
                    self.answered_ticks[usize::from(from)] = 0;
                }
                Message::TimeoutNow(request) if request.term >= raft.current_term() => {
                    self.successor_in = request.term.next();
                    told.append = None; // who stands up drops what it owed in the term before
                }
                Message::AppendEntriesReply(_)
                | Message::PreVote(_)
                | Message::RequestVote(_)
                | Message::InstallSnapshot(_)
                | Message::InstallSnapshotReply(_)
                | Message::TimeoutNow(_)
                | Message::TransferVote(_) => {}
            }
        }
        told
    }

    /// Something has happened inside the server.
    pub(super) fn saw(&mut self, event: &Event, raft: &Raft, options: &Options) -> Checked {
        let voters = raft.membership().servers().count();
        let id = raft.id();
        match event {
            Event::BecamePreCandidate { .. } => {
                let waited = self.waited_ticks;
                ensure(
                    self.hurried || voters == 1 || waited >= options.election_min_ticks,
                    "An election waits for its timeout",
                    || format!("{id} stands up after {waited} ticks"),
                )?;
                self.reset();
            }
            Event::BecameCandidate { term, .. } => {
                let consents = with(self.consents, *term, id.0);
                ensure(
                    consents > voters / 2 || self.successor_in == *term,
                    "A term is spent with a majority's pre-votes",
                    || format!("{id} stands for {term} with {consents} of {voters}"),
                )?;
                self.reset();
            }
            Event::BecameLeader { term, .. } => {
                let votes = with(self.votes, *term, id.0);
                ensure(votes > voters / 2, "A leader has a majority's votes", || {
                    format!("{id} leads {term} with {votes} of {voters}")
                })?;
                (self.leads, self.answered_ticks) = (true, [0; 8]);
                self.silent_ticks = [0; 8];
            }
            Event::BecameFollower { .. } if self.leads => {
                self.leads = false;
                self.reset();
            }
            Event::SteppedDown { reason, .. } => {
                self.leads = false;
                self.reset();
                self.check_reason(*reason, raft, options)?;
            }
            Event::Voted { .. } => self.reset(),
            Event::LostLeader { .. } => self.hurry(true),
            Event::Committed { index } if raft.is_leader() => {
                self.check_told(*index, raft, |peer| self.waits(raft, peer, *index))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_reason(&self, reason: StepDownReason, raft: &Raft, options: &Options) -> Checked {
        let (voters, id) = (raft.membership().servers().count(), raft.id());
        let others = (1..=voters as u32).filter(|other| *other != id.0);
        let answered = |other: &u32| self.answered_ticks[*other as usize - 1];
        let near = others.filter(|other| answered(other) <= options.election_max_ticks).count();
        let has_reason = match reason {
            StepDownReason::NoMajority => near < voters / 2,
            StepDownReason::HungDisk => self.disk_is_overdue,
        };
        ensure(has_reason, "A leader gives up only for a reason", || {
            format!("{id} steps down: {reason}; answered by {near} of {voters}")
        })
    }

    /// A message leaves for a peer.
    pub(super) fn leaves(&mut self, to: Place, message: &Message, raft: &Raft) -> Checked {
        let place = usize::from(to);
        match message {
            Message::AppendEntries(append) => {
                self.silent_ticks[place] = 0;
                let last = append.prev.index.plus(append.entries.len() as u64);
                self.told[place] = (append.term, append.leader_commit.min(last));
                self.asks[place] = self.asks[place].max((append.term, append.round));
                Ok(())
            }
            Message::AppendEntriesReply(reply) => {
                let (term, asked) = self.asked[place];
                let may = if term == reply.term { asked } else { Round(0) };
                ensure(reply.round <= may, "An echo answers its own term's round", || {
                    format!("{} echoes to n{}, which asked {may:?}: {reply:?}", raft.id(), to + 1)
                })
            }
            _ => Ok(()),
        }
    }

    /// Its connection to a peer is new: what was on the old one is lost.
    pub(super) fn link_renewed(&mut self, peer: Place) {
        let place = usize::from(peer);
        (self.told[place], self.asks[place]) = Default::default();
    }

    /// The server has ticked: everybody learns what is committed, and a read that has waited since
    /// the last tick asks everybody.
    pub(super) fn after_tick(&mut self, raft: &Raft, options: &Options) -> Checked {
        if raft.is_leader() {
            self.check_heartbeats(raft, options)?;
        }
        if let Some(round) = self.overdue.filter(|_| raft.is_leader()) {
            for peer in raft.membership().peers_of(raft.id()) {
                let asked = self.asks[peer.0 as usize - 1] >= round;
                let what = "A read waits for no single follower";
                ensure(asked || raft.has_messages(peer), what, || {
                    format!("{} waits for {round:?} and has not asked {peer}", raft.id())
                })?;
            }
        }
        if raft.is_leader() { self.check_told(raft.commit_index(), raft, |_| true) } else { Ok(()) }
    }

    /// Its followers' clocks are reset in time, more than once in an election timeout.
    fn check_heartbeats(&mut self, raft: &Raft, options: &Options) -> Checked {
        let silent_max = options.heartbeat_at_rest_ticks();
        for peer in raft.membership().peers_of(raft.id()) {
            let silent = &mut self.silent_ticks[peer.0 as usize - 1];
            *silent += 1;
            let is_heard = *silent < silent_max || raft.has_messages(peer);
            ensure(is_heard, "A leader is heard in time", || {
                format!("{} has sent nothing to {peer} for {silent} ticks", raft.id())
            })?;
        }
        Ok(())
    }

    /// This message leaves for the gateway at `to`: what it lets clients read can be read there.
    pub(super) fn answers(&self, to: Place, message: &GatewayMessage, raft: &Raft) -> Checked {
        match message {
            GatewayMessage::ReadAnswer { read_index, .. } if raft.is_leader() => {
                self.check_told(*read_index, raft, |peer| peer == id_of(to))
            }
            _ => Ok(()),
        }
    }

    /// Whether clients of a peer wait for an entry that it has not been told is committed: it has
    /// handed it to this leader.
    fn waits(&self, raft: &Raft, peer: ServerId, commit_index: Index) -> bool {
        let log = raft.log();
        let known = self.told[peer.0 as usize - 1].1.max(log.base().index);
        let mut news = (known.0 + 1..=commit_index.0).map(Index);
        news.any(|index| match log.payload_at(index) {
            Payload::Command(command) if log.term_at(index) == Some(raft.current_term()) => {
                encoding::request_id(&command.0).is_ok_and(|request| request.server == peer.0)
            }
            _ => false,
        })
    }

    /// Of the peers that are sent entries as they come, these know that everything up to here is
    /// committed, or are about to be told.
    fn check_told(
        &self,
        commit_index: Index,
        raft: &Raft,
        whom: impl Fn(ServerId) -> bool,
    ) -> Checked {
        for peer in raft.status().peers.iter().filter(|peer| peer.streaming && whom(peer.id)) {
            let told = self.told[peer.id.0 as usize - 1];
            // More than it has been sent it would not believe.
            let known = commit_index.min(peer.next_index.previous());
            let knows = told >= (raft.current_term(), known);
            ensure(knows || raft.has_messages(peer.id), "Commit is told in time", || {
                format!("{} has committed {commit_index} and told {} {told:?}", raft.id(), peer.id)
            })?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        (self.waited_ticks, self.hurried) = (0, false);
    }

    fn hurry(&mut self, reason: bool) {
        if reason {
            (self.waited_ticks, self.hurried) = (0, true);
        }
    }
}

/// Whether the receiver of this message, one of a batch, must adopt its term. Votes are withheld
/// while a leader is heard, and only then; pre-votes speak of a term to come.
fn must_be_adopted(raft: &Raft, message: &Message, batch: &[Message], options: &Options) -> bool {
    match message {
        Message::RequestVote(_) => batch.len() == 1 && !leaders::must_refuse(raft, batch, options),
        Message::PreVote(_) | Message::PreVoteReply(PreVoteReply { granted: true, .. }) => false,
        _ => true,
    }
}

/// What some messages have told a server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// The highest term that it must adopt.
    term: Term,
    /// Term and round of the last AppendEntries.
    append: Option<(Term, Round)>,
}

impl Told {
    /// The server has read them.
    pub(super) fn check(self, raft: &Raft, from: ServerId) -> Checked {
        let now = raft.current_term();
        ensure(now >= self.term, "Who is told a higher term adopts it", || {
            format!("{} is in {now} and was told {} by {from}", raft.id(), self.term)
        })?;
        let wants_answer = self.append.is_some_and(|(term, round)| round > Round(0) || term < now);
        ensure(!wants_answer || raft.has_messages(from), "An echo waits for nothing", || {
            format!("{} in {now} has no answer for {from}: {:?}", raft.id(), self.append)
        })
    }
}

fn count(counted: &mut (Term, u8), term: Term, from: Place) {
    if term > counted.0 {
        *counted = (term, 0);
    }
    if term == counted.0 {
        counted.1 |= 1 << from;
    }
}

/// How many have agreed in this term, with the server itself.
fn with((counted, who): (Term, u8), term: Term, id: u32) -> usize {
    let others = if counted == term { who & !(1 << (id - 1)) } else { 0 };
    others.count_ones() as usize + 1
}

fn holds_up_a_majority(leader: &Raft) -> bool {
    let (status, durable) = (leader.status(), leader.durable().index());
    let further = status.peers.iter().filter(|peer| peer.match_index > durable).count();
    further > status.peers.len().div_ceil(2)
}
