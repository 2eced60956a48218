//! WireGuard handshakes, sessions, timers, cookies and replay windows, one peer at a time.
