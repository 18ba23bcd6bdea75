//! The sample is the defaults; mistakes are named where they stand; the nearer word wins.

use super::*;

const SAMPLE: &str = include_str!("../../cluster.toml");
const SERVER: &str = "[[server]]\nid = 1\nclient = \"localhost:7001\"\npeer = \"[::1]:7101\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/raft/cluster.toml"))
}

fn problem(text: &str) -> String {
    let problem = parse(text).expect_err("the text is broken").to_string();
    assert_eq!(problem.lines().count(), 1, "an error is one line: {problem}");
    problem
}

/// A file whose cluster id is set and whose only server is server 1, with `more` at the front.
fn with(more: &str) -> String {
    format!("cluster.id = \"blue\"\n{more}\n{SERVER}")
}

/// Writes `text` to a file of its own and returns its directory (which removes it) and its path.
fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("cluster.toml");
    fs::write(&file, text).expect("a file in it");
    (directory, file)
}

fn overrides(config: &Path, id: u32) -> Overrides {
    Overrides { config: Some(config.to_owned()), id: Some(id), ..Overrides::default() }
}

/// What the sample shows is what a server does without a file: nobody tunes a number that is not
/// there.
#[test]
fn the_sample_states_every_default() {
    let sample = parse(SAMPLE).expect("the sample is valid");
    assert_eq!(sample.raft, Timings::default());
    assert_eq!(sample.limits, Limits::default());
    assert_eq!(sample.storage, Storage::default());
    assert_eq!(sample.cluster.id, PLACEHOLDER_CLUSTER);
    assert_eq!(sample.servers.len(), 3);

    let (_directory, file) = file_with(SAMPLE);
    let shown = effective(&overrides(&file, 1), &Overrides::default(), true).expect("valid");
    for line in shown.to_lines() {
        let left_out = line.ends_with("# default") && !line.starts_with('#');
        assert!(!left_out, "the sample leaves this out: {line}");
    }
}

