//! PURE. What a server owes its clients: pending requests, forwarding, re-sending, deadlines.
//!
//! Every server accepts every request. Its gateway gives each write a request id, hands it to the
//! leader (its own core, or another server's gateway), and answers the client when its *own* state
//! machine has applied it. Because the state machine remembers request ids, a gateway may hand over
//! everything again whenever it is in doubt: a change of leader is a pause for clients, not an
//! error.
//!
//! | file | what it teaches |
//! |---|---|
//! | `mod` | admission, order within a connection, answers and deadlines |
//! | `interface` | what a client asks and gets, and the bounds |
//! | `writes` | request ids, handing over to the leader, attempts, the leader's side of it |
//! | `reads` | questions for a read index, and when a read may be executed |
//! | `rising` | a map whose keys rise: what a connection is owed, the writes under way |
//! | `message` | what gateways say to each other |
//! | `space` | who has room on disk, and what is refused for want of it |
//!
//! # Three kinds of answer
//!
//! *Done*: executed, here is the outcome. *Refused*: certainly not executed and never will be,
//! because it never left this gateway. *Unknown*: it was handed over, and the deadline passed
//! before its fate was seen. A peer's refusal to take a forwarded request proves nothing about
//! earlier attempts, so it never becomes a refusal to the client: it only means "hand it over again
//! later".
//!
//! # Order within a connection
//!
//! A connection's requests take effect in the order they were sent: writes are handed over in that
//! order, a read is executed after the connection's earlier writes have been applied, and a write
//! is started after the connection's earlier reads have been answered.

mod interface;
pub mod message;
mod reads;
mod rising;
mod space;
mod writes;

use std::collections::{BTreeMap, VecDeque};

use crate::kv::command::Query;
use crate::lab::{Rule, removed};
use crate::raft::types::{ServerId, Term};

pub use self::interface::{Answer, Answered, ClientId, Options, Refusal, Request, Slot};
use self::message::GatewayMessage;
pub use self::reads::PendingRead;
use self::reads::Reads;
use self::rising::Rising;
use self::space::Spaces;
pub use self::space::{Level, Space};
use self::writes::Writes;

/// All that one server owes its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    id: ServerId,
    incarnation: u64,
    options: Options,
    /// Ticks since this server started.
    now: u64,
    /// The leader our core knows, and its term.
    leader: Option<(ServerId, Term)>,
    /// The last leader that was known.
    last_leader: Option<ServerId>,
    /// When the leader was lost (`now` at that time); meaningful while `leader` is `None`.
    leaderless_since: u64,
    /// A request has waited a whole deadline without a leader: later ones need not.
    gave_up: bool,
    stopping: bool,
    /// Those that have asked something and not hung up, or are owed something. Most are asked the
    /// next question soon after the last is answered, so they stay in between.
    connections: BTreeMap<ClientId, Connection>,
    /// How many requests are not answered.
    pending_requests: usize,
    /// Their bytes.
    pending_bytes: usize,
    writes: Writes,
    reads: Reads,
    spaces: Spaces,
    /// Messages for other gateways beside forwards and questions.
    replies: BTreeMap<ServerId, Vec<GatewayMessage>>,
    answers: Vec<Answered>,
    /// `now` when something was last completed, or when nothing was under way.
    progress_at: u64,
}

/// One client connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Connection {
    /// Accepted but not started, in order.
    queue: VecDeque<(Slot, Request)>,
    /// Everything accepted and not answered, by slot; deadlines rise with slots.
    outstanding: Rising<Slot, Outstanding>,
    /// Started and not answered.
    writes_started: usize,
    /// Started and not answered.
    reads_started: usize,
    /// Reads that could be executed but for an earlier write of this connection.
    blocked_reads: Vec<(Slot, Query)>,
    /// The client has hung up: nobody wants the answers.
    gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outstanding {
    accepted_at: u64,
    bytes: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In the connection's queue.
    Queued,
    /// A write with this serial.
    Write(u64),
    /// A read.
    Read,
}

impl Connection {
    /// A write waits for the reads before it to be answered. (A read waits for the writes before it
    /// when it is about to be executed.)
    fn may_start(&self, request: &Request) -> bool {
        let follows_reads = matches!(request, Request::Write(_)) && self.reads_started > 0;
        !follows_reads || removed(Rule::WriteFollowsReads)
    }
}

