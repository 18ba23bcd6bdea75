//! What a process really uses: flag before environment before `cluster.toml` before default.
//!
//! The origin of every value is kept, because "where does it get *that* from?" is the first
//! question about any server that behaves unexpectedly; `serve --check-config` prints the answer.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::validate::check_address;
use super::{Config, ConfigError, Limits, PLACEHOLDER_CLUSTER, Storage, Timings, nearest};

/// Variables of the environment that begin with this are ours; one that we do not know is an error.
pub const ENVIRONMENT_PREFIX: &str = "RAFT_SERVER_";

/// The file that is read if nothing names another.
const DEFAULT_FILE: &str = "cluster.toml";

/// Everything a server needs to know to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The file it came from.
    pub file: PathBuf,
    /// `[cluster] id`.
    pub cluster: String,
    /// Which of the members this process is.
    pub id: u32,
    /// All servers of the cluster with this one, by rising id.
    pub members: Vec<Member>,
    /// Where to listen for clients.
    pub client_listen: String,
    /// Where to listen for the other servers.
    pub peer_listen: String,
    /// The data directory.
    pub data: PathBuf,
    /// `[raft]`.
    pub raft: Timings,
    /// `[limits]`.
    pub limits: Limits,
    /// `[storage]`.
    pub storage: Storage,
    /// Where each value comes from, by the name it has in [`Effective::to_lines`].
    origins: Vec<(String, Origin)>,
}

/// A server of the cluster as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u32,
    /// Where clients reach it, to be resolved whenever it is dialled.
    pub client: String,
    /// Where the other servers reach it, to be resolved whenever it is dialled.
    pub peer: String,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// `cluster.toml`.
    File,
    /// Nobody said anything.
    Default,
}

/// What may be said on the command line and, in the same words, in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`, `RAFT_SERVER_CONFIG`: the file to read; default `cluster.toml`.
    pub config: Option<PathBuf>,
    /// `--id`, `RAFT_SERVER_ID`: which server of the file this is.
    pub id: Option<u32>,
    /// `--data`, `RAFT_SERVER_DATA`: its data directory, relative to the current directory.
    pub data: Option<PathBuf>,
    /// `--client-listen`, `RAFT_SERVER_CLIENT_LISTEN`: where to listen for clients.
    pub client_listen: Option<String>,
    /// `--peer-listen`, `RAFT_SERVER_PEER_LISTEN`: where to listen for the other servers.
    pub peer_listen: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Origin::Flag => "flag",
            Origin::Environment => "environment",
            Origin::File => "file",
            Origin::Default => "default",
        })
    }
}

impl Overrides {
    /// Takes what is ours from the environment. A name with our prefix that we do not know, and a
    /// value that we cannot read, are errors.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Overrides, ConfigError> {
        const WORDS: [&str; 5] = ["CONFIG", "ID", "DATA", "CLIENT_LISTEN", "PEER_LISTEN"];
        let mut overrides = Overrides::default();
        for (name, value) in variables {
            let Some(word) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            match word {
                "CONFIG" => overrides.config = Some(value.into()),
                "ID" => overrides.id = Some(parse_id(&name, &value)?),
                "DATA" => overrides.data = Some(value.into()),
                "CLIENT_LISTEN" => overrides.client_listen = Some(value),
                "PEER_LISTEN" => overrides.peer_listen = Some(value),
                _ => {
                    let hint = match nearest(word, &WORDS) {
                        Some(meant) => format!("did you mean {ENVIRONMENT_PREFIX}{meant}?"),
                        None => format!("known after {ENVIRONMENT_PREFIX}: {}", WORDS.join(", ")),
                    };
                    let problem = format!("environment: unknown variable {name}; {hint}");
                    return Err(ConfigError::Override(problem));
                }
            }
        }
        Ok(overrides)
    }
}

fn parse_id(name: &str, value: &str) -> Result<u32, ConfigError> {
    value.parse().map_err(|_| {
        ConfigError::Override(format!(
            "environment: {name}={value:?} is no server id; say 1 to 255"
        ))
    })
}

/// Reads the file that `flags` or `environment` name and puts everything together.
///
/// The placeholder id of the sample is accepted only if `sample_allowed`, and only then may nobody
/// say which server this is (the first one stands for all): so that a file can be checked as such.
pub fn effective(
    flags: &Overrides,
    environment: &Overrides,
    sample_allowed: bool,
) -> Result<Effective, ConfigError> {
    let (file, _) = choose(&flags.config, &environment.config, None, || DEFAULT_FILE.into());
    let config = Config::load(&file)?;
    if !sample_allowed {
        config.check_not_placeholder()?;
    }
    let first = config.servers.first().map(|server| server.id);
    let anyone = if sample_allowed { first } else { None };
    let id = flags
        .id
        .or(environment.id)
        .or(anyone)
        .ok_or_else(|| ConfigError::NoId { file: file.clone(), known: known_ids(&config) })?;
    Effective::assemble(&config, id, flags, environment)
}

/// The first that is set, and where it was set.
fn choose<T: Clone>(
    flag: &Option<T>,
    environment: &Option<T>,
    file: Option<T>,
    default: impl FnOnce() -> T,
) -> (T, Origin) {
    let flag = flag.clone().map(|value| (value, Origin::Flag));
    let environment = environment.clone().map(|value| (value, Origin::Environment));
    let file = file.map(|value| (value, Origin::File));
    flag.or(environment).or(file).unwrap_or_else(|| (default(), Origin::Default))
}

