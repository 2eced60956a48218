//! The bodies of the fuzz targets as plain functions.
//!
//! `fuzz/` has one line per target that calls a function here, and a corpus per target; a test here replays the corpora
//! with a stable compiler. A target does more than not to panic: it holds what it was given against an invariant of the
//! crate that it exercises.

mod batches;
mod control;
mod dns;
mod inbound;
mod local;
mod packets;
mod paths;
mod relay;
mod tunnel;

/// A target: its name, which is also its corpus's directory, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("c2n", control::c2n),
    ("coalesce", batches::coalesce),
    ("dbus", local::dbus),
    ("derp_client", relay::derp_client),
    ("derp_server", relay::derp_server),
    ("disco", packets::disco),
    ("dns", dns::message),
    ("filter", packets::filter),
    ("geneve", packets::geneve),
    ("goflag", local::goflag),
    ("http_head", local::http_head),
    ("inbound", inbound::inbound),
    ("ip", packets::ip),
    ("key_texts", local::key_texts),
    ("localapi", local::localapi),
    ("magicsock", paths::magicsock),
    ("map_frames", control::map_frames),
    ("map_message", control::map_message),
    ("map_response", control::map_response),
    ("netlink", local::netlink),
    ("netstack", packets::netstack),
    ("prefs", local::prefs),
    ("proxy", local::proxy),
    ("resolv_conf", local::resolv_conf),
    ("seal", batches::seal),
    ("server_url", control::server_url),
    ("split", batches::split),
    ("state_file", local::state_file),
    ("stun", relay::stun),
    ("ts2021_early", control::ts2021_early),
    ("ts2021_handshake", control::ts2021_handshake),
    ("ts2021_records", control::ts2021_records),
    ("tsmp", packets::tsmp),
    ("wire_json", control::wire_json),
    ("wireguard_datagram", tunnel::datagram),
    ("wireguard_damage", tunnel::damage),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is no such target, or the target finds a mistake.
pub fn run(name: &str, data: &[u8]) {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, body)) => body(data),
        None => panic!("no fuzz target `{name}`"),
    }
}

/// The data in pieces, as a stream would bring it: the first byte says how long they are.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (size, rest) = data.split_first().unwrap_or((&1, &[]));
    rest.chunks(usize::from(*size).max(1))
}

/// Keys, nonces and jitter: the same in every run, so that what was found is found again.
fn rng() -> rand::rngs::StdRng {
    rand::SeedableRng::seed_from_u64(1)
}
