//! What the user wants: the node's preferences, edits of them, and their form in the state file (`ipn/prefs.go`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tailcfg::go::{self, Bytes, Maybe, OptAddr, Wire, Zero};
use tailcfg::wire;
use zeroize::Zeroizing;

use crate::persist::{Persist, Sealed, Unknown};
use crate::wire_leaf;

/// The control server of who names none.
pub const DEFAULT_CONTROL_URL: &str = "https://controlplane.tailscale.com";

/// Whether this names the default control server.
pub fn is_login_server_synonym(url: &str) -> bool {
    url == "https://login.tailscale.com" || url == DEFAULT_CONTROL_URL
}

/// A field that a JSON object is laid over: what the object does not have stays (Go's decoder on a filled struct).
trait Field {
    fn overlay<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>;
    fn entry<M: SerializeMap>(&self, map: &mut M, key: &'static str) -> Result<(), M::Error>;
}

macro_rules! plain_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn overlay<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
                if let Some(value) = map.next_value::<Maybe<Self>>()?.0 {
                    *self = value;
                }
                Ok(())
            }
            fn entry<M: SerializeMap>(&self, map: &mut M, key: &'static str) -> Result<(), M::Error> {
                map.serialize_entry(key, self)
            }
        }
    )*};
}
plain_field!(bool, String, OptAddr, NetfilterMode, AppConnectorPrefs);

impl<T: Wire + Serialize> Field for Option<T> {
    fn overlay<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value::<Maybe<T>>()?.0;
        Ok(())
    }
    fn entry<M: SerializeMap>(&self, map: &mut M, key: &'static str) -> Result<(), M::Error> {
        map.serialize_entry(key, self)
    }
}

impl<T: Wire + Serialize> Field for Vec<T> {
    fn overlay<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value::<Maybe<Self>>()?.0.unwrap_or_default();
        Ok(())
    }
    fn entry<M: SerializeMap>(&self, map: &mut M, key: &'static str) -> Result<(), M::Error> {
        map.serialize_entry(key, &(!self.is_empty()).then_some(self))
    }
}

impl Field for AutoUpdatePrefs {
    fn overlay<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let over = map.next_value::<AutoUpdateOverlay>()?;
        self.check = over.check.unwrap_or(self.check);
        self.apply = over.apply.or(self.apply);
        Ok(())
    }
    fn entry<M: SerializeMap>(&self, map: &mut M, key: &'static str) -> Result<(), M::Error> {
        map.serialize_entry(key, self)
    }
}

/// Which parts of a field an edit is about.
trait Mask<T>: Zero {
    fn apply(&self, from: &T, to: &mut T);
}

impl<T: Clone> Mask<T> for bool {
    fn apply(&self, from: &T, to: &mut T) {
        if *self {
            to.clone_from(from);
        }
    }
}

impl Mask<AutoUpdatePrefs> for AutoUpdateMask {
    fn apply(&self, from: &AutoUpdatePrefs, to: &mut AutoUpdatePrefs) {
        self.check_set.apply(&from.check, &mut to.check);
        self.apply_set.apply(&from.apply, &mut to.apply);
    }
}

