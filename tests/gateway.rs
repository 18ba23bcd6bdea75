//! What a server owes its clients, whatever happens to leaders, links and forwarded messages
//! (DESIGN.md, "Answers and gateways"). Plain values are driven by hand: no thread, no socket.

use std::time::{Duration, Instant};

use raft_server::gateway::message::GatewayMessage;
use raft_server::gateway::{
    Answer, Answered, ClientId, Gateway, Level, Options, Refusal, Request, Slot, Space,
};
use raft_server::kv::command::{Bytes, Command, Outcome, Query, RequestId};
use raft_server::kv::{StateMachine, encoding};
use raft_server::raft::quorum::Membership;
use raft_server::raft::types::{self, Index, ServerId, SnapshotId, Stamp, Term};
use raft_server::raft::{self, Recovered, SnapshotOptions};
use raft_server::server::{self, AnswerBounds, Server, Shelf};

const US: ServerId = ServerId(1);
const LEADER: ServerId = ServerId(2);
const NEXT_LEADER: ServerId = ServerId(3);
const ALICE: ClientId = ClientId(1);
const BOB: ClientId = ClientId(2);
const LIFE: u64 = 4;

fn options() -> Options {
    Options {
        pending_bytes_max: 2000,
        deadline_ticks: 50,
        resend_ticks: 10,
        backoff_ticks: 2,
        forward_bytes_max: 10_000,
    }
}

fn leaderless() -> Gateway {
    Gateway::new(US, LIFE, options())
}

/// The gateway of a follower.
fn following() -> Gateway {
    let mut gateway = leaderless();
    gateway.observe_leader(Some(LEADER), Term(1));
    gateway
}

fn increment() -> Request {
    let command = Command::Increment { key: Bytes::from(b"n".to_vec()), delta: 1 };
    Request::Write(types::Command(encoding::encode(&command.into())))
}

fn count() -> Request {
    Request::Read(Query::Count)
}

fn submit(gateway: &mut Gateway, client: ClientId, first: u64, requests: Vec<Request>) {
    for (slot, request) in (first..).map(Slot).zip(requests) {
        gateway.submit(client, slot, request);
    }
}

fn ticks(gateway: &mut Gateway, count: u64) {
    (0..count).for_each(|_| gateway.tick());
}

fn serials(commands: &[types::Command]) -> Vec<u64> {
    let id = |command: &types::Command| encoding::check(&command.0).expect("it was stamped");
    commands.iter().map(|command| id(command).serial).collect()
}

/// The serials that leave for `to` now, and the attempt and part they leave in.
fn forwarded(gateway: &mut Gateway, to: ServerId) -> Option<(u64, u64, Vec<u64>)> {
    gateway.take_messages(to).into_iter().find_map(|message| match message {
        GatewayMessage::Forward { attempt, part, commands, .. } => {
            Some((attempt, part, serials(&commands)))
        }
        _ => None,
    })
}

fn forwarded_serials(gateway: &mut Gateway, to: ServerId) -> Vec<u64> {
    forwarded(gateway, to).map_or(Vec::new(), |(_, _, serials)| serials)
}

/// The question that leaves for the leader now.
fn question(gateway: &mut Gateway) -> raft_server::gateway::message::QuestionId {
    let messages = gateway.take_messages(LEADER);
    let asked = messages.into_iter().find_map(|message| match message {
        GatewayMessage::ReadQuestion { question } => Some(question),
        _ => None,
    });
    asked.expect("a question leaves")
}

fn ours(serial: u64) -> RequestId {
    RequestId { server: US.0, incarnation: LIFE, serial }
}

fn answers(gateway: &mut Gateway) -> Vec<(u64, Answer)> {
    let answers = gateway.take_answers().into_iter();
    answers.map(|Answered { slot, answer, .. }| (slot.0, answer)).collect()
}

fn done(number: i64) -> Answer {
    Answer::Done(Outcome::Integer(number))
}

fn applied(gateway: &mut Gateway, serial: u64) {
    gateway.applied(ours(serial), Some(Outcome::Integer(serial as i64)));
}

// ---- Writes. ----

/// S73: an answer belongs to a request id, not to a place in the log.
#[test]
fn a_write_is_answered_by_its_own_entry_only() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    for not_ours in [
        RequestId { server: LEADER.0, ..ours(1) },
        RequestId { incarnation: LIFE - 1, ..ours(1) },
        ours(2),
    ] {
        gateway.applied(not_ours, Some(Outcome::Integer(7)));
    }
    assert_eq!(answers(&mut gateway), []);
    applied(&mut gateway, 1);
    assert_eq!(answers(&mut gateway), [(0, done(1))]);
    assert_eq!((gateway.pending_bytes(), gateway.pending_requests()), (0, 0));
}

/// S71: an entry that was ignored as a duplicate has no outcome, so it answers nobody.
#[test]
fn an_ignored_entry_answers_nobody() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    gateway.applied(ours(1), None);
    assert_eq!(answers(&mut gateway), []);
}

