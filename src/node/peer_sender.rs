//! The worker of one link: it connects, and sends what a passing thread could not send without
//! blocking.
//!
//! It connects *before* it takes: what is taken while a peer is away would be lost, and what would
//! be told to it then is out of date by the time it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::raft::types::ServerId;
use crate::transport::dial::{Backoff, DialError, dial};
use crate::transport::hello::Identity;
use crate::transport::link::{OpenWire, Sent};

use super::doorbell::Bell;
use super::links::Links;
use super::monitor::{Deliver, Monitor};
use super::peers::Peers;

/// How long a worker sleeps at the most before it looks whether its connection still stands.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection that lives this long was a good one.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The worker of the link to one peer.
pub struct PeerSender<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// All links; ours is the one to `peer`.
    pub links: Arc<Links>,
    /// Whom we have met, and where they are.
    pub peers: Arc<Peers>,
    /// Whom it leads to.
    pub peer: ServerId,
    /// Rung when the right to send is left to us, or the connection is to be checked.
    pub bell: Bell,
}

impl<D: Deliver> PeerSender<D> {
    /// The body of the thread `peer-send-N`.
    pub fn run(&self) {
        let link = self.links.to(self.peer);
        let mut backoff = Backoff::new(u64::from(self.peer.0));
        let mut connected_at = None;
        loop {
            // Here we have no right to send. We get it by being left it, or because nobody has it,
            // and keep it as long as the link is down.
            if link.take_over() || self.monitor.try_acquire(self.peer) {
                while !self.send_all_due() {
                    self.connect(&mut backoff, connected_at);
                    connected_at = Some(Instant::now());
                    self.monitor.with(|server| server.link_renewed(self.peer));
                }
            }
            self.bell.wait_at_most(CHECK_INTERVAL);
        }
    }

    /// With the right to send: sends until nothing is due and gives the right back. Returns
    /// `false`, still with the right, if the link is down.
    fn send_all_due(&self) -> bool {
        let link = self.links.to(self.peer);
        if !link.wire.check_open() {
            return false;
        }
        let Some(mut wire) = link.wire.lock_if_up() else { return false };
        if wire.has_remainder() && !finish(&mut wire, Sent::Rest) {
            return false;
        }
        drop(wire);
        while let Some(messages) = self.monitor.take_messages_or_release(self.peer) {
            let Some(mut wire) = link.wire.lock_if_up() else { return false };
            let sent = wire.send_blocking(&self.links.frame(messages));
            if !finish(&mut wire, sent) {
                return false;
            }
        }
        true
    }

    /// Dials until the peer answers, waiting longer each time, but not when it has just shown up
    /// itself.
    ///
    /// A connection that has not lived long counts as a failure: a peer that accepts us only to
    /// drop us must not be dialled at full speed.
    fn connect(&self, backoff: &mut Backoff, connected_at: Option<Instant>) {
        match connected_at {
            Some(at) if at.elapsed() < SETTLED_AFTER => {
                self.bell.wait_at_most(backoff.next_pause());
            }
            _ => backoff.reset(),
        }
        loop {
            let reached = dial(
                &self.peers.address(self.peer),
                self.peers.ours(),
                self.peer,
                &mut |theirs: &Identity| self.peers.check(theirs),
            );
            match reached {
                Ok(dialled) => {
                    let (run, version) = (dialled.peer.incarnation, dialled.version);
                    log::info!("connected to peer={} run={run} version={version}", self.peer);
                    self.links.to(self.peer).wire.install(dialled);
                    return;
                }
                Err(error) => self.report(backoff.failures(), &error),
            }
            if self.bell.wait_at_most(backoff.next_pause()) {
                backoff.reset();
            }
        }
    }

    /// The first failure is news, and then each doubling.
    fn report(&self, failures: u32, error: &DialError) {
        if (failures + 1).is_power_of_two() {
            let again = failures + 1;
            log::warn!("cannot reach peer={} failures={again}: {error}", self.peer);
        }
    }
}

/// Pushes until all is sent. Returns whether it was.
fn finish(wire: &mut OpenWire<'_>, mut sent: Sent) -> bool {
    loop {
        match sent {
            Sent::All => return true,
            Sent::Broken(_) => return false,
            Sent::Rest => sent = wire.finish_blocking(),
        }
    }
}
