//! Raft Server: a fault-tolerant, linearizable key-value server.
pub mod gateway;
pub mod kv;
pub mod limits;
pub mod observe;
pub mod protocol;
pub mod raft;
pub mod server;
pub mod sim;
pub mod storage;
pub mod transport;