/// A leader change is a pause: everything outstanding goes to the new one, oldest first and before
/// anything new.
#[test]
fn a_new_leader_gets_everything_outstanding_in_order() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment(), increment()]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1, 2]);
    applied(&mut gateway, 1);
    gateway.observe_leader(None, Term(2));
    submit(&mut gateway, BOB, 0, vec![increment()]);
    assert!(!gateway.has_messages(LEADER), "it does not lead any more");
    gateway.observe_leader(Some(NEXT_LEADER), Term(2));
    assert_eq!(forwarded_serials(&mut gateway, NEXT_LEADER), [2, 3]);
    assert!(!gateway.has_messages(NEXT_LEADER));
}

/// The same server in a new term may have lost what it was given in the old one.
#[test]
fn the_same_leader_in_a_new_term_gets_everything_again() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    let (first, _, _) = forwarded(&mut gateway, LEADER).expect("it is forwarded");
    gateway.observe_leader(Some(LEADER), Term(3));
    let (second, part, again) = forwarded(&mut gateway, LEADER).expect("again");
    assert!(second > first, "or the leader would take it for a late part of the first attempt");
    assert_eq!((part, again), (0, vec![1]));
}

/// What was under way on a broken connection may be lost; so may be what nothing was heard of.
#[test]
fn what_may_be_lost_is_sent_again() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    gateway.link_renewed(NEXT_LEADER);
    assert!(!gateway.has_messages(LEADER), "another link has nothing to do with it");
    gateway.link_renewed(LEADER);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    ticks(&mut gateway, options().resend_ticks);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
}

/// S77: a refusal from a leader, or from who is none, means "again, a little later": from the
/// oldest on, and never to be passed on to the client.
#[test]
fn a_refused_forward_starts_again_from_the_oldest() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    let (attempt, _, _) = forwarded(&mut gateway, LEADER).expect("it is forwarded");
    submit(&mut gateway, ALICE, 1, vec![increment()]);
    assert_eq!(forwarded(&mut gateway, LEADER), Some((attempt, 1, vec![2])));
    gateway.handle_forward_refused(LEADER, LIFE, attempt - 1);
    gateway.handle_forward_refused(NEXT_LEADER, LIFE, attempt);
    gateway.tick();
    assert!(!gateway.has_messages(LEADER), "refusals of something else mean nothing");
    gateway.handle_forward_refused(LEADER, LIFE, attempt);
    submit(&mut gateway, ALICE, 2, vec![increment()]);
    assert!(!gateway.has_messages(LEADER), "nothing new goes first");
    ticks(&mut gateway, options().backoff_ticks);
    assert_eq!(forwarded(&mut gateway, LEADER), Some((attempt + 1, 0, vec![1, 2, 3])));
    assert_eq!(answers(&mut gateway), []);
}

/// At the leader: the parts of an attempt in order, each once, and nothing behind one that was
/// refused or lost. Otherwise one connection's writes would enter the log out of order.
#[test]
fn parts_of_a_forward_are_taken_in_order() {
    let mut leader = leaderless();
    leader.observe_leader(Some(US), Term(1));
    let mut accepts = |attempt, part| leader.accepts_forward(LEADER, LIFE, attempt, part);
    assert!(!accepts(1, 1), "part 0 was lost");
    assert!(accepts(1, 0));
    assert!(!accepts(1, 0), "doubled");
    assert!(accepts(1, 1));
    assert!(accepts(2, 0));
    assert!(!accepts(1, 2), "late");
    leader.refuse_forward(LEADER, LIFE, 2);
    assert!(!leader.accepts_forward(LEADER, LIFE, 2, 1), "behind a refused one");
    assert!(leader.accepts_forward(LEADER, LIFE + 1, 1, 0), "a new life counts afresh");
    assert!(!leader.accepts_forward(LEADER, LIFE, 3, 0), "leftovers of the old one");
}

/// What was taken in an earlier leadership may be gone with it, and what follows it must not stay.
#[test]
fn a_new_leadership_takes_no_later_part() {
    let mut leader = leaderless();
    leader.observe_leader(Some(US), Term(1));
    assert!(leader.accepts_forward(LEADER, LIFE, 1, 0));
    leader.observe_leader(None, Term(2));
    leader.observe_leader(Some(US), Term(3));
    assert!(!leader.accepts_forward(LEADER, LIFE, 1, 1));
    assert!(leader.accepts_forward(LEADER, LIFE, 2, 0));
}

// ---- Deadlines and refusals. ----

/// S70: what has left this server may be executed by somebody, some day.
#[test]
fn what_was_handed_over_is_unknown_at_the_deadline() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    gateway.observe_leader(None, Term(2));
    ticks(&mut gateway, options().deadline_ticks - 1);
    assert_eq!(answers(&mut gateway), []);
    gateway.tick();
    assert_eq!(answers(&mut gateway), [(0, Answer::Unknown)]);
    applied(&mut gateway, 1); // it is executed all the same: nobody is told twice
    assert_eq!(answers(&mut gateway), []);
    assert_eq!(gateway.pending_bytes(), 0);
}

