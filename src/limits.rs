//! Every bound of the server, with its unit and the reason for its value.
//!
//! A bound that decides a result when an entry is applied is a constant here, never a setting: two
//! servers with different settings must not reach different states.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value, in bytes. Checked where a request is parsed and, for APPEND, where it is applied.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Longest inline request line, in bytes, without its end.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most arguments of one request, the command word included.
pub const ARGUMENTS_MAX: usize = 1024;

/// Largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most that `limits.key_bytes` may be set to, in bytes.
pub const KEY_BYTES_CEILING: usize = 64 * 1024;

/// The most that `limits.arguments` and `limits.transaction_commands` may be set to.
pub const ARGUMENTS_CEILING: usize = 64 * 1024;

/// The most that `limits.request_bytes` may be set to, in bytes: a request and what is written
/// around its arguments fit into a frame between servers.
pub const REQUEST_BYTES_CEILING: usize = 8 * 1024 * 1024;

/// Arguments of an array that is refused and stepped over; more are no array. As in Redis.
pub const SKIPPED_ARGUMENTS_MAX: usize = 1024 * 1024;

/// Bytes of arguments of an array that is refused and stepped over, in all; who claims more is cut
/// off. As much as Redis takes for one argument.
pub const SKIPPED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Commands that MULTI gathers, and keys that WATCH watches.
pub const TRANSACTION_COMMANDS_MAX: usize = 1024;

/// Bytes of the commands that MULTI gathers, and of the keys that WATCH watches. A transaction is
/// one entry of the log.
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;

/// Longest name that a client may give its connection, or the library it uses, in bytes.
pub const CONNECTION_NAME_BYTES_MAX: usize = 256;

/// Most keys that FLUSHALL deletes: it is one entry, and all servers are busy with it for some tens
/// of milliseconds.
pub const FLUSHED_KEYS_MAX: usize = 100_000;

/// Largest COUNT of SCAN: the keys that one call may examine.
pub const SCAN_COUNT_MAX: usize = 1000;

/// Most entries that LOG shows at once.
pub const LOG_ENTRIES_SHOWN_MAX: usize = 100;

/// Longest time that WAITINDEX waits, in milliseconds.
pub const WAIT_INDEX_MS_MAX: u64 = 60_000;

/// Largest reply to one request, in bytes of keys and values: known before it is built. What a
/// transaction answers keeps to this, whatever `limits.reply_bytes` is set to: it is decided when
/// its entry is applied.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The least that `limits.reply_bytes` may be set to: what the server tells of itself fits.
pub const REPLY_BYTES_FLOOR: usize = 64 * 1024;

/// The most that `limits.reply_bytes` may be set to, in bytes: it is printed while the applier
/// waits.
pub const REPLY_BYTES_CEILING: usize = 64 * 1024 * 1024;

/// Most pairs that RANGE and PREFIX return.
pub const RANGE_PAIRS_MAX: usize = 1000;

/// RANGE and PREFIX end early after this many bytes of keys and values.
pub const RANGE_BYTES_MAX: usize = 1024 * 1024;

/// Time that a request which has begun to arrive may take until it is complete.
pub const REQUEST_ARRIVAL_SECONDS_MAX: u64 = 30;

/// Commands of one connection that may be unanswered; then the server stops reading from it.
pub const PIPELINE_COMMANDS_MAX: usize = 1024;

/// Bytes of commands of one connection that may be unanswered; then the server stops reading from
/// it.
pub const PIPELINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of everything a gateway has pending; beyond it a request is refused with TRYAGAIN before
/// anything of it is accepted.
pub const GATEWAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of log that may be not yet committed and durable on the leader.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time until a request is answered at the latest, in milliseconds.
pub const REQUEST_DEADLINE_MS: u64 = 5000;

/// Client connections. An idle one costs its buffers only: one thread reads from all.
pub const CONNECTIONS_MAX: usize = 4096;

/// Of these, how many are kept for connections from loopback.
pub const CONNECTIONS_FOR_LOOPBACK: usize = 4;

