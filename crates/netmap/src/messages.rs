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

impl Messages {
    /// Applies one response's part; whether there was any.
    pub(crate) fn apply(
        &mut self,
        health: Option<Vec<String>>,
        messages: Option<BTreeMap<String, Option<DisplayMessage>>>,
    ) -> bool {
        let any = health.is_some() || messages.is_some();
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
        any
    }

    /// The messages in force. Plain health texts count only where the server sends nothing better.
    pub(crate) fn current(&self) -> BTreeMap<String, DisplayMessage> {
        if !self.named.is_empty() {
            return self.named.clone();
        }
        self.health
            .iter()
            .map(|text| (health_id(text), health_message(text)))
            .collect()
    }
}

fn health_id(text: &str) -> String {
    let mut id = String::from("health-");
    keys::encode_hex(digest(&SHA256, text.as_bytes()).as_ref(), &mut id);
    id
}

fn health_message(text: &str) -> DisplayMessage {
    DisplayMessage {
        title: "Coordination server reports an issue".into(),
        text: format!("The coordination server is reporting a health issue: {text}"),
        severity: "medium".into(),
        ..DisplayMessage::default()
    }
}