/// S70: a proposal to our own core counts as handed over as well.
#[test]
fn what_was_proposed_is_unknown_at_the_deadline() {
    let mut gateway = leaderless();
    gateway.observe_leader(Some(US), Term(1));
    submit(&mut gateway, ALICE, 0, vec![increment(), increment()]);
    let (serial, _) = gateway.next_proposal().expect("we lead");
    gateway.proposed(serial);
    ticks(&mut gateway, options().deadline_ticks);
    let busy = Answer::Refused(Refusal::NotInTime);
    assert_eq!(answers(&mut gateway), [(0, Answer::Unknown), (1, busy)]);
    assert_eq!(gateway.next_proposal(), None, "what was refused is never proposed");
}

/// S70, S77: without a leader nothing leaves, so the refusal is definite. Whoever comes after a
/// request that has waited a whole deadline is refused at once, until a leader is heard.
#[test]
fn without_a_leader_one_deadline_is_enough() {
    let mut gateway = leaderless();
    let no_leader = |last| Answer::Refused(Refusal::NoLeader { last });
    submit(&mut gateway, ALICE, 0, vec![increment(), count()]);
    ticks(&mut gateway, options().deadline_ticks);
    assert_eq!(answers(&mut gateway), [(0, no_leader(None)), (1, no_leader(None))]);
    submit(&mut gateway, ALICE, 2, vec![increment()]);
    assert_eq!(answers(&mut gateway), [(2, no_leader(None))]);

    gateway.observe_leader(Some(LEADER), Term(1));
    submit(&mut gateway, ALICE, 3, vec![increment()]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [2], "1 was refused and never leaves");
    applied(&mut gateway, 2);
    assert_eq!(answers(&mut gateway), [(3, done(2))]);

    gateway.observe_leader(None, Term(2));
    submit(&mut gateway, ALICE, 4, vec![increment()]);
    assert_eq!(answers(&mut gateway), [], "the next loss of a leader is a new one");
    ticks(&mut gateway, options().deadline_ticks);
    assert_eq!(answers(&mut gateway), [(4, no_leader(Some(LEADER)))]);
}

/// A request that lived through a leader does not prove that there was none for a deadline.
#[test]
fn a_deadline_with_a_leader_in_it_refuses_nobody_else() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![count()]);
    gateway.tick();
    gateway.observe_leader(None, Term(2));
    ticks(&mut gateway, options().deadline_ticks - 1);
    assert_eq!(answers(&mut gateway).len(), 1);
    submit(&mut gateway, ALICE, 1, vec![count()]);
    assert_eq!(answers(&mut gateway), []);
}

/// Beyond the byte bound nothing of a request is accepted, and room comes back with the answers.
#[test]
fn too_much_pending_is_refused_before_it_is_accepted() {
    let mut gateway = following();
    let limit_bytes = options().pending_bytes_max;
    let mut accepted = 0;
    loop {
        submit(&mut gateway, ALICE, accepted, vec![increment()]);
        if let Some((slot, answer)) = answers(&mut gateway).pop() {
            let too_much = Refusal::TooMuchPending { limit_bytes };
            assert_eq!((slot, answer), (accepted, Answer::Refused(too_much)));
            break;
        }
        accepted += 1;
        assert!(gateway.pending_bytes() <= limit_bytes);
    }
    assert_eq!(forwarded_serials(&mut gateway, LEADER), (1..=accepted).collect::<Vec<u64>>());
    applied(&mut gateway, 1);
    gateway.take_answers();
    submit(&mut gateway, ALICE, accepted + 1, vec![increment()]);
    assert_eq!(answers(&mut gateway), [], "there is room again");
}

