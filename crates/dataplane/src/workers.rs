//! The threads that move packets, each to its end: what it takes from one side it gives to the other, with no queue between.
//!
//! [`Transmitter`] takes from the TUN device, [`Receiver`] from a UDP socket. They do the plain case by what the engine has
//! shown ([`crate::shared`]); everything else goes to the engine's thread, through the mailbox, which knows all cases.

mod crew;
mod deliver;
mod flows;
mod receive;
mod transmit;

pub(crate) use crew::Crew;
pub(crate) use receive::Receiver;
pub(crate) use transmit::Transmitter;

use host::Instant;
use packet::PeerId;
use wireguard::Session;

use crate::mailbox::{Mailbox, Poke};
use crate::shared::PeerCell;

/// Timers of a session are no shorter than this.
const SHORTEST_TIMER: std::time::Duration = std::time::Duration::from_secs(10);

/// Tells the engine that a peer's timers want a look, unless it takes one by itself soon enough.
fn poke_if_due(
    mailbox: &Mailbox,
    cell: &PeerCell,
    wants_rekey: bool,
    poke: impl FnOnce(PeerId) -> Poke,
    now: Instant,
) {
    let is_timed = cell.is_timed_before(now + SHORTEST_TIMER);
    if !is_timed || (wants_rekey && cell.may_poke(now)) {
        mailbox.poke(poke(cell.id));
    }
}

/// Notes that something was sent on a session.
fn note_sent(mailbox: &Mailbox, cell: &PeerCell, session: &Session, now: Instant) {
    if session.note_sent(now, true) {
        let wants_rekey = session.wants_rekey_on_send(now);
        poke_if_due(mailbox, cell, wants_rekey, Poke::Sent, now);
    }
}

/// Notes that something authentic came on a session.
fn note_received(mailbox: &Mailbox, cell: &PeerCell, session: &Session, data: bool, now: Instant) {
    let was_confirmed = session.is_confirmed();
    if !session.note_received(now, data) {
        return;
    }
    let index = session.local_index();
    let poke = |peer| Poke::Received(peer, index);
    if was_confirmed {
        let wants_rekey = session.wants_rekey_on_receive(now);
        poke_if_due(mailbox, cell, wants_rekey, poke, now);
    } else {
        mailbox.poke(poke(cell.id));
    }
}

#[cfg(test)]
mod tests;
