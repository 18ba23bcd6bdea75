//! Where the searches start. From nothing, a bounded search gets no further than a first election;
//! so most scenarios begin in the middle of a story, where what is dangerous is a few steps away.
//!
//! A start is reached only by what may really happen: by recovering from disks, and by actions.

use raft_server::raft::message::Message;
use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, Stamp, Term,
};

use crate::world::{Action, Budget, Disk, Envelope, Rules, World};

/// A start, and what may happen from there.
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// The first state.
    pub start: World,
    /// How its world works.
    pub rules: Rules,
}

/// Workers that are never late: what most scenarios use, because they get further.
pub const PROMPT: Rules = Rules {
    prompt_workers: true,
    leaders_stay_heard: false,
    disks_forget: false,
    disks_lie: false,
    anybody_is_asked: false,
};

const NOTHING: Budget = Budget {
    timeouts: [0; 4],
    crashes: [0; 4],
    proposals: 0,
    duplicates: 0,
    heartbeats: 0,
    reads: 0,
};

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let late = Rules { prompt_workers: false, ..PROMPT };
    let heard = Rules { leaders_stay_heard: true, ..PROMPT };
    // The three servers are alike at first: whoever times out first may be called n1, the next n2.
    let two_timeouts = Budget { timeouts: [1, 1, 0, 0], ..NOTHING };
    let overwrite = Budget { timeouts: [0, 0, 1, 0], ..NOTHING };
    vec![
        scenario(
            "from nothing",
            PROMPT,
            from_nothing(),
            Budget { crashes: [0, 0, 1, 0], ..two_timeouts },
        ),
        scenario("from nothing, workers late", late, from_nothing(), two_timeouts),
        scenario(
            "two candidates, a crash",
            PROMPT,
            two_candidates(),
            Budget { crashes: [1, 0, 1, 0], ..NOTHING },
        ),
        scenario(
            "four servers, votes twice",
            PROMPT,
            candidates_of_four(),
            Budget { duplicates: 2, ..NOTHING },
        ),
        scenario(
            "votes of an older term",
            PROMPT,
            votes_of_an_older_term(),
            Budget { timeouts: [0, 1, 0, 0], ..NOTHING },
        ),
        scenario(
            "a settled leader",
            PROMPT,
            settled(),
            Budget { timeouts: [0, 1, 0, 0], crashes: [0, 0, 1, 0], proposals: 2, ..NOTHING },
        ),
        scenario(
            "a settled leader, repeats",
            PROMPT,
            settled(),
            Budget {
                timeouts: [0, 1, 0, 0],
                crashes: [1, 0, 0, 0],
                proposals: 2,
                duplicates: 1,
                heartbeats: 1,
                ..NOTHING
            },
        ),
        scenario(
            "a settled leader, reads",
            PROMPT,
            settled(),
            Budget { timeouts: [0, 1, 0, 0], proposals: 1, reads: 2, ..NOTHING },
        ),
        scenario(
            "two leaders, reads",
            PROMPT,
            two_leaders(),
            Budget { timeouts: [0, 0, 1, 0], reads: 2, ..NOTHING },
        ),
        scenario(
            "four servers, reads",
            PROMPT,
            settled_four(),
            Budget { timeouts: [0, 1, 0, 0], reads: 1, ..NOTHING },
        ),
        scenario(
            "a settled leader, workers late",
            late,
            settled(),
            Budget { timeouts: [0, 1, 0, 0], proposals: 1, ..NOTHING },
        ),
        scenario(
            "a settled leader, heard",
            heard,
            settled(),
            Budget { timeouts: [0, 1, 1, 0], proposals: 1, heartbeats: 1, ..NOTHING },
        ),
        scenario("Figure 8", PROMPT, lose_all_to(figure_8(), 2), overwrite),
        scenario(
            "Figure 8, a crash",
            PROMPT,
            figure_8(),
            Budget { crashes: [0, 1, 0, 0], ..overwrite },
        ),
        scenario("Figure 8, workers late", late, figure_8(), overwrite),
        scenario(
            "a stale tail",
            PROMPT,
            stale_tail(),
            Budget {
                timeouts: [0, 0, 1, 0],
                proposals: 1,
                heartbeats: 1,
                duplicates: 1,
                ..NOTHING
            },
        ),
        scenario("a stale tail, cut off", PROMPT, lose_all_to(stale_tail(), 2), overwrite),
        scenario(
            "a tail on its way to the disk",
            PROMPT,
            tail_being_written(),
            Budget { crashes: [0, 1, 0, 0], ..NOTHING },
        ),
    ]
}