/// Tens of thousands of requests may end together, in whatever order. Nobody else is heard
/// meanwhile, so this must not take the square of their number.
#[test]
fn many_requests_end_quickly() {
    const MANY: u64 = 40_000;
    let options = Options { pending_bytes_max: usize::MAX, ..options() };
    let mut gateway = Gateway::new(US, LIFE, options);
    gateway.observe_leader(Some(LEADER), Term(1));
    let since = Instant::now();
    for slot in 0..MANY / 100 {
        for client in (0..100).rev() {
            gateway.submit(ClientId(client), Slot(slot), increment());
        }
    }
    ticks(&mut gateway, 51);
    assert_eq!(gateway.take_answers().len() as u64, MANY, "their time is over");

    gateway.submit(ALICE, Slot(MANY), increment());
    for slot in MANY + 1..2 * MANY {
        gateway.submit(ALICE, Slot(slot), Request::StaleRead(Query::Count));
    }
    assert_eq!(gateway.take_queries(Index(1)), [], "they wait for the write");
    gateway.hang_up(ALICE);
    assert_eq!(gateway.pending_requests(), 1, "the write goes on");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

/// A stopping server answers what it has accepted and takes nothing more.
#[test]
fn a_stopping_server_refuses_only_what_is_new() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    gateway.stop();
    submit(&mut gateway, ALICE, 1, vec![increment(), count()]);
    let stopping = Answer::Refused(Refusal::Stopping);
    assert_eq!(answers(&mut gateway), [(1, stopping.clone()), (2, stopping)]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    applied(&mut gateway, 1);
    assert_eq!(answers(&mut gateway), [(0, done(1))]);
}

/// Connections are remembered between requests, and not when their clients have gone: a server that
/// has had a million clients knows none of them.
#[test]
fn a_client_that_was_answered_and_hangs_up_is_forgotten() {
    let mut gateway = following();
    let before = gateway.clone();
    gateway.submit(ALICE, Slot(0), Request::StaleRead(Query::Count));
    let [read] = &gateway.take_queries(Index(1))[..] else { panic!("one read") };
    gateway.answered(read.client, read.slot, Outcome::Integer(0));
    assert_eq!(gateway.take_answers().len(), 1);
    assert!(gateway.is_at_rest());
    assert_ne!(gateway, before);
    gateway.hang_up(ALICE);
    assert_eq!(gateway, before);
}

/// A client that is gone is told nothing. What it asked and was not started never is; what was
/// goes on and comes off the books.
#[test]
fn a_client_that_hangs_up_leaves_nothing_behind() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment(), count(), increment()]);
    gateway.hang_up(ALICE);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1], "the last one waited for the read");
    applied(&mut gateway, 1);
    ticks(&mut gateway, options().deadline_ticks);
    assert_eq!(answers(&mut gateway), []);
    assert_eq!((gateway.pending_bytes(), gateway.pending_requests()), (0, 0));
    assert_eq!(gateway, {
        let mut other = gateway.clone();
        other.hang_up(ALICE);
        other
    });
}

// ---- Reads. ----

/// S23: a read joins only a question that has not left. The answer to one that has may be older
/// than the read.
#[test]
fn a_read_waits_for_a_question_of_its_own() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![count()]);
    let first = question(&mut gateway);
    submit(&mut gateway, BOB, 0, vec![count()]);
    gateway.handle_read_answer(first, Index(5));
    assert_eq!(gateway.take_queries(Index(4)), [], "not applied yet");
    let ready = gateway.take_queries(Index(5));
    assert_eq!(ready.iter().map(|read| read.client).collect::<Vec<_>>(), [ALICE]);
    let second = question(&mut gateway);
    assert!(second > first);
    gateway.handle_read_answer(second, Index(5));
    let ready = gateway.take_queries(Index(5));
    assert_eq!(ready.iter().map(|read| read.client).collect::<Vec<_>>(), [BOB]);
}

/// Once a read is asked again, or belongs to another life, the old answer means nothing.
#[test]
fn an_answer_to_an_old_question_is_ignored() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![count()]);
    let first = question(&mut gateway);
    gateway.link_renewed(LEADER);
    let second = question(&mut gateway);
    gateway.handle_read_answer(first, Index(1));
    let mut of_another_life = second;
    of_another_life.incarnation -= 1;
    gateway.handle_read_answer(of_another_life, Index(1));
    assert!(!gateway.has_queries(Index(9)));
    gateway.handle_read_answer(second, Index(1));
    assert!(gateway.has_queries(Index(9)));
}

/// S77: whoever is asked and does not lead says so, and is not asked at full speed.
#[test]
fn a_refused_question_is_asked_again_after_a_pause() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![count()]);
    let first = question(&mut gateway);
    gateway.handle_read_refused(first);
    assert!(!gateway.has_messages(LEADER));
    ticks(&mut gateway, options().backoff_ticks);
    assert!(question(&mut gateway) > first);
    assert_eq!(answers(&mut gateway), []);
}

/// A core that lost its leadership fails the question; the reads ask the next leader.
#[test]
fn a_failed_question_goes_to_the_next_leader() {
    let mut gateway = leaderless();
    gateway.observe_leader(Some(US), Term(1));
    submit(&mut gateway, ALICE, 0, vec![count()]);
    let number = gateway.next_question().expect("we lead");
    gateway.observe_leader(Some(LEADER), Term(2));
    let asked = question(&mut gateway);
    gateway.read_failed(number); // arrives late, with the applier's next take
    assert!(!gateway.has_messages(LEADER), "and does not take the read from its new question");
    gateway.handle_read_answer(asked, Index(1));
    assert!(gateway.has_queries(Index(1)));
}

/// On one connection everything takes effect in the order it was sent, whatever is confirmed when.
#[test]
fn one_connection_is_answered_in_its_order() {
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment(), count(), increment()]);
    let messages = gateway.take_messages(LEADER);
    let [GatewayMessage::ReadQuestion { question }, GatewayMessage::Forward { commands, .. }] =
        messages.as_slice()
    else {
        panic!("a question and a forward, not {messages:?}")
    };
    assert_eq!(serials(commands), [1], "the second write waits for the read");
    gateway.handle_read_answer(*question, Index(0));
    assert_eq!(gateway.take_queries(Index(0)), [], "the read waits for the first write");
    applied(&mut gateway, 1);
    assert_eq!(gateway.take_queries(Index(1)).len(), 1);
    assert!(!gateway.has_messages(LEADER), "the read is not answered yet");
    gateway.answered(ALICE, Slot(1), Outcome::Integer(1));
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [2]);
    assert_eq!(answers(&mut gateway), [(0, done(1)), (1, done(1))]);
}