macro_rules! prefs {
    ($( $(#[$meta:meta])* $key:literal $omit:tt $field:ident : $ty:ty, $set:ident : $mask:ty; )*) => {
        /// The user's preferences, and who the node is. The default is Go's zero value: what a request that names no
        /// field decodes to. A fresh node starts from [`Prefs::new`].
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Prefs {
            $( $(#[$meta])* pub $field: $ty, )*
            /// The node's identity; `Config` in JSON.
            pub persist: Option<Arc<Persist>>,
            /// Fields of the state file that we do not know.
            pub unknown: UnknownPrefs,
        }

        /// An edit: new values and which of them count. The node's identity is never among them.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct MaskedPrefs {
            /// The values.
            pub prefs: Prefs,
            $(
                #[doc = concat!("Whether `", $key, "` counts.")]
                pub $set: $mask,
            )*
        }

        const NAMES: &[&str] = &[$($key,)* "Config"];
        const SET_NAMES: &[&str] = &[$(concat!($key, "Set")),*];

        impl Prefs {
            /// Overwrites every field that the edit is about.
            pub fn apply(&mut self, edit: &MaskedPrefs) {
                $( edit.$set.apply(&edit.prefs.$field, &mut self.$field); )*
            }

            fn overlay_field<'de, A: MapAccess<'de>>(
                &mut self,
                index: usize,
                map: &mut A,
            ) -> Result<(), A::Error> {
                #[expect(non_camel_case_types, reason = "named after the fields")]
                #[derive(Clone, Copy)]
                enum Name { $($field,)* persist }
                const FIELDS: &[Name] = &[$(Name::$field,)* Name::persist];
                match FIELDS.get(index) {
                    $( Some(Name::$field) => self.$field.overlay(map), )*
                    Some(Name::persist) => self.persist.overlay(map),
                    None => map.next_value::<IgnoredAny>().map(drop),
                }
            }

            fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( prefs!(@entry map, self, $key $omit $field); )*
                Ok(())
            }
        }

        impl MaskedPrefs {
            /// Whether nothing counts.
            pub fn is_empty(&self) -> bool {
                true $( && self.$set.is_zero() )*
            }

            /// The JSON names of the fields that count.
            pub fn names(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if !self.$set.is_zero() { names.push($key); } )*
                names
            }

            fn overlay_set<'de, A: MapAccess<'de>>(
                &mut self,
                index: usize,
                map: &mut A,
            ) -> Result<(), A::Error> {
                #[expect(non_camel_case_types, reason = "named after the fields")]
                #[derive(Clone, Copy)]
                enum Name { $($set),* }
                const FIELDS: &[Name] = &[$(Name::$set),*];
                match FIELDS.get(index) {
                    $( Some(Name::$set) => {
                        self.$set = map.next_value::<Maybe<$mask>>()?.0.unwrap_or_default();
                    } )*
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
                Ok(())
            }

            fn set_entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( if !self.$set.is_zero() {
                    map.serialize_entry(concat!($key, "Set"), &self.$set)?;
                } )*
                Ok(())
            }
        }
    };
    (@entry $map:ident, $self:ident, $key:literal = $field:ident) => {
        $self.$field.entry($map, $key)?;
    };
    (@entry $map:ident, $self:ident, $key:literal ? $field:ident) => {
        if !$self.$field.is_zero() {
            $self.$field.entry($map, $key)?;
        }
    };
}

prefs! {
    /// The control server; empty is the default one.
    "ControlURL" = control_url: String, control_url_set: bool;
    /// Whether to use the subnets that others route.
    "RouteAll" = route_all: bool, route_all_set: bool;
    /// The exit node, by stable id.
    "ExitNodeID" = exit_node_id: String, exit_node_id_set: bool;
    /// The exit node, by address, as long as its id is not known.
    "ExitNodeIP" = exit_node_ip: OptAddr, exit_node_ip_set: bool;
    /// How to choose an exit node, such as `any`.
    "AutoExitNode" ? auto_exit_node: String, auto_exit_node_set: bool;
    /// The exit node before the user turned it off.
    "InternalExitNodePrior" = internal_exit_node_prior: String, internal_exit_node_prior_set: bool;
    /// Whether the local network stays reachable past the exit node.
    "ExitNodeAllowLANAccess" = exit_node_allow_lan_access: bool, exit_node_allow_lan_access_set: bool;
    /// Whether to use the tailnet's DNS settings.
    "CorpDNS" = corp_dns: bool, corp_dns_set: bool;
    /// Whether to serve SSH.
    "RunSSH" = run_ssh: bool, run_ssh_set: bool;
    /// Whether to serve the web client.
    "RunWebClient" = run_web_client: bool, run_web_client_set: bool;
    /// Whether the network should be on.
    "WantRunning" = want_running: bool, want_running_set: bool;
    /// Whether the user wants to be logged out.
    "LoggedOut" = logged_out: bool, logged_out_set: bool;
    /// Whether to refuse all connections from others.
    "ShieldsUp" = shields_up: bool, shields_up_set: bool;
    /// Tags to ask for.
    "AdvertiseTags" = advertise_tags: Vec<String>, advertise_tags_set: bool;
    /// Hostname to use instead of the machine's.
    "Hostname" = hostname: String, hostname_set: bool;
    /// A test knob of Windows.
    "NotepadURLs" = notepad_urls: bool, notepad_urls_set: bool;
    /// Whether to run with nobody logged in (Windows).
    "ForceDaemon" ? force_daemon: bool, force_daemon_set: bool;
    /// A debug flag.
    "Egg" ? egg: bool, egg_set: bool;
    /// Subnets to route for others; both default routes make an exit node.
    "AdvertiseRoutes" = advertise_routes: Vec<IpNet>, advertise_routes_set: bool;
    /// Services to host.
    "AdvertiseServices" = advertise_services: Vec<String>, advertise_services_set: bool;
    /// `Some(false)` cuts the node off from its control server.
    "Sync" = sync: Option<bool>, sync_set: bool;
    /// Whether to leave sources as they are when routing for others.
    "NoSNAT" = no_snat: bool, no_snat_set: bool;
    /// `Some(true)` routes for others without looking at connections.
    "NoStatefulFiltering" ? no_stateful_filtering: Option<bool>, no_stateful_filtering_set: bool;
    /// How much of the firewall is ours to manage.
    "NetfilterMode" = netfilter_mode: NetfilterMode, netfilter_mode_set: bool;
    /// The local user who may operate the daemon.
    "OperatorUser" ? operator_user: String, operator_user_set: bool;
    /// What the user calls this login.
    "ProfileName" ? profile_name: String, profile_name_set: bool;
    /// Updates.
    "AutoUpdate" = auto_update: AutoUpdatePrefs, auto_update_set: AutoUpdateMask;
    /// App connector.
    "AppConnector" = app_connector: AppConnectorPrefs, app_connector_set: bool;
    /// Whether to report what the machine is.
    "PostureChecking" = posture_checking: bool, posture_checking_set: bool;
    /// `iptables`, `nftables`, or empty to find out.
    "NetfilterKind" = netfilter_kind: String, netfilter_kind_set: bool;
    /// Whether the control server may manage everything.
    "RemoteConfig" = remote_config: bool, remote_config_set: bool;
    /// Taildrive shares.
    "DriveShares" = drive_shares: Vec<DriveShare>, drive_shares_set: bool;
    /// The UDP port to relay for peers; 0 is any, `None` is off.
    "RelayServerPort" ? relay_server_port: Option<u16>, relay_server_port_set: bool;
    /// Where that port can be reached besides what is found out.
    "RelayServerStaticEndpoints" ? relay_server_static_endpoints: Vec<SocketAddr>,
        relay_server_static_endpoints_set: bool;
}

wire! {
    /// Updates.
    pub struct AutoUpdatePrefs {
        /// Whether to look for them.
        "Check" = check: bool,
        /// Whether to take them.
        "Apply" = apply: Option<bool>,
    }

    /// App connector.
    pub struct AppConnectorPrefs {
        /// Whether this node offers to be one.
        "Advertise" = advertise: bool,
    }

    /// Which parts of [`AutoUpdatePrefs`] an edit is about.
    pub struct AutoUpdateMask {
        /// Whether `Check` counts.
        "CheckSet" ? check_set: bool,
        /// Whether `Apply` counts.
        "ApplySet" ? apply_set: bool,
    }

    /// A folder that others may see (`drive.Share`).
    pub struct DriveShare {
        /// What others call it.
        "name" ? name: String,
        /// Where it is.
        "path" ? path: String,
        /// The local user whose rights apply.
        "who" ? as_user: String,
        /// Access rights of a sandboxed application (macOS).
        "bookmarkData" ? bookmark_data: Bytes,
    }
}

impl Eq for AutoUpdatePrefs {}
impl Eq for AppConnectorPrefs {}
impl Eq for AutoUpdateMask {}
impl Eq for DriveShare {}

/// [`AutoUpdatePrefs`] of which parts may be missing.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct AutoUpdateOverlay {
    check: Option<bool>,
    apply: Option<bool>,
}

