//! Exit codes: a script, or a service manager, decides by them what to do next.

use std::io::{self, Write};
use std::process::ExitCode;

use raft_server::config::ConfigError;

/// Success, and a server that was told to stop.
pub const OK: i32 = 0;
/// Something went wrong while running.
pub const FAILED: i32 = 1;
/// The command line is wrong.
pub const USAGE: i32 = 2;
/// The configuration is wrong.
pub const CONFIG: i32 = 3;
/// The journal is damaged.
pub const DAMAGED: i32 = 5;
/// Asked for, but refused; asking again is safe.
pub const REFUSED: i32 = 10;
/// The condition that was asked about does not hold.
pub const FALSE: i32 = 12;

/// For `--help`.
pub const TABLE: &str = "\
Exit codes:
   0  success; a server stopped by SIGTERM or SIGINT
   1  failure while running
   2  wrong usage
   3  configuration invalid
   4  data directory locked, missing, or of another server
   5  data damaged: the server refuses to start
   6  address in use
   7  disk error: a write or sync failed
   8  disk full, and no room even to start
  10  refused, certainly not executed: try again
  11  unknown whether it was executed
  12  not found, or the condition is false";

/// Why the program ends without having done what was asked, in one line, and with which code.
#[derive(Debug)]
pub struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    /// A failure that ends with `code`.
    pub fn new(code: i32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// A mistake on the command line.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, message)
    }

    /// Tells the person at stderr, if there is one, and returns the code.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            let _ = writeln!(io::stderr(), "raft-server: {}", self.message);
        }
        code(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let code = if matches!(error, ConfigError::NoId { .. }) { USAGE } else { CONFIG };
        Failure::new(code, error.to_string())
    }
}

/// A failed write to stdout. A reader that went away is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(OK, ""),
            _ => Failure::new(FAILED, format!("cannot write to stdout: {error}")),
        }
    }
}

/// Writes lines and makes sure that they have left.
pub fn write_lines(output: &mut impl Write, lines: &[String]) -> io::Result<()> {
    for line in lines {
        writeln!(output, "{line}")?;
    }
    output.flush()
}

/// The code as the system wants it.
pub fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED as u8))
}
