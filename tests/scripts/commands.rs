//! The commands of a script.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster 5` | begins with this many new servers (without it, three) |
//! | `one-entry-a-message` | said first: no AppendEntries carries more |
//! | `log 2  1 1 4  term 5` | server 2 comes with a log of entries of these terms, in term 5 |
//! | `timeout 1` | server 1's clock runs until its election timeout, the others' stand still |
//! | `tick 10 2 3` | ten ticks at servers 2 and 3 |
//! | `wait 10 2 3` | the same, told by events only |
//! | `deliver 1->2` | what is on this wire arrives; `deliver 1->2 first` only the first message |
//! | `deliver all` | everything arrives, and what is sent because of it, until no wire is busy |
//! | `settle` | as `deliver all`, told by events only |
//! | `drop 1->2` | what is on this wire is lost; `drop all` on all wires |
//! | `copy 1->2`, `repeat 1->2` | sets aside a copy of what is on this wire; puts it there again |
//! | `elect 1` | `timeout 1` and `settle`, told by the events of server 1 only |
//! | `propose 1 x` | a client's command arrives at server 1; somebody at each server waits for it |
//! | `read 1` | a client's question arrives at server 1 |
//! | `snapshot 1` | server 1 takes a snapshot, and forgets the log before it |
//! | `transfer 1 2` | server 1 is told to hand leadership over to server 2 |
//! | `slow 2` | from now on server 2's disk works only when told to |
//! | `write 2`, `sync 2` | the slow disk takes what is to be written; it is synced |
//! | `write 2 first` | of the entries it takes only one |
//! | `crash 1`, `restart 1` | the process dies, its connections close; it comes back |
//! | `partition 1 2 \| 3` | nothing passes between these groups any more, and nobody is told |
//! | `heal` | everything passes again |
//! | `state` | all servers, a line each |

use raft_server::raft::types::{Command, ServerId, Term};

use crate::cluster::{Cluster, Wire};
use crate::render;

/// Executes one command; returns what happened, a line each.
pub fn execute(cluster: &mut Cluster, line: &str) -> Result<Vec<String>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["cluster", servers] => *cluster = Cluster::new(number(servers)?),
        ["one-entry-a-message"] => cluster.one_entry_a_message(),
        ["log", id, terms @ .., "term", current] => {
            let terms = terms.iter().map(|term| number(term)).collect::<Result<Vec<u64>, _>>()?;
            cluster.set_past(server(id)?, &terms, Term(number(current)?));
        }
        ["timeout", id] => time_out(cluster, server(id)?)?,
        ["tick", count, ids @ ..] => tick(cluster, number(count)?, &servers(ids)?)?,
        ["wait", count, ids @ ..] => {
            cluster.events_only = true;
            tick(cluster, number(count)?, &servers(ids)?)?;
            cluster.events_only = false;
        }
        ["deliver", "all"] => deliver_all(cluster)?,
        ["settle"] => settle(cluster)?,
        ["elect", id] => {
            cluster.events_only = true;
            time_out(cluster, server(id)?)?;
            settle(cluster)?;
            let its_own = format!("n{id}  ");
            let happened = cluster.take_happened().into_iter();
            happened.filter(|line| line.starts_with(&its_own)).for_each(|line| cluster.tell(line));
        }
        ["copy", on] => cluster.copy(wire(on)?),
        ["repeat", on] => cluster.put_copies(wire(on)?)?,
        ["deliver", on] => cluster.deliver(wire(on)?, usize::MAX)?,
        ["deliver", on, "first"] => cluster.deliver(wire(on)?, 1)?,
        ["drop", "all"] => {
            for wire in cluster.busy_wires() {
                cluster.take_wire(wire, usize::MAX)?;
            }
        }
        ["drop", on] => drop(cluster.take_wire(wire(on)?, usize::MAX)?),
        ["propose", id, command] => propose(cluster, server(id)?, command)?,
        ["read", id] => cluster.read(server(id)?)?,
        ["snapshot", id] => cluster.raft(server(id)?)?.request_snapshot(),
        ["transfer", id, to] => {
            let to = server(to)?;
            if let Err(refused) = cluster.raft(server(id)?)?.transfer_leadership(Some(to)) {
                cluster.tell(format!("n{id}  refuses to hand over to {to}: {refused}"));
            }
        }
        ["slow", id] => cluster.slow_disk(server(id)?),
        ["write", id] => cluster.begin_write(server(id)?, usize::MAX)?,
        ["write", id, "first"] => cluster.begin_write(server(id)?, 0)?,
        ["sync", id] => cluster.end_write(server(id)?)?,
        ["crash", id] => cluster.crash(server(id)?),
        ["restart", id] => cluster.start(server(id)?),
        ["partition", ..] => {
            let groups = line["partition".len()..].split('|');
            let groups: Result<Vec<_>, _> = groups
                .map(|group| servers(&group.split_whitespace().collect::<Vec<_>>()))
                .collect();
            cluster.partition(&groups?);
        }
        ["heal"] => cluster.heal(),
        ["state"] => {
            for id in cluster.servers() {
                let state = cluster.raft(id).map(|raft| render::state(raft));
                cluster.tell(state.unwrap_or(format!("{id}  down")));
            }
        }
        _ => return Err(format!("no such command: {line}")),
    }
    cluster.work();
    Ok(cluster.take_happened())
}

fn time_out(cluster: &mut Cluster, id: ServerId) -> Result<(), String> {
    for _ in 0..1000 {
        cluster.raft(id)?.tick();
        if cluster.raft(id)?.has_events() {
            return Ok(()); // it asks for pre-votes
        }
    }
    Err(format!("{id} does not time out"))
}

fn tick(cluster: &mut Cluster, count: u32, ids: &[ServerId]) -> Result<(), String> {
    for _ in 0..count {
        for &id in ids {
            cluster.raft(id)?.tick();
        }
        cluster.work();
    }
    Ok(())
}

fn deliver_all(cluster: &mut Cluster) -> Result<(), String> {
    cluster.work();
    for _ in 0..1000 {
        let wires = cluster.busy_wires();
        if wires.is_empty() {
            return Ok(());
        }
        for wire in wires {
            cluster.deliver(wire, usize::MAX)?;
            cluster.work();
        }
    }
    Err("the servers do not stop talking".to_string())
}

fn settle(cluster: &mut Cluster) -> Result<(), String> {
    cluster.events_only = true;
    let settled = deliver_all(cluster);
    cluster.events_only = false;
    settled
}

fn propose(cluster: &mut Cluster, id: ServerId, command: &str) -> Result<(), String> {
    let raft = cluster.raft(id)?;
    match raft.propose(Command::from(command.as_bytes())) {
        Ok(entry) => {
            // No time passes in a play, so whoever did not wait would not hear of the commit.
            let peers: Vec<_> = raft.membership().peers_of(id).collect();
            peers.into_iter().for_each(|peer| raft.await_commit(peer, entry.index));
            cluster.tell(format!("{id}  appends {entry} {command}"));
        }
        Err(refused) => cluster.tell(format!("{id}  refuses {command}: {refused}")),
    }
    Ok(())
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn server(word: &str) -> Result<ServerId, String> {
    Ok(ServerId(number(word)?))
}

fn servers(words: &[&str]) -> Result<Vec<ServerId>, String> {
    words.iter().map(|word| server(word)).collect()
}

fn wire(word: &str) -> Result<Wire, String> {
    let (from, to) = word.split_once("->").ok_or(format!("{word} is no wire like 1->2"))?;
    Ok((server(from)?, server(to)?))
}
