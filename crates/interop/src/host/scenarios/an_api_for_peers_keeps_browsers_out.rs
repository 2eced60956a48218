//! Peers are answered; what a page of another site has a browser send is not, and nothing that was not granted is told.

use std::net::SocketAddr;

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Context as _, Result, ensure};
use lab::netns::World;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let names = World::SERVERS[0].into();
    servers::dns(
        stage.tailnet.world.internet(),
        names,
        [192, 0, 2, 33].into(),
    )?;
    let server = stage.node("server")?;
    let client = stage.node("client")?;
    let status: serde_json::Value = serde_json::from_str(&server.cli(&["status", "--json"])?)?;
    let url = status["Self"]["PeerAPIURL"][0].as_str();
    let url = url.context("no URL in the status")?.to_owned();
    let at: SocketAddr = url.trim_start_matches("http://").parse()?;
    client.until_pings(at.ip())?;
    let own = at.to_string();
    let question = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlAAABAAE";
    for (path, host, more, expected) in [
        ("/", own.as_str(), "", "200 Hello"),
        ("/", "peer", "", "200 Hello"),
        ("/", "localhost", "", "403 invalid peerapi request"),
        ("/", "attacker.example", "", "403 invalid peerapi request"),
        ("/", "100.64.0.77:80", "", "403 invalid peerapi request"),
        (
            "/",
            own.as_str(),
            "Origin: http://attacker.example\r\n",
            "403 invalid peerapi request",
        ),
        (
            "/",
            own.as_str(),
            "Referer: http://attacker.example/\r\n",
            "403 invalid peerapi request",
        ),
        ("/nowhere", own.as_str(), "", "404 unsupported peerapi path"),
        ("/v0/env", own.as_str(), "", "403 denied; no debug access"),
        (
            "/v0/metrics",
            own.as_str(),
            "",
            "403 denied; no debug access",
        ),
        ("/dns-query", own.as_str(), "", "400 missing"),
        (
            "/dns-query?dns=!",
            own.as_str(),
            "",
            "400 invalid 'dns' base64 encoding",
        ),
        (
            &format!("/dns-query?dns={question}"),
            own.as_str(),
            "",
            "200 ",
        ),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        let answer = servers::ask(client.site.node(), at, &request)?;
        let (status, words) = expected.split_once(' ').unwrap_or((expected, ""));
        let is_it = answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words);
        ensure!(
            is_it,
            "{path} of {host} {more:?}: not `{expected}` but {answer}"
        );
    }
    // It is there whatever the host's own firewall says, and another program's port is left alone.
    server.sh("nft 'table inet strict { chain input { type filter hook input priority 10; iifname tailscale0 drop; }; }'")?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {own}\r\nUser-Agent: Mozilla/5.0\r\nConnection: close\r\n\r\n"
    );
    let answer = servers::ask(client.site.node(), at, &request)?;
    let has_policy = answer
        .to_ascii_lowercase()
        .contains("content-security-policy: default-src 'none'");
    ensure!(has_policy, "a browser gets no policy: {answer}");
    Verdict::pass()
}
