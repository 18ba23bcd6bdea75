//! Peer bytes on blocking sockets.
//!
//! For each ordered pair of servers there is one TCP connection, dialled by the sender: what A
//! tells B goes over A's connection, and nothing but the answer to A's hello comes back on it. No
//! thread is started here; `node` runs these pieces: `dial` and `link` in `peer-send-N`, `listener`
//! and `hello` in `peer-accept`, `frame` in `peer-recv-N`.

pub mod dial;
pub mod frame;
pub mod hello;
pub mod link;
pub mod listener;
pub mod socket;
