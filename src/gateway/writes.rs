//! Writes on their way to the leader.
//!
//! Each write gets a serial when it is started. A cursor separates those that have been handed to
//! the present leader from those that have not; starting again means moving the cursor back to the
//! oldest write that is not answered. The leader takes the parts of an attempt strictly in order
//! and nothing after a part that it refused, so the writes of one gateway enter a log in the order
//! of their serials.

use std::collections::BTreeMap;

use super::message::GatewayMessage;
use super::rising::Rising;
use super::{Answer, ClientId, Gateway, Slot};
use crate::kv::command::{Outcome, RequestId};
use crate::kv::encoding;
use crate::lab::{Rule, removed};
use crate::raft::types::{Command, ServerId};

/// The writes that a gateway has started and not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// The serial of the last write started.
    last_serial: u64,
    started: Rising<u64, PendingWrite>,
    /// Serials below it have been handed over in this attempt.
    cursor: u64,
    /// Counts how often everything was started again.
    attempt: u64,
    /// The number of the next message of this attempt.
    part: u64,
    /// The leader refused to take more; try again at this tick.
    paused_until: Option<u64>,
    /// What forwarding gateways have sent us in our role as leader.
    inboxes: BTreeMap<ServerId, Inbox>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PendingWrite {
    client: ClientId,
    slot: Slot,
    command: Command,
    /// It has left this gateway at least once: its fate is not ours to decide any more.
    handed_over: bool,
}

/// How far we have taken the attempts of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inbox {
    incarnation: u64,
    attempt: u64,
    next_part: u64,
    refused: bool,
    /// The highest serial that we have appended in this leadership of ours. Parts come in order, so
    /// everything below it that the gateway still waits for is in our log too.
    appended: u64,
}

impl Writes {
    /// Gives the command its request id and puts it in line.
    pub(super) fn start(
        &mut self,
        (server, incarnation): (ServerId, u64),
        client: ClientId,
        slot: Slot,
        mut command: Command,
    ) -> u64 {
        self.last_serial += 1;
        let serial = self.last_serial;
        let floor = self.started.first_key().unwrap_or(serial);
        let request = RequestId { server: server.0, incarnation, serial };
        encoding::stamp(&mut command.0, request, floor);
        let handed_over = false;
        self.started.push(serial, PendingWrite { client, slot, command, handed_over });
        serial
    }

    pub(super) fn finish(&mut self, serial: u64) {
        self.started.remove(serial);
    }

    pub(super) fn was_handed_over(&self, serial: u64) -> bool {
        self.started.get(serial).is_some_and(|write| write.handed_over)
    }

    pub(super) fn any_handed_over(&self) -> bool {
        self.started.first_key().is_some_and(|oldest| oldest < self.cursor)
    }

    pub(super) fn has_next(&self) -> bool {
        self.paused_until.is_none()
            && self.started.last_key().is_some_and(|newest| newest >= self.cursor)
    }

    /// The next message begins again with the oldest write.
    pub(super) fn start_attempt(&mut self) {
        self.cursor = 0;
        self.attempt += 1;
        self.part = 0;
        self.paused_until = None;
    }

    /// Leadership has changed hands. What a gateway sent us in an earlier leadership of ours may be
    /// lost with it, so nothing that would follow it is taken until the gateway starts again.
    pub(super) fn forget_inboxes(&mut self) {
        self.inboxes.clear();
    }

    pub(super) fn end_pause(&mut self, now: u64) {
        if self.paused_until.is_some_and(|until| now >= until) {
            if removed(Rule::RefusedStartsAgain) {
                self.paused_until = None;
                return;
            }
            self.start_attempt();
        }
    }

    /// The next command in line to be handed over.
    fn next(&self) -> Option<(u64, &Command)> {
        if self.paused_until.is_some() {
            return None;
        }
        let (serial, write) = self.started.first_from(self.cursor)?;
        Some((serial, &write.command))
    }

    /// The command that `next` named has been handed over.
    fn handed_over(&mut self, serial: u64) {
        assert!(serial >= self.cursor, "writes are handed over in the order of their serials");
        self.cursor = serial + 1;
        if let Some(write) = self.started.get_mut(serial) {
            write.handed_over = true;
        }
    }
}

impl Gateway {
    /// The next write to propose to our own core, if it leads. Follow with `proposed` if the core
    /// took it; otherwise the same one comes again next time.
    pub fn next_proposal(&self) -> Option<(u64, Command)> {
        if !self.leads() {
            return None;
        }
        self.writes.next().map(|(serial, command)| (serial, command.clone()))
    }

    /// Our core has appended the write.
    pub fn proposed(&mut self, serial: u64) {
        self.writes.handed_over(serial);
    }