#[test]
fn a_server_does_not_run_under_the_samples_name() {
    let (_directory, file) = file_with(SAMPLE);
    let refused = effective(&overrides(&file, 1), &Overrides::default(), false);
    assert!(refused.expect_err("the placeholder").to_string().contains("change-me"));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_key_that_was_meant() {
    let expected = "/etc/raft/cluster.toml:3: unknown key `hartbeat_ms`; \
                    did you mean `heartbeat_ms`?";
    assert_eq!(problem(&with("[raft]\nhartbeat_ms = 50")), expected);
    assert!(problem(&with("[rafd]")).contains(":2: unknown key `rafd`; did you mean `raft`?"));
    assert!(problem(&with("[limits]\nxyzzy = 1")).contains("known here: connections"));
    let server = format!("{}clientt = \"a:1\"", with(""));
    assert!(problem(&server).ends_with(":7: unknown key `clientt`; did you mean `client`?"));
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    assert!(problem("[cluster]\nid = \n").contains("cluster.toml:2: "));
    assert!(problem(&with("[raft]\nheartbeat_ms = \"50\"")).ends_with(
        "cluster.toml:3: `heartbeat_ms`: invalid type: string \"50\", expected a number"
    ));
    assert!(problem(SERVER).contains("missing field `cluster`"));
}

#[test]
fn what_cannot_work_is_refused() {
    let cases = [
        (with("raft.heartbeat_ms = 150"), "three times heartbeat_ms"),
        (with("raft.heartbeat_ms = 0"), "between 1 and"),
        (with("raft.election_ms = [300, 300]"), "the second must be larger"),
        (with("raft.election_ms = [300, 600000]"), "between 1 and"),
        (with("limits.request_deadline_ms = 100"), "at least 600"),
        (with("limits.gateway_bytes = 100"), "one full request"),
        (with("storage.segment_bytes = 1"), "at least 4096"),
        (with("storage.segment_bytes = 268435457"), "at most 268435456"),
        (with("storage.quota_bytes = 134217727"), "at least 134217728"),
        (with("").replace("blue", "b l u e"), "letters, digits"),
        (with("").replace("id = 1", "id = 256"), "not between 1 and 255"),
        (with("").replace("localhost:7001", "localhost"), "has no port"),
        (with("").replace("localhost:7001", "localhost:0"), "no port from 1"),
        (with("").replace("localhost:7001", "::1:7001"), "no host"),
        (with("").replace("[::1]", "[::g]"), "no IPv6 address"),
        (with("").replace("localhost", "0.0.0.0"), "client_listen"),
        (with("").replace("[::1]:7101", "LOCALHOST:7001"), "are both"),
        (with(SERVER), "given twice"),
        ("cluster.id = \"blue\"".to_owned(), "no [[server]]"),
    ];
    for (text, expected) in cases {
        let problem = problem(&text);
        assert!(problem.contains(expected), "{problem:?} lacks {expected:?}");
    }
}

/// A quota is enough for a cluster that says nothing else about its storage.
#[test]
fn the_log_takes_half_of_a_quota_at_most() {
    let storage = |text: &str| {
        let (_directory, file) = file_with(&with(text));
        effective(&overrides(&file, 1), &Overrides::default(), false).expect("valid").storage
    };
    let mib = 1024 * 1024;
    assert_eq!(storage("").log_bytes_max(), 128 * mib);
    assert_eq!(storage("storage.quota_bytes = 134217728").log_bytes_max(), 64 * mib);
    let settings = "storage.quota_bytes = 134217728\nstorage.snapshot_bytes = 1048576";
    assert_eq!(storage(settings).log_bytes_max(), mib);
}

#[test]
fn the_nearer_word_wins() {
    let text = format!("{}data = \"in-file\"\n", with("raft.heartbeat_ms = 40"));
    let (directory, file) = file_with(&text);
    let nothing = Overrides::default();
    let flags = overrides(&file, 1);

    let from_file = effective(&flags, &nothing, false).expect("valid");
    assert_eq!(from_file.data, directory.path().join("in-file"));
    assert_eq!(from_file.origin("data"), Some(Origin::File));
    assert_eq!(from_file.origin("raft.heartbeat_ms"), Some(Origin::File));
    assert_eq!(from_file.origin("raft.election_ms"), Some(Origin::Default));

    let variables = [("RAFT_SERVER_DATA", "from-environment"), ("HOME", "/root")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment = Overrides::from_environment(variables).expect("known names");
    let from_environment = effective(&flags, &environment, false).expect("valid");
    assert_eq!(from_environment.data, Path::new("from-environment"));
    assert_eq!(from_environment.origin("data"), Some(Origin::Environment));

    let flags = Overrides { data: Some("from-flag".into()), ..flags };
    let from_flag = effective(&flags, &environment, false).expect("valid");
    assert_eq!(from_flag.data, Path::new("from-flag"));
    assert_eq!(from_flag.origin("data"), Some(Origin::Flag));
}

#[test]
fn the_default_data_directory_is_beside_the_file() {
    let (directory, file) = file_with(&with(""));
    let found = effective(&overrides(&file, 1), &Overrides::default(), false).expect("valid");
    assert_eq!(found.data, directory.path().join("data/server-1"));
    assert_eq!(found.client_listen, "localhost:7001");
    assert_eq!(found.member().peer, "[::1]:7101");
}

#[test]
fn an_unknown_variable_with_our_prefix_is_refused() {
    let variables = [("RAFT_SERVER_DATTA".to_owned(), "x".to_owned())];
    let refused = Overrides::from_environment(variables).expect_err("unknown").to_string();
    assert!(refused.contains("did you mean RAFT_SERVER_DATA?"), "{refused}");
    let variables = [("RAFT_SERVER_ID".to_owned(), "one".to_owned())];
    assert!(Overrides::from_environment(variables).is_err());
}

#[test]
fn an_id_that_is_missing_or_in_no_block_is_refused() {
    let (_directory, file) = file_with(&with(""));
    let nothing = Overrides::default();
    let flags = Overrides { id: None, ..overrides(&file, 1) };
    let refused = effective(&flags, &nothing, false).expect_err("no id").to_string();
    assert!(refused.contains("give --id") && refused.contains("server 1"), "{refused}");
    let refused = effective(&overrides(&file, 9), &nothing, false).expect_err("no such id");
    assert!(refused.to_string().contains("no [[server]] has id 9"));
}

/// `run_cluster.sh` builds its file from these lines, so they are TOML and mean the same.
#[test]
fn the_printed_configuration_reads_back() {
    let (_directory, file) = file_with(&with("raft.heartbeat_ms = 40"));
    let shown = effective(&overrides(&file, 1), &Overrides::default(), false).expect("valid");
    let again = parse(&shown.to_lines().join("\n")).expect("it is a cluster.toml");
    assert_eq!(again.raft, shown.raft);
    assert_eq!(again.limits, shown.limits);
    assert_eq!(again.cluster.id, shown.cluster);
    assert!(shown.to_lines().contains(&"heartbeat_ms = 40 # file".to_owned()));
}
