//! The originals come up together and speak with each other.

use testkit::originals::{self, HeadscaleOptions, TailscaledOptions};

#[test]
fn a_go_node_joins_headscale_through_a_go_relay() {
    let test = "a_go_node_joins_headscale_through_a_go_relay";
    let Some(derper) = originals::go_derper(test) else {
        return;
    };
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let Some(headscale) = originals::headscale(test, &options) else {
        return;
    };
    let Some(daemon) = originals::go_tailscaled(test, &TailscaledOptions::default()) else {
        return;
    };
    let key = headscale.auth_key(&headscale.create_user("test"), &[]);
    let url = headscale.url();
    let up = [
        "up",
        "--login-server",
        &url,
        "--auth-key",
        &key,
        "--hostname=gonode",
        "--timeout=30s",
    ];
    let Some(output) = originals::go_cli(test, &daemon.socket(), &up) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    assert!(headscale.cli(&["nodes", "list"]).contains("gonode"));
}