    /// The state machine has applied an entry. `None` if it ignored it as a duplicate: then the
    /// first copy has been, or will never be, the answer.
    pub fn applied(&mut self, request: RequestId, outcome: Option<Outcome>) {
        let ours = request.server == self.id.0 && request.incarnation == self.incarnation;
        if !ours && !removed(Rule::AnswerNamesItsRequest) {
            return;
        }
        let Some(outcome) = outcome else { return };
        let Some(write) = self.writes.started.get(request.serial) else { return };
        let (client, slot) = (write.client, write.slot);
        self.progress_at = self.now;
        self.answer(client, slot, Answer::Done(outcome));
    }

    /// The state machine goes on from a snapshot, which holds the effects of entries that were not
    /// applied here. Of our writes that are among them nobody here knows the outcome; the others
    /// are still to come.
    pub fn restored(&mut self, was_seen: impl Fn(RequestId) -> bool) {
        let (server, incarnation) = (self.id.0, self.incarnation);
        let seen = self.writes.started.iter().filter(|(serial, _)| {
            was_seen(RequestId { server, incarnation, serial: *serial })
                && !removed(Rule::RestoredIsUnknown)
        });
        let seen: Vec<_> = seen.map(|(_, write)| (write.client, write.slot)).collect();
        for (client, slot) in seen {
            self.answer(client, slot, Answer::Unknown);
        }
    }

    /// Whether this is a write of ours that is not answered.
    pub fn waits_for(&self, request: RequestId) -> bool {
        (request.server, request.incarnation) == (self.id.0, self.incarnation)
            && self.writes.started.get(request.serial).is_some()
    }

    /// The next part of this attempt.
    pub(super) fn take_forward(&mut self) -> Option<GatewayMessage> {
        let mut commands = Vec::new();
        let mut bytes = 0;
        while let Some((serial, command)) = self.writes.next() {
            let len = command.len();
            if bytes + len > self.options.forward_bytes_max && !commands.is_empty() {
                break;
            }
            bytes += len;
            commands.push(command.clone());
            self.writes.handed_over(serial);
        }
        if commands.is_empty() {
            return None;
        }
        let part = self.writes.part;
        self.writes.part += 1;
        let (incarnation, attempt) = (self.incarnation, self.writes.attempt);
        Some(GatewayMessage::Forward { incarnation, attempt, part, commands })
    }

    /// Whether this part of a forward is the one we are waiting for. Anything else is late,
    /// doubled, or comes after one that was lost or refused; then its sender will start again.
    pub fn accepts_forward(
        &mut self,
        from: ServerId,
        incarnation: u64,
        attempt: u64,
        part: u64,
    ) -> bool {
        let mut fresh = Inbox { incarnation, attempt, next_part: 0, refused: false, appended: 0 };
        let inbox = self.writes.inboxes.entry(from).or_insert_with(|| fresh.clone());
        if (incarnation, attempt) > (inbox.incarnation, inbox.attempt) {
            if incarnation == inbox.incarnation && !removed(Rule::LeadershipTakesOnce) {
                fresh.appended = inbox.appended;
            }
            *inbox = fresh;
        }
        let current = (incarnation, attempt) == (inbox.incarnation, inbox.attempt);
        let in_line =
            part == inbox.next_part || (removed(Rule::PartsComeInOrder) && part > inbox.next_part);
        let refused = inbox.refused && !removed(Rule::RefusalEndsAttempt);
        let accepted = current && in_line && !refused;
        if accepted {
            inbox.next_part = part + 1;
        }
        accepted
    }

    /// Whether our log has this command of an accepted part already, from an earlier attempt in
    /// this leadership of ours. Without this question a gateway in doubt about a slow cluster would
    /// make it slower: each of its attempts would fill the log with what is waiting there already.
    pub fn has_appended(&self, from: ServerId, request: RequestId) -> bool {
        self.writes.inboxes.get(&from).is_some_and(|inbox| {
            inbox.incarnation == request.incarnation && request.serial <= inbox.appended
        })
    }

    /// Our core has appended a command of an accepted part.
    pub fn appended(&mut self, from: ServerId, request: RequestId) {
        if let Some(inbox) = self.writes.inboxes.get_mut(&from) {
            inbox.appended = inbox.appended.max(request.serial);
        }
    }

    /// Our core did not append all of a part: nothing later of this attempt may enter the log.
    pub fn refuse_forward(&mut self, to: ServerId, incarnation: u64, attempt: u64) {
        if let Some(inbox) = self.writes.inboxes.get_mut(&to) {
            inbox.refused = true;
        }
        self.reply(to, GatewayMessage::ForwardRefused { incarnation, attempt });
    }

    /// The leader did not take all of our attempt. That says nothing about the fate of the writes;
    /// they are handed over again a little later.
    pub fn handle_forward_refused(&mut self, from: ServerId, incarnation: u64, attempt: u64) {
        let ours = (incarnation, attempt) == (self.incarnation, self.writes.attempt);
        if ours && self.forwards_to(from) {
            self.writes.paused_until = Some(self.now + self.options.backoff_ticks);
        }
    }
}
