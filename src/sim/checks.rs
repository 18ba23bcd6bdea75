//! What must be true after every step: Figure 3 of the paper, and the promises that the figure
//! rests on.
//!
//! Checking a property by its definition would compare all logs after every step. Each check here
//! looks only at what the step changed, and argues by induction that the rest still holds:
//!
//! - **Log Matching.** A registry remembers every entry that was ever in any log, with the entry
//!   before it. An entry that enters a log must be the registered one and follow the registered
//!   one. So two logs with an entry in common have the one before it in common, and so on down.
//! - **Leader Completeness.** A new leader's log is asked for the *last* entry committed in an
//!   earlier term; Log Matching vouches for those before it.
//! - **State Machine Safety.** The first server that commits an index writes it down; the others
//!   compare. The last newly committed entry must be on a majority of disks.
//!
//! A server's promises are compared with its disk when they *leave*: a crash in the next moment
//! would leave nothing else.

use std::collections::HashMap;

use super::disk::Image;
use super::queue::Place;
use crate::gateway::Gateway;
use crate::kv::StateMachine;
use crate::kv::command::RequestId;
use crate::kv::encoding;
use crate::raft::message::Message;
use crate::raft::types::{Entry, EntryId, HardState, Index, Payload, Term};
use crate::raft::{Raft, Recovered};

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: that of the paper, or ours.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

/// The result of a check.
pub type Checked = Result<(), Violation>;

/// Fails with this property and detail unless `holds`.
pub fn ensure(holds: bool, property: &'static str, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { property, detail: detail() }) }
}

/// What has been seen of the whole cluster so far.
#[derive(Debug)]
pub struct Checks {
    servers: usize,
    /// Who led each term, in which life.
    leaders: HashMap<Term, (Place, u32)>,
    /// Every entry that was ever in a log, with the one before it, by index.
    registry: Vec<Vec<(Entry, EntryId)>>,
    /// Every committed entry, with the term of the leader that committed it.
    committed: Vec<(EntryId, Term)>,
    /// At which step each of them was first seen to be committed.
    committed_at: Vec<u64>,
    /// The state machine's hash at an index, if some server has stopped there.
    hashes: Vec<Option<u64>>,
    /// Every entry that carried this request in any log: a gateway in doubt sends it again.
    carriers: HashMap<RequestId, Vec<EntryId>>,
    /// The index at which each request was executed.
    executed: HashMap<RequestId, u64>,
    /// What was true of each server after its last step.
    seen: Vec<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    hard_state: HardState,
    commit_index: Index,
    last_applied: Index,
    leads: bool,
    /// The terms of its log; before `base` those of the committed entries.
    log: Vec<Term>,
    /// Where its log begins.
    base: usize,
}

impl Checks {
    /// Before the first step.
    pub fn new(servers: usize) -> Checks {
        Checks {
            servers,
            leaders: HashMap::new(),
            registry: Vec::new(),
            committed: Vec::new(),
            committed_at: Vec::new(),
            hashes: Vec::new(),
            carriers: HashMap::new(),
            executed: HashMap::new(),
            seen: vec![Seen::default(); servers],
        }
    }

    /// The entries that are committed.
    pub fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// The committed entries, in order.
    pub fn committed(&self) -> impl Iterator<Item = &Entry> {
        self.committed.iter().map(|(id, _)| {
            let of_index = &self.registry[position(id.index)];
            let (entry, _) =
                of_index.iter().find(|(entry, _)| entry.id == *id).expect("it was in a log");
            entry
        })
    }

    /// At which step the entry at this index was first seen to be committed.
    pub fn committed_at(&self, index: Index) -> u64 {
        self.committed_at[position(index)]
    }

    /// Whether this request stands in a log.
    pub fn is_in_log(&self, raft: &Raft, request: &RequestId) -> bool {
        let mut carriers = self.carriers.get(request).into_iter().flatten();
        carriers.any(|&id| raft.log().contains(id))
    }

