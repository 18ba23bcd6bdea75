//! What an operator can ask of a server: RAFT TRANSFER, RAFT SNAPSHOT, and BACKUP ([`Backups`]).
//!
//! The first two only begin something; STATUS shows how it goes on. There is no authentication yet,
//! so all are taken only from the server's own host.

use std::sync::Arc;

use crate::config::Member;
use crate::gateway::ClientId;
use crate::protocol::Reply;
use crate::protocol::error::{Error, Refused, Wrong};
use crate::protocol::request::Admin;
use crate::raft;
use crate::raft::types::ServerId;

use super::backup::Backups;
use super::monitor::{Deliver, Monitor};

/// Answers an operator's wishes.
pub struct Admins<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// All servers of the cluster.
    pub members: Vec<Member>,
    /// What is being read from it.
    pub backups: Backups<D>,
}

impl<D: Deliver> Admins<D> {
    /// Does what is asked, or begins it. `is_local`: it is asked from this host.
    pub fn answer(&self, client: ClientId, wish: &Admin, is_local: bool) -> Reply {
        if !is_local {
            return Reply::Error(Error::Wrong(Wrong::NotPermitted));
        }
        match *wish {
            Admin::Snapshot => {
                self.monitor.with(|server| server.request_snapshot());
                Reply::Text("a snapshot will be taken")
            }
            Admin::Transfer { to } => self.transfer(to.map(ServerId)),
            Admin::BackupBegin { index } => self.backups.begin(client, index),
            Admin::BackupRead { index, offset_bytes, count_bytes } => {
                self.backups.read(client, index, offset_bytes, count_bytes)
            }
        }
    }

    fn transfer(&self, to: Option<ServerId>) -> Reply {
        let member = |id: ServerId| self.members.iter().find(|member| member.id == id.0);
        if let Some(id) = to.filter(|id| member(*id).is_none()) {
            return Reply::err(format!("there is no server {}", id.0));
        }
        let begun = self.monitor.with(|server| match to {
            Some(id) if id == server.raft().id() && server.raft().is_leader() => Ok(id),
            to => server.transfer_leadership(to),
        });
        match begun {
            Ok(_) => Reply::Text("leadership is being handed over"),
            Err(raft::Refused::NotLeader { hint }) => match hint.and_then(member) {
                Some(leader) => Reply::Error(Error::Refused(Refused::NotLeader {
                    server: leader.id,
                    address: leader.client.clone(),
                })),
                None => Reply::no_leader("no leader is known; nothing was done"),
            },
            Err(_) => Reply::busy("no such follower is ready to take over; nothing was done"),
        }
    }
}
