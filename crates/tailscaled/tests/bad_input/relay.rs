//! Relays that die, come back, and talk nonsense.

use std::time::Duration;

use derp::{FrameType, put};
use keys::NodePrivate;

use crate::ours::{Node, Tailnet, derp_map, until};
use crate::scripted_control::ScriptedControl;
use crate::scripted_relay::ScriptedRelay;

async fn arrives(from: &Node, to: &Node) -> bool {
    let Some(address) = to
        .api
        .status()
        .await
        .unwrap()
        .tailscale_ips
        .unwrap_or_default()
        .first()
        .copied()
    else {
        return false;
    };
    let sink = lab::Sink::start().await.unwrap();
    let proxy = ([127, 0, 0, 1], from.daemon.proxy_port()).into();
    let push = lab::push(proxy, (address, sink.port()).into(), 1 << 10, |_| {});
    matches!(tokio::time::timeout(Duration::from_secs(5), push).await, Ok(Ok(sent)) if sent.checksums_match)
}

#[tokio::test(flavor = "multi_thread")]
async fn data_flows_again_when_the_relay_is_back() {
    let mut tailnet = Tailnet::start().await;
    let (one, two) = (tailnet.node().await, tailnet.node().await);
    until("first data", async || arrives(&one, &two).await).await;
    for _ in 0..2 {
        tailnet.relay.kill();
        until("a warning", async || !one.health().await.is_empty()).await;
        assert_eq!(one.state().await, "Running");
        tailnet.relay.start_again().await;
        until("data after a restart", async || arrives(&one, &two).await).await;
        until("data the other way", async || arrives(&two, &one).await).await;
        until("the warning's end", async || one.health().await.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_meaning_are_passed_over_and_broken_ones_end_only_the_link() {
    let (relay, stun) = (
        ScriptedRelay::start().await,
        crate::ours::Relay::start().await,
    );
    let control =
        ScriptedControl::start(&derp_map(relay.port(), stun.stun_port(), &relay.pin())).await;
    let node = Node::start();
    let up = tokio::task::block_in_place(|| node.up(&control.url(), "key", &["--timeout=1s"]));
    // Without a relay in reach nothing is Running.
    assert_eq!(up.code, Some(1), "{}", up.stderr);
    let mut caller = relay.caller().await;
    assert!(caller.answers([1; 8]).await);
    node.until_running().await;

    let mut unknown = Vec::new();
    for kind in 0..=255 {
        let kind = FrameType(kind);
        if is_known(kind) {
            continue;
        }
        for len in [0, 1, 70_000] {
            put::frame(&mut unknown, kind, &[&vec![kind.0; len]]);
        }
    }
    caller.say(&unknown).await;
    assert!(
        caller.answers([2; 8]).await,
        "unknown frames are passed over: {}",
        node.daemon.log()
    );

    let mut strange = Vec::new();
    let nobody = NodePrivate::generate(&mut rt::OsRng).public();
    for len in [0, 1, 31, 148, 65_536] {
        put::recv_packet(&mut strange, &nobody, &vec![1; len]).unwrap();
    }
    put::peer_gone(&mut strange, &nobody, derp::PeerGoneReason::NOT_HERE);
    put::health(&mut strange, "the relay is unwell");
    caller.say(&strange).await;
    assert!(
        caller.answers([3; 8]).await,
        "packets of strangers are dropped: {}",
        node.daemon.log()
    );
    until("the relay's words", async || {
        node.health()
            .await
            .iter()
            .any(|text| text.contains("the relay is unwell"))
    })
    .await;
    let mut well = Vec::new();
    put::health(&mut well, "");
    caller.say(&well).await;
    until("the warning's end", async || node.health().await.is_empty()).await;

    let endless = [&[FrameType::RECV_PACKET.0][..], &u32::MAX.to_be_bytes()].concat();
    let short = [&[FrameType::PEER_GONE.0][..], &1_u32.to_be_bytes(), b"x"].concat();
    for broken in [&endless[..], &short, &[0xff; 4096]] {
        caller.say(broken).await;
        drop(caller);
        caller = relay.caller().await;
        assert!(caller.answers([4; 8]).await);
        assert_eq!(node.state().await, "Running");
    }
    let mut soon = Vec::new();
    put::restarting(&mut soon, Duration::from_millis(10), Duration::from_secs(1));
    caller.say(&soon).await;
    drop(caller);
    assert!(relay.caller().await.answers([5; 8]).await);
    node.until_running().await;
    assert!(node.memory_kib("VmHWM") < 200 << 10);
}

/// Those that the protocol gives a meaning towards clients.
fn is_known(kind: FrameType) -> bool {
    [
        FrameType::SERVER_KEY,
        FrameType::SERVER_INFO,
        FrameType::RECV_PACKET,
        FrameType::KEEP_ALIVE,
        FrameType::PEER_GONE,
        FrameType::PEER_PRESENT,
        FrameType::PING,
        FrameType::PONG,
        FrameType::HEALTH,
        FrameType::RESTARTING,
    ]
    .contains(&kind)
}
