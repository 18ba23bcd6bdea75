//! What a person gets to see of a running server.

pub mod events;
pub mod logger;
