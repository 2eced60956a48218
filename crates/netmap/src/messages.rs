//! What the control server wants the user to know.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use tailcfg::DisplayMessage;

/// Messages by name.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    named: BTreeMap<String, DisplayMessage>,
    health: Vec<String>,
}

/// The name of the message that says why a locked tailnet has no peers.
const LOCKED_ID: &str = "tailnet-lock-not-built";

impl Messages {
    /// Applies one response's part.
    pub(crate) fn apply(
        &mut self,
        health: Option<Vec<String>>,
        messages: Option<BTreeMap<String, Option<DisplayMessage>>>,
    ) {
        if let Some(health) = health {
            self.health = health;
        }
        let messages = messages.unwrap_or_default();
        if messages.get("*") == Some(&None) {
            self.named.clear();
        }
        for (id, message) in messages {
            match message {
                _ if id == "*" => {}
                Some(message) => {
                    self.named.insert(id, message);
                }
                None => {
                    self.named.remove(&id);
                }
            }
        }
    }

    /// The messages in force. Plain health texts count only where the server sends nothing better.
    pub(crate) fn current(&self, locked: bool) -> BTreeMap<String, DisplayMessage> {
        let mut current = self.named.clone();
        if current.is_empty() {
            let texts = self.health.iter();
            current.extend(texts.map(|text| (health_id(text), health_message(text))));
        }
        if locked {
            current.insert(LOCKED_ID.into(), locked_message());
        }
        current
    }
}

fn health_id(text: &str) -> String {
    let mut id = String::from("health-");
    keys::encode_hex(digest(&SHA256, text.as_bytes()).as_ref(), &mut id);
    id
}

fn locked_message() -> DisplayMessage {
    DisplayMessage {
        title: "Tailnet lock is not built into this client".into(),
        text: "Tailnet lock is enabled, and this client cannot verify signatures, so it talks to no peer".into(),
        severity: "high".into(),
        impacts_connectivity: true,
        ..DisplayMessage::default()
    }
}

fn health_message(text: &str) -> DisplayMessage {
    DisplayMessage {
        title: "Coordination server reports an issue".into(),
        text: format!("The coordination server is reporting a health issue: {text}"),
        severity: "medium".into(),
        ..DisplayMessage::default()
    }
}
