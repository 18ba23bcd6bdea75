//! The bug zoo: every rule that can be taken out of the real code, one at a time.
//!
//! A test that has never failed has not been tested, and a rule that nobody has seen broken is only
//! believed. Built with `--features lab`, the program can forget one rule ("switch it off") and the
//! simulator shows what becomes of it. In the code a switch is one condition at the line of the
//! rule:
//!
//! ```text
//! self.hard_state_is_durable() || removed(Rule::VoteWaitsForDisk)
//! ```
//!
//! Read it without its second half: that is the rule. Without the feature `removed` is the constant
//! `false` and the compiler leaves nothing of it.
//!
//! Some rules have no switch, because their absence cannot be noticed or cannot be written:
//!
//! - *A candidate counts its own vote when it is on disk*: nobody is asked before that, so no
//!   answer makes a majority earlier, and a cluster of one counts only when its write completes.
//! - *Probes repeat*: the heartbeat that would repeat one is itself an empty AppendEntries at the
//!   same place.
//! - *A leader that steps down hands its reads back as failed*: whoever asked asks the next leader
//!   anyway, when it learns of it.
//! - *A command carries the lowest serial that its gateway waits for*: parts are taken in their
//!   order, so a command's own serial would do as its floor; the rule is there for who reads it.
//! - *One write at a time; a forward goes one hop; an ignored entry has no outcome*: the log writer
//!   is one thread, `propose_all` cannot forward, and there is no outcome to answer with.
//! - *A snapshot of what is committed here anyway changes nothing*: installing it changes nothing
//!   either; the rule saves the work.
//! - *A snapshot is read back before the one before it goes, and makes a state before it has its
//!   name; who begins again is sent the newest*: nothing rots under a simulated server. Unit tests
//!   damage files and memory.
//! - *A snapshot that comes twice is built once; a follower that cannot store one pauses*: both
//!   save work, and the shelf has a test of its own.
//! - *Another leader's snapshot is a new file; a broken connection's parts are sent again*: equal
//!   states make equal files here, and the next heartbeat would ask for what is missing.
//! - *A lock while sending* (L15): threads are tested with real processes. *Cloned directories* are
//!   told by the hello of `transport`.

macro_rules! rules {
    ($($rule:ident $name:literal $text:literal $place:literal [$($property:literal),+])*) => {
        /// A rule that can be switched off. Its description is the rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(#[doc = $text] $rule,)* }

        impl Rule {
            /// All rules, in the order of the rooms in which they stand.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule),*];

            /// What there is to know about the rule and its absence.
            pub fn lesson(self) -> Lesson {
                match self {
                    $(Rule::$rule => Lesson {
                        name: $name,
                        rule: $text,
                        place: $place,
                        properties: &[$($property),+],
                    },)*
                }
            }
        }
    };
}

/// What there is to know about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The mistake by which the rule goes by on the command line.
    pub name: &'static str,
    /// The rule that the mistake breaks.
    pub rule: &'static str,
    /// Where it stands: in the paper (§), the dissertation (diss.), or which known failure it is
    /// there for.
    pub place: &'static str,
    /// What breaks without it: one of these.
    pub properties: &'static [&'static str],
}

