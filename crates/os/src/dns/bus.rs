//! The system's D-Bus, and who is on it.

use std::time::Duration;

use zbus::OwnedVariant;
use zbus::message::Type;
use zbus::wire::serialized::Data;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::choose::NetworkManager;

/// How long a service may take to say that it is there. It may have to be started first.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long anything else may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const RESOLVED: &str = "org.freedesktop.resolve1";
const RESOLVED_PATH: &str = "/org/freedesktop/resolve1";
const RESOLVED_MANAGER: &str = "org.freedesktop.resolve1.Manager";
const NETWORK_MANAGER: &str = "org.freedesktop.NetworkManager";
const NETWORK_MANAGER_PATH: &str = "/org/freedesktop/NetworkManager";
const DNS_MANAGER_PATH: &str = "/org/freedesktop/NetworkManager/DnsManager";
const DNS_MANAGER: &str = "org.freedesktop.NetworkManager.DnsManager";

/// Why something on the bus did not work.
pub(super) type Result<T> = std::result::Result<T, zbus::Error>;

/// A connection with the bus.
#[derive(Debug, Clone)]
pub(super) struct Bus(Connection);

impl Bus {
    /// `None` where there is no such bus.
    pub(super) async fn connect() -> Option<Self> {
        let connecting = zbus::connection::Builder::system()
            .method_timeout(CALL_TIMEOUT)
            .build();
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => Some(Self(connection)),
            Ok(Err(error)) => {
                tracing::debug!("no D-Bus: {error}");
                None
            }
            Err(_) => {
                tracing::debug!("D-Bus does not answer");
                None
            }
        }
    }

    #[cfg(test)]
    pub(super) fn over(connection: Connection) -> Self {
        Self(connection)
    }

    /// Whether a service is there. One that is not yet is started, if the system knows how.
    async fn has(&self, service: &str, path: &str) -> bool {
        let ping = self.0.call_method(
            Some(service),
            path,
            Some("org.freedesktop.DBus.Peer"),
            "Ping",
            &(),
        );
        matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(_)))
    }

    /// Has systemd-resolved started, and so resolv.conf written, if this system has it.
    pub(super) async fn wake_resolved(&self) -> bool {
        self.has(RESOLVED, RESOLVED_PATH).await
    }

    /// NetworkManager, if it runs.
    pub(super) async fn network_manager(&self) -> Option<NetworkManager> {
        if !self.has(NETWORK_MANAGER, DNS_MANAGER_PATH).await {
            return None;
        }
        let version = self
            .property(NETWORK_MANAGER_PATH, NETWORK_MANAGER, "Version")
            .await;
        let dns_mode = self.property(DNS_MANAGER_PATH, DNS_MANAGER, "Mode").await;
        Some(NetworkManager {
            version: version.unwrap_or_default(),
            dns_mode: dns_mode.unwrap_or_default(),
        })
    }

    async fn property(&self, path: &str, interface: &str, name: &str) -> Result<String> {
        text_of(self.get(path, interface, name).await?.body().data())
    }

    async fn get(&self, path: &str, interface: &str, name: &str) -> Result<Message> {
        let properties = "org.freedesktop.DBus.Properties";
        self.device_call(path, properties, "Get", &(interface, name))
            .await
    }

    /// Calls NetworkManager.
    pub(super) async fn network_manager_call<B>(&self, method: &str, body: &B) -> Result<Message>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        self.device_call(NETWORK_MANAGER_PATH, NETWORK_MANAGER, method, body)
            .await
    }

    /// Calls an object of NetworkManager's.
    pub(super) async fn device_call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        let to = Some(NETWORK_MANAGER);
        self.0
            .call_method(to, path, Some(interface), method, body)
            .await
    }

    /// What NetworkManager knows of all connections' servers.
    pub(super) async fn network_manager_dns(&self) -> Result<Message> {
        self.get(DNS_MANAGER_PATH, DNS_MANAGER, "Configuration")
            .await
    }

    /// Calls systemd-resolved.
    pub(super) async fn resolved<B>(&self, method: &str, body: &B) -> Result<Message>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        self.0
            .call_method(
                Some(RESOLVED),
                RESOLVED_PATH,
                Some(RESOLVED_MANAGER),
                method,
                body,
            )
            .await
    }

    /// Tells whenever a service comes or goes.
    pub(super) async fn comings_and_goings(&self, service: &str) -> Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, service)
            .build()?;
        MessageStream::for_match_rule(rule, &self.0, None).await
    }
}

/// Whether that says that a service has come: it has an owner now.
pub(super) fn has_come(change: &Result<Message>) -> bool {
    let Ok(change) = change else {
        return false;
    };
    has_owner(change.body().data())
}

/// The text of a property, as its answer's body has it: a variant that holds it.
pub(super) fn text_of(body: &Data<'_, '_>) -> Result<String> {
    let (value, _): (OwnedVariant, _) = body.deserialize()?;
    String::try_from(value)
}

/// Whether the body of a `NameOwnerChanged` (name, old owner, new owner) has a new owner.
pub(super) fn has_owner(body: &Data<'_, '_>) -> bool {
    let owners = body.deserialize::<(&str, &str, &str)>();
    owners.is_ok_and(|((_, _, new), _)| !new.is_empty())
}