// ---- Reads that ask nobody. ----

/// GET … STALE is for those who would rather have an old answer than none: it needs no leader, even
/// when requests that do are refused at once. It still sees the writes of its own connection.
#[test]
fn a_stale_read_needs_no_leader() {
    let mut gateway = leaderless();
    submit(&mut gateway, BOB, 0, vec![count()]);
    ticks(&mut gateway, 50);
    assert_eq!(answers(&mut gateway).len(), 1, "without a leader, BOB's read has given up");
    submit(&mut gateway, ALICE, 0, vec![Request::StaleRead(Query::Count)]);
    assert!(gateway.has_queries(Index(0)));
    assert_eq!(gateway.take_queries(Index(0)).len(), 1);
    gateway.answered(ALICE, Slot(0), Outcome::Integer(0));
    assert_eq!(answers(&mut gateway), [(0, done(0))]);

    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment(), Request::StaleRead(Query::Count)]);
    assert_eq!(forwarded_serials(&mut gateway, LEADER), [1]);
    assert_eq!(gateway.take_queries(Index(9)), [], "the write before it is not applied");
    applied(&mut gateway, 1);
    assert_eq!(gateway.take_queries(Index(9)).len(), 1);
}

/// WAITINDEX is answered when its index is applied, or when its time is over, but in any case
/// before the gateway's own deadline, which would call it refused.
#[test]
fn a_wait_ends_with_its_index_or_its_time() {
    let mut gateway = following();
    let wait = |index, ticks| Request::Wait { index: Index(index), ticks };
    submit(&mut gateway, ALICE, 0, vec![wait(7, 20), wait(7, 5), wait(8, 1000)]);
    let slots = |reads: Vec<raft_server::gateway::PendingRead>| -> Vec<u64> {
        reads.iter().map(|read| read.slot.0).collect()
    };
    assert!(!gateway.has_queries(Index(6)));
    ticks(&mut gateway, 4);
    assert!(slots(gateway.take_queries(Index(6))).is_empty());
    ticks(&mut gateway, 1);
    assert_eq!(slots(gateway.take_queries(Index(6))), [1], "its five ticks are over");
    assert_eq!(slots(gateway.take_queries(Index(7))), [0]);
    ticks(&mut gateway, 19);
    assert!(!gateway.has_queries(Index(7)));
    ticks(&mut gateway, 1);
    assert_eq!(slots(gateway.take_queries(Index(7))), [2], "half of the deadline is for others");
    assert_eq!(answers(&mut gateway), []);
}

/// Whoever asks and hangs up must not hold what others need until some deadline.
#[test]
fn who_hangs_up_takes_its_questions_along() {
    let mut gateway = following();
    let waits = vec![Request::Wait { index: Index(99), ticks: 20 }, count(), increment()];
    submit(&mut gateway, ALICE, 0, waits);
    assert!(gateway.pending_bytes() > 0);
    gateway.hang_up(ALICE);
    assert_eq!((gateway.pending_bytes(), gateway.pending_requests()), (0, 0));
    assert!(!gateway.has_messages(LEADER), "nobody wants to know");
    assert!(!gateway.has_queries(Index(99)));
    ticks(&mut gateway, 60);
    assert_eq!(answers(&mut gateway), []);
}

// ---- Servers. ----

fn server(id: ServerId, servers: u32) -> Server {
    server_with(id, servers, Recovered::default())
}

fn server_with(id: ServerId, servers: u32, recovered: Recovered) -> Server {
    let raft_options = raft::Options {
        heartbeat_ticks: 2,
        election_min_ticks: 10,
        election_max_ticks: 20,
        append_bytes_max: 1000,
        window_bytes_max: 1000,
        uncommitted_bytes_max: 700,
        snapshots: SnapshotOptions::NEVER,
    };
    let membership = Membership::new((1..=servers).map(ServerId));
    Server::new(id, membership, raft_options, options(), recovered, LIFE, u64::from(id.0))
}

/// Syncs and applies everything that is ready.
fn work_off(server: &mut Server, machine: &mut StateMachine) {
    loop {
        let write = server.take_write(usize::MAX);
        let tasks = server.take_tasks(usize::MAX);
        if write.is_none() && tasks.is_empty() {
            return;
        }
        if let Some(write) = write {
            server.persisted(write.ticket);
        }
        let executed = server::execute(machine, tasks, server.log_time(), &mut Shelf::default());
        server.finished(executed.finished, executed.next_deadline, executed.hash);
    }
}

fn alone() -> (Server, StateMachine) {
    let (mut leader, mut machine) = (server(US, 1), StateMachine::default());
    while !leader.raft().is_leader() {
        leader.tick(0);
        work_off(&mut leader, &mut machine);
    }
    (leader, machine)
}

