//! PURE. Client bytes → [`Request`], [`Reply`] → client bytes.
//!
//! A person types lines through netcat and gets lines back; a Redis client sends arrays and gets
//! RESP. Both reach the same server through one path:
//!
//! ```text
//! bytes ─ parser ─ arguments ─ commands ─ Request ─ … the server … ─ Reply ─ line ─ bytes
//!           │        └ quoting    └ one table: names, arity, help        └ one printer per dialect
//!           └ which dialect does this request speak?
//! ```
//!
//! The dialect belongs to the request, never to the connection, and travels beside it to the
//! printer. RESP comes as one file for reading arrays, called where the parser now says so, and one
//! for each printer.

pub mod commands;
pub mod line;
pub mod parser;
pub mod quoting;
pub mod reply;
pub mod request;
pub mod status;

pub use parser::{CloseReason, Dialect, Input, Parsed, Parser};
pub use reply::Reply;
pub use request::{Local, Request};