/// Replies that a connection may leave unread, in bytes; then it is closed.
pub const UNREAD_REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one write of the log writer. It bounds how long a vote can wait for the disk.
pub const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of entries in one AppendEntries.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of entries sent to one follower and not yet matched.
pub const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of forwarded writes in one message.
pub const FORWARD_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of entries that the applier takes at once.
pub const APPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Outcomes that the applier gathers before it hands them to their connections. (Without this
/// bound all clients of a large batch wait for its end, and then the applier for them: side by side
/// 50 clients with 16 reads each in flight got 1.20 times as many with it.)
pub const OUTCOMES_MAX: usize = 128;

/// Clients whose reads the applier executes before it sends them the answers, likewise: those who
/// have theirs ask for more meanwhile.
pub const READERS_MAX: usize = 64;

/// Bytes of outcomes that the applier gathers before it hands them to their connections.
pub const OUTCOME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one frame between servers. The largest single message is one entry, or one forwarded
/// command, of full size (one of any size is always admitted), and it must fit; what is more in
/// number than a frame can hold goes into several.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Memory that an idle link keeps for its next frame, in bytes: a full AppendEntries usually fits,
/// and a rare giant does not hold its memory for ever.
pub const LINK_IDLE_BYTES_MAX: usize = 2 * APPEND_BYTES_MAX;

/// Longest cluster id, in bytes: it is sent in every handshake.
pub const CLUSTER_ID_BYTES_MAX: usize = 64;

/// Longest name of a cluster in a handshake, in bytes: its id, and the index, term and hash of the
/// backup that it began with.
pub const CLUSTER_NAME_BYTES_MAX: usize = CLUSTER_ID_BYTES_MAX + 64;

/// Longest body of a greeting between servers, in bytes: a hello with a cluster's name of full
/// size, or the text of a refusal that names two of them.
pub const GREETING_BYTES_MAX: usize = 512;

/// Backups that may be read from one server at a time: each keeps a snapshot's file open, and so on
/// disk, even when newer ones have replaced it.
pub const BACKUPS_MAX: usize = 4;

/// Longest time that BACKUP BEGIN waits for a snapshot to be written, in milliseconds.
pub const BACKUP_WAIT_MS_MAX: u64 = 60_000;

/// Most bytes of a snapshot that BACKUP READ answers at once.
pub const BACKUP_READ_BYTES_MAX: usize = 1024 * 1024;

/// Time that a connection to a peer may take to be established, in milliseconds: below an election
/// timeout, as more than one address may have to be tried.
pub const CONNECT_MS_MAX: u64 = 300;

/// Time for a whole handshake, in milliseconds. The acceptor may have to write to its disk in it.
pub const HANDSHAKE_MS_MAX: u64 = 2000;

/// Pause after the first failure to reach a peer, in milliseconds: a server that restarts is back
/// within a few of these.
pub const DIAL_PAUSE_MS_MIN: u64 = 10;

/// Longest pause between two attempts to reach a peer, in milliseconds: about an election timeout,
/// so that a healed peer is heard before anybody stands for election.
pub const DIAL_PAUSE_MS_MAX: u64 = 500;

/// Time without an acknowledgement of what was sent after which a connection between servers is
/// dead (S51), in milliseconds: a half-open link must not keep a healed peer waiting for minutes.
pub const LINK_SILENCE_MS_MAX: u64 = 2000;

/// Time that one blocking send to a peer may take before its thread comes back to look around, in
/// milliseconds.
pub const LINK_SEND_MS_MAX: u64 = 500;

/// How long an accept loop rests when descriptors are short and not even its reserve is left, in
/// milliseconds: long enough not to spin, short enough not to be noticed.
pub const SHORTAGE_PAUSE_MS: u64 = 50;

/// Log lines that may wait for stderr; beyond it they are dropped and counted (S69).
pub const LOG_LINES_MAX: usize = 8192;

/// Longest message in a log line, in bytes; what is longer is cut. With the line above it bounds
/// the memory that waits for stderr.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4096;

/// How soon dropped log lines are reported although nothing more is logged, in milliseconds.
pub const LOG_DROPPED_REPORT_MS: u64 = 1000;

/// At least so long lies between two entries that a leader appends only to tell the time, in
/// milliseconds: keys that expire when nothing else is written are late by no more than this and
/// the time to commit an entry.
pub const CLOCK_ENTRY_MS_MIN: u64 = 100;

/// Bytes of changes that a server keeps for feeds that fall behind or come back: those of all
/// entries that its log still has in memory, unless small entries make large changes.
pub const FEED_HISTORY_BYTES_MAX: usize = 192 * 1024 * 1024;

/// The newest segment of the journal is zero-filled by so many bytes at a time, ahead of what is
/// written.
pub const RESERVED_STEP_BYTES: u64 = 1024 * 1024;

/// Bytes of what is reserved that are kept for terms and votes: some hundred elections on a full
/// disk.
pub const RESERVED_FOR_VOTES_BYTES: u64 = 64 * 1024;

/// Obsolete segments of the journal that are kept to be used again: about as many as the log has
/// between two snapshots that are written fast.
pub const READY_SEGMENTS_MAX: usize = 4;

/// Segments are kept to be used again, and prepared before they are needed, as long as there is
/// room for so many (or so many of the largest entry) beside the next snapshot.
pub const PLENTY_OF_SEGMENTS: u64 = 8;

/// Room in which a deletion fits, in bytes, as long as it does not name a great many keys. A full
/// disk with less refuses deletions, too.
pub const DELETION_BYTES: u64 = 4 * 1024;

/// Bytes of log after which a snapshot is taken. It bounds what a start has to replay, in time
/// (about half a second) as in memory. A smaller log costs more snapshots: with half of this, 64 to
/// 256 writers get a tenth less, and wait a quarter longer at the 99th percentile.
pub const SNAPSHOT_LOG_BYTES: u64 = 128 * 1024 * 1024;

/// Entries of log after which a snapshot is taken, however small they are.
pub const SNAPSHOT_LOG_ENTRIES: u64 = 1_000_000;

/// Age of the last snapshot after which another is taken if there is anything new, in seconds.
pub const SNAPSHOT_AGE_SECONDS: u64 = 60 * 60;

/// Time until the next attempt after a snapshot that could not be written, in milliseconds.
pub const SNAPSHOT_RETRY_MS: u64 = 10_000;

/// Bytes of log before the snapshot that are kept in memory for followers that are a little behind:
/// a server that is restarted under load usually finds there what it missed.
pub const LOG_TAIL_BYTES: u64 = 32 * 1024 * 1024;

/// Entries that are dropped from memory at once, in a tenth of a millisecond or so, and as many
/// with each tick. (A 64th of all, if that is more: however fast others are added, it ends.)
pub const FORGOTTEN_ENTRIES_MAX: u64 = 4096;

/// Bytes of log that are kept in memory for a follower while it is sent a snapshot, so that it can
/// go on where that ends. One that is slower than this needs another snapshot.
pub const LOG_CATCH_UP_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of a snapshot in one message: it holds up a heartbeat behind it no longer than an ordinary
/// AppendEntries does.
pub const SNAPSHOT_CHUNK_BYTES: u64 = 256 * 1024;

/// Bytes of a snapshot under way to one follower and not yet stored there.
pub const SNAPSHOT_WINDOW_BYTES_MAX: u64 = 1024 * 1024;

/// A server tells the others the hash of its state at each index that is a multiple of this: a few
/// times a second under load, and a state that differs is found within so many entries.
pub const STATE_HASH_EVERY_ENTRIES: u64 = 256;

/// Bytes of one journal segment, after which the next is begun. A start writes the newest one
/// afresh, and what a snapshot covers is removed a segment at a time.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes up to which keys and values are put together in one item of a snapshot. A single larger
/// one is an item by itself.
pub const SNAPSHOT_ITEM_BYTES: usize = 32 * 1024;

/// Largest size that a segment may be configured to have, in bytes. A segment grows beyond its size
/// by one batch and a few dozen bytes for each start; recovery refuses to read files of 1 GiB.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Longest item of a snapshot, in bytes: what one part of the state machine may be written as.
pub const SNAPSHOT_ITEM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Items of a snapshot are gathered into blocks of about this length, in bytes, which are checked
/// and written as one.
pub const SNAPSHOT_BLOCK_BYTES: usize = 64 * 1024;

/// Bytes of a snapshot that are written before they are synced. More would keep the journal
/// waiting, as a disk does one thing after the other.
pub const SNAPSHOT_SYNC_BYTES: u64 = 1024 * 1024;

/// A long job on the disk that nobody waits for rests after each piece of it, for so many times as
/// long as the piece took: with 3 it takes a quarter of the disk's time.
pub const DISK_REST_PER_WORK: u32 = 3;

/// It does not rest for longer than this, in milliseconds: a sync that hung must not make it hang.
pub const DISK_REST_MS_MAX: u64 = 100;

/// A large file is removed by so many bytes at a time, each made durable before the next, so that
/// the journal's syncs come in between.
pub const FREED_STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Keys that SCAN looks at for one page, however many it is asked for.
pub const SCAN_KEYS_MAX: usize = 1000;

/// Keys that a query looks at while the applier waits for it; one that needs more is answered on
/// its connection's thread.
pub const QUERY_WORK_MAX: usize = 4096;

/// Keys that all the queries of one transaction may look at, as it is answered by the applier and
/// nobody else: some milliseconds.
pub const TRANSACTION_WORK_MAX: usize = 10_000;

/// Expired keys that an entry removes before its command is executed: half a millisecond, or 6 when
/// a snapshot of a million keys has just begun, as what is removed must then be copied.
pub const EXPIRED_PER_ENTRY_MAX: usize = 256;

/// Expired keys that an entry removes which carries no command and so delays nobody's: some
/// milliseconds, or 75 when such a snapshot has just begun. When nothing is written, such entries
/// come a few per second.
pub const EXPIRED_PER_CLOCK_ENTRY_MAX: usize = 4096;

/// Entries for which it is remembered that a key was deleted: seconds of full load, hours of a
/// quiet day. A transaction that watches a missing key for longer is aborted.
pub const TOMBSTONE_SPAN_ENTRIES: u64 = 100_000;

/// Deleted keys that are remembered. With `KEY_BYTES_MAX` it bounds the memory for them.
pub const TOMBSTONES_MAX: usize = 65_536;

/// Deleted keys that one entry forgets because of their age: more than most entries delete.
pub const TOMBSTONES_FORGOTTEN_PER_ENTRY_MAX: usize = 256;

/// Clients of ONCE that are remembered.
pub const ONCE_CLIENTS_MAX: usize = 10_000;

/// Bytes that are remembered for all clients of ONCE.
pub const ONCE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Answers that are remembered for one client of ONCE: a client that sends that many commands ahead
/// can repeat them all.
pub const ONCE_ANSWERS_MAX: usize = 16;

/// Bytes of answers that are remembered for one client of ONCE; the newest is, of any size.
pub const ONCE_ANSWERS_BYTES_MAX: usize = 64 * 1024;

/// Log time after which an idle client of ONCE is forgotten, in milliseconds: a day. Whoever tries
/// again later than that is told that it is not known.
pub const ONCE_IDLE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
