//! NetworkManager 1.26.0 to 1.26.5, which does not let systemd-resolved be told beside it: our device's servers are part of the settings
//! that it has applied to the device (NetworkManager's D-Bus API; the originals' `net/dns/nm.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use host::DnsConfig;
use packet::addr::is_tailscale_ip;
use zbus::wire::serialized::Data;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{Bus, Result};
use super::resolv_conf::ResolvConf;

const DEVICE: &str = "org.freedesktop.NetworkManager.Device";
/// It knows a new device, and that it has an address, only some time after the kernel.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Servers of the smallest number are asked first; below zero they are the only ones.
const ALONE: i32 = i32::MIN;
const BEFORE_OTHERS: i32 = 1;
const AFTER_OTHERS: i32 = 200;

/// What it returns and does not take back.
const DEPRECATED: [&str; 2] = ["addresses", "routes"];

/// One part of a connection's settings, such as `ipv4`.
type Part = BTreeMap<String, OwnedVariant>;
/// A connection's settings.
pub(super) type Settings = BTreeMap<String, Part>;

/// Has it ask `want`'s servers on `device`, which has the addresses `own`.
pub(super) async fn apply(
    bus: &Bus,
    device: &str,
    own: &[IpAddr],
    want: &DnsConfig,
) -> std::result::Result<(), String> {
    let deadline = rt::now() + PATIENCE;
    loop {
        match reapply(bus, device, own, want).await {
            Ok(()) => return Ok(()),
            Err(error) if rt::now() >= deadline => return Err(format!("NetworkManager: {error}")),
            Err(_) => rt::sleep_until(rt::now() + PAUSE).await,
        }
    }
}

async fn reapply(bus: &Bus, device: &str, own: &[IpAddr], want: &DnsConfig) -> Result<()> {
    let found = bus
        .network_manager_call("GetDeviceByIpIface", &(device,))
        .await?;
    let path: OwnedObjectPath = found.body().deserialize()?;
    let applied = bus
        .device_call(&path, DEVICE, "GetAppliedConnection", &(0_u32,))
        .await?;
    let (mut settings, version): (Settings, u64) = applied.body().deserialize()?;
    edit(&mut settings, own, want)?;
    bus.device_call(&path, DEVICE, "Reapply", &(settings, version, 0_u32))
        .await
        .map(drop)
}

/// Puts `want` into the settings of our device; all else in them stays.
pub(super) fn edit(settings: &mut Settings, own: &[IpAddr], want: &DnsConfig) -> Result<()> {
    let search = search(want);
    for part in ["ipv4", "ipv6"] {
        let part = settings.entry(part.to_owned()).or_default();
        for name in DEPRECATED {
            part.remove(name);
        }
    }
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = want.nameservers.iter().partition(|ip| ip.is_ipv4());
    // Compat: those of IPv4 are numbers whose bytes in memory are the address, those of IPv6 are bytes.
    let v4: Vec<u32> = v4
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(u32::from_ne_bytes(ip.octets())),
            IpAddr::V6(_) => None,
        })
        .collect();
    let v6: Vec<Vec<u8>> = v6
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.octets().to_vec()),
        })
        .collect();
    let ipv4: Vec<(&str, Variant<'_>)> = vec![
        ("dns-priority", priority(v4.is_empty(), want).into()),
        ("dns", v4.into()),
        ("dns-search", search.clone().into()),
    ];
    let mut ipv6: Vec<(&str, Variant<'_>)> = vec![
        ("dns-priority", priority(v6.is_empty(), want).into()),
        ("dns", v6.into()),
        ("dns-search", search.into()),
        // Only a device that configures itself may have servers without having its addresses from NetworkManager.
        ("method", "auto".into()),
        ("ignore-auto-routes", true.into()),
        ("ignore-auto-dns", true.into()),
        ("never-default", true.into()),
    ];
    let addresses: Vec<BTreeMap<&str, Variant<'_>>> = own
        .iter()
        .filter(|ip| ip.is_ipv6() && is_tailscale_ip(**ip))
        .map(|ip| {
            [
                ("address", ip.to_string().into()),
                ("prefix", 128_u32.into()),
            ]
            .into()
        })
        .collect();
    // It takes addresses away that it is not told of.
    if !addresses.is_empty() {
        ipv6.push(("address-data", addresses.into()));
    }
    for (name, changes) in [("ipv4", ipv4), ("ipv6", ipv6)] {
        let part = settings.entry(name.to_owned()).or_default();
        for (key, value) in changes {
            part.insert(key.to_owned(), value.try_into()?);
        }
    }
    Ok(())
}

fn priority(is_empty: bool, want: &DnsConfig) -> i32 {
    match (is_empty, want.matching.is_empty()) {
        (true, _) => AFTER_OTHERS,
        (false, true) => ALONE,
        (false, false) => BEFORE_OTHERS,
    }
}

