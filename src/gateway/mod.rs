//! PURE. What a server owes its clients: pending requests, forwarding, re-sending, deadlines.

pub mod message;