    /// Where this request was executed.
    pub fn executed_at(&self, request: &RequestId) -> Option<u64> {
        self.executed.get(request).copied()
    }

    /// A server has read its disk.
    pub fn recovered(&mut self, place: Place, image: &Image, found: &Recovered) -> Checked {
        let now = Image::of(found);
        let (then, name) = (image.hard_state, place + 1);
        ensure(found.hard_state.current_term >= then.current_term, "Durability", || {
            format!(
                "n{name} forgot {}: recovered {}",
                then.current_term, found.hard_state.current_term
            )
        })?;
        let same_term = found.hard_state.current_term == then.current_term;
        let vote_kept = then.voted_for.is_none() || found.hard_state.voted_for == then.voted_for;
        ensure(!same_term || vote_kept, "Durability", || {
            format!("n{name} forgot its vote in {}", then.current_term)
        })?;
        if let Some(last) =
            self.committed.iter().rev().map(|(id, _)| *id).find(|id| image.holds(*id))
        {
            ensure(now.holds(last), "Durability", || {
                format!("n{name} forgot the committed entry {last}, which was synced")
            })?;
        }
        let seen = &mut self.seen[usize::from(place)];
        *seen = Seen { hard_state: found.hard_state, ..Seen::default() };
        Ok(())
    }

    /// Something about this server may have changed.
    pub fn after_step(&mut self, place: Place, life: u32, raft: &Raft) -> Checked {
        self.check_numbers(place, raft)?;
        let leads = raft.is_leader();
        let led = self.seen[usize::from(place)].leads
            && self.seen[usize::from(place)].hard_state.current_term == raft.current_term();
        self.check_log(place, raft, led && leads)?;
        if leads && !led {
            self.check_new_leader(place, life, raft)?;
        }
        let seen = &mut self.seen[usize::from(place)];
        seen.leads = leads;
        seen.hard_state = raft.hard_state();
        Ok(())
    }

    fn check_numbers(&mut self, place: Place, raft: &Raft) -> Checked {
        let seen = &mut self.seen[usize::from(place)];
        let name = place + 1;
        let (before, now) = (seen.hard_state, raft.hard_state());
        ensure(now.current_term >= before.current_term, "Terms only rise", || {
            format!("n{name} went from {} to {}", before.current_term, now.current_term)
        })?;
        let changed_vote = now.current_term == before.current_term
            && before.voted_for.is_some()
            && now.voted_for != before.voted_for;
        ensure(!changed_vote, "Election Safety", || {
            format!("n{name} changed its vote in {}", now.current_term)
        })?;
        ensure(raft.commit_index() >= seen.commit_index, "Commit only rises", || {
            format!("n{name} went from {} to {}", seen.commit_index, raft.commit_index())
        })?;
        ensure(raft.last_applied() >= seen.last_applied, "Applied only rises", || {
            format!("n{name} went from {} to {}", seen.last_applied, raft.last_applied())
        })?;
        ensure(raft.last_applied() <= raft.commit_index(), "Only committed is applied", || {
            format!("n{name} applied {} of {}", raft.last_applied(), raft.commit_index())
        })?;
        seen.last_applied = raft.last_applied();
        Ok(())
    }

