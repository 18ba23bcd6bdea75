//! PURE. The replicated state machine: commands, the store they act on, request ids already seen.

pub mod command;