fn known_ids(config: &Config) -> String {
    let ids: Vec<String> = config.servers.iter().map(|server| server.id.to_string()).collect();
    format!("server {}", ids.join(", "))
}

impl Effective {
    fn assemble(
        config: &Config,
        id: u32,
        flags: &Overrides,
        environment: &Overrides,
    ) -> Result<Effective, ConfigError> {
        let server = config.servers.iter().find(|server| server.id == id).ok_or_else(|| {
            config.invalid(format!("no [[server]] has id {id}; there is {}", known_ids(config)))
        })?;
        let directory = config.file.parent().unwrap_or(Path::new(""));
        let in_file = server.data.as_ref().map(|data| directory.join(data));
        let (data, data_origin) = choose(&flags.data, &environment.data, in_file, || {
            directory.join(format!("data/server-{id}"))
        });
        let (client_listen, client_origin) = choose(
            &flags.client_listen,
            &environment.client_listen,
            server.client_listen.clone(),
            || server.client.clone(),
        );
        let (peer_listen, peer_origin) = choose(
            &flags.peer_listen,
            &environment.peer_listen,
            server.peer_listen.clone(),
            || server.peer.clone(),
        );
        for (key, address) in [("client_listen", &client_listen), ("peer_listen", &peer_listen)] {
            check_address(address).map_err(|why| ConfigError::Override(format!("{key}: {why}")))?;
        }
        let id_origin = choose(&flags.id, &environment.id, None, || id).1;
        let mut effective = Effective {
            file: config.file.clone(),
            cluster: config.cluster.id.clone(),
            id,
            members: members(config),
            client_listen,
            peer_listen,
            data,
            raft: config.raft.clone(),
            limits: config.limits.clone(),
            storage: config.storage.clone(),
            origins: vec![
                ("cluster.id".into(), Origin::File),
                ("id".into(), id_origin),
                ("data".into(), data_origin),
                ("client_listen".into(), client_origin),
                ("peer_listen".into(), peer_origin),
            ],
        };
        for (section, key, _) in effective.settings() {
            let present = config.present.get(&section).and_then(|table| table.get(&key)).is_some();
            let origin = if present { Origin::File } else { Origin::Default };
            effective.origins.push((format!("{section}.{key}"), origin));
        }
        Ok(effective)
    }

    /// This server, as the others see it.
    pub fn member(&self) -> &Member {
        self.members.iter().find(|member| member.id == self.id).expect("assemble found our id")
    }

    /// Where a value comes from: `raft.heartbeat_ms`, `data` …
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.origins.iter().find(|(known, _)| known == name).map(|(_, origin)| *origin)
    }

    /// The configuration as TOML with the origin of each value beside it. The first half can stand
    /// in a `cluster.toml` again; what is about this server alone comes last, as comments.
    pub fn to_lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("# {}", self.file.display()),
            "[cluster]".to_owned(),
            self.line("cluster.id", "id", &format!("{:?}", self.cluster)),
        ];
        if self.cluster == PLACEHOLDER_CLUSTER {
            lines.push("# this is the sample's placeholder: serve and init refuse it".to_owned());
        }
        let mut last_section = String::new();
        for (section, key, value) in self.settings() {
            if section != last_section {
                lines.extend([String::new(), format!("[{section}]")]);
                last_section.clone_from(&section);
            }
            lines.push(self.line(&format!("{section}.{key}"), &key, &value));
        }
        for Member { id, client, peer } in &self.members {
            lines.extend([String::new(), "[[server]]".to_owned(), format!("id = {id}")]);
            lines.extend([format!("client = {client:?}"), format!("peer = {peer:?}")]);
        }
        lines.extend([String::new(), "# this server".to_owned()]);
        let data = self.data.display().to_string();
        let own = [
            ("id", self.id.to_string()),
            ("data", format!("{data:?}")),
            ("client_listen", format!("{:?}", self.client_listen)),
            ("peer_listen", format!("{:?}", self.peer_listen)),
        ];
        lines.extend(own.map(|(name, value)| format!("# {}", self.line(name, name, &value))));
        lines
    }

    fn line(&self, name: &str, key: &str, value: &str) -> String {
        let origin = self.origin(name).expect("assemble records the origin of each value");
        format!("{key} = {value} # {origin}")
    }

    /// Section, key and value of every setting, in the order of their definitions.
    pub fn settings(&self) -> Vec<(String, String, String)> {
        let mut settings = section_settings("raft", &self.raft);
        settings.extend(section_settings("limits", &self.limits));
        settings.extend(section_settings("storage", &self.storage));
        settings
    }
}

fn section_settings(section: &str, values: &impl Serialize) -> Vec<(String, String, String)> {
    let table = toml::Table::try_from(values).expect("numbers and arrays of numbers are TOML");
    let setting =
        |(key, value): (String, toml::Value)| (section.to_owned(), key, value.to_string());
    table.into_iter().map(setting).collect()
}

fn members(config: &Config) -> Vec<Member> {
    let member = |server: &super::Server| Member {
        id: server.id,
        client: server.client.clone(),
        peer: server.peer.clone(),
    };
    let mut members: Vec<Member> = config.servers.iter().map(member).collect();
    members.sort_by_key(|member| member.id);
    members
}
