//! Peer bytes on blocking sockets.
//!
//! For each ordered pair of servers there is one TCP connection, dialled by the sender: what A
//! tells B goes over A's connection, and nothing but the answer to A's hello comes back on it. So
//! each direction fails, and is mended, by itself.
//!
//! A connection's life: `dial` reaches the peer and both say who they are (`hello`); then `link`
//! sends `frame`s until it breaks. On the other side `listener` accepts, answers the hello, and
//! reads frames.
//!
//! No thread is started here and nothing is decided about Raft; `node` runs these pieces: `dial`
//! and `link` in `peer-send-N`, `listener` in `peer-accept`, its `Inbound` in `peer-recv-N`. What
//! is lost with a connection is lost: Raft and the gateway ask again.

pub mod dial;
pub mod frame;
pub mod hello;
pub mod link;
pub mod listener;
pub mod socket;