impl Gateway {
    /// The gateway of server `id` in its `incarnation`-th life, which no other life of it shares.
    pub fn new(id: ServerId, incarnation: u64, options: Options) -> Gateway {
        Gateway {
            id,
            incarnation,
            options,
            now: 0,
            leader: None,
            last_leader: None,
            leaderless_since: 0,
            gave_up: false,
            stopping: false,
            connections: BTreeMap::new(),
            pending_requests: 0,
            pending_bytes: 0,
            writes: Writes::default(),
            reads: Reads::default(),
            spaces: Spaces::default(),
            replies: BTreeMap::new(),
            answers: Vec::new(),
            progress_at: 0,
        }
    }

    // ---- Clients. ----

    /// A client's next request; its slots rise. If it cannot be accepted it is refused at once,
    /// before anything of it is done.
    pub fn submit(&mut self, client: ClientId, slot: Slot, request: Request) {
        let bytes = request.bytes();
        let needs_leader = matches!(request, Request::Write(_) | Request::Read(_));
        let refusal = self.refusal(bytes, needs_leader).or_else(|| self.no_space(&request));
        if let Some(refusal) = refusal {
            self.answers.push(Answered { client, slot, answer: Answer::Refused(refusal) });
            return;
        }
        self.pending_requests += 1;
        self.pending_bytes += bytes;
        let outstanding = Outstanding { accepted_at: self.now, bytes, stage: Stage::Queued };
        let connection = self.connections.entry(client).or_default();
        connection.outstanding.push(slot, outstanding);
        if connection.queue.is_empty() && connection.may_start(&request) {
            self.start(client, slot, request);
        } else {
            connection.queue.push_back((slot, request));
        }
    }

