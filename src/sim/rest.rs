//! A tick before the one that is due does nothing that could be seen. So it makes no difference
//! that the ticker of `node` sleeps through it, and that whoever comes next tells it late: before
//! that, nothing has come in, and there was nothing to take.

use super::checks::{Checked, ensure};
use super::faults::TICK;
use crate::raft::types::{Index, Term};
use crate::server::{Server, Work};

/// What one could see of a server before a tick.
#[derive(Debug)]
pub(super) struct Rest {
    due_ticks: u32,
    seen: Seen,
}

type Seen = (Work, Term, Index, bool, bool);

impl Rest {
    /// A server that is about to tick, and that knows what time it is.
    pub(super) fn of(server: &Server) -> Rest {
        Rest { due_ticks: due_ticks(server), seen: look(server) }
    }

    /// It has ticked.
    pub(super) fn check(self, server: &Server) -> Checked {
        let Rest { due_ticks: before, seen } = self;
        if before == 1 {
            return Ok(());
        }
        let (now, after) = (look(server), due_ticks(server));
        ensure(
            seen == now && after + 1 >= before,
            "A tick before the one that is due does nothing",
            || {
                let id = server.raft().id();
                format!("{id} was due in {before} ticks, after one in {after}: {seen:?}, {now:?}")
            },
        )
    }
}

fn due_ticks(server: &Server) -> u32 {
    server.ticks_until_due(TICK / 1000)
}

fn look(server: &Server) -> Seen {
    let raft = server.raft();
    let leads = (raft.is_leader(), raft.is_handing_over());
    (server.work(), raft.current_term(), raft.log().last_index(), leads.0, leads.1)
}
