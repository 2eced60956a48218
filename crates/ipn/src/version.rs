//! The version that both programs print and tell each other, control and peers.
//!
//! It names the release of the originals whose behaviour is kept, because servers, clients and scripts compare it.

/// As in `tailscale version`'s first line.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// As in the `Tailscale-Version` header, `Hostinfo.IPNVersion` and `tailscale status --json`.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), "-rs");

/// What `--version` prints, without the last line's end.
pub fn text() -> String {
    format!("{SHORT}\n  long version: {LONG}")
}
