//! `raft-server restore`: a server of a *new* cluster, which begins with the state of a backup.

use std::io;
use std::path::Path;

use raft_server::config::Effective;
use raft_server::node::{self, ServeError};
use raft_server::state_file;
use raft_server::storage::disk::RealDisk;
use raft_server::storage::identity::Origin;
use raft_server::storage::init;
use raft_server::storage::snapshot::{SnapshotError, store};

use super::backup::place;
use super::exit::{CONFIG, FAILED, Failure};
use super::wiring;

/// Makes the data directory of the configured server from a backup. The file is read and checked to
/// its end before anything is made.
pub fn run(file: &Path, config: &Effective) -> Result<i32, Failure> {
    let (disk, name) = place(file)?;
    let reader = store::open(&disk, &name).map_err(|error| match error {
        SnapshotError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Failure::new(FAILED, format!("there is no backup {}", file.display()))
        }
        error => wiring::failure(error),
    })?;
    let from = reader.header().cluster_id.clone();
    // Two clusters with one id could meet, and take each other's servers for their own.
    if from == config.cluster {
        let text = format!(
            "{} is a backup of cluster {from} itself: give the new cluster an id of its own in {}",
            file.display(),
            config.file.display()
        );
        return Err(Failure::new(CONFIG, text));
    }
    let (header, state) = state_file::read_backup(reader).map_err(wiring::failure)?;
    let expected = node::expected(config);
    let origin =
        Origin { cluster_id: from.clone(), snapshot: header.id, state_hash: header.state_hash };
    wiring::create_parents(config)?;
    let write = |snapshots: RealDisk| -> Result<(), ServeError> {
        let (cluster, members) = (&expected.cluster_id, expected.membership.clone());
        state_file::save_restored(snapshots, cluster, members, header.id, &state)?;
        Ok(())
    };
    init::restore(&config.data, &expected, origin, write).map_err(wiring::failure)?;
    wiring::println_or_not(&format!(
        "server {} of cluster {} now has the data of cluster {from} up to index {} in {}: keys={}; \
         restore all other servers from the same file",
        config.id,
        config.cluster,
        header.id.last.index,
        config.data.display(),
        header.keys,
    ));
    Ok(super::exit::OK)
}
