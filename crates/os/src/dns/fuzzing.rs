//! The readers of what the machine and its bus say, for the fuzz targets alone.

use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{Str, Variant};

use super::bus::{has_owner, text_of};
use super::choose::{Facts, choose};
use super::network_manager;
use super::resolv_conf::{ResolvConf, is_ours, text};

/// The text of `resolv.conf`, and behind a NUL that of `nsswitch.conf`. What was understood is understood again in a file of ours, and
/// whatever is in them, somebody is chosen.
pub fn files(data: &[u8]) {
    let said = String::from_utf8_lossy(data);
    let (resolv_conf, nsswitch) = said.split_once('\0').unwrap_or((&said, ""));
    let facts = Facts {
        resolv_conf: Some(resolv_conf.to_owned()),
        nsswitch: Some(nsswitch.to_owned()),
        ..Facts::default()
    };
    let (manager, _) = choose(&facts);
    assert!(!manager.name().is_empty());
    let Ok(read) = ResolvConf::parse(resolv_conf) else {
        return;
    };
    let records = ResolvConf::parse_records(resolv_conf).expect("it is as long as before");
    assert_eq!(records.nameservers, read.nameservers);
    assert!(records.search.ends_with(&read.search));
    let config = host::DnsConfig {
        nameservers: read.nameservers.clone(),
        search: read.search.clone(),
        matching: Vec::new(),
    };
    let written = text(&config, &read.kept);
    assert!(is_ours(&written));
    if let Ok(again) = ResolvConf::parse(&written) {
        assert_eq!(again, read);
    }
}

/// Bodies of answers from the bus. A text that is read is what would be said again.
pub fn bus(data: &[u8]) {
    let context = Context::new(LE, 0);
    let body = Data::new(data.to_vec(), context);
    // Both for what they do to any bytes.
    let _ = has_owner(&body);
    if let Ok(base) = network_manager::base(&body, "tailscale0") {
        assert!(base.search.iter().all(|name| !name.is_empty()));
    }
    if let Ok((mut settings, _)) = body.deserialize::<network_manager::Settings>() {
        let own = "fd7a:115c:a1e0::1".parse().expect("an address");
        let wanted = host::DnsConfig::default();
        network_manager::edit(&mut settings, &[own], &wanted).expect("it takes all settings");
        to_bytes(context, &settings).expect("settings can be written");
    }
    if let Ok(value) = text_of(&body) {
        let again = to_bytes(context, &Variant::from(Str::from(value.as_str())));
        let again = again.expect("a text can be written");
        assert_eq!(text_of(&again).ok(), Some(value));
    }
}
