//! What a server keeps on disk, and how it finds out after a crash what it really kept.
//!
//! Raft's promises (Figure 2, "persistent state") are worth what the disk remembers of them. This
//! room has one idea, the *batch*: whatever the core wants durable leaves as one write and one
//! sync, framed so that a later start can tell an interrupted write from damage. Reading order:
//!
//! - [`disk`]: the few things we ask of a file system; [`memory_disk`] is one that fails on
//!   request, [`recording_disk`] one that tries every crash.
//! - [`batch`]: the bytes of a batch; [`record`]: what is inside.
//! - [`scan`]: which bytes of a segment are batches, and what stands behind the first that is not
//!   one.
//! - [`journal`]: writing; [`reserve`]: into space that it has before; [`chores`]: what is done to
//!   files meanwhile; [`walk`]: reading, and telling a tear from damage; [`recovery`]: what a start
//!   makes of it, and making sure that it counts.
//! - [`snapshot`]: the whole state machine at one index, in a file of its own; [`pace`]: written
//!   so that entries do not wait for it.
//! - [`identity`]: whose directory this is; [`init`]: how it comes to be; [`peers_met`]: whom we
//!   have met; [`dump`]: for people.

pub mod batch;
pub mod chores;
pub mod disk;
pub mod dump;
pub mod error;
pub mod identity;
pub mod init;
pub mod journal;
pub mod memory_disk;
pub mod pace;
pub mod peers_met;
pub mod record;
pub mod recording_disk;
pub mod recovery;
pub mod reserve;
pub mod scan;
pub mod snapshot;
pub mod walk;
