//! Golden scripts: small plays with a handful of servers, one property a file, named by it.
//!
//! A script is comments (`#`), commands (`>`), and below each command what happened, as recorded.
//! Messages go onto the wire when a server sends them (`n1 -> n2  …`) and arrive when the script
//! says so; what happens inside a server is told by its events (`n1  …`). The commands are listed
//! in `scripts/commands.rs`. `UPDATE_GOLDEN=1 cargo test --test scripts` records anew.

mod support_raft;

#[path = "scripts/cluster.rs"]
mod cluster;
#[path = "scripts/commands.rs"]
mod commands;
#[path = "scripts/render.rs"]
mod render;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_script_goes_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let scripts = scripts_below(&folder);
    assert!(scripts.len() >= 10, "the scripts are in {}", folder.display());
    let mut failures = String::new();
    for file in scripts {
        let name = file.strip_prefix(&folder).expect("found below it").display().to_string();
        let recorded = fs::read_to_string(&file).expect("a script is a text file");
        assert!(recorded.starts_with("# "), "{name} begins with the property and its section");
        let played = play(&name, &recorded);
        if update && played != recorded {
            fs::write(&file, &played).expect("a script can be rewritten");
        } else if played != recorded {
            failures += &format!("\n{name} went otherwise:\n{}", difference(&recorded, &played));
        }
    }
    assert!(
        failures.is_empty(),
        "{failures}\nIf that is right: UPDATE_GOLDEN=1 cargo test --test scripts"
    );
}

fn scripts_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of the scripts exists") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            found.extend(scripts_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The script with what happens now below each command, instead of what was recorded.
fn play(name: &str, script: &str) -> String {
    let mut cluster = cluster::Cluster::new(3);
    let mut played = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            played += line;
            played += "\n";
        } else if let Some(command) = line.strip_prefix("> ") {
            played += &format!("{line}\n");
            let happened = commands::execute(&mut cluster, command)
                .unwrap_or_else(|problem| panic!("{name}, line {}: {problem}", number + 1));
            for line in happened {
                played += &format!("{}\n", line.trim_end());
            }
        }
    }
    played
}

/// From the first line that differs: what was recorded, and what happened.
fn difference(recorded: &str, played: &str) -> String {
    let (recorded, played): (Vec<_>, Vec<_>) =
        (recorded.lines().collect(), played.lines().collect());
    let same = recorded.iter().zip(&played).take_while(|(a, b)| a == b).count();
    let (mut old, mut new) = (recorded[same..].to_vec(), played[same..].to_vec());
    while old.last().is_some() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let mut text = String::new();
    for (offset, line) in recorded[same.saturating_sub(4)..same].iter().enumerate() {
        text += &format!("{:>4}   {line}\n", same.saturating_sub(4) + offset + 1);
    }
    old.iter().take(20).for_each(|line| text += &format!("   - {line}\n"));
    new.iter().take(20).for_each(|line| text += &format!("   + {line}\n"));
    text
}
