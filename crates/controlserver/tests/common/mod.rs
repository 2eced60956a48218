//! A tailnet of Go programs around the server.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;

use controlserver::{Admin, NewAuthKey};
use serde_json::Value;
use tailcfg::{DerpMap, DerpNode, DerpRegion};
use testkit::originals::{Daemon, Derper, TailscaledOptions, go_cli, go_tailscaled};

pub(crate) fn derp_map(derper: &Derper) -> DerpMap {
    let node = DerpNode {
        name: "900a".into(),
        region_id: 900,
        host_name: "127.0.0.1".into(),
        cert_name: derper.cert_name().into(),
        ipv4: "127.0.0.1".into(),
        ipv6: "none".into(),
        derp_port: derper.port().into(),
        stun_port: derper.stun_port().into(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: 900,
        region_code: "test".into(),
        region_name: "Test".into(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: Some([(900, Some(region))].into()),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}

pub(crate) struct Cli<'a> {
    pub(crate) test: &'a str,
    pub(crate) socket: &'a Path,
}

impl Cli<'_> {
    pub(crate) fn run(&self, args: &[&str]) -> (bool, String) {
        let output = go_cli(self.test, self.socket, args).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (ok, text) = self.run(args);
        assert!(ok, "tailscale {args:?}: {text}");
        text
    }

    pub(crate) fn status(&self) -> Value {
        let output = go_cli(self.test, self.socket, &["status", "--json"]).unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub(crate) fn peers(&self) -> Vec<Value> {
        let status = self.status();
        let peers = status["Peer"].as_object().cloned().unwrap_or_default();
        peers.into_iter().map(|(_, peer)| peer).collect()
    }

    pub(crate) fn up(&self, url: &str, key: &str, hostname: &str) -> (bool, String) {
        self.run(&[
            "up",
            &format!("--login-server={url}"),
            &format!("--auth-key={key}"),
            &format!("--hostname={hostname}"),
            "--timeout=60s",
        ])
    }
}

pub(crate) fn cli<'a>(test: &'a str, socket: &'a Path) -> Cli<'a> {
    Cli { test, socket }
}

pub(crate) async fn key(admin: &Admin, new: NewAuthKey) -> String {
    admin.create_auth_key(new).await.unwrap().key.unwrap()
}

pub(crate) fn daemon(test: &str) -> Option<Daemon> {
    go_tailscaled(test, &TailscaledOptions::default())
}