/// Suffixes as it writes them: those that are only for the choice of a server have a tilde.
fn search(want: &DnsConfig) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let routed = want
        .matching
        .iter()
        .filter(|name| !want.search.contains(name))
        .map(|name| format!("~{name}."));
    for name in want
        .search
        .iter()
        .map(|name| format!("{name}."))
        .chain(routed)
    {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if want.matching.is_empty() && !want.nameservers.is_empty() {
        all.push("~.".to_owned());
    }
    all
}

/// Whom the machine asks without us, from the body that holds its `Configuration`: one entry for each connection.
pub(super) fn base(body: &Data<'_, '_>, device: &str) -> Result<ResolvConf> {
    let (value, _): (OwnedVariant, _) = body.deserialize()?;
    let mut entries: Vec<Part> = value.try_into()?;
    entries.retain(|entry| text(entry, "interface").as_deref() != Some(device));
    let number = |entry: &Part| {
        entry
            .get("priority")
            .and_then(|value| i32::try_from(value.clone()).ok())
    };
    entries.sort_by_key(|entry| number(entry).unwrap_or_default());
    let mut found = ResolvConf::default();
    for entry in &entries {
        let servers = texts(entry, "nameservers").into_iter();
        for server in servers.filter_map(|server| server.parse().ok()) {
            if !found.nameservers.contains(&server) {
                found.nameservers.push(server);
            }
        }
        for name in texts(entry, "domains") {
            let name = name.trim_end_matches('.').to_owned();
            if !name.is_empty() && !name.starts_with('~') && !found.search.contains(&name) {
                found.search.push(name);
            }
        }
        if number(entry).is_some_and(|number| number < 0) {
            break;
        }
    }
    Ok(found)
}

fn text(entry: &Part, name: &str) -> Option<String> {
    String::try_from(entry.get(name)?.clone()).ok()
}

