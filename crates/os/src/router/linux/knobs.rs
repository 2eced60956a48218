//! What the environment may change, for who wants the originals' ways back.

use std::env;

use host::{CgnatGuard, Lan, RouterConfig};

/// `TS_LAN_ROUTES=yield`, `TS_CGNAT_GUARD=narrow|drop|off`, `TS_LEAK_GUARD=off` and `TS_SELF_HEALING=rules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Knobs {
    lan_yields: bool,
    cgnat: Option<CgnatGuard>,
    /// Whether nothing is mended but rules, as by the originals.
    mends_rules_only: bool,
    /// Whether what goes to an exit node leaves beside it while the device is gone, as by the originals.
    leaks: bool,
}

impl Knobs {
    pub(super) fn from_environment() -> Self {
        let value = |name| env::var(name).ok();
        Self::new(
            value("TS_LAN_ROUTES").as_deref(),
            value("TS_CGNAT_GUARD").as_deref(),
            value("TS_SELF_HEALING").as_deref(),
            value("TS_LEAK_GUARD").as_deref(),
        )
    }

    fn new(
        lan: Option<&str>,
        cgnat: Option<&str>,
        healing: Option<&str>,
        leaks: Option<&str>,
    ) -> Self {
        let cgnat = match cgnat.unwrap_or_default() {
            "" => None,
            "narrow" => Some(CgnatGuard::Narrow),
            "drop" => Some(CgnatGuard::Drop),
            "off" => Some(CgnatGuard::Off),
            other => {
                unknown("TS_CGNAT_GUARD", other, "narrow, drop, off");
                None
            }
        };
        let lan_yields = is_turned("TS_LAN_ROUTES", lan, "win", "yield");
        let mends_rules_only = is_turned("TS_SELF_HEALING", healing, "all", "rules");
        let leaks = is_turned("TS_LEAK_GUARD", leaks, "on", "off");
        Self {
            lan_yields,
            cgnat,
            mends_rules_only,
            leaks,
        }
    }

    pub(super) fn mends_rules_only(self) -> bool {
        self.mends_rules_only
    }

    /// What is wanted, changed accordingly.
    pub(super) fn turn(self, config: &RouterConfig) -> RouterConfig {
        let mut config = config.clone();
        if self.lan_yields && config.lan == Lan::Wins {
            config.lan = Lan::Yields;
        }
        config.is_guarded &= !self.leaks;
        if let Some(cgnat) = self.cgnat {
            config.firewall.cgnat = cgnat;
        }
        // Nothing of ours stays nothing of ours.
        if config.firewall.mode == host::NetfilterMode::Off && config.routes.is_empty() {
            config.firewall.cgnat = CgnatGuard::default();
            config.lan = Lan::default();
        }
        config
    }
}

/// Whether a variable asks for the originals' way, and not for ours or nothing.
fn is_turned(name: &str, value: Option<&str>, ours: &str, theirs: &str) -> bool {
    let value = value.unwrap_or_default();
    if !["", ours, theirs].contains(&value) {
        unknown(name, value, &format!("{ours}, {theirs}"));
    }
    value == theirs
}

fn unknown(name: &str, value: &str, known: &str) {
    tracing::warn!("{name}={value} is not known and is ignored; known: {known}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_change_what_is_wanted_and_nothing_else() {
        let empty = RouterConfig::default();
        let full = RouterConfig {
            routes: vec!["10.0.0.0/8".parse().unwrap()],
            ..RouterConfig::default()
        };
        let knobs = Knobs::new(Some("yield"), Some("off"), None, Some("off"));
        assert_eq!(knobs.turn(&empty), empty);
        let turned = knobs.turn(&full);
        assert_eq!(
            (turned.lan, turned.firewall.cgnat),
            (Lan::Yields, CgnatGuard::Off)
        );
        let captured = RouterConfig {
            lan: Lan::Captured,
            ..full.clone()
        };
        assert_eq!(knobs.turn(&captured).lan, Lan::Captured);
        let guarded = RouterConfig {
            is_guarded: true,
            ..full.clone()
        };
        assert!(!knobs.turn(&guarded).is_guarded);
        assert!(Knobs::default().turn(&guarded).is_guarded);
        for (lan, cgnat) in [
            (None, None),
            (Some("?"), Some("?")),
            (Some("win"), Some("")),
        ] {
            assert_eq!(Knobs::new(lan, cgnat, None, lan).turn(&full), full);
        }
    }
}
