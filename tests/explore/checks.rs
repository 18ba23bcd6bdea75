//! What must be true in every state (Figure 3), and what must be remembered to tell.
//!
//! Each server asserts its own invariants while it runs; here are those that need all of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use raft_server::raft::types::{Entry, Index, ServerId, Term};

use crate::render;
use crate::world::{Question, Server, World, id};

/// What has happened that a later state may contradict. It is part of the state: two worlds that
/// differ only here may differ in what is still allowed.
#[derive(Clone, Default, Hash)]
pub struct History {
    /// Who was seen leading each term.
    leaders: BTreeMap<Term, ServerId>,
    /// The committed entries from index 1, each with the term in which it was committed.
    committed: Vec<(Entry, Term)>,
}

impl History {
    /// How many entries are committed.
    pub fn committed(&self) -> usize {
        self.committed.len()
    }
}

impl World {
    /// Checks the world after something happened to the server at `changed`, which applied these
    /// entries. Tells which property is broken, and how.
    pub fn check(&mut self, changed: usize, applied: &[Entry]) -> Result<(), String> {
        self.check_election_safety(changed)?;
        self.check_state_machine_safety(changed, applied)?;
        self.check_leader_completeness()?;
        self.check_log_matching(changed)?;
        self.check_durability()?;
        self.check_linearizability()
    }

    /// At most one leader can be elected in a given term (§5.2).
    fn check_election_safety(&mut self, changed: usize) -> Result<(), String> {
        let raft = &self.servers[changed].raft;
        let (term, server) = (raft.current_term(), raft.id());
        if !raft.is_leader() || self.history.leaders.get(&term) == Some(&server) {
            return Ok(());
        }
        match Rc::make_mut(&mut self.history).leaders.insert(term, server) {
            None => Ok(()),
            Some(other) => Err(format!("Election Safety: {other} and {server} both led {term}")),
        }
    }

    /// If a server has applied an entry at an index, no other server will ever apply a different
    /// one there (§5.4.3). A restarted server applies from the first entry again.
    fn check_state_machine_safety(
        &mut self,
        changed: usize,
        applied: &[Entry],
    ) -> Result<(), String> {
        let raft = &self.servers[changed].raft;
        let (term, server) = (raft.current_term(), raft.id());
        for entry in applied {
            let before = entry.id.index.previous().0 as usize;
            match self.history.committed.get(before) {
                Some((other, _)) if other == entry => {}
                Some((other, _)) => {
                    let (entry, other) = (render::entry(entry), render::entry(other));
                    return Err(format!(
                        "State Machine Safety: {server} applied {entry} where {other} was applied"
                    ));
                }
                None => Rc::make_mut(&mut self.history).committed.push((entry.clone(), term)),
            }
        }
        Ok(())
    }

    /// What is committed in a term is in the logs of the leaders of all later terms (§5.4). A
    /// leader that has not heard that its term is over may lack what was committed since.
    fn check_leader_completeness(&self) -> Result<(), String> {
        for Server { raft, .. } in
            self.servers.iter().map(Rc::as_ref).filter(|s| s.raft.is_leader())
        {
            let leads = raft.current_term();
            for (entry, committed_in) in &self.history.committed {
                if *committed_in <= leads
                    && raft.log().term_at(entry.id.index) != Some(entry.id.term)
                {
                    let (leader, entry) = (raft.id(), render::entry(entry));
                    return Err(format!(
                        "Leader Completeness: {leader} leads {leads} without {entry}, committed in \
                         {committed_in}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// If two logs hold an entry with the same index and term, they agree up to it (§5.3).
    fn check_log_matching(&self, changed: usize) -> Result<(), String> {
        let log = self.servers[changed].raft.log();
        for other in (0..self.servers.len()).filter(|&other| other != changed) {
            let other_log = self.servers[other].raft.log();
            let shorter = log.last_index().min(other_log.last_index());
            let same_term =
                |&index: &u64| log.term_at(Index(index)) == other_log.term_at(Index(index));
            let Some(agreed) = (1..=shorter.0).rev().find(same_term) else { continue };
            let up_to = |log: &raft_server::raft::log::Log| {
                log.slice_up_to(Index(1), Index(agreed), usize::MAX)
            };
            if up_to(log) != up_to(other_log) {
                let (one, two) = (id(changed as u8), id(other as u8));
                return Err(format!(
                    "Log Matching: {one} and {two} agree on the term of entry {agreed}, but not on \
                     all up to it"
                ));
            }
        }
        Ok(())
    }

    /// What is committed survives a crash of all servers at once: a majority has it on disk. (What
    /// is in memory, or given to the disk and not synced, does not count.)
    fn check_durability(&self) -> Result<(), String> {
        for (entry, _) in &self.history.committed {
            let holders = self.servers.iter().filter(|server| server.disk.holds(entry)).count();
            if holders <= self.servers.len() / 2 {
                let entry = render::entry(entry);
                return Err(format!("Durability: {entry} is committed and on {holders} disks"));
            }
        }
        Ok(())
    }

    /// A read sees all that was committed when it began (§8): its read index covers it.
    fn check_linearizability(&self) -> Result<(), String> {
        for (Question { from, to, committed, .. }, index) in &self.answered {
            if index.0 < *committed as u64 {
                return Err(format!(
                    "Linearizability: {to} tells {from} to read at {index}, and {committed} were \
                     committed when it asked"
                ));
            }
        }
        Ok(())
    }
}
