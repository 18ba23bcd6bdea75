//! PURE. Client bytes → [`Request`], [`Reply`] → client bytes.
//!
//! A person types lines through netcat and gets lines back; a Redis client sends arrays and gets
//! RESP. Both reach the same server through one path:
//!
//! ```text
//! bytes ─ parser ─ arguments ─ commands ─ conversation ─ Request ─ … ─ Reply ─ bytes
//!           ├ quoting: lines     │          └ MULTI, WATCH, HELLO, FEED     └ line, resp
//!           └ array: RESP        └ one table: names, arity, help
//! ```
//!
//! The dialect belongs to the request, never to the connection, and travels beside it to the
//! printer.

mod array;
mod bounds;
mod close;
pub mod commands;
mod conversation;
mod dialect;
pub mod error;
pub mod line;
pub mod parser;
pub mod quoting;
pub mod reply;
pub mod request;
pub mod resp;
pub mod status;
mod transaction;

pub use bounds::Limits;
pub use close::{CloseReason, Malformed};
pub use conversation::{Conversation, Input, Parsed, REDIS_VERSION};
pub use dialect::Dialect;
pub use reply::Reply;
pub use request::{Insight, Local, Request};
