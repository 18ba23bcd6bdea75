//! The house rules that a machine can check: who may know whom, what pure rooms do without, that
//! each rule of Figure 2 is in the code and on a test, and what lies where.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may know whom (everybody may know `limits`). `*` means everything.
const EDGES: [(&str, &[&str]); 17] = [
    ("limits", &[]),
    ("lab", &[]),
    ("raft", &["lab"]),
    ("kv", &["lab"]),
    ("gateway", &["raft::types", "kv::command", "kv::encoding", "lab"]),
    ("protocol", &["kv::command"]),
    ("server", &["raft", "kv", "gateway", "lab"]),
    ("storage", &["raft::types", "raft::durability", "lab"]),
    ("transport", &["raft::message", "raft::types", "gateway::message"]),
    ("observe", &["raft::event", "raft::types"]),
    ("config", &[]),
    ("bench", &[]),
    ("state_file", &["kv", "storage", "raft::types"]),
    ("sim", &["raft", "kv", "gateway", "storage", "state_file", "server", "lab"]),
    (
        "node",
        &[
            "raft",
            "kv",
            "gateway",
            "protocol",
            "server",
            "state_file",
            "storage",
            "transport",
            "observe",
            "config",
        ],
    ),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// Rooms whose every result follows from their inputs.
const PURE: [&str; 5] = ["raft", "kv", "gateway", "protocol", "server"];

/// What a pure room does without: clocks, sockets, files, threads, the environment …
const IMPURE_STD: [&str; 6] = ["time", "net", "fs", "thread", "env", "process"];

/// … logging, locks, and collections whose order is random.
const IMPURE: [&str; 17] = [
    "use log::",
    "error!(",
    "warn!(",
    "info!(",
    "debug!(",
    "trace!(",
    "println!(",
    "parking_lot",
    "crossbeam",
    "Mutex",
    "RwLock",
    "Condvar",
    "Atomic",
    "HashMap",
    "HashSet",
    "HashTable",
    "RandomState",
];

/// A table whose own order nobody sees, and whose hashes decide nothing but where a row is found.
const SEEDED: &str = "src/kv/store/table.rs";

/// The rules of Figure 2 and Figure 13, in the figures' order.
const TAGS: [&str; 27] = [
    "[AE1]", "[AE2]", "[AE3]", "[AE4]", "[AE5]", "[RV1]", "[RV2]", "[ALL1]", "[ALL2]", "[F1]",
    "[F2]", "[C1]", "[C2]", "[C3]", "[C4]", "[L1]", "[L2]", "[L3]", "[L4]", "[IS1]", "[IS2]",
    "[IS3]", "[IS4]", "[IS5]", "[IS6]", "[IS7]", "[IS8]",
];

/// What may lie at the top, beside dot files. `target` and `data` are made by building and running.
const TOP_LEVEL: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "cluster.toml",
    "run_cluster.sh",
    "README.md",
    "target",
    "data",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `directory` whose name ends with `ending`, with their text.
fn files(directory: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the directory is in the repository") {
            let path = entry.expect("a directory can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let name = path.strip_prefix(root()).expect("it is below the root").to_owned();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

/// `src/raft/log.rs` and `src/raft.rs` are in the room `raft`.
fn room(file: &Path) -> String {
    let inside = file.strip_prefix("src").expect("a source file");
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file: without comments, and without the tests at its end, which may use anything.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
}

/// The paths into our own crate that a piece of code names: `crate::{raft::{types, log::Log}, kv}`
/// gives `raft::types`, `raft::log::Log` and `kv`.
fn own_paths(code: &str) -> Vec<String> {
    paths_below(&["crate::", "raft_server::"], code)
}

fn paths_below(starts: &[&str], code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in starts {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            collect_paths("", &mut rest.chars().peekable(), &mut paths);
        }
    }
    paths
}

/// Reads one branch of a `use` tree after `prefix`.
fn collect_paths(
    prefix: &str,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    paths: &mut Vec<String>,
) {
    let mut path = prefix.to_owned();
    loop {
        match rest.peek() {
            Some('{') => {
                rest.next();
                while rest.peek().is_some_and(|next| *next != '}') {
                    if rest.next_if(|next| next.is_whitespace() || *next == ',').is_none() {
                        collect_paths(&path, rest, paths);
                    }
                }
                rest.next();
                return;
            }
            Some(next) if next.is_alphanumeric() || "_:*".contains(*next) => path.push(*next),
            _ => break,
        }
        rest.next();
    }
    if path == prefix {
        rest.next(); // something that is no path: step over it
        return;
    }
    paths.push(path);
    // `name as other` and what else may follow, up to the end of this branch.
    while rest.next_if(|next| !",}\n;".contains(*next)).is_some() {}
}

fn allowed(room: &str, path: &str) -> bool {
    let (_, edges) = EDGES.iter().find(|(known, _)| *known == room).unwrap_or(&("", &[]));
    let first = path.split("::").next().unwrap_or_default();
    let below = |edge: &str| path == edge || path.starts_with(&format!("{edge}::"));
    first == room || first == "limits" || edges.iter().any(|edge| *edge == "*" || below(edge))
}

/// The division holds only as long as nobody reaches around it.
#[test]
fn rooms_know_only_whom_they_may() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs") {
        let room = room(&file);
        if room == "lib" || is_test(&file) {
            continue;
        }
        let known = EDGES.iter().any(|(known, _)| *known == room);
        assert!(known, "{} is in no room that DESIGN's table knows", file.display());
        for path in own_paths(&code(&text)) {
            if !allowed(&room, &path) {
                wrong.push(format!("{}: {room} must not know {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The check above is worth what its reading of `use` lines is worth.
#[test]
fn use_lines_are_understood() {
    let read =
        own_paths("use crate::{raft::{types::Term, log as l}, kv};\nlet x = crate::node::y();");
    assert_eq!(read, ["raft::types::Term", "raft::log", "kv", "node::y"]);
    assert!(allowed("gateway", "raft::types::Term") && !allowed("gateway", "raft::log"));
    assert!(
        !allowed("raft", "kv")
            && allowed("raft", "lab::Rule")
            && allowed("raft", "limits::SEGMENT_BYTES")
    );
    assert!(!allowed("config", "node::serve") && allowed("cli", "node::serve"));
}

/// A pure room can be simulated and replayed; one clock or one hash map in it, and it cannot.
#[test]
fn pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs") {
        if !PURE.contains(&room(&file).as_str()) || is_test(&file) {
            continue;
        }
        for path in paths_below(&["std::"], &code(&text)) {
            let first = path.split("::").next().unwrap_or_default();
            if IMPURE_STD.contains(&first) {
                wrong.push(format!("{}: std::{path}", file.display()));
            }
        }
        let is_allowed =
            |word: &str| file.ends_with(SEEDED) && ["HashTable", "RandomState"].contains(&word);
        for (number, line) in code(&text).lines().enumerate() {
            for word in IMPURE.iter().filter(|word| names(line, word) && !is_allowed(word)) {
                wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `line` has `word` where a name begins.
fn names(line: &str, word: &str) -> bool {
    let inside = |before: char| before.is_alphanumeric() || before == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside))
}

/// A reader with the paper open finds every rule of Figure 2 in the code.
#[test]
fn every_rule_of_figure_2_is_in_the_code() {
    let raft: String = files("src/raft", ".rs").into_iter().map(|(_, text)| text).collect();
    let missing: Vec<_> = TAGS.iter().filter(|tag| !raft.contains(**tag)).collect();
    assert!(missing.is_empty(), "not in src/raft: {missing:?}");
}

/// … and each has a test, in the figure's order.
#[test]
fn every_rule_of_figure_2_has_a_test() {
    let read = |file| fs::read_to_string(root().join(file)).expect("it has a test for each rule");
    let paper = read("tests/paper.rs") + &read("tests/paper/snapshots.rs");
    let lines: Vec<&str> = paper.lines().collect();
    let mut last = 0;
    for tag in TAGS {
        let is_tag_of_test =
            |line: &&str| line.trim_start().starts_with("///") && line.contains(tag);
        let position = lines.iter().position(is_tag_of_test);
        let position = position.unwrap_or_else(|| panic!("no test of tests/paper.rs has {tag}"));
        assert!(position >= last, "{tag} stands before its predecessor in tests/paper.rs");
        let mut after = lines[position..].iter().map(|line| line.trim_start());
        let code = after.find(|line| !line.starts_with("///")).unwrap_or_default();
        assert!(code.starts_with("#["), "{tag} in tests/paper.rs is on no test");
        last = position;
    }
}

/// A switch that stands nowhere would be "found" by whatever else is wrong.
#[test]
fn every_rule_of_the_lab_stands_in_the_code() {
    let sources: String = files("src", ".rs")
        .into_iter()
        .filter(|(file, _)| room(file) != "lab")
        .map(|(_, text)| code(&text))
        .collect();
    for rule in raft_server::lab::Rule::ALL {
        let switch = format!("removed(Rule::{rule:?})");
        assert!(sources.contains(&switch), "{switch} stands nowhere");
    }
}

/// Rows of `tests/scenarios.md`: (S8) is a failure scenario, (L3) a learner's mistake.
fn scenarios() -> String {
    fs::read_to_string(root().join("tests/scenarios.md")).expect("the table of scenarios")
}

/// The rows that a piece of prose names: `S1`, `L10`; `S1–S3` names three. Not `[L1]`, which is a
/// rule of Figure 2.
fn rows_named(prose: &str) -> Vec<String> {
    let mut rows: Vec<(char, u32)> = Vec::new();
    let mut range_from = None;
    for piece in prose.split_inclusive(|letter: char| !letter.is_alphanumeric() && letter != '[') {
        let word = piece.trim_end_matches(|letter: char| !letter.is_alphanumeric());
        let number = word.get(1..).filter(|digits| matches!(digits.len(), 1 | 2));
        let number = number.and_then(|digits| digits.parse::<u32>().ok());
        let row = word.chars().next().filter(|kind| "SL".contains(*kind)).zip(number);
        match (row, range_from.take()) {
            (Some((kind, last)), Some((same, first))) if kind == same => {
                rows.extend((first + 1..=last).map(|number| (kind, number)));
            }
            (Some(row), _) => rows.push(row),
            (None, _) => {}
        }
        range_from = row.filter(|_| piece.ends_with('–'));
    }
    rows.into_iter().map(|(kind, number)| format!("{kind}{number}")).collect()
}

/// A number is worth what it can be looked up in.
#[test]
fn every_scenario_that_is_named_has_a_row() {
    assert_eq!(rows_named("(L3, S8), S1–S3: [L4], `L5`"), ["L3", "S8", "S1", "S2", "S3", "L5"]);
    let table = scenarios();
    let known: Vec<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .flat_map(|row| rows_named(row.split('|').next().unwrap_or_default()))
        .collect();
    let mut wrong = Vec::new();
    let sources = [("src", ".rs", "//"), ("tests", ".rs", "//"), ("tests", ".txt", "#")];
    for (directory, ending, comment) in sources {
        for (file, text) in files(directory, ending) {
            // This file shows what a number looks like.
            if file == Path::new("tests/tidy.rs") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let prose = line.split_once(comment).map_or("", |(_, prose)| prose);
                for row in rows_named(prose).iter().filter(|row| !known.contains(*row)) {
                    wrong.push(format!("{}:{}: no row {row}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "tests/scenarios.md lacks rows:\n{}", wrong.join("\n"));
}

/// … and a row is worth what its tests are worth: they must be there.
#[test]
fn every_test_that_the_scenarios_name_exists() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let table = scenarios();
    let rows = table.lines().filter(|line| line.starts_with("| ") || line.starts_with("- "));
    for name in rows.flat_map(|row| row.split('`').skip(1).step_by(2)) {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        if !file.ends_with(".rs") && !file.ends_with(".txt") {
            continue; // no test, but code
        }
        let below = if file.starts_with("src/") { "" } else { "tests/" };
        let text = fs::read_to_string(root().join(below).join(file)).unwrap_or_default();
        let is_there = match test {
            "" => !text.is_empty(),
            test => text.contains(&format!("fn {test}(")),
        };
        if !is_there {
            wrong.push(name.to_owned());
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "tests/scenarios.md names what is not there: {wrong:?}");
    assert!(count > 100, "only {count} names were found: is the table still read rightly?");
}

#[test]
fn the_top_level_is_short() {
    for entry in fs::read_dir(root()).expect("the repository") {
        let name = entry.expect("a directory can be listed").file_name();
        let name = name.to_string_lossy();
        let known = name.starts_with('.') || TOP_LEVEL.contains(&name.as_ref());
        assert!(known, "{name} does not belong to the top level");
    }
}

#[test]
fn lines_and_files_stay_readable() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > 100 {
                wrong.push(format!("{}:{}: over 100 columns", file.display(), number + 1));
            }
        }
        let count = text.lines().count();
        if file.starts_with("src/raft") && !is_test(&file) && count > 450 {
            wrong.push(format!("{}: {count} lines; is it two files?", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `tests/cluster.rs` types the README's transcript into a real cluster: it must be there to be
/// typed.
#[test]
fn the_readme_has_its_transcript() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let begin = "```console\n$ nc localhost 7001\n";
    let (_, transcript) = readme.split_once(begin).expect("a console block that starts netcat");
    let (transcript, _) = transcript.split_once("\n```").expect("the block ends");
    assert!(transcript.lines().count() >= 10, "the transcript shows too little");
    for word in ["run_cluster.sh 3", "cargo test", "UNKNOWN"] {
        assert!(readme.contains(word), "the README lacks {word}");
    }
}
