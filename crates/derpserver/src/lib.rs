//! A relay: DERP over HTTP upgrade and TLS, with STUN beside it.