    /// The client has hung up. Writes that have been started go on; nobody is told how they end.
    /// Everything else is forgotten at once: clients that come, ask and go must not fill the bound
    /// for those who stay.
    pub fn hang_up(&mut self, client: ClientId) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        connection.gone = true;
        connection.queue.clear();
        connection.blocked_reads.clear();
        let is_write = |request: &Outstanding| matches!(request.stage, Stage::Write(_));
        let forgotten: Vec<(Slot, Stage)> = connection
            .outstanding
            .iter()
            .filter(|(_, request)| !is_write(request))
            .map(|(slot, request)| (slot, request.stage))
            .collect();
        for (slot, _) in &forgotten {
            self.settle(client, *slot);
        }
        if forgotten.iter().any(|(_, stage)| *stage == Stage::Read) {
            self.reads.retain(|read| read.client != client);
        }
        self.forget_if_done(client);
    }

    /// From now on every new request is refused: the server is stopping.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The answers that have become known since the last call.
    pub fn take_answers(&mut self) -> Vec<Answered> {
        // The next ones are about as many.
        let room = Vec::with_capacity(self.answers.len());
        std::mem::replace(&mut self.answers, room)
    }

    /// Whether `take_answers` has any.
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// How many bytes of requests are pending here, with what is kept about them. At most
    /// `Options::pending_bytes_max`.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// How many requests are pending here.
    pub fn pending_requests(&self) -> usize {
        self.pending_requests
    }

    // ---- Time and leaders. ----

    /// Time passes: deadlines, and doubts about what was handed over.
    pub fn tick(&mut self) {
        self.now += 1;
        self.reads.end_waits(self.now);
        self.expire_requests();
        self.tick_spaces();
        self.writes.end_pause(self.now);
        self.reads.end_pause(self.now);
        // What we handed to our own core cannot be lost on the way.
        let may_be_lost = self.writes.any_handed_over() || self.reads.any_asked();
        if self.leads() || !may_be_lost {
            self.progress_at = self.now;
        } else if self.now - self.progress_at >= self.options.resend_ticks {
            self.hand_over_again();
        }
    }

    /// Whether the next ticks change nothing: nobody waits for anything, and there is room.
    pub fn is_at_rest(&self) -> bool {
        self.pending_requests == 0 && self.all_have_room()
    }

    /// What our core knows about the leader. When it changes, everything outstanding is handed over
    /// again: the old leader may or may not have got it into its log.
    pub fn observe_leader(&mut self, leader: Option<ServerId>, term: Term) {
        let leader = leader.map(|leader| (leader, term));
        let same_server = leader.map(|it| it.0) == self.leader.map(|it| it.0);
        if leader == self.leader || (same_server && removed(Rule::LeadershipIsATerm)) {
            return;
        }
        if let Some((old, _)) = self.leader {
            self.last_leader = Some(old);
            self.leaderless_since = self.now;
        }
        self.leader = leader;
        if !removed(Rule::InboxEndsWithLeadership) {
            self.writes.forget_inboxes();
        }
        if leader.is_some() {
            self.gave_up = false;
            self.hand_over_again();
        }
    }

    /// A connection between us and `peer` is new: what was under way on the old one may be lost.
    pub fn link_renewed(&mut self, peer: ServerId) {
        if self.leader.is_some_and(|(leader, _)| leader == peer) {
            self.hand_over_again();
        }
    }

    /// Whether we are the leader ourselves.
    pub fn leads(&self) -> bool {
        self.leader.is_some_and(|(leader, _)| leader == self.id)
    }

    // ---- Other gateways. ----

    /// Whether `take_messages(to)` would return anything.
    pub fn has_messages(&self, to: ServerId) -> bool {
        self.replies.contains_key(&to)
            || (self.forwards_to(to) && self.writes.has_next())
            || (self.asks(to) && self.reads.has_open())
    }

    /// What we would tell `to`'s gateway now: replies, and if it is the leader, writes up to a
    /// bound in bytes and one question for all reads that wait for one.
    pub fn take_messages(&mut self, to: ServerId) -> Vec<GatewayMessage> {
        let mut messages = self.replies.remove(&to).unwrap_or_default();
        if self.asks(to) {
            messages.extend(self.take_question());
        }
        if self.forwards_to(to) {
            messages.extend(self.take_forward());
        }
        messages
    }

    // ---- Private steps. ----

    fn forwards_to(&self, to: ServerId) -> bool {
        !self.leads() && self.leader.is_some_and(|(leader, _)| leader == to)
    }

    /// Whether our questions go to `to`: only to the leader of our term, since a question is an
    /// echo, too (see [`crate::raft::read_index`]).
    fn asks(&self, to: ServerId) -> bool {
        match self.last_leader {
            Some(old) if old != self.id && removed(Rule::QuestionGoesToOurLeader) => old == to,
            _ => self.forwards_to(to),
        }
    }

    fn reply(&mut self, to: ServerId, message: GatewayMessage) {
        self.replies.entry(to).or_default().push(message);
    }

    /// Everything outstanding starts again, oldest first and before anything new.
    fn hand_over_again(&mut self) {
        self.progress_at = self.now;
        self.writes.start_attempt();
        self.reads.ask_again();
    }

    /// Why a request of this size is not accepted, if it is not.
    fn refusal(&self, bytes: usize, needs_leader: bool) -> Option<Refusal> {
        let limit_bytes = self.options.pending_bytes_max;
        if self.stopping {
            Some(Refusal::Stopping)
        } else if self.gave_up && needs_leader {
            Some(Refusal::NoLeader { last: self.last_leader })
        } else if self.pending_bytes + bytes > limit_bytes && !removed(Rule::PendingIsBounded) {
            Some(Refusal::TooMuchPending { limit_bytes })
        } else {
            None
        }
    }

    /// Starts the connection's queued requests as far as its order allows.
    fn start_requests(&mut self, client: ClientId) {
        while let Some(connection) = self.connections.get_mut(&client)
            && let Some((_, request)) = connection.queue.front()
            && connection.may_start(request)
            && let Some((slot, request)) = connection.queue.pop_front()
        {
            self.start(client, slot, request);
        }
    }

    /// Starts a request whose turn it is.
    fn start(&mut self, client: ClientId, slot: Slot, request: Request) {
        let connection = self.connections.get_mut(&client);
        let connection = connection.expect("who asks has a connection");
        let outstanding = connection.outstanding.get_mut(slot);
        let outstanding = outstanding.expect("only what is accepted is started");
        outstanding.stage = match request {
            Request::Write(command) => {
                let owner = (self.id, self.incarnation);
                Stage::Write(self.writes.start(owner, client, slot, command))
            }
            Request::Read(query) => {
                self.reads.start(client, slot, query);
                Stage::Read
            }
            Request::StaleRead(query) => {
                self.reads.start_stale(client, slot, query);
                Stage::Read
            }
            Request::Wait { index, ticks } => {
                // Half of the time is left to those who stand behind it.
                let latest = outstanding.accepted_at + self.options.deadline_ticks / 2;
                let until = self.now.saturating_add(ticks).min(latest).max(self.now);
                self.reads.start_wait(client, slot, index, until);
                Stage::Read
            }
        };
        match outstanding.stage {
            Stage::Write(_) => connection.writes_started += 1,
            Stage::Queued | Stage::Read => connection.reads_started += 1,
        }
    }

    /// A request is answered: its client is told, and what waited for it goes on.
    fn answer(&mut self, client: ClientId, slot: Slot, answer: Answer) {
        if self.settle(client, slot) {
            self.answers.push(Answered { client, slot, answer });
        }
        self.start_requests(client);
        self.forget_if_done(client);
    }

    /// Takes a request off the books. Returns whether somebody wants to know how it ended.
    fn settle(&mut self, client: ClientId, slot: Slot) -> bool {
        let Some(connection) = self.connections.get_mut(&client) else { return false };
        let Some(request) = connection.outstanding.remove(slot) else { return false };
        self.pending_requests -= 1;
        self.pending_bytes -= request.bytes;
        match request.stage {
            Stage::Queued => connection.queue.retain(|(queued, _)| *queued != slot),
            Stage::Write(serial) => {
                self.writes.finish(serial);
                connection.writes_started -= 1;
                if connection.writes_started == 0 {
                    let reads = std::mem::take(&mut connection.blocked_reads);
                    self.reads.release(client, reads);
                }
            }
            Stage::Read => {
                connection.reads_started -= 1;
                connection.blocked_reads.retain(|(blocked, _)| *blocked != slot);
            }
        }
        !connection.gone
    }

    /// A connection that is owed nothing holds little memory, and none when its client has gone.
    fn forget_if_done(&mut self, client: ClientId) {
        if let Some(connection) = self.connections.get_mut(&client)
            && connection.outstanding.is_empty()
        {
            connection.queue.shrink_to(rising::ROOM_KEPT);
            if connection.gone {
                self.connections.remove(&client);
            }
        }
    }

    /// Answers every request that has waited for a whole deadline.
    fn expire_requests(&mut self) {
        let Some(accepted_before) = self.now.checked_sub(self.options.deadline_ticks) else {
            return;
        };
        let mut due: Vec<(ClientId, Slot, u64)> = Vec::new();
        for (&client, connection) in &self.connections {
            // Deadlines rise with slots, so usually the first one says that there is nothing to do.
            let waited =
                |(_, request): &(Slot, &Outstanding)| request.accepted_at <= accepted_before;
            let expired = connection.outstanding.iter().take_while(waited);
            due.extend(expired.map(|(slot, request)| (client, slot, request.accepted_at)));
        }
        if due.is_empty() {
            return;
        }
        for (client, slot, accepted_at) in due {
            let answer = self.verdict_at_deadline(client, slot, accepted_at);
            self.answer(client, slot, answer);
        }
        let connections = &self.connections;
        self.reads.retain(|read| {
            let connection = connections.get(&read.client);
            connection.is_some_and(|connection| connection.outstanding.get(read.slot).is_some())
        });
    }

    /// What may be said about a request at its deadline. Only what never left this server may be
    /// refused.
    fn verdict_at_deadline(&mut self, client: ClientId, slot: Slot, accepted_at: u64) -> Answer {
        let stage = self.connections[&client].outstanding.get(slot).map(|request| request.stage);
        let no_leader = self.leader.is_none();
        if no_leader && self.leaderless_since <= accepted_at {
            self.gave_up = true;
        }
        match stage {
            Some(Stage::Write(serial))
                if self.writes.was_handed_over(serial) && !removed(Rule::HandedOverIsUnknown) =>
            {
                Answer::Unknown
            }
            _ if no_leader => Answer::Refused(Refusal::NoLeader { last: self.last_leader }),
            _ => Answer::Refused(Refusal::NotInTime),
        }
    }
}
