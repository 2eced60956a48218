//! Passes on what becomes of the machine's links.

use backend::Event;
use dataplane::Engine;
use host::{LinkMonitor, LinkState};

use crate::brain::BrainHandle;

/// Reports the present state, then every change.
pub(crate) async fn watch(mut links: Box<dyn LinkMonitor>, engine: Engine, brain: BrainHandle) {
    let now = links.current();
    tracing::info!("links: {}", describe(&now));
    engine.set_links(now.clone());
    brain.report(Event::Link(now)).await;
    loop {
        let change = links.changed().await;
        let kind = if change.major { "major" } else { "minor" };
        let woke = if change.woke { ", after a sleep" } else { "" };
        tracing::info!("links: {kind} change{woke}: {}", describe(&change.now));
        // The sockets first: control is called again as soon as the brain knows.
        engine.set_links(change.now.clone());
        engine.link_changed(change.major);
        brain.report(Event::Link(change.now)).await;
    }
}

fn describe(links: &LinkState) -> String {
    let up = if links.up { "up" } else { "down" };
    let default = links.default_interface.as_deref().unwrap_or("none");
    let (v4, v6) = (links.have_v4, links.have_v6);
    format!("{up}, default route {default}, v4={v4} v6={v6}")
}
