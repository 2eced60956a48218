//! A small coordination server for labs and tests, speaking the real protocol, so that real Tailscale clients can join it too.
