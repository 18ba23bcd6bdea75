//! The bounds that a conversation keeps to: settings of the server, each with its default from
//! `crate::limits`.

use crate::limits;

/// How much a client may ask for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line, in bytes, without its end.
    pub line_bytes: usize,
    /// Longest key, in bytes.
    pub key_bytes: usize,
    /// Longest value, and longest argument of an array, in bytes.
    pub value_bytes: usize,
    /// Most arguments of one request, the command word included.
    pub arguments: usize,
    /// Largest request, in bytes of its arguments.
    pub request_bytes: usize,
    /// Most commands that MULTI gathers, and most keys that WATCH watches.
    pub transaction_commands: usize,
    /// Most bytes that MULTI gathers, and that the watched keys take.
    pub transaction_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes: limits::LINE_BYTES_MAX,
            key_bytes: limits::KEY_BYTES_MAX,
            value_bytes: limits::VALUE_BYTES_MAX,
            arguments: limits::ARGUMENTS_MAX,
            request_bytes: limits::REQUEST_BYTES_MAX,
            transaction_commands: limits::TRANSACTION_COMMANDS_MAX,
            transaction_bytes: limits::TRANSACTION_BYTES_MAX,
        }
    }
}
