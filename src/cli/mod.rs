//! The command line: what can be asked of the program, and what each answer's exit code means.
//!
//! Data goes to stdout, everything else to stderr. A reader who closes our stdout early (`| head`)
//! has what he wanted: that is success, not an error.

mod backup;
#[cfg(target_os = "linux")]
mod bench;
mod exit;
mod lab;
mod resp;
mod restore;
mod sim;
mod snapshots;
mod status;
mod wiring;

use std::env;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use raft_server::config::{self, Effective, Overrides};

use exit::Failure;
use snapshots::{Form, Inside};

/// The commit that the binary was built from, if whoever built it said so.
const COMMIT: &str = match option_env!("RAFT_BUILD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A fault-tolerant, linearizable key-value server on the Raft consensus algorithm.
#[derive(Parser)]
#[command(name = "raft-server", after_help = exit::TABLE, arg_required_else_help = true)]
struct Arguments {
    /// Print version, commit, build profile and format versions
    #[arg(short = 'V', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one server of a cluster
    #[command(after_help = exit::TABLE)]
    Serve {
        #[command(flatten)]
        server: ServerArguments,
        /// Check the configuration, print it with the origin of each value, and exit
        #[arg(long)]
        check_config: bool,
    },
    /// Make a server's data directory; once in a server's life
    ///
    /// A server whose disk is lost must not come back under its old id: it has forgotten its votes
    /// and what it acknowledged.
    Init {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Write what a running cluster holds to a file, and verify it
    ///
    /// The file holds every write that was acknowledged before the command began, and is a snapshot
    /// that `snapshot dump` and `snapshot verify` read. To be run on the host of one of the
    /// servers.
    Backup(backup::BackupArguments),
    /// Make a server's data directory from a backup, for a new cluster with a new id
    ///
    /// Like `init`, once in a server's life. Restore ALL servers of the new cluster from the same
    /// file before any of them serves: those that began otherwise, by `init` or from another file,
    /// are refused by the restored ones and refuse them. The new cluster goes on where the backup
    /// ends: keys, values, versions, log index and log time, and what ONCE remembers.
    #[command(after_help = RESTORE_CODES)]
    Restore {
        /// What `backup` has written
        file: PathBuf,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Ask servers for role, term, leader, commit and apply index, and their peers
    Status(status::StatusArguments),
    /// Put load on a cluster: throughput, latencies, errors, outages
    #[cfg(target_os = "linux")]
    Bench(bench::BenchArguments),
    /// Simulate clusters in which everything goes wrong, and check every promise
    Sim(sim::SimArguments),
    /// Take one rule out of the server, and see what breaks
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Read a data directory's journal, and change nothing
    #[command(subcommand, after_help = LOG_CODES)]
    Log(LogCommand),
    /// Read a data directory's snapshots, or a backup, and change nothing
    #[command(subcommand, after_help = SNAPSHOT_CODES)]
    Snapshot(SnapshotCommand),
}

const RESTORE_CODES: &str = "\
Exit codes: 0 the server can be started, 1 there is no such file, 2 wrong usage, 3 configuration
invalid, or with the id of the cluster that the backup is of, 4 the data directory holds something,
5 the backup is damaged or of a later version, 7 disk error, 8 disk full. After any failure the same
command may be run again.";

const SNAPSHOT_CODES: &str = "\
Exit codes: 0 all snapshots are well, 2 wrong usage, 4 no data directory and no file, 5 a snapshot
is damaged, 7 the disk cannot be read.";

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Print what each snapshot says about itself, and the length of each item
    #[command(after_help = SNAPSHOT_CODES)]
    Dump {
        #[command(flatten)]
        of: SnapshotArguments,
        /// Print the keys instead: each with its value, version, and deadline in log time
        #[arg(long)]
        state: bool,
    },
    /// Check every byte of every snapshot; of a single file also that its state has its hash
    #[command(after_help = SNAPSHOT_CODES)]
    Verify(SnapshotArguments),
}

#[derive(Args)]
struct SnapshotArguments {
    /// The data directory of a server, or a single file: a backup, or a snapshot
    path: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

const LOG_CODES: &str = "\
Exit codes: 0 a start would succeed, 2 wrong usage, 4 no data directory, 5 a start would refuse
because data is damaged, 7 the disk cannot be read.";

#[derive(Subcommand)]
enum LogCommand {
    /// Print every record: offset, checksum, index, term, command
    #[command(after_help = LOG_CODES)]
    Dump(LogArguments),
    /// Check every record and say what a start would do
    #[command(after_help = LOG_CODES)]
    Verify(LogArguments),
}

#[derive(Args)]
struct LogArguments {
    /// The data directory of a server: what `data` or --data names
    directory: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// A flag comes before the variable of the same name, the variable before the file.
#[derive(Args)]
struct ServerArguments {
    /// The cluster's file [env: RAFT_SERVER_CONFIG] [default: cluster.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which [[server]] of the file this is; must be given [env: RAFT_SERVER_ID]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=255))]
    id: Option<u32>,
    /// Its data directory [env: RAFT_SERVER_DATA] [default: the file's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen for clients [env: RAFT_SERVER_CLIENT_LISTEN] [default: the file's]
    #[arg(long, value_name = "HOST:PORT")]
    client_listen: Option<String>,
    /// Where to listen for other servers [env: RAFT_SERVER_PEER_LISTEN] [default: the file's]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
}

impl ServerArguments {
    fn effective(self, sample_allowed: bool) -> Result<Effective, Failure> {
        let variables = env::vars_os().map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        });
        let environment = Overrides::from_environment(variables)?;
        let ServerArguments { config, id, data, client_listen, peer_listen } = self;
        let flags = Overrides { config, id, data, client_listen, peer_listen };
        Ok(config::effective(&flags, &environment, sample_allowed)?)
    }
}

/// Does what the command line asks.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that was asked for goes to stdout with code 0, a mistake to stderr with code 2.
            // Whether anybody reads it does not change the code.
            let _ = error.print();
            return exit::code(error.exit_code());
        }
    };
    match answer(arguments) {
        Ok(code) => exit::code(code),
        Err(failure) => failure.report(),
    }
}