fn texts(entry: &Part, name: &str) -> Vec<String> {
    let value = entry.get(name).cloned();
    value
        .and_then(|value| value.try_into().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use zbus::fdo::Error::Failed;
    use zbus::{Connection, ObjectPath};

    use super::*;

    const NAME: &str = "tailscale0";
    const PATH: &str = "/org/freedesktop/NetworkManager/Devices/7";

    fn wanted(servers: &[&str], search: &[&str], matching: &[&str]) -> DnsConfig {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        DnsConfig {
            nameservers: servers.iter().map(|ip| ip.parse().unwrap()).collect(),
            search: owned(search),
            matching: owned(matching),
        }
    }

    fn own() -> [IpAddr; 2] {
        ["100.64.0.1", "fd7a:115c:a1e0::1"].map(|ip| ip.parse().unwrap())
    }

    fn value<'a>(value: impl Into<Variant<'a>>) -> OwnedVariant {
        value.into().try_into().unwrap()
    }

    fn get<T: TryFrom<OwnedVariant>>(settings: &Settings, part: &str, key: &str) -> Option<T> {
        settings[part].get(key)?.clone().try_into().ok()
    }

    /// NetworkManager as far as we speak with it.
    #[derive(Default)]
    struct Fake {
        /// How often it still says that it does not know the device.
        unknown: Mutex<u32>,
        applied: Mutex<Option<(Settings, u64)>>,
    }

    struct Manager(Arc<Fake>);

    #[zbus::interface(name = "org.freedesktop.NetworkManager")]
    impl Manager {
        fn get_device_by_ip_iface(&self, name: &str) -> zbus::fdo::Result<OwnedObjectPath> {
            let mut unknown = self.0.unknown.lock().unwrap();
            if name != NAME || *unknown > 0 {
                *unknown = unknown.saturating_sub(1);
                return Err(Failed(format!("no device for {name}")));
            }
            Ok(ObjectPath::try_from(PATH).unwrap().into())
        }
    }

    struct Device(Arc<Fake>);

    #[zbus::interface(name = "org.freedesktop.NetworkManager.Device")]
    impl Device {
        fn get_applied_connection(&self, flags: u32) -> (Settings, u64) {
            assert_eq!(flags, 0);
            let part = |extra: &str| -> Part {
                [
                    ("method".to_owned(), value("manual")),
                    ("addresses".to_owned(), value(Vec::<Vec<u32>>::new())),
                    ("routes".to_owned(), value(Vec::<Vec<u32>>::new())),
                    (extra.to_owned(), value("kept")),
                ]
                .into()
            };
            let settings = ["ipv4", "ipv6", "connection"].map(|name| (name.to_owned(), part(name)));
            (settings.into(), 42)
        }

        fn reapply(&self, settings: Settings, version: u64, flags: u32) -> zbus::fdo::Result<()> {
            assert_eq!(flags, 0);
            let deprecated = ["ipv4", "ipv6"]
                .iter()
                .any(|part| settings[*part].contains_key("routes"));
            if deprecated {
                return Err(Failed("deprecated".to_owned()));
            }
            *self.0.applied.lock().unwrap() = Some((settings, version));
            Ok(())
        }
    }

    /// A bus with nobody but NetworkManager on it.
    async fn bus(fake: &Arc<Fake>) -> (Bus, Connection) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let guid = zbus::Guid::generate();
        let server = zbus::connection::Builder::unix_stream(theirs)
            .server(guid)
            .p2p()
            .serve_at("/org/freedesktop/NetworkManager", Manager(Arc::clone(fake)))
            .serve_at(PATH, Device(Arc::clone(fake)))
            .build();
        let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
        let (client, server) = tokio::join!(client, server);
        (Bus::over(client.unwrap()), server.unwrap())
    }

    #[tokio::test]
    async fn it_is_told_once_it_knows_the_device() {
        let fake = Arc::new(Fake {
            unknown: Mutex::new(3),
            ..Fake::default()
        });
        let (bus, _server) = bus(&fake).await;
        let want = wanted(
            &["100.100.100.100", "fd7a:115c:a1e0::53"],
            &["tailnet.test"],
            &["tailnet.test", "corp.example"],
        );
        apply(&bus, NAME, &own(), &want).await.unwrap();
        let (settings, version) = fake.applied.lock().unwrap().take().unwrap();
        assert_eq!(version, 42);
        let search: Vec<String> = get(&settings, "ipv4", "dns-search").unwrap();
        assert_eq!(search, ["tailnet.test.", "~corp.example."]);
        let v4: Vec<u32> = get(&settings, "ipv4", "dns").unwrap();
        assert_eq!(v4, [u32::from_ne_bytes([100, 100, 100, 100])]);
        let v6: Vec<Vec<u8>> = get(&settings, "ipv6", "dns").unwrap();
        assert_eq!(v6[0].len(), 16);
        for part in ["ipv4", "ipv6"] {
            assert_eq!(get(&settings, part, "dns-priority"), Some(BEFORE_OTHERS));
            assert_eq!(get(&settings, part, part), Some("kept".to_owned()));
        }
        assert_eq!(get(&settings, "ipv4", "method"), Some("manual".to_owned()));
        assert_eq!(get(&settings, "ipv6", "method"), Some("auto".to_owned()));
        assert_eq!(get(&settings, "ipv6", "never-default"), Some(true));
        let kept: Vec<BTreeMap<String, OwnedVariant>> =
            get(&settings, "ipv6", "address-data").unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(settings["connection"].len(), 4);
    }

    #[tokio::test]
    async fn what_it_refuses_is_said() {
        let fake = Arc::new(Fake {
            unknown: Mutex::new(u32::MAX),
            ..Fake::default()
        });
        let (bus, _server) = bus(&fake).await;
        let refused = apply(&bus, NAME, &[], &DnsConfig::default()).await;
        assert!(refused.unwrap_err().contains("no device for tailscale0"));
    }

    #[test]
    fn all_names_or_none() {
        let mut settings = Settings::default();
        edit(&mut settings, &[], &wanted(&["192.0.2.1"], &[], &[])).unwrap();
        assert_eq!(get(&settings, "ipv4", "dns-priority"), Some(ALONE));
        assert_eq!(get(&settings, "ipv6", "dns-priority"), Some(AFTER_OTHERS));
        assert_eq!(
            get(&settings, "ipv4", "dns-search"),
            Some(vec!["~.".to_owned()])
        );
        assert_eq!(settings["ipv6"].get("address-data"), None);
        edit(&mut settings, &[], &DnsConfig::default()).unwrap();
        assert_eq!(
            get(&settings, "ipv4", "dns-search"),
            Some(Vec::<String>::new())
        );
        assert_eq!(get(&settings, "ipv4", "dns-priority"), Some(AFTER_OTHERS));
    }

    #[test]
    fn whom_the_machine_asks_without_us() {
        use zbus::wire::serialized::Context;
        use zbus::wire::{LE, to_bytes};
        let entry = |device: &str, server: &str, domain: &str, priority: i32| -> Part {
            [
                ("interface".to_owned(), value(device)),
                ("nameservers".to_owned(), value(vec![server])),
                ("domains".to_owned(), value(vec![domain])),
                ("priority".to_owned(), value(priority)),
            ]
            .into()
        };
        let look = |entries: Vec<Part>| {
            let context = Context::new(LE, 0);
            let body = to_bytes(context, &Variant::from(entries)).unwrap();
            base(&body, NAME).unwrap()
        };
        let found = look(vec![
            entry("wlan0", "192.0.2.2", "b.example.", 100),
            entry(NAME, "100.100.100.100", "tailnet.test", -50),
            entry("eth0", "192.0.2.1", "a.example", 50),
            entry("eth1", "192.0.2.1", "~routed.example", 50),
        ]);
        assert_eq!(
            found.nameservers,
            ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert_eq!(found.search, ["a.example", "b.example"]);
        let found = look(vec![
            entry("wlan0", "192.0.2.2", "b.example", 100),
            entry("vpn0", "192.0.2.9", "vpn.example", -1),
        ]);
        assert_eq!(found.nameservers, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(look(Vec::new()), ResolvConf::default());
    }
}
