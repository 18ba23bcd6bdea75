//! Where the command line meets the rooms that do the work.

use std::io::Write;
use std::path::Path;

use raft_server::config::Effective;

use super::exit::{FAILED, Failure};

/// The version of the journal's format.
pub const DISK_FORMAT_VERSION: u32 = 1;

/// The version of what servers say to each other.
pub const PEER_PROTOCOL_VERSION: u32 = 1;

/// Runs a server until it is told to stop, or cannot go on.
pub fn serve(config: Effective) -> Result<i32, Failure> {
    Err(Failure::new(FAILED, format!("server {} cannot run in this build", config.id)))
}

/// Makes the data directory.
pub fn init(config: &Effective) -> Result<i32, Failure> {
    let data = config.data.display();
    Err(Failure::new(FAILED, format!("{data} cannot be made in this build")))
}

/// Prints the journal of a data directory.
pub fn log_dump(directory: &Path, _json: bool, _output: &mut impl Write) -> Result<i32, Failure> {
    let directory = directory.display();
    Err(Failure::new(FAILED, format!("{directory} cannot be read in this build")))
}

/// Says what a start on a data directory would do.
pub fn log_verify(directory: &Path, _json: bool, _output: &mut impl Write) -> Result<i32, Failure> {
    let directory = directory.display();
    Err(Failure::new(FAILED, format!("{directory} cannot be read in this build")))
}