fn scenario(name: &'static str, rules: Rules, mut start: World, budget: Budget) -> Scenario {
    start.budget = budget;
    Scenario { name, start, rules }
}

/// Empty disks, as on the first day.
pub fn from_nothing() -> World {
    World::recovered(vec![Disk::default(), Disk::default(), Disk::default()])
}

/// n1 and n2 both stand in term 1, and n3 has voted for neither. n2's requests are under way; n1's
/// vote for itself is not on its disk yet.
pub fn two_candidates() -> World {
    let with_n3 = |envelope: &Envelope| {
        let between = [envelope.from, envelope.to];
        between.contains(&ServerId(3)) && is_pre_vote(&envelope.message)
    };
    let world = finish_writes(arrive(timeout(from_nothing(), 1), with_n3));
    arrive(timeout(world, 0), with_n3)
}

/// n1 and n2 of four servers stand in term 1; with four, a majority is three.
fn candidates_of_four() -> World {
    let pre_votes = |from: u32| {
        move |envelope: &Envelope| {
            let between = [envelope.from, envelope.to];
            is_pre_vote(&envelope.message)
                && between.contains(&ServerId(from))
                && (between.contains(&ServerId(3)) || between.contains(&ServerId(4)))
        }
    };
    let world = World::recovered(vec![Disk::default(); 4]);
    let world = finish_writes(arrive(timeout(world, 0), pre_votes(1)));
    let mut world = finish_writes(arrive(timeout(world, 1), pre_votes(2)));
    // All else is lost: n1 hears only n3, and n2 only n4.
    world.network.retain(|envelope| {
        [(1, 3), (3, 1), (2, 4), (4, 2)].contains(&(envelope.from.0, envelope.to.0))
    });
    world
}

/// n1 stands in term 2, while the votes it was given in term 1 are still under way.
fn votes_of_an_older_term() -> World {
    let world = finish_writes(arrive(timeout(from_nothing(), 0), |it| is_pre_vote(&it.message)));
    let request = |it: &Envelope| matches!(it.message, Message::RequestVote(_));
    let world = finish_writes(arrive(world, request));
    let with_n3 =
        |it: &Envelope| is_pre_vote(&it.message) && [it.from, it.to].contains(&ServerId(3));
    arrive(timeout(world, 0), with_n3)
}

/// n1 leads term 1, its no-op is everywhere, and nothing is under way.
fn settled() -> World {
    arrive_all(timeout(from_nothing(), 0))
}

/// The same with four servers: two of them are no majority.
fn settled_four() -> World {
    arrive_all(timeout(World::recovered(vec![Disk::default(); 4]), 0))
}

/// n2 leads term 2, elected by n3; n1 has not heard of it and leads term 1.
pub fn two_leaders() -> World {
    let n2_and_n3 = |it: &Envelope| it.from != ServerId(1) && it.to != ServerId(1);
    let mut world = timeout(settled(), 1);
    while !leads(&world, 1) {
        world = finish_writes(arrive(world, n2_and_n3));
    }
    lose_all_to(world, 0)
}

/// Figure 8 (c): n1 leads again, in term 4, and has not repeated its entry of term 2 yet; n3 has
/// another one of term 3 in its place. The paper needs five servers to let n1 lose and win terms 2
/// to 4; this begins with the disks that remain.
fn figure_8() -> World {
    let disks = vec![disk(3, 0, &[1, 2]), disk(3, 3, &[1]), disk(3, 3, &[1, 3])];
    let elected = arrive_until(timeout(World::recovered(disks), 0), |world| leads(world, 0));
    assert!(leads(&elected, 0), "n1 is elected by n2");
    elected
}