    /// Compares the log with what it was, from its end backwards as far as they differ.
    fn check_log(&mut self, place: Place, raft: &Raft, still_leads: bool) -> Checked {
        let seen = &mut self.seen[usize::from(place)];
        let last = raft.log().last();
        let end = last.index.0 as usize;
        let base_is_seen = raft.log().base().index.0 as usize <= seen.base;
        if base_is_seen && seen.log.len() == end && (end == 0 || seen.log[end - 1] == last.term) {
            return Ok(());
        }
        let base = raft.log().base();
        let before_base = base.index.0 as usize;
        if seen.base < before_base {
            // What a snapshot covers is committed, so it is known here, and no log need show it.
            let known = self.committed.get(before_base - 1).map(|(id, _)| *id);
            ensure(known == Some(base), "A snapshot holds what is committed", || {
                format!("n{} begins its log behind {base}; committed is {known:?}", place + 1)
            })?;
            let is_kept = seen.log.get(before_base - 1) == Some(&base.term);
            let cut = if is_kept { seen.log.len() } else { 0 };
            seen.log.truncate(cut);
            let terms = self.committed[..before_base].iter().map(|(id, _)| id.term);
            seen.log.splice(..before_base.min(seen.log.len()), terms);
            seen.base = before_base;
        }
        let mut agreed = seen.log.len().min(end);
        while agreed > before_base
            && raft.log().term_at(Index(agreed as u64)) != Some(seen.log[agreed - 1])
        {
            agreed -= 1;
        }
        ensure(!still_leads || agreed == seen.log.len(), "Leader Append-Only", || {
            format!("n{} changed its own log after {agreed} while it led", place + 1)
        })?;
        ensure(agreed as u64 >= seen.commit_index.0, "Leader Completeness", || {
            format!("n{} cut its log to {agreed}; committed is {}", place + 1, seen.commit_index)
        })?;
        seen.log.truncate(agreed);
        while self.registry.len() < end {
            self.registry.push(Vec::new());
        }
        let mut before = raft.log().id_at(Index(agreed as u64));
        let added = raft.log().slice(Index(agreed as u64 + 1), usize::MAX);
        for entry in if end > agreed { added } else { Vec::new() } {
            let id = entry.id;
            seen.log.push(id.term);
            let of_index = &mut self.registry[position(id.index)];
            match of_index.iter().find(|(known, _)| known.id == id) {
                None => {
                    check_carrier(&mut self.carriers, &entry)?;
                    of_index.push((entry, before));
                }
                Some((known, known_before)) => {
                    ensure(*known == entry && *known_before == before, "Log Matching", || {
                        format!(
                            "n{}: {id} after {before}; elsewhere after {known_before}",
                            place + 1
                        )
                    })?;
                }
            }
            before = id;
        }
        Ok(())
    }

    fn check_new_leader(&mut self, place: Place, life: u32, raft: &Raft) -> Checked {
        let term = raft.current_term();
        let (leader, _) = *self.leaders.entry(term).or_insert((place, life));
        ensure(self.leaders[&term] == (place, life), "Election Safety", || {
            format!("n{} and n{} lead {term}", leader + 1, place + 1)
        })?;
        let earlier = self.committed.partition_point(|(_, by)| *by < term);
        let Some((last, by)) = earlier.checked_sub(1).map(|at| self.committed[at]) else {
            return Ok(());
        };
        ensure(raft.log().contains(last), "Leader Completeness", || {
            format!("n{} leads {term} without {last}, committed in {by}", place + 1)
        })
    }

    /// Whether this server's commit index has moved since the last time.
    pub fn has_committed(&self, place: Place, raft: &Raft) -> bool {
        raft.commit_index() > self.seen[usize::from(place)].commit_index
    }

    /// The server's commit index has moved. `holds` tells whether an entry is on a server's disk.
    pub fn after_commit(
        &mut self,
        (place, step): (Place, u64),
        raft: &Raft,
        on_disks: impl Fn(EntryId) -> usize,
    ) -> Checked {
        let from = self.seen[usize::from(place)].commit_index;
        let to = raft.commit_index();
        let news = to.0 as usize > self.committed.len();
        // What came with a snapshot was committed elsewhere.
        let base = raft.log().base().index;
        ensure(
            base.0 as usize <= self.committed.len(),
            "A snapshot holds what is committed",
            || format!("n{} begins its log behind {base}", place + 1),
        )?;
        for index in from.max(base).0 + 1..=to.0 {
            let id = raft.log().id_at(Index(index));
            match self.committed.get(index as usize - 1) {
                None => {
                    self.committed.push((id, raft.current_term()));
                    self.committed_at.push(step);
                }
                Some((known, by)) => {
                    ensure(*known == id, "State Machine Safety", || {
                        format!("n{} commits {id}; {known} was committed in {by}", place + 1)
                    })?;
                }
            }
        }
        if news {
            let id = raft.log().id_at(to);
            let copies = on_disks(id);
            ensure(copies > self.servers / 2, "Committed is on a majority of disks", || {
                format!(
                    "n{} commits {id}, which {copies} of {} disks hold",
                    place + 1,
                    self.servers
                )
            })?;
        }
        self.seen[usize::from(place)].commit_index = to;
        Ok(())
    }

