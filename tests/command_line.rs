//! What people and scripts see of the program before any server runs: arguments, exit codes, the
//! configuration check, and the script's refusals.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.toml");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/run_cluster.sh");

/// The program, without the variables that whoever runs the tests may have set.
fn raft_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAFT_SERVER_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn version_is_one_line_with_everything_a_bug_report_needs() {
    for flag in ["-V", "--version"] {
        let (code, stdout, _) = run(&mut raft_server(&[flag]));
        assert_eq!(code, Some(0));
        assert_eq!(stdout.lines().count(), 1);
        for word in ["raft-server ", "commit", "build", "on-disk format", "peer protocol"] {
            assert!(stdout.contains(word), "{stdout:?} lacks {word:?}");
        }
    }
}

#[test]
fn help_lists_the_exit_codes() {
    for arguments in [vec!["--help"], vec!["-h"], vec!["serve", "--help"]] {
        let (code, stdout, _) = run(&mut raft_server(&arguments));
        assert_eq!(code, Some(0));
        for number in ["0", "1", "2", "3", "4", "5", "6", "7", "10", "11", "12"] {
            let listed = stdout.lines().any(|line| line.trim_start().starts_with(number));
            assert!(listed, "{arguments:?} does not explain exit code {number}");
        }
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let cases: [&[&str]; 8] = [
        &[],
        &["nonsense"],
        &["serve", "--id", "0"],
        &["serve", "--id", "256"],
        &["status"],
        &["status", "localhost"],
        &["log", "dump"],
        &["snapshot", "verify"],
    ];
    for arguments in cases {
        assert_eq!(run(&mut raft_server(arguments)).0, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_exit_3_and_one_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broken = directory.path().join("cluster.toml");
    let text = fs::read_to_string(SAMPLE).expect("the sample");
    fs::write(&broken, text.replace("heartbeat_ms", "heart_ms")).expect("a file");
    let broken = broken.to_str().expect("a UTF-8 path");

    for arguments in [
        vec!["serve", "--config", broken, "--id", "1"],
        vec!["serve", "--config", "/no/such/file", "--id", "1"],
        vec!["serve", "--config", SAMPLE, "--id", "1"],
        vec!["init", "--config", SAMPLE, "--id", "1"],
    ] {
        let (code, stdout, stderr) = run(&mut raft_server(&arguments));
        assert_eq!(code, Some(3), "{arguments:?}: {stderr}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
    }
    let (_, _, stderr) = run(&mut raft_server(&["serve", "--config", broken]));
    assert!(stderr.contains("unknown key `heart_ms`; did you mean `heartbeat_ms`?"), "{stderr}");

    let mut command = raft_server(&["serve", "--config", SAMPLE, "--id", "1"]);
    let (code, _, stderr) = run(command.env("RAFT_SERVER_DTA", "x"));
    assert_eq!(code, Some(3));
    assert!(stderr.contains("RAFT_SERVER_DATA"), "{stderr}");
}

#[test]
fn check_config_names_the_origin_of_each_value() {
    let arguments = ["serve", "--config", SAMPLE, "--check-config", "--data", "/from/flag"];
    let mut command = raft_server(&arguments);
    let (code, stdout, _) = run(command.env("RAFT_SERVER_ID", "2"));
    assert_eq!(code, Some(0));
    for line in [
        "heartbeat_ms = 50 # file",
        "# id = 2 # environment",
        "# data = \"/from/flag\" # flag",
        "# client_listen = \"127.0.0.1:7002\" # default",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "{stdout} lacks {line}");
    }
}

/// Not a disk error: the person has mistyped, or forgotten `init`.
#[test]
fn a_directory_without_data_is_exit_4_and_one_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path().to_str().expect("a UTF-8 path");
    for what in ["dump", "verify"] {
        let (code, stdout, stderr) = run(&mut raft_server(&["log", what, directory]));
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(4), "", 1), "{stderr}");
    }
}

/// `raft-server … | head` must not end in a panic.
#[test]
fn a_closed_stdout_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = raft_server(&["serve", "--config", SAMPLE, "--check-config"]);
    let (code, _, stderr) = run(command.stdout(writer));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

/// Nobody listens: the row says so, and a script can tell by the code.
#[test]
fn status_of_a_server_that_is_not_there_fails() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").to_string()
    };
    let (code, stdout, _) = run(&mut raft_server(&["status", &address]));
    assert_eq!(code, Some(1));
    assert!(stdout.contains("cannot be reached"), "{stdout}");
    let (code, stdout, _) = run(&mut raft_server(&["status", "--json", &address]));
    assert_eq!(code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&stdout).expect("it is JSON");
    assert_eq!(json["address"], address);
    assert!(json["error"].is_string());
    let (code, _, stderr) = run(&mut raft_server(&["status", "--wait-leader", "0", &address]));
    assert_eq!(code, Some(12));
    assert!(stderr.contains("no leader"), "{stderr}");
}