/// S63: what has expired is decided by stamps in the log. When a key is due and nothing is written,
/// the leader appends an entry for its stamp alone, and no more often than every 100 ms.
#[test]
fn a_leader_tells_the_time_when_a_key_is_due() {
    let (mut leader, mut machine) = alone();
    leader.begin_log_time(5_000_000); // too late: the log is not empty
    let start = leader.raft().log().last_index();
    leader.tick(1000);
    leader.finished(Vec::new(), Some(Stamp(1_150)), None);
    leader.tick(1140);
    assert_eq!(leader.raft().log().last_index(), start, "nothing is due");
    leader.tick(1150);
    assert_eq!(leader.raft().log().last_index(), start.next());
    assert_eq!(leader.raft().last_stamp(), Stamp(1150));
    let tasks = leader.take_tasks(usize::MAX);
    assert_eq!(tasks, [], "it is not durable yet");
    leader.tick(1240);
    assert_eq!(leader.raft().log().last_index(), start.next(), "the last one is 90 ms old");
    leader.tick(1250);
    assert_eq!(leader.raft().log().last_index(), Index(start.0 + 2));
    work_off(&mut leader, &mut machine);
    assert_eq!(machine.clock_ms(), 1250);
    leader.finished(Vec::new(), None, None);
    leader.tick(9000);
    assert_eq!(leader.raft().log().last_index(), Index(start.0 + 2), "nothing waits for a time");
    assert_eq!(leader.log_time(), Stamp(9000));
}

/// EXAT names a time since the Unix epoch, so the log time of a new cluster begins with the time of
/// day.
#[test]
fn log_time_begins_with_the_time_of_day() {
    let mut leader = server(US, 1);
    leader.begin_log_time(5_000_000);
    let mut now_ms = 0;
    while !leader.raft().is_leader() {
        now_ms += 10;
        leader.tick(now_ms);
        work_off(&mut leader, &mut StateMachine::default());
    }
    assert_eq!(leader.raft().last_stamp(), Stamp(5_000_000 + now_ms));
}

/// A SET that waited in a socket while the process was paused is stamped with the time after the
/// pause, even if it is handled before the first tick: or it would expire at that tick.
#[test]
fn a_stamp_is_not_older_than_its_request() {
    let (mut leader, _) = alone();
    leader.tick(1000);
    leader.set_time(9000); // the process was paused
    leader.submit([(ALICE, Slot(0), increment())]);
    assert_eq!(leader.raft().last_stamp(), Stamp(9000));
}

/// The stamps of a new leader go on from those of the old one, whatever its own clock says.
#[test]
fn log_time_goes_on_from_the_last_stamp_in_the_log() {
    let entry = |index, stamp| types::Entry {
        id: types::EntryId::new(Term(1), Index(index)),
        stamp: Stamp(stamp),
        payload: types::Payload::Noop,
    };
    let hard_state = types::HardState { current_term: Term(1), voted_for: None };
    let recovered = Recovered {
        hard_state,
        snapshot: SnapshotId::NONE,
        snapshot_bytes: 0,
        entries: vec![entry(1, 70_000), entry(2, 90_000)],
    };
    let mut server = server_with(US, 1, recovered);
    server.begin_log_time(1); // there is a log: it knows better
    let mut now_ms = 0;
    while !server.raft().is_leader() {
        now_ms += 10;
        server.tick(now_ms);
        work_off(&mut server, &mut StateMachine::default());
    }
    assert_eq!(server.raft().last_stamp(), Stamp(90_000 + now_ms));
}

/// S71: a forward that arrives in two attempts stands in the log twice and counts once.
#[test]
fn a_write_that_is_forwarded_twice_counts_once() {
    let mut no_leader = server(LEADER, 3);
    let mut gateway = following();
    submit(&mut gateway, ALICE, 0, vec![increment()]);
    let first = gateway.take_messages(LEADER);
    gateway.link_renewed(LEADER);
    let second = gateway.take_messages(LEADER);
    assert_ne!(first, second);
    let entries = |messages: Vec<GatewayMessage>| {
        messages.into_iter().find_map(|message| match message {
            GatewayMessage::Forward { commands, .. } => Some(commands),
            _ => None,
        })
    };
    let mut machine = StateMachine::default();
    let mut outcomes = Vec::new();
    for (index, messages) in (1..).zip([first, second]) {
        let commands = entries(messages).expect("it is forwarded");
        outcomes.push(machine.apply(index, 0, &commands[0].0, &mut Vec::new()).outcome);
    }
    assert_eq!(outcomes, [Some(Outcome::Integer(1)), None]);

    // S77: who does not lead refuses and never passes it on.
    gateway.link_renewed(LEADER);
    let forward = gateway.take_messages(LEADER);
    no_leader.step(US, server::Outgoing { raft: Vec::new(), gateway: forward });
    let reply = no_leader.take_messages(US).gateway;
    assert!(matches!(reply.as_slice(), [GatewayMessage::ForwardRefused { .. }]), "{reply:?}");
    assert!(!no_leader.has_messages(NEXT_LEADER));
}

