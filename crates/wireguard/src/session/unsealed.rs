//! Packets that are laid out in a buffer and sealed together.

use std::sync::Arc;

use aead::{MAX_PACKETS, Place};

use super::{Counter, SealError, Session, sealed_len};

/// Packets of one session that lie in a buffer as they are. They are sealed when [`seal`](Self::seal) is called, and whoever keeps the
/// buffer must do so before any of it leaves his hands.
#[derive(Debug, Default)]
pub struct Unsealed {
    session: Option<Arc<Session>>,
    places: Vec<Place>,
}

impl Unsealed {
    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lays out `packet` as a datagram at `start` of the buffer, padded with zeroes to `padded` bytes. There must be room for
    /// [`sealed_len`]`(padded)`, and the place must not be another's. Seals what waits before, if it is another session's or much.
    pub fn push(
        &mut self,
        session: &Arc<Session>,
        counter: Counter,
        packet: &[u8],
        padded: usize,
        buffer: &mut [u8],
        start: usize,
    ) -> Result<(), SealError> {
        let is_same = |other: &Arc<Session>| Arc::ptr_eq(other, session);
        if !self.session.as_ref().is_some_and(is_same) {
            self.seal(buffer);
            self.session = Some(Arc::clone(session));
        }
        if self.places.len() >= MAX_PACKETS {
            self.seal(buffer);
        }
        let out = buffer
            .get_mut(start..)
            .and_then(|out| out.get_mut(..sealed_len(padded)))
            .ok_or(SealError::Length)?;
        let mut place = session.lay_out(counter, packet, padded, out)?;
        place.range = place.range.start + start..place.range.end + start;
        self.places.push(place);
        Ok(())
    }

    /// Seals what waits.
    pub fn seal(&mut self, buffer: &mut [u8]) {
        let Some(session) = &self.session else { return };
        if self.places.is_empty() {
            return;
        }
        if session.send.seal(buffer, &self.places).is_err() {
            // The buffer was shortened behind our back. What is left of it must not go out as it is.
            for place in &self.places {
                let end = place.range.end.min(buffer.len());
                if let Some(text) = buffer.get_mut(place.range.start..end) {
                    text.fill(0);
                }
            }
        }
        self.places.clear();
    }

    /// Seals what waits and lets go of the session.
    pub fn finish(&mut self, buffer: &mut [u8]) {
        self.seal(buffer);
        self.session = None;
    }
}