    /// A message leaves: what it promises must be on its sender's disk.
    pub fn promise(&self, raft: &Raft, to: Place, message: &Message, image: &Image) -> Checked {
        let disk = image.hard_state;
        let (id, term) = (raft.id(), message.term());
        match message {
            Message::RequestVoteReply(reply) if reply.granted => {
                let voted = disk.voted_for.is_some_and(|vote| vote.0 == u32::from(to) + 1);
                ensure(disk.current_term == term && voted, "A told vote is on disk", || {
                    format!("{id} tells n{} its vote in {term}; its disk has {disk:?}", to + 1)
                })
            }
            Message::RequestVote(_) => {
                let voted = disk.voted_for == Some(id);
                ensure(disk.current_term == term && voted, "A told vote is on disk", || {
                    format!("{id} asks for votes in {term}; its disk has {disk:?}")
                })
            }
            Message::AppendEntriesReply(reply) if reply.match_index > Index::ZERO => {
                // What a snapshot covers is on disk with it.
                let matched = raft.log().id_at(reply.match_index.max(raft.log().base().index));
                ensure(
                    disk.current_term == term && image.holds(matched),
                    "An acknowledged entry is on disk",
                    || format!("{id} acknowledges {matched} in {term}; disk: {:?}", image.last()),
                )
            }
            _ => Ok(()),
        }
    }

    /// A command in the log was applied at `index`.
    pub fn applied(&mut self, place: Place, index: u64, request: RequestId, new: bool) -> Checked {
        if !new {
            return Ok(());
        }
        let first = *self.executed.entry(request).or_insert(index);
        ensure(first == index, "No request is executed twice", || {
            format!("n{} executes {request:?} at {index} and at {first}", place + 1)
        })
    }

    /// A state was replaced by a snapshot's, up to this index: what it executed of this gateway's
    /// writes will not be applied here, so none of them may go on waiting.
    pub fn after_restore(&self, place: Place, gateway: &Gateway, index: u64) -> Checked {
        let mut executed = self.executed.iter().filter(|(_, at)| **at <= index);
        let waits = executed.find(|(request, _)| gateway.waits_for(**request));
        ensure(waits.is_none(), "A write that came with a snapshot is answered", || {
            format!(
                "n{} has gone on from a snapshot at {index}, and waits for {waits:?}",
                place + 1
            )
        })
    }

    /// A state machine has stopped at an index. Equal logs make equal states.
    pub fn state(&mut self, place: Place, machine: &StateMachine) -> Checked {
        let index = machine.applied_index();
        let at = index as usize;
        if self.hashes.len() <= at {
            self.hashes.resize(at + 1, None);
        }
        let hash = machine.state_hash();
        let first = *self.hashes[at].get_or_insert(hash);
        ensure(first == hash, "State Machine Safety", || {
            format!("n{} has another state at {index} than another server", place + 1)
        })
    }
}

/// A new entry is in a log. Other leaderships may have the same request, but no other entry of this
/// one.
fn check_carrier(carriers: &mut HashMap<RequestId, Vec<EntryId>>, entry: &Entry) -> Checked {
    let Payload::Command(command) = &entry.payload else { return Ok(()) };
    let Ok(request) = encoding::request_id(&command.0) else { return Ok(()) };
    let others = carriers.entry(request).or_default();
    let first = others.iter().all(|other| other.term != entry.id.term);
    ensure(first, "A leadership takes a request once", || {
        format!("{request:?} stands in {others:?} and in {}", entry.id)
    })?;
    others.push(entry.id);
    Ok(())
}

fn position(index: Index) -> usize {
    usize::try_from(index.0 - 1).expect("a log in memory is shorter than the address space")
}