/// A full log delays a write and refuses nobody before the deadline; the order is kept.
#[test]
fn a_full_log_delays_writes_and_keeps_their_order() {
    let (mut leader, mut machine) = alone();
    leader.submit((0..12).map(|at| (ALICE, Slot(at), increment())));
    let proposed = leader.raft().log().last_index().0 - 1;
    assert!(proposed < 12, "the log is full after {proposed} writes");
    work_off(&mut leader, &mut machine);
    let answered = leader.take_answers();
    let got: Vec<(u64, Answer)> =
        answered.into_iter().map(|answered| (answered.slot.0, answered.answer)).collect();
    let expected: Vec<(u64, Answer)> = (0..12).map(|at| (at, done(at as i64 + 1))).collect();
    assert_eq!(got, expected);
}

/// Questions of a few bytes can have answers of megabytes: they are handed over in portions, or
/// one client's pipeline would take gigabytes at once. Nor do many clients wait for the last one.
#[test]
fn large_answers_are_built_in_portions() {
    let (mut leader, mut machine) = alone();
    let key = Bytes::from(b"k".to_vec());
    let set = Command::SetMany {
        pairs: vec![(key.clone(), Bytes::from(vec![b'x'; 200]))],
        if_absent: false,
    };
    let set = types::Command(encoding::encode(&set.into()));
    leader.submit([(ALICE, Slot(0), Request::Write(set))]);
    work_off(&mut leader, &mut machine);
    let get = || Request::Read(Query::Get { key: key.clone() });
    let of = |client, slots: std::ops::Range<u64>| {
        slots.map(move |slot| (client, Slot(slot))).collect::<Vec<_>>()
    };
    let asked = [of(BOB, 0..6), of(ALICE, 1..4), of(BOB, 6..7)].concat();
    leader.submit(asked.into_iter().map(|(client, slot)| (client, slot, get())));
    let mut tasks = leader.take_tasks(usize::MAX).into();
    let shelf = &mut Shelf::default();
    let mut some = |outcomes_max, readers_max, outcome_bytes_max| {
        let reply_bytes_max = usize::MAX;
        let bounds = AnswerBounds { reply_bytes_max, outcomes_max, readers_max, outcome_bytes_max };
        let now = Stamp::default();
        server::execute_some(&mut machine, &mut tasks, now, bounds, shelf).finished
    };
    assert_eq!(some(usize::MAX, 9, 500).len(), 3);
    assert_eq!(some(1, 9, usize::MAX).len(), 1);
    assert_eq!(some(9, 2, usize::MAX).len(), 5, "all of the next two readers");
    assert_eq!(some(9, 9, usize::MAX).len(), 1);
    assert!(tasks.is_empty());
}

fn says(from: ServerId, level: Level, to: &mut Server) {
    let space = GatewayMessage::Space(Space { level, used_bytes: 9, limit_bytes: 10 });
    to.step(from, server::Outgoing { raft: Vec::new(), gateway: vec![space] });
}

/// A follower of three that has heard its leader.
fn follower_of_three() -> Server {
    let mut server = server(US, 3);
    let heartbeat = raft::message::AppendEntries {
        term: Term(1),
        prev: types::EntryId::ZERO,
        leader_commit: Index::ZERO,
        round: raft::message::Round(0),
        entries: Vec::new(),
    };
    let raft = vec![raft::message::Message::AppendEntries(heartbeat)];
    server.step(LEADER, server::Outgoing { raft, gateway: Vec::new() });
    server
}

fn delete() -> Request {
    let command = Command::Delete { keys: vec![Bytes::from(b"n".to_vec())] };
    Request::Write(types::Command(encoding::encode(&command.into())))
}

/// Asks a server for these, and returns which of them it refuses for want of room on whose disk.
fn refused(server: &mut Server, first: u64, requests: Vec<Request>) -> Vec<(u64, ServerId)> {
    server.submit((first..).zip(requests).map(|(at, request)| (ALICE, Slot(at), request)));
    let answers = server.take_answers().into_iter();
    let refused = answers.filter_map(|it| match it.answer {
        Answer::Refused(Refusal::NoSpace { server, .. }) => Some((it.slot.0, server)),
        _ => None,
    });
    refused.collect()
}

/// S35: a full leader's word is enough: nothing is handed over that it could not append. What needs
/// no room still is, until there is none at all.
#[test]
fn what_a_full_leader_has_no_room_for_is_refused_before_it_leaves() {
    let mut server = follower_of_three();
    says(LEADER, Level::Low, &mut server);
    let requests = || vec![increment(), delete(), count()];
    assert_eq!(refused(&mut server, 0, requests()), [(0, LEADER)]);
    let forwarded = server.take_messages(LEADER).gateway;
    let writes = |messages: &[GatewayMessage]| {
        let of = |message: &GatewayMessage| match message {
            GatewayMessage::Forward { commands, .. } => commands.len(),
            _ => 0,
        };
        messages.iter().map(of).sum::<usize>()
    };
    assert_eq!(writes(&forwarded), 1, "the deletion leaves, and nothing else");
    says(LEADER, Level::None, &mut server);
    assert_eq!(refused(&mut server, 3, requests()), [(3, LEADER), (4, LEADER)]);
    says(LEADER, Level::Ample, &mut server);
    assert_eq!(refused(&mut server, 6, requests()), []);
}

