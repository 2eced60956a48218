//! Talks to the control server: Noise transport, register, long poll, C2N.
