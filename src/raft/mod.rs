//! PURE. The Raft protocol.

pub mod durability;
pub mod message;
pub mod types;
