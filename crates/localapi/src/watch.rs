//! What of a bus message a subscriber gets to see.

use std::sync::Arc;

use ipn::{Notify, WatchMask};

/// The text of the last message to a subscriber who did not read fast enough.
pub const FELL_BEHIND: &str = "IPN bus consumer fell behind; closing watch";

/// The message for a subscriber with these wishes; `None` if nothing is left of it.
///
/// `promote` gives the whole node of a peer: who wants changes of peers but no patches gets it instead.
pub fn for_subscriber(
    message: &Arc<Notify>,
    mask: WatchMask,
    promote: impl Fn(tailcfg::NodeId) -> Option<Arc<tailcfg::Node>>,
) -> Option<Arc<Notify>> {
    let wants_changes = mask.intersects(WatchMask::PEER_CHANGES | WatchMask::PEER_PATCHES);
    let wants_patches = mask.intersects(WatchMask::PEER_PATCHES);
    let has_changes = !message.peers_changed.is_empty()
        || !message.peers_removed.is_empty()
        || !message.user_profiles.is_empty();
    let strip_changes = has_changes && !wants_changes;
    let strip_patches = !wants_patches && !message.peer_changed_patch.is_empty();
    let strip_state =
        !mask.intersects(WatchMask::PEER_WIREGUARD_STATE) && !message.peer_state.is_empty();
    let append_actions = !mask.intersects(WatchMask::HEALTH_ACTIONS) && has_action(message);
    if !(strip_changes || strip_patches || strip_state || append_actions) {
        return Some(Arc::clone(message));
    }

    let mut own = Notify::clone(message);
    if strip_changes {
        own.peers_changed.clear();
        own.peers_removed.clear();
        own.user_profiles.clear();
    }
    if strip_patches {
        let patches = std::mem::take(&mut own.peer_changed_patch);
        if wants_changes {
            let whole = patches.iter().filter_map(|patch| promote(patch.node_id));
            own.peers_changed.extend(whole);
        }
    }
    if strip_state {
        own.peer_state.clear();
    }
    if append_actions {
        append_health_actions(&mut own);
    }
    let nothing = Notify {
        version: own.version.clone(),
        ..Notify::default()
    };
    (own != nothing).then(|| Arc::new(own))
}

fn has_action(message: &Notify) -> bool {
    let warnings = message.health.iter().flat_map(|health| &health.warnings);
    warnings
        .flatten()
        .any(|(_, warning)| warning.primary_action.is_some())
}

/// Clients that cannot show a button get its link at the end of the text.
fn append_health_actions(message: &mut Notify) {
    let Some(health) = &mut message.health else {
        return;
    };
    for warning in Arc::make_mut(health)
        .warnings
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        if let Some(action) = warning.primary_action.take() {
            warning.text = format!("{} {}: {}", warning.text, action.label, action.url);
        }
    }
}