fn answer(arguments: Arguments) -> Result<i32, Failure> {
    match arguments.command {
        _ if arguments.version => print_lines(&[version()]),
        None => Err(Failure::usage("say what to do: raft-server --help")),
        Some(Command::Serve { server, check_config: true }) => {
            print_lines(&server.effective(true)?.to_lines())
        }
        Some(Command::Serve { server, check_config: false }) => {
            wiring::serve(&server.effective(false)?)
        }
        Some(Command::Init { server }) => wiring::init(&server.effective(false)?),
        Some(Command::Backup(arguments)) => backup::run(&arguments),
        Some(Command::Restore { file, server }) => restore::run(&file, &server.effective(false)?),
        Some(Command::Status(arguments)) => status::run(&arguments),
        #[cfg(target_os = "linux")]
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Sim(arguments)) => sim::run(&arguments),
        Some(Command::Lab(command)) => lab::run(&command),
        Some(Command::Log(LogCommand::Dump(LogArguments { directory, json }))) => {
            wiring::log_dump(&directory, json, &mut io::stdout().lock())
        }
        Some(Command::Log(LogCommand::Verify(LogArguments { directory, json }))) => {
            wiring::log_verify(&directory, json, &mut io::stdout().lock())
        }
        Some(Command::Snapshot(command)) => {
            let (SnapshotArguments { path, json }, inside) = match command {
                SnapshotCommand::Dump { of, state: false } => (of, Inside::Lengths),
                SnapshotCommand::Dump { of, state: true } => (of, Inside::Keys),
                SnapshotCommand::Verify(of) => (of, Inside::Nothing),
            };
            let form = Form { json, inside };
            snapshots::print(&path, form, &mut BufWriter::new(io::stdout().lock()))
        }
    }
}

fn version() -> String {
    format!(
        "raft-server {}, commit {COMMIT}, {} build, on-disk format {}, peer protocol {}",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "debug" } else { "release" },
        wiring::DISK_FORMAT_VERSION,
        wiring::PEER_PROTOCOL_VERSION,
    )
}

fn print_lines(lines: &[String]) -> Result<i32, Failure> {
    exit::write_lines(&mut io::stdout().lock(), lines)?;
    Ok(exit::OK)
}
