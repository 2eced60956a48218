//! What network are we on: STUN codec, probe plan, report.
