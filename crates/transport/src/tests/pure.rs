//! Parsers and tables, without sockets.

use std::collections::BTreeMap;

use host::Wall;
use proptest::prelude::*;

use crate::ProxyConfig;
use crate::cert::{ServerCert, derp_meta_cert, relay_key_in};
use crate::client::target_of;
use crate::head::{HEAD_LEN_MAX, Head, HeadError};
use crate::proxy::Proxy;
use crate::upgrade::UpgradeRequest;
use crate::x509::facts;

fn env(pairs: &[(&str, &str)]) -> ProxyConfig {
    let env: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    ProxyConfig::from_env(&env)
}

#[test]
fn proxies_by_scheme_with_upper_case_first() {
    let config = env(&[
        ("HTTP_PROXY", "http://upper:8080"),
        ("http_proxy", "http://lower:8080"),
        ("https_proxy", "user:p%40ss@secure:3128"),
    ]);
    let host = |https| {
        config
            .for_target(https, "example.com", 80)
            .map(|proxy| proxy.host.clone())
    };
    assert_eq!(host(false).as_deref(), Some("upper"));
    assert_eq!(host(true).as_deref(), Some("secure"));
    let authorization = config
        .https
        .as_ref()
        .and_then(|proxy| proxy.authorization.clone());
    assert_eq!(authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
    assert!(
        !format!("{config:?}").contains("dXNl"),
        "credentials must not be printed"
    );
}

#[test]
fn proxy_urls() {
    let check = |text: &str, want: Option<(bool, &str, u16)>| {
        let got = Proxy::parse(text).ok();
        let got = got
            .as_ref()
            .map(|proxy| (proxy.tls, proxy.host.as_str(), proxy.port));
        assert_eq!(got, want, "{text}");
    };
    check("http://p:1/", Some((false, "p", 1)));
    check("p", Some((false, "p", 80)));
    check("https://p", Some((true, "p", 443)));
    check("[::1]:8", Some((false, "::1", 8)));
    check("http://u:p:q@h:9", Some((false, "h", 9)));
    check("socks5://p:1", None);
    check("p:99999", None);
    check("", None);
    check(":80", None);
}

#[test]
fn loopback_and_no_proxy_go_direct() {
    let config = env(&[
        ("HTTP_PROXY", "proxy:1"),
        (
            "NO_PROXY",
            "direct.example, .below.example,10.0.0.0/8,192.0.2.1,port.example:8080,*.star.example",
        ),
    ]);
    let check = |host: &str, port: u16, proxied: bool| {
        assert_eq!(
            config.for_target(false, host, port).is_some(),
            proxied,
            "{host}:{port}"
        );
    };
    check("localhost", 80, false);
    check("LOCALHOST.", 80, false);
    check("127.0.0.1", 80, false);
    check("127.9.9.9", 80, false);
    check("::1", 80, false);
    check("::ffff:127.0.0.1", 80, false);
    check("other.example", 80, true);
    check("direct.example", 80, false);
    check("a.direct.example", 80, false);
    check("indirect.example", 80, true);
    check("below.example", 80, true);
    check("a.below.example", 80, false);
    check("10.1.2.3", 80, false);
    check("11.1.2.3", 80, true);
    check("192.0.2.1", 80, false);
    check("192.0.2.2", 80, true);
    check("port.example", 8080, false);
    check("port.example", 80, true);
    check("a.star.example", 80, false);
    assert!(
        env(&[("HTTP_PROXY", "proxy:1"), ("NO_PROXY", "*")])
            .for_target(false, "x", 80)
            .is_none()
    );
    assert_eq!(env(&[("HTTPS_PROXY", "socks5://x:1")]).problems.len(), 1);
}

#[test]
fn heads() {
    let input = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nempty:\r\n\r\nrest";
    let (head, used) = Head::parse(input).unwrap().unwrap();
    assert_eq!(&input[used..], b"rest");
    assert_eq!(head.status(), Ok(101));
    assert_eq!(head.header("UPGRADE"), Some("DERP"));
    assert_eq!(head.header("empty"), Some(""));
    for end in 0..used {
        assert_eq!(Head::parse(&input[..end]), Ok(None));
    }
    let bad = |input: &[u8], want| assert_eq!(Head::parse(input), Err(want));
    bad(b"nonsense\r\n\r\n", HeadError::Malformed);
    bad(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", HeadError::Malformed);
    bad(
        b"HTTP/1.1 200 OK\r\nsp ace: x\r\n\r\n",
        HeadError::Malformed,
    );
    bad(b"\xff\xfe /\r\n\r\n", HeadError::Malformed);
    bad(&[b'x'; HEAD_LEN_MAX], HeadError::TooLong);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    bad(many.as_bytes(), HeadError::TooLong);
}

#[test]
fn requests_cannot_be_split() {
    let request = |host| UpgradeRequest {
        method: "POST",
        target: "/ts2021",
        host,
        protocol: "p",
        headers: &[],
    };
    let bytes = request("h").encode().unwrap();
    assert_eq!(
        bytes,
        b"POST /ts2021 HTTP/1.1\r\nHost: h\r\nUpgrade: p\r\nConnection: upgrade\r\n\r\n"
    );
    assert!(request("h\r\nX: y").encode().is_err());
    assert!(request("h\n").encode().is_err());
}

#[test]
fn targets() {
    let ok = |url: &str, want: (bool, &str, u16)| {
        let (https, host, port) = target_of(url).unwrap();
        assert_eq!((https, host.as_str(), port), want);
    };
    ok("https://example.com/x", (true, "example.com", 443));
    ok("http://[::1]:8080", (false, "::1", 8080));
    assert!(target_of("ftp://example.com").is_err());
    assert!(target_of("/path").is_err());
    assert!(target_of("http://").is_err());
}

#[test]
fn certificate_facts() {
    let now = Wall::from_unix_secs(1_700_000_000);
    let cert = ServerCert::self_signed("127.0.0.1", now).unwrap();
    let facts = facts(&cert.chain[0]).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("127.0.0.1"));
    assert_eq!(facts.not_before, 1_700_000_000);
    assert_eq!(facts.not_after, 1_700_000_000 + 365 * 86_400);
    cert.check_host("127.0.0.1").unwrap();
    assert!(cert.check_host("127.0.0.2").is_err());
    assert!(cert.pin_text().starts_with("sha256-raw:"));

    let again = ServerCert::from_pem(
        cert.chain_pem().as_bytes(),
        cert.expose_key_pem().as_bytes(),
    );
    assert_eq!(again.unwrap().pin_text(), cert.pin_text());
    assert!(ServerCert::from_pem(b"", b"").is_err());
    assert!(ServerCert::from_pem(cert.chain_pem().as_bytes(), b"junk").is_err());

    let key = keys::NodePublic::from_bytes([0xab; 32]);
    let meta = derp_meta_cert(&key, 2, now).unwrap();
    assert_eq!(relay_key_in(&[cert.chain[0].clone(), meta]), Some(key));
    assert_eq!(relay_key_in(&cert.chain), None);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = facts(&bytes);
        let _ = Head::parse(&bytes);
    }

    #[test]
    fn nearly_valid_certificates_never_panic(at in 0usize..400, value in any::<u8>(), len in 0usize..500) {
        let cert = derp_meta_cert(&keys::NodePublic::from_bytes([1; 32]), 2, Wall::from_unix_secs(0)).unwrap();
        let mut der = cert.to_vec();
        if let Some(byte) = der.get_mut(at) {
            *byte = value;
        }
        der.truncate(len);
        let _ = facts(&der);
    }

    #[test]
    fn random_proxies_never_panic(text in "[a-z0-9:@\\[\\]%./*,-]{0,30}") {
        let config = env(&[("HTTP_PROXY", &text), ("NO_PROXY", &text)]);
        let _ = config.for_target(false, &text, 80);
    }
}