rules! {
    // ---- raft: elections ----
    VoteWaitsForDisk "vote-before-fsync"
        "A vote is told only once it is on disk."
        "Figure 2: persist before responding; a voter that restarts votes again"
        ["A told vote is on disk"]
    VoteRequestWaitsForDisk "vote-request-before-fsync"
        "A candidate asks for votes only once its own is on disk."
        "Figure 2: persist before responding; diss. §3.8"
        ["A told vote is on disk"]
    OneVoteATerm "vote-twice"
        "A server votes once in a term, first come first served."
        "[RV2], §5.2"
        ["Election Safety"]
    TermHasItsOwnVote "vote-outlives-term"
        "A new term begins without a vote."
        "§5.2: votedFor belongs to currentTerm"
        ["Liveness", "Leader Completeness"]
    VoterHasNoMore "vote-for-any-log"
        "A vote goes only to a log at least as up-to-date as the voter's."
        "[RV2], §5.4.1"
        ["Leader Completeness"]
    TermBeforeLength "up-to-date-by-length"
        "Of two logs the one whose last term is later is more up-to-date, however short it is."
        "§5.4.1; judging by length alone is a common mistake"
        ["Committed is on a majority of disks", "Leader Completeness", "State Machine Safety"]
    VotesAreASet "votes-as-a-number"
        "A vote that is delivered twice is one vote."
        "§5.2; votes counted by arrival make leaders without a majority"
        ["A leader has a majority's votes", "Election Safety", "Log Matching"]
    StaleRepliesAreDropped "stale-replies-accepted"
        "A reply of an older term is dropped."
        "§5.1; stale votes elect, stale acknowledgements commit"
        ["A leader has a majority's votes", "Election Safety", "Log Matching"]
    VotesAreWithheld "vote-while-leader-heard"
        "A server that hears its leader does not let a candidate disturb it."
        "diss. §4.2.3"
        ["A leader that is heard is left alone"]
    StaleRequestIsAnswered "stale-requests-ignored"
        "A request of an older term is answered with the present one."
        "[AE1] [RV1]; else who was cut off and came back with a higher term never follows again"
        ["An echo waits for nothing", "Liveness"]
    CandidateYields "candidate-ignores-leader"
        "A candidate follows the leader of its term, whatever its log looks like."
        "[C3], §5.2"
        ["An echo waits for nothing", "Liveness"]
    LeaderNeedsAMajority "no-check-quorum"
        "A leader that no majority answers steps down."
        "diss. §6.2; its clients wait for nothing"
        ["A leader hears a majority"]
    HungDiskDoesNotLead "hung-disk-leads"
        "A leader whose disk hangs steps down if a majority is further without it."
        "one bad disk stops the cluster while its heartbeats go on"
        ["A hung disk does not lead"]
    RefusalTellsTheTerm "refusal-without-term"
        "Who refuses a pre-vote tells its term, and the asker adopts it."
        "diss. §9.6; else a short log in a high term and a long log in a low one refuse each other"
        ["Who is told a higher term adopts it", "Liveness"]
    PreVoteMovesNoTerm "pre-vote-moves-term"
        "A pre-vote moves no term: it asks what would be."
        "diss. §9.6; else asking does the harm that it is there to prevent"
        ["A leader that is heard is left alone"]
    HigherTermIsAdopted "higher-term-ignored"
        "Who is told a higher term adopts it and follows."
        "[ALL2], §5.1"
        ["Who is told a higher term adopts it", "Liveness"]
    TermNeedsPreVotes "no-pre-vote"
        "A term is spent only when a majority would vote."
        "diss. §9.6; who was cut off comes back with a term that deposes a healthy leader"
        ["A term is spent with a majority's pre-votes"]
    CandidateClockWaits "candidate-clock-before-fsync"
        "A candidate's clock starts when its vote is on disk: before, nobody has been asked."
        "diss. §10.2.1; with slow disks every candidate would give up before it has begun"
        ["An election waits for its timeout"]
    FormerLeaderStartsItsClock "step-down-without-clock"
        "A leader that follows a higher term starts its election clock."
        "§5.2; a leader has no clock running: the old one would go off at once, or never"
        ["An election waits for its timeout", "Who hears nobody stands up"]
    StaleLeadersResetNoClock "clock-reset-by-old-leader"
        "A request of an older term resets no election clock."
        "[F2]; a deposed leader that talks on would keep the others from electing the next"
        ["Who hears nobody stands up"]
    LeaderHearsItself "leader-hears-nobody"
        "A leader hears a leader: itself."
        "diss. §4.2.3; else it votes itself out of office"
        ["A leader that is heard is left alone"]
    LateCloseIsIgnored "late-close-counts"
        "Only the newest connection's end means that the leader is gone."
        "an old connection's end is noticed long after it was replaced"
        ["Only the newest connection's end is one"]
    LostIsUnheard "lost-leader-still-heard"
        "A leader whose connection has ended is heard no more."
        "a killed leader is replaced at once, not after a timeout"
        ["Only the newest connection's end is one"]

    // ---- raft: the follower's log ----
    HeartbeatIsChecked "heartbeat-without-check"
        "A heartbeat passes the consistency check like any AppendEntries."
        "[AE2], §5.3; heartbeats are nothing special"
        ["only entries in the log are committed", "we vouch only for entries that we have",
         "State Machine Safety"]
    TruncateOnlyOnConflict "truncate-always"
        "Only a conflict cuts the log: a late, short message cuts nothing off."
        "[AE3], §5.3"
        ["Leader Append-Only", "Leader Completeness"]
    CommitUpToLastNew "commit-own-last"
        "A follower commits no further than the message vouches for: its tail may be another's."
        "[AE5], §5.3"
        ["State Machine Safety"]
    AckWaitsForDisk "ack-before-fsync"
        "An acknowledgement vouches for entries only as far as they are on disk."
        "Figure 2: persist before responding; diss. §10.2.1"
        ["An acknowledged entry is on disk"]
    AckWaitsForTerm "ack-before-term"
        "An acknowledgement waits until the term is on disk, too."
        "Figure 2; who forgets the term may follow its predecessor and replace the entries"
        ["An acknowledged entry is on disk"]
    AgreementBelongsToTerm "ack-outlives-term"
        "What was verified with one term's leader is not vouched for to the next."
        "§5.3; a stored acknowledgement commits an entry that has been replaced"
        ["Committed is on a majority of disks", "Liveness"]
    DebtsBelongToTerm "debts-outlive-term"
        "What one term's leader is owed is not paid to the next: rounds belong to their term."
        "diss. §6.4; an old echo would confirm reads that nobody has confirmed"
        ["An echo answers its own term's round"]
    EchoWaitsForNothing "echo-waits-for-disk"
        "An echo waits for no disk: a follower with a slow one is still there."
        "diss. §6.2, §6.4; check-quorum and reads count echoes"
        ["An echo waits for nothing", "Work is what there is to take"]

    // ---- raft: the disk ----
    HardStateIsWritten "hard-state-only-with-entries"
        "Term and vote are written even if there are no entries to write."
        "Figure 2: persistent state"
        ["A told vote is on disk"]
    TruncationClampsDurable "no-clamp-durable"
        "Truncation takes back what the disk was known to hold."
        "diss. §10.2.1; the log changes under the disk"
        ["An acknowledged entry is on disk", "Log Matching",
         "truncation clamps what the disk proves"]
    TruncationClampsWrite "no-clamp-in-flight"
        "Truncation takes back what the write under way will prove."
        "diss. §10.2.1; the log changes under a write"
        ["An acknowledged entry is on disk", "truncation clamps the write in flight"]
    WritesAreBounded "unbounded-write"
        "One write is bounded: a vote may have to wait for it."
        "A queue without a bound is a failure that waits for its load"
        ["Queues are bounded"]

    // ---- raft: the leader ----
    LeaderAppendsNoop "no-noop"
        "A new leader begins its term with an entry of its own."
        "§5.4.2, §8; else earlier terms' entries wait for a client"
        ["Liveness"]
    MatchIsWhatWasSaid "match-from-next-index"
        "A follower matches as far as it says, not as far as it was sent to."
        "[L3], §5.3"
        ["Committed is on a majority of disks"]
    OvertakenRefusalsAreIgnored "stale-refusals-obeyed"
        "A refusal that was overtaken by a later reply is ignored."
        "§5.3; messages arrive late"
        ["a probe goes back, never forward"]
    LeaderCountsItsDisk "leader-counts-before-fsync"
        "A leader counts itself only as far as its own disk is."
        "diss. §10.2.1"
        ["Committed is on a majority of disks"]
    CommitOnlyOwnTerm "commit-old-term"
        "Copies commit only entries of the leader's own term, and older ones with them."
        "[L4], §5.4.2, Figure 8"
        ["Leader Completeness"]
    MessagesAreBounded "unbounded-messages"
        "One message carries a bounded number of bytes."
        "A queue without a bound is a failure that waits for its load"
        ["Queues are bounded"]
    HeartbeatFollowsWhatWasSent "heartbeat-from-match"
        "A heartbeat stands after what was sent last: so a follower notices what it has missed."
        "[L3], §5.3; else lost entries are never sent again"
        ["Liveness"]
    OnlyMatchFreesTheWindow "echo-frees-window"
        "Only what a follower has on disk makes room for more; an echo does not."
        "A queue without a bound is a failure that waits for its load"
        ["Queues are bounded"]
    UncommittedIsBounded "unbounded-uncommitted"
        "What a leader has accepted and not committed is bounded."
        "A leader without a majority would take on work for ever"
        ["Queues are bounded"]
    LeadersBeatAtRest "idle-leader-is-silent"
        "A leader that has nothing to say sends heartbeats all the same."
        "[L1], §5.2; else its followers stand for election"
        ["A leader is heard in time"]
    LateReadsAskAll "read-waits-for-one"
        "A read that has waited for a tick asks all followers, and not only as many as it needs."
        "the one that was asked may be down, and all reads would wait for the next heartbeat"
        ["A read waits for no single follower"]
    WhoWaitsIsToldAtOnce "commit-with-ticks"
        "A follower whose clients wait for an entry learns at once that it is committed."
        "a tick is longer than a write takes"
        ["Commit is told in time"]
    TicksTellTheCommit "commit-with-heartbeats"
        "Whoever has not learnt how far entries are committed does with the next tick."
        "those who watch a follower's store, or read what is stale there, wait for it"
        ["Commit is told in time"]
    LostNewsIsToldAgain "news-lost-with-its-link"
        "What was told and asked on a connection that is gone counts as untold and unasked."
        "an acknowledgement may come before the new one's probe, and nothing would be left to send"
        ["Commit is told in time"]
    EchoesAreHeard "check-quorum-counts-matches"
        "Every answer shows a leader that its follower is there, not only an acknowledgement."
        "diss. §6.2; a quiet cluster or slow disks would depose their leader"
        ["A leader gives up only for a reason"]
    SlowDisksLead "slow-disk-steps-down"
        "A leader with a slow disk leads on if nobody's is faster."
        "stepping down helps nobody where all disks are slow"
        ["A leader gives up only for a reason"]

    HandoverEnds "handover-never-ends"
        "A leader whose successor does not take over in time leads on."
        "diss. §3.10; meanwhile it takes no writes"
        ["Liveness"]

    // ---- raft: snapshots ----
    TailIsDurable "compact-beyond-disk"
        "What is not on this server's own disk stays in its log, whatever a snapshot covers."
        "the entries before it may be committed by the others' disks; they are still to be written"
        ["what is not on our disk is not forgotten"]
    PartsLeaveNoHole "snapshot-parts-any-offset"
        "A part of a snapshot is taken only where the last one ended."
        "[IS3]; parts are lost, doubled and reordered"
        ["A snapshot that was received is whole"]
    ValidSuffixIsKept "snapshot-drops-suffix"
        "Entries that follow a snapshot in an agreeing log are kept."
        "[IS6]; some of them are acknowledged, and needed for a majority"
        ["we vouch only for entries that we have", "Committed is on a majority of disks"]

    LogBeginsAnew "no-base-record"
        "The journal says that the log begins anew behind a snapshot that was installed."
        "[IS7]; what is written next leaves a gap behind what was there"
        ["Log Matching"]
    SnapshotClampsWrite "install-ignores-write"
        "A write under way proves nothing of a log that an installed snapshot has replaced."
        "[IS7]; diss. §10.2.1: the disk works while the lock is free"
        ["Log Matching", "truncation clamps the write in flight"]
    CatchUpIsKept "no-log-behind-transfer"
        "The log behind a snapshot that is being sent is kept, within a bound."
        "S83; a slow follower of a busy cluster would be sent snapshots for ever"
        ["Liveness"]
    RestoredIsUnknown "restored-keeps-waiting"
        "A write whose effect came with a snapshot is answered: its outcome is unknown."
        "§7: no entry will come that answers it"
        ["A write that came with a snapshot is answered"]

    // ---- raft: reads and applying ----
    ReadWaitsForNoop "read-before-noop"
        "A new leader's reads wait for its first entry: before, it does not know what is committed."
        "§8; diss. §6.4"
        ["Linearizability", "A read shows a state of its time"]
    ReadWaitsForEchoes "read-without-round"
        "A leader proves that it leads before it answers a read."
        "§8; diss. §6.4; it may have been deposed"
        ["Linearizability"]
    ReadBeginsARound "read-joins-old-round"
        "Only echoes of messages that left after the read arrived count for it."
        "diss. §6.4"
        ["Linearizability"]
    AskerIsOneVoice "asker-is-enough"
        "Who asks the leader for a read counts as one of the majority that follows, and no more."
        "diss. §6.4; of five servers, two that are cut off know nothing of the other three"
        ["A read index covers what was committed"]
    QuestionGoesToOurLeader "asks-old-leader"
        "A follower asks only the leader of its own term for a read."
        "diss. §6.4; a question is an echo, and it may have acknowledged what the old one lacks"
        ["A read index covers what was committed", "Liveness"]
    ApplyOnlyCommitted "apply-uncommitted"
        "Only committed entries are applied."
        "[ALL1], §5.3; what was read may never have happened"
        ["only committed entries are applied"]
    ApplyInOrder "apply-out-of-order"
        "Entries are applied in the order of the log."
        "[ALL1], §5.3"
        ["entries are applied in order, each once"]

    // ---- gateway and state machine ----
    HandedOverIsUnknown "refuse-what-left"
        "What was handed over is not refused: nobody knows whether it happens."
        "§8; a timeout is no failure"
        ["Refused never happens"]
    PendingIsBounded "unbounded-pending"
        "What waits at a gateway is bounded."
        "A queue without a bound is a failure that waits for its load"
        ["Queues are bounded"]
    AnswerNamesItsRequest "answer-to-another-request"
        "A client gets the outcome of its own request, by its id, not of one in its place."
        "§8; after a change of leaders an index holds another's command"
        ["A connection's requests are executed in order", "Done has happened", "Linearizability"]
    ReadJoinsOpenQuestion "read-joins-asked-question"
        "A read joins only a question that has not left."
        "diss. §6.4; one that has left was perhaps answered before the read arrived"
        ["Linearizability"]
    AnswerNamesItsQuestion "answer-to-another-question"
        "The answer to one question says nothing about another."
        "diss. §6.4; late answers arrive after a change of leaders"
        ["Linearizability", "A read shows a state of its time"]
    ReadWaitsForApply "read-before-applied"
        "A read waits until the state machine has applied its read index."
        "diss. §6.4, step 3"
        ["Linearizability"]
    RequestsAreExecutedOnce "no-deduplication"
        "A request that stands in the log twice is executed once."
        "§8; diss. §6.3"
        ["No request is executed twice"]
    FloorIsRespected "floor-forgotten"
        "What lies below a gateway's floor was seen, or is not waited for any more."
        "diss. §6.3; one number remembers all of it"
        ["No request is executed twice"]
    AnswerNamesItsLife "answer-to-another-life"
        "The answer to a question of an earlier life says nothing to this one."
        "diss. §6.4; answers outlive those who asked, and lives count their questions alike"
        ["Linearizability"]
    ReadFollowsWrites "read-overtakes-write"
        "On one connection a read is executed after the writes before it."
        "a client reads what it has written"
        ["A connection's requests are executed in order", "Linearizability"]
    WriteFollowsReads "write-overtakes-read"
        "On one connection a write is started after the reads before it."
        "a client does not read what it had not yet written"
        ["A connection's requests are executed in order", "Linearizability"]
    PartsComeInOrder "forward-with-gaps"
        "The parts of a forward are taken in their order, and none after a gap."
        "what a connection sends is executed in the order in which it was sent"
        ["What a leader has taken is in its log", "A connection's requests are executed in order",
         "Done has happened"]
    RefusalEndsAttempt "forward-after-refusal"
        "After a part that was refused nothing of the same attempt is taken."
        "what a connection sends is executed in the order in which it was sent"
        ["What a leader has taken is in its log", "A connection's requests are executed in order",
         "Done has happened"]
    RefusedStartsAgain "refused-goes-on"
        "A gateway that was refused starts again with its oldest write."
        "after a refusal nothing of the attempt is taken: its clients would wait for nothing"
        ["What was refused starts again"]
    LeadershipIsATerm "new-term-same-leader"
        "A leader that leads anew, in a later term, is handed everything again."
        "§8; what it was sent in an earlier term may be lost with it"
        ["A new leadership is handed everything"]
    NewLinkStartsAgain "new-link-goes-on"
        "A leader that opens a new connection is handed everything again."
        "§5.1: RPCs are retried; its answers may be lost with the old connection"
        ["A new leadership is handed everything"]
    LeadershipTakesOnce "forwarded-again-taken-again"
        "What a gateway forwards again is not appended again by the same leadership."
        "diss. §6.3 ignores the second one, but its room in the log is lost: doubts breed load"
        ["A leadership takes a request once"]
    InboxEndsWithLeadership "inbox-outlives-leadership"
        "What a leader took for its log in an earlier leadership counts for nothing in this one."
        "§5.3: its entries may have been replaced; who believes they are there skips them for ever"
        ["What a leader has taken is in its log"]
    OlderLivesAreOver "older-life-accepted"
        "A command of a gateway's earlier life is ignored once its next life has spoken."
        "§8; diss. §6.3; messages outlive those who sent them"
        ["No request is executed twice"]
    FloorOnlyRises "floor-falls"
        "A gateway's floor only rises, whatever a late command says."
        "diss. §6.3; what was forgotten below it would be executed again"
        ["No request is executed twice"]

    // ---- log time, transactions, ONCE, weaker reads ----
    StampsNeverFall "stamps-fall"
        "A leader stamps no entry earlier than the one before it."
        "log time goes on from the last stamp in the log, whoever leads"
        ["Log time never falls", "A stamp is no older than its entry"]
    TimeComesFirst "time-only-with-ticks"
        "Before anything happens to a server, it is told the time."
        "a SET that waited during a pause would be stamped too early, and expire early"
        ["A stamp is no older than its entry"]
    StampsTellTheTime "expiry-by-own-clock"
        "What has expired is decided by the stamp of the entry, not by anybody's clock."
        "§2: state machines are deterministic; clocks differ, and a restart replays the log later"
        ["State Machine Safety", "A write is answered with what it did",
         "A read shows a state of its time",
         "EXEC does all or nothing, and nothing if a key has changed"]
    TimeIsTold "no-clock-entry"
        "A leader appends an entry for its stamp alone when a key is due and nobody writes."
        "else the key stays until somebody does"
        ["Keys expire in peace"]
    DeletionLeavesATombstone "no-tombstones"
        "A deleted key leaves behind when it was deleted."
        "WATCH sees no key; who creates and deletes it in between must not go unnoticed"
        ["EXEC does all or nothing, and nothing if a key has changed",
         "A read shows a state of its time"]
    WatchSeesExpiry "watch-misses-expiry"
        "A watched key that has expired since has changed, though no entry touched it."
        "EXEC depends on what WATCH saw"
        ["EXEC does all or nothing, and nothing if a key has changed",
         "A read shows a state of its time"]
    DeadlineIsAChange "watch-misses-expire"
        "Another deadline is a change of the key: EXPIRE and PERSIST abort who watches it."
        "as in Redis; EXEC depends on what WATCH saw"
        ["EXEC does all or nothing, and nothing if a key has changed",
         "A read shows a state of its time", "A write is answered with what it did"]
    MovedRowsAreFound "lost-row"
        "When a row of the table moves into the place of one that was removed, the index is told."
        "a read that is confirmed would find no value where there is one"
        ["A read shows a state of its time"]
    WatchIsCheckedOnce "exec-half-done"
        "The watched keys are compared before the first operation, and not again."
        "a transaction that touches what it watches would stop in its middle"
        ["EXEC does all or nothing, and nothing if a key has changed",
         "A read shows a state of its time"]
    OnceIsRemembered "once-executed-twice"
        "A number of ONCE that was executed before is answered from memory."
        "diss. §6.3; the client cannot know that its first attempt arrived"
        ["ONCE is executed once", "A read shows a state of its time"]
    UnknownOnceIsRefused "once-unknown-executes"
        "ONCE with a number above 1 of a client that is not known is not executed."
        "diss. §6.3; it may have been executed before the client was forgotten"
        ["ONCE is executed once", "A read shows a state of its time"]
    OnceLeavesNoGaps "once-gaps"
        "ONCE with a number that leaves out others is not executed."
        "the one left out may still be on its way, and would be taken for a repetition"
        ["ONCE is executed once", "A read shows a state of its time"]
    StaleReadWaitsForWrites "stale-read-overtakes"
        "Even a stale read waits for the earlier writes of its connection."
        "who has written something and does not find it believes that it was lost"
        ["A connection's requests are executed in order",
         "A stale read shows its connection's writes"]

    // ---- storage ----
    FailedJournalIsOver "journal-goes-on"
        "A journal that has failed once takes no more."
        "what follows would stand behind a hole"
        ["a journal that has failed once must never succeed again"]
    FailedSyncEndsTheServer "failed-sync-ignored"
        "A sync that fails is the end of the process: the kernel may have dropped the pages."
        "a sync that succeeds after one that failed proves nothing"
        ["A server that crashed starts again", "Durability"]
    NewSegmentHasItsName "directory-not-synced"
        "A new file counts once the directory that names it is synced."
        "a file without its name is lost with all it holds"
        ["Durability", "A server that crashed starts again"]
    SegmentIsWholeWhenNamed "segment-named-first"
        "A spare file is named as the next segment when its first batch is synced, not before."
        "the segment before it ends in reserved bytes: only a batch behind proves that it is whole"
        ["A server that crashed starts again"]
    SpareHasOneName "recycled-under-two-names"
        "A segment that is used again is written to when its old name is durably gone, not before."
        "the old name would come back, with what is written under the new one"
        ["A server that crashed starts again"]
    RoomIsReserved "writes-without-room"
        "An entry is accepted, and written, only into space that is reserved."
        "a write that meets a full disk halfway is the end of the process"
        ["A full disk is no end"]
    OneNoopIsFree "noops-without-room"
        "Of a term's no-ops only the first may be written into what is kept for terms and votes."
        "those that tell the time are many, and would leave a full server without a vote"
        ["Writes fit into the room that there is"]
    OnlyWhatIsCoveredGoes "segments-removed-early"
        "A segment of the journal is removed only when a durable snapshot covers it."
        "§7; nothing else has what it holds"
        ["A server that crashed starts again", "What was promised is found again"]
    SnapshotIsWholeWhenNamed "snapshot-renamed-before-fsync"
        "A snapshot is synced before it gets its name."
        "§7; the newest one would be torn, and the log before it gone"
        ["A server that crashed starts again"]
    SnapshotHasItsName "snapshot-name-not-synced"
        "The name of a snapshot is durable before anything is forgotten for it."
        "S37; the snapshot would be gone with its name, and the log before it with it"
        ["A server that crashed starts again"]
    SnapshotRaisesTerm "snapshot-keeps-old-term"
        "A start that finds a snapshot of a later term than its own is in that term."
        "a snapshot may be durable before the term in which it came"
        ["no entry is newer than the recovered term"]
    FoundSuffixAgrees "start-keeps-any-suffix"
        "A start keeps what follows its snapshot only if its log agrees with it."
        "[IS6] [IS7]; a crash between the snapshot and the beginning of the new log"
        ["terms never fall along the log", "State Machine Safety"]
    RenameIsMadeDurable "rename-not-synced"
        "A file that replaces another counts once the directory is synced."
        "else the old file comes back"
        ["A server that crashed starts again", "Durability"]
    FoundIsMadeDurable "found-is-trusted"
        "What a start has read is synced before anything is promised on it."
        "after a kill the page cache shows what no disk has"
        ["A server that crashed starts again", "Durability"]
    LifeIsRecorded "life-not-recorded"
        "Each start records its number before anything else."
        "two lives with one number mix up their requests"
        ["A server that crashed starts again"]
    QuietJournalIsSealed "no-seal"
        "A quiet journal is sealed, so that rot in its last batch is told from a torn write."
        "damage must never be taken for a tear"
        ["Rot is no tear"]
    DamageIsNoTear "damage-as-torn-tail"
        "A batch that does not check, with a later one behind it, is damage and no torn write."
        "cutting it would forget what was acknowledged"
        ["Rot is no tear"]
    BatchesAreChained "stale-bytes-replayed"
        "A batch is believed only where the chain of batches expects it."
        "the blocks of a file may hold old, valid batches"
        ["Rot is no tear", "A server that crashed starts again"]
    PayloadIsChecked "checksum-ignored"
        "A batch is believed only if its checksum does."
        "a torn write has its length before its bytes"
        ["Rot is no tear", "A server that crashed starts again"]
    EntryReplacesWhatFollows "old-suffix-returns"
        "An entry on disk replaces the one at its index, and all after it."
        "[AE3]; else a cut suffix is back after a restart"
        ["terms never fall along the log", "Log Matching"]
}

impl Rule {
    /// The rule whose absence has this name.
    pub fn named(name: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.lesson().name == name)
    }
}

#[cfg(feature = "lab")]
thread_local! {
    /// Simulations run on many threads; each removes its own rule.
    static REMOVED: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Whether this rule is switched off.
#[cfg(not(feature = "lab"))]
#[inline(always)]
pub const fn removed(_: Rule) -> bool {
    false
}

/// Whether this rule is switched off on this thread.
#[cfg(feature = "lab")]
pub fn removed(rule: Rule) -> bool {
    REMOVED.get() == Some(rule)
}

/// Which rule is switched off on this thread.
#[cfg(feature = "lab")]
pub fn switched_off() -> Option<Rule> {
    REMOVED.get()
}

/// Does something without a rule: it is off on this thread while `work` runs.
#[cfg(feature = "lab")]
pub fn without<T>(rule: Rule, work: impl FnOnce() -> T) -> T {
    let before = REMOVED.replace(Some(rule));
    let result = work();
    REMOVED.set(before);
    result
}