/// How much of the firewall is ours to manage; a number on the wire (`preftype.NetfilterMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetfilterMode(pub i32);
wire_leaf!(NetfilterMode);

impl NetfilterMode {
    /// Nothing.
    pub const OFF: Self = Self(0);
    /// Our own chains, which nothing jumps to.
    pub const NO_DIVERT: Self = Self(1);
    /// All of it.
    pub const ON: Self = Self(2);
}

/// Fields of the state file that we do not know: another version wrote them, and wants to find them again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownPrefs {
    own: Unknown,
    persist: Unknown,
}

/// Prefs in the state file could not be read. The value is not shown, because keys are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPrefsError {
    /// Line of the JSON, from 1.
    pub line: usize,
    /// Column in it, from 1.
    pub column: usize,
}

impl fmt::Display for StoredPrefsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "decode stored prefs: bad JSON at line {} column {}",
            self.line, self.column
        )
    }
}

impl std::error::Error for StoredPrefsError {}

impl Prefs {
    /// What a fresh node starts from (`NewPrefs`).
    pub fn new() -> Self {
        Self {
            corp_dns: true,
            netfilter_mode: NetfilterMode::ON,
            no_stateful_filtering: Some(true),
            auto_update: AutoUpdatePrefs {
                check: true,
                apply: None,
            },
            ..Self::default()
        }
    }