/// n1 leads term 2. n3 led term 1 and has two entries that nobody else has.
fn stale_tail() -> World {
    let disks = vec![disk(1, 3, &[1]), disk(1, 3, &[1]), disk(1, 3, &[1, 1, 1])];
    let elected = arrive_until(timeout(World::recovered(disks), 0), |world| leads(world, 0));
    assert!(leads(&elected, 0), "n1 is elected by n2");
    elected
}

/// n1 gave n2 three entries that n2 is still writing, one by one, and lost them in a crash. Now n3
/// leads term 2 and has not heard from n2. (With the second write n2 learns to have synced the new
/// term, and answers; so the third may be under way when its entry is replaced.)
fn tail_being_written() -> World {
    let mut world = settled();
    world.budget = Budget { proposals: 3, crashes: [1, 0, 0, 0], ..NOTHING };
    for _ in 0..3 {
        world.perform(Action::Propose(0), &PROMPT);
        world = arrive(world, |it| it.to == ServerId(2)); // in order
    }
    world.perform(Action::Crash { at: 0, kept: 0 }, &PROMPT);
    world.network.clear();
    let world = timeout(world, 2);
    let n1_and_n3 = |it: &Envelope| it.from != ServerId(2) && it.to != ServerId(2);
    let mut world = arrive(world, n1_and_n3);
    while !leads(&world, 2) {
        let at = if world.servers[2].writing.is_some() { 2 } else { 0 };
        world.perform(Action::FinishWrite(at), &PROMPT);
        world = arrive(world, n1_and_n3);
    }
    world
}

/// A disk with this term and vote (0: none) and with entries of these terms.
fn disk(term: u64, vote: u32, log: &[u64]) -> Disk {
    let entry = |(index, &term): (u64, &u64)| Entry {
        id: EntryId::new(Term(term), Index(index)),
        stamp: Stamp::default(),
        payload: Payload::Command(Command::from(format!("{index}@T{term}").as_bytes())),
    };
    let voted_for = (vote > 0).then_some(ServerId(vote));
    let hard_state = HardState { current_term: Term(term), voted_for };
    Disk { hard_state, entries: (1..).zip(log).map(entry).collect() }
}

fn timeout(mut world: World, at: u8) -> World {
    world.budget.timeouts[usize::from(at)] += 1;
    world.perform(Action::Timeout(at), &PROMPT);
    world
}

/// Delivers what `wanted` names, until there is no more of it.
fn arrive(mut world: World, wanted: impl Fn(&Envelope) -> bool) -> World {
    while let Some(place) = world.network.iter().position(|envelope| wanted(envelope)) {
        world.perform(Action::Deliver { message: place as u8, doubled: false }, &PROMPT);
    }
    world
}

fn finish_writes(mut world: World) -> World {
    for at in 0..world.servers.len() {
        while world.servers[at].writing.is_some() {
            world.perform(Action::FinishWrite(at as u8), &PROMPT);
        }
    }
    world
}

/// Delivers and writes everything.
fn arrive_all(world: World) -> World {
    arrive_until(world, |_| false)
}

/// Delivers and writes one thing after the other, until `done` or until there is nothing more.
fn arrive_until(mut world: World, done: impl Fn(&World) -> bool) -> World {
    let goes_on = |action: &Action| {
        matches!(action, Action::Deliver { doubled: false, .. } | Action::FinishWrite(_))
    };
    while !done(&world) {
        let Some(action) = world.actions(&PROMPT).into_iter().find(goes_on) else { break };
        let place = world.place_of(action);
        let (_, applied) = world.perform(action, &PROMPT);
        world.check(place, &applied).expect("the way to the start breaks nothing");
    }
    world
}

fn lose_all_to(mut world: World, at: u8) -> World {
    world.network.retain(|envelope| envelope.to != crate::world::id(at));
    world
}

fn leads(world: &World, at: usize) -> bool {
    world.servers[at].raft.is_leader()
}

fn is_pre_vote(message: &Message) -> bool {
    matches!(message, Message::PreVote(_) | Message::PreVoteReply(_))
}