#[test]
fn the_script_refuses_wrong_arguments_with_one_line() {
    for arguments in [
        vec!["0"],
        vec!["10"],
        vec!["three"],
        vec!["3", "5"],
        vec!["--base-port"],
        vec!["--base-port", "65500"],
        vec!["--what"],
    ] {
        let mut script = Command::new("bash");
        let (code, stdout, stderr) = run(script.arg(SCRIPT).args(&arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    }
    let (code, stdout, _) = run(Command::new("bash").args([SCRIPT, "--help"]));
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("usage:"));
}

/// The script in a directory of its own, so that nothing of a cluster that somebody runs is
/// touched.
fn script_in(directory: &Path) -> Command {
    let script = directory.join("run_cluster.sh");
    fs::copy(SCRIPT, &script).expect("a copy of the script");
    fs::copy(SAMPLE, directory.join("cluster.toml")).expect("a copy of the sample");
    let mut command = Command::new("bash");
    command.arg(script).env("RAFT_CLUSTER_BINARY", env!("CARGO_BIN_EXE_raft-server"));
    command
}

/// A first listening port P + 1, and the base port P that the script needs to be given for it.
fn taken_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    if port <= 65000 { (listener, port - 1) } else { taken_port() }
}

#[test]
fn the_script_names_a_port_in_use() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_listener, base_port) = taken_port();
    let mut script = script_in(directory.path());
    let (code, _, stderr) = run(script.args(["1", "--base-port", &base_port.to_string()]));
    assert_eq!(code, Some(6));
    assert!(stderr.contains(&format!("port {} is in use", base_port + 1)), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn the_script_names_what_is_wrong_in_cluster_toml() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (listener, base_port) = taken_port();
    drop(listener);
    let mut script = script_in(directory.path());
    fs::write(directory.path().join("cluster.toml"), "[cluster]\nidd = \"x\"\n").expect("a file");
    let (code, _, stderr) = run(script.args(["1", "--base-port", &base_port.to_string()]));
    assert_eq!(code, Some(3));
    assert!(stderr.contains("cluster.toml:2: unknown key `idd`"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
    assert!(!directory.path().join("data").exists(), "nothing is made before all is checked");
}

/// `--clean` is `rm -r`: what it did not make, it does not touch.
#[test]
fn the_script_cleans_only_what_it_made() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (listener, base_port) = taken_port();
    drop(listener);
    let precious = directory.path().join("data/1/1/precious");
    fs::create_dir_all(precious.parent().expect("a path")).expect("directories");
    fs::write(&precious, "mine").expect("a file");
    let mut script = script_in(directory.path());
    let (code, _, stderr) =
        run(script.args(["1", "--clean", "--base-port", &base_port.to_string()]));
    assert_eq!(code, Some(4), "{stderr}");
    assert!(precious.exists());
}

/// A data directory with a snapshot of entry 20, and the log behind it.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/3");

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is in the repository") {
        let entry = entry.expect("a directory can be listed");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), &copied).expect("it is ours");
        }
    }
}

/// S38: what a start would make of snapshots and journal can be asked before, and changes nothing.
#[test]
fn snapshots_can_be_looked_at_and_damage_is_exit_5() {
    for what in ["dump", "verify"] {
        let (code, stdout, stderr) = run(&mut raft_server(&["snapshot", what, DATA]));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("up to 20@T3") && stdout.contains("items=3"), "{stdout}");
        let (code, stdout, _) = run(&mut raft_server(&["snapshot", what, DATA, "--json"]));
        let lines: Vec<serde_json::Value> = stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("one object each"))
            .collect();
        assert_eq!((code, lines.len()), (Some(0), if what == "dump" { 4 } else { 1 }));
        assert_eq!(lines.last().expect("there is one")["header"]["state_hash"], 0xABCD);
        let (code, stdout, _) = run(&mut raft_server(&["log", what, DATA]));
        assert_eq!(code, Some(0), "{stdout}");
        assert!(stdout.contains("snapshot 20@T3, last entry 25@T3"), "{stdout}");
    }
    let parent = tempfile::tempdir().expect("a temporary directory");
    let damaged = parent.path().join("data");
    copy(Path::new(DATA), &damaged);
    let name = "00000000000000000020-0000000000000003.snap";
    let file = damaged.join("snapshots").join(name);
    let mut bytes = fs::read(&file).expect("it is there");
    bytes.pop();
    fs::write(&file, bytes).expect("it is ours");
    let damaged = damaged.to_str().expect("a UTF-8 path");
    for (command, what) in
        [("snapshot", "dump"), ("snapshot", "verify"), ("log", "dump"), ("log", "verify")]
    {
        let (code, stdout, _) = run(&mut raft_server(&[command, what, damaged]));
        assert_eq!(code, Some(5), "{command} {what}: {stdout}");
        assert!(stdout.contains(name), "{command} {what}: {stdout}");
    }
    let empty = parent.path().to_str().expect("a UTF-8 path");
    assert_eq!(run(&mut raft_server(&["snapshot", "verify", empty])).0, Some(4));
}