    /// Reads the form in the state file. What it does not say is as in [`Prefs::new`]; fields that we do not know are
    /// kept, so that another version finds again what it wrote.
    ///
    /// # Errors
    /// When it is no JSON object, or a field has another type.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, StoredPrefsError> {
        let mut prefs = Self::new();
        if bytes.is_empty() {
            return Ok(prefs);
        }
        let hide = |error: serde_json::Error| StoredPrefsError {
            line: error.line(),
            column: error.column(),
        };
        let mut json = serde_json::Deserializer::from_slice(bytes);
        Overlay(&mut prefs).deserialize(&mut json).map_err(hide)?;
        json.end().map_err(hide)?;
        prefs.unknown = UnknownFields
            .deserialize(&mut serde_json::Deserializer::from_slice(bytes))
            .map_err(hide)?;
        Ok(prefs)
    }

    /// The form in the state file, with the node's keys in it. Only the state writer may see it.
    pub fn to_stored(&self) -> Zeroizing<Vec<u8>> {
        let text = go::to_string_indent(&Stored(self), "\t").unwrap_or_default();
        Zeroizing::new(text.into_bytes())
    }

    /// The same with every secret replaced by its zero value. Fields that we do not know are left out.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self {
            persist: self
                .persist
                .as_ref()
                .map(|persist| Arc::new(persist.without_secrets())),
            unknown: UnknownPrefs::default(),
            ..self.clone()
        }
    }

    /// The control server in effect.
    pub fn control_url_or_default(&self) -> &str {
        if self.control_url.is_empty() || is_login_server_synonym(&self.control_url) {
            DEFAULT_CONTROL_URL
        } else {
            &self.control_url
        }
    }

    /// Whether both default routes are advertised.
    pub fn advertises_exit_node(&self) -> bool {
        let default = |v4| {
            self.advertise_routes
                .iter()
                .any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4)
        };
        default(true) && default(false)
    }
}

impl Serialize for Prefs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.serialize_entry("Config", &self.persist)?;
        map.end()
    }
}

/// Prefs with the fields that we do not know.
struct Stored<'a>(&'a Prefs);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Config<'a>(&'a Persist, &'a Unknown);
        impl Serialize for Config<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize_with(self.1, serializer)
            }
        }
        let mut map = serializer.serialize_map(None)?;
        self.0.entries(&mut map)?;
        let config = self.0.persist.as_deref();
        let config = config.map(|persist| Config(persist, &self.0.unknown.persist));
        map.serialize_entry("Config", &config)?;
        for (key, value) in &self.0.unknown.own {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Lays a JSON object over prefs.
struct Overlay<'a>(&'a mut Prefs);

impl<'de> DeserializeSeed<'de> for Overlay<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Overlay<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Prefs object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut guess = 0;
        while let Some(key) = map.next_key::<String>()? {
            let index = go::field_index(&key, NAMES, guess);
            guess = index.unwrap_or(guess) + 1;
            self.0
                .overlay_field(index.unwrap_or(usize::MAX), &mut map)?;
        }
        Ok(())
    }
}

/// Collects the fields that we do not know, in prefs and in the identity in them.
struct UnknownFields;

impl<'de> DeserializeSeed<'de> for UnknownFields {
    type Value = UnknownPrefs;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for UnknownFields {
    type Value = UnknownPrefs;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Prefs object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let UnknownPrefs {
            mut own,
            mut persist,
        } = UnknownPrefs::default();
        while let Some(key) = map.next_key::<String>()? {
            match go::field_index(&key, NAMES, 0) {
                None => drop(own.insert(key, map.next_value::<Sealed>()?)),
                Some(index) if index + 1 == NAMES.len() => {
                    persist = map.next_value::<UnknownInPersist>()?.0;
                }
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(UnknownPrefs { own, persist })
    }
}

struct UnknownInPersist(Unknown);

impl<'de> Deserialize<'de> for UnknownInPersist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = UnknownInPersist;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Persist object")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(UnknownInPersist(Unknown::new()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut unknown = Unknown::new();
                while let Some(key) = map.next_key::<String>()? {
                    if go::field_index(&key, &Persist::NAMES, 0).is_some() {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        unknown.insert(key, map.next_value()?);
                    }
                }
                Ok(UnknownInPersist(unknown))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Wire for Prefs {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let mut prefs = Self::default();
        Overlay(&mut prefs).deserialize(deserializer)?;
        Ok(Some(prefs))
    }
}

impl Zero for Prefs {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for Prefs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Maybe::<Self>::deserialize(deserializer).map(|prefs| prefs.0.unwrap_or_default())
    }
}

impl MaskedPrefs {
    /// Whether the edit touches what only the daemon may set.
    pub fn sets_internal(&self) -> bool {
        self.internal_exit_node_prior_set
    }
}

impl Serialize for MaskedPrefs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.prefs.entries(&mut map)?;
        map.serialize_entry("Config", &self.prefs.persist)?;
        self.set_entries(&mut map)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for MaskedPrefs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = MaskedPrefs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MaskedPrefs object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut masked = MaskedPrefs::default();
                while let Some(key) = map.next_key::<String>()? {
                    if let Some(index) = go::field_index(&key, NAMES, 0) {
                        masked.prefs.overlay_field(index, &mut map)?;
                    } else {
                        let index = go::field_index(&key, SET_NAMES, 0);
                        masked.overlay_set(index.unwrap_or(usize::MAX), &mut map)?;
                    }
                }
                Ok(masked)
            }
        }
        deserializer.deserialize_map(V)
    }
}