/// A follower may be full; a majority may not: nobody could acknowledge.
#[test]
fn writes_are_refused_when_no_majority_has_room() {
    let mut server = follower_of_three();
    says(NEXT_LEADER, Level::None, &mut server);
    assert_eq!(refused(&mut server, 0, vec![increment()]), []);
    server.set_space(Space { level: Level::Low, used_bytes: 1, limit_bytes: 2 });
    assert_eq!(refused(&mut server, 1, vec![increment(), delete()]), [(1, US)]);
    let told = server.take_messages(NEXT_LEADER).gateway;
    assert!(matches!(told[..], [GatewayMessage::Space(Space { level: Level::Low, .. })]));
}

/// "There is room again" may be lost; so a full server repeats itself, and is believed no longer
/// than that takes.
#[test]
fn a_full_server_that_is_not_heard_any_more_is_believed_to_have_room() {
    let mut server = follower_of_three();
    says(LEADER, Level::None, &mut server);
    (0..30).for_each(|now| server.tick(10 * now));
    let leader = server.raft().leader();
    assert_eq!(leader, None, "the leader is silent");
    (0..20).for_each(|now| server.tick(300 + 10 * now));
    assert_eq!(server.gateway().space_of(LEADER).level, Level::Ample);
    server.set_space(Space { level: Level::Low, used_bytes: 1, limit_bytes: 2 });
    let mut told = 0;
    for now in 0..50 {
        server.tick(500 + 10 * now);
        let messages = server.take_messages(LEADER).gateway;
        told += messages.iter().filter(|it| matches!(it, GatewayMessage::Space(_))).count();
    }
    assert!((4..=6).contains(&told), "told {told} times in 50 ticks");
}

/// S35: a leader appends nothing that its disk may have no room for, and a write never exceeds the
/// room that was told. What waits is appended when there is room.
#[test]
fn a_leader_appends_and_writes_only_what_there_is_room_for() {
    let (mut leader, mut machine) = alone();
    let last = leader.raft().log().last_index();
    leader.set_room(0);
    leader.submit([0, 1].map(|at| (ALICE, Slot(at), increment())));
    assert_eq!(leader.raft().log().last_index(), last, "nothing is appended without room");
    let wanted = leader.raft().wanted_bytes();
    assert!(wanted > 0, "it says how much it wants");
    leader.set_room(wanted);
    assert_eq!(leader.raft().log().last_index(), last.next(), "there is room for one");
    let write = leader.take_write(usize::MAX).expect("it is to be written");
    assert_eq!(write.entries.len(), 1);
    leader.set_room(0);
    leader.persisted(write.ticket);
    assert_eq!(leader.raft().log().last_index(), last.next(), "and not for two");
    leader.set_room(2 * wanted);
    work_off(&mut leader, &mut machine);
    assert_eq!(leader.take_answers().len(), 2);
}

/// A follower takes what it is sent into memory, but acknowledges none of what its disk has no room
/// for; terms and votes are written all the same.
#[test]
fn a_full_follower_acknowledges_nothing_and_still_votes() {
    let mut server = follower_of_three();
    let write = server.take_write(usize::MAX).expect("the term is new");
    server.persisted(write.ticket);
    server.set_room(0);
    let id = |term, index| types::EntryId::new(Term(term), Index(index));
    let Request::Write(command) = increment() else { panic!("it writes") };
    let payload = types::Payload::Command(command);
    let entry = types::Entry { id: id(1, 1), stamp: Stamp(1), payload };
    let append = raft::message::AppendEntries {
        term: Term(1),
        prev: types::EntryId::ZERO,
        leader_commit: Index::ZERO,
        round: raft::message::Round(0),
        entries: vec![entry],
    };
    let raft = vec![raft::message::Message::AppendEntries(append)];
    server.step(LEADER, server::Outgoing { raft, gateway: Vec::new() });
    assert_eq!(server.take_write(usize::MAX), None);
    assert!(server.raft().waits_for_room());
    assert_eq!(server.raft().durable().index(), Index::ZERO);
    while server.raft().current_term() == Term(1) {
        server.tick(0);
        for peer in [LEADER, NEXT_LEADER] {
            server.take_messages(peer);
            let granted =
                raft::message::PreVoteReply { term: Term(2), granted: true, leader_heard: false };
            let raft = vec![raft::message::Message::PreVoteReply(granted)];
            server.step(peer, server::Outgoing { raft, gateway: Vec::new() });
        }
    }
    let write = server.take_write(usize::MAX).expect("a term and a vote");
    assert!(write.hard_state.is_some() && write.entries.is_empty());
}
