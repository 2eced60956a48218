//! Tables and parsers.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use keys::MachinePublic;
use proptest::prelude::*;

use crate::c2n::go_duration;
use crate::connection::{Answer, parse_key};
use crate::register::{Outcome, http_date, judge, retry_after};
use crate::{
    C2nRequest, C2nResponse, C2nRouter, DecodeError, Error, Ports, Retry, ServerUrl,
    decode_message, parse_request,
};

/// The originals' `TestNoiseClientPortsAreSet`.
#[test]
fn ports_by_url() {
    let check = |urls: &[&str], https, http| {
        for url in urls {
            let url = ServerUrl::parse(url).unwrap();
            assert_eq!(url.ports(), Ports { https, http }, "{url:?}");
        }
    };
    check(
        &[
            "https://example.com",
            "http://example.com",
            "https://example.com/",
        ],
        Some(443),
        Some(80),
    );
    check(
        &["https://example.com:123", "https://[2001:db8::1]:123"],
        Some(123),
        None,
    );
    check(
        &["http://example.com:123", "http://[2001:db8::1]:123/base"],
        Some(443),
        Some(123),
    );
    check(
        &[
            "http://127.0.0.1",
            "http://localhost",
            "http://192.168.2.3",
            "http://[::1]",
        ],
        None,
        Some(80),
    );
    check(
        &[
            "http://127.0.0.1:8080",
            "http://localhost:8080",
            "http://192.168.2.3:8080",
        ],
        None,
        Some(8080),
    );
    check(&["http://1.2.3.4", "https://1.2.3.4"], Some(443), Some(80));
    check(&["http://1.2.3.4:8080"], Some(443), Some(8080));
    check(&["https://1.2.3.4:8080"], Some(8080), None);
}

#[test]
fn urls_keep_their_base_path() {
    let url = ServerUrl::parse("http://127.0.0.1:8080/base//").unwrap();
    assert_eq!(
        url.key_url(),
        format!("http://127.0.0.1:8080/base/key?v={}", tailcfg::CAP)
    );
    assert_eq!(
        url.machine_url("/machine/map"),
        "https://127.0.0.1:8080/base/machine/map"
    );
    assert_eq!(url.authority(), "127.0.0.1:8080");
    for bad in [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http://u:p@h",
        "http://h/?q",
        "http://h o",
    ] {
        assert!(ServerUrl::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn pages_that_may_be_shown() {
    let check = |server: &str, page: &str, want: bool| {
        assert_eq!(
            ServerUrl::parse(server).unwrap().may_show(page),
            want,
            "{server} {page}"
        );
    };
    check(
        "https://headscale.test",
        "https://headscale.test/register/x",
        true,
    );
    check("https://headscale.test", "https://sso.test/", true);
    check("https://headscale.test", "http://headscale.test/", false);
    check(
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/register/x",
        true,
    );
    check("https://headscale.test", "file:///etc/passwd", false);
    check("https://headscale.test", "javascript:alert(1)", false);
    check("https://headscale.test", "https://a.test/\x1b[2J", false);
    check(
        "https://controlplane.tailscale.com",
        "https://login.tailscale.com/a/1",
        true,
    );
    check(
        "https://controlplane.tailscale.com",
        "https://tailscale.com.evil.test/",
        false,
    );
}

#[test]
fn server_keys() {
    let key = MachinePublic::from_bytes([1; 32]);
    let json = format!(
        r#"{{"legacyPublicKey":"{}","publicKey":"{key}"}}"#,
        MachinePublic::ZERO
    );
    assert_eq!(parse_key(json.as_bytes()).unwrap(), key);
    assert_eq!(
        parse_key(format!(r#"{{"publicKey":"{key}","more":1}}"#).as_bytes()).unwrap(),
        key
    );
    let check = |body: &[u8], want: &str| {
        let error = parse_key(body).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check("ab".repeat(32).as_bytes(), "too old");
    check(b"{}", "too old");
    check(br#"{"publicKey":null}"#, "too old");
    check(b"<html>", "no key");
    check(br#"{"publicKey":"mkey:xy"}"#, "no key");
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn register_answers() {
    let url = ServerUrl::parse("http://127.0.0.1:1").unwrap();
    let fails = |status, body: &str, want: &str, for_user: bool| {
        let error = judge(&url, &answer(status, body)).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(error.is_for_user(), for_user, "{error}");
    };
    fails(500, "broken\nthing", "http status 500: broken thing", false);
    fails(
        500,
        &"x".repeat(1000),
        &format!("500: {}", "x".repeat(200)),
        false,
    );
    fails(429, "slow down", "slow down", true);
    fails(200, "{", "reading the answer", false);
    fails(
        200,
        r#"{"Error":"bad key","AuthURL":"http://x/"}"#,
        "bad key",
        true,
    );
    fails(200, r#"{"NodeKeySignature":"AAEC"}"#, "locked", false);
    fails(200, r#"{"AuthURL":"file:///etc"}"#, "untrustworthy", false);
    let good = |body: &str| judge(&url, &answer(200, body)).unwrap();
    assert!(matches!(
        good(r#"{"NodeKeyExpired":true,"AuthURL":"http://x/"}"#),
        Outcome::KeyExpired
    ));
    assert!(
        matches!(good(r#"{"AuthURL":"http://x/?a=%20B"}"#), Outcome::Visit(url) if url == "http://x/?a=%20B")
    );
    let body = r#"{"User":{"ID":7},"Login":{"LoginName":"a\u0026b","DisplayName":null},"MachineAuthorized":false}"#;
    assert!(
        matches!(good(body), Outcome::Registered(user) if user.id == 7 && user.login_name == "a&b")
    );
    assert!(matches!(good("null"), Outcome::Registered(_)));
}

#[test]
fn retry_after_is_believed_within_reason() {
    let check = |value: &str, want: std::ops::RangeInclusive<u64>| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().unwrap());
        let got = retry_after(&headers).as_secs();
        assert!(want.contains(&got), "{value}: {got}");
    };
    check("3", 3..=3);
    check("3600", 3600..=3600);
    check("3601", 5..=10);
    check("0", 5..=10);
    check("-1", 5..=10);
    check("soon", 5..=10);
    check("Sun, 06 Nov 1994 08:49:37 GMT", 5..=10);
    assert!((5..=10).contains(&retry_after(&HeaderMap::new()).as_secs()));
    assert_eq!(
        http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
        Some(784_111_777)
    );
    assert_eq!(
        http_date("Thu, 29 Feb 2024 00:00:00 GMT"),
        Some(1_709_164_800)
    );
    assert_eq!(http_date("Sun, 99 Nov 1994 08:49:37 GMT"), None);
}

#[test]
fn durations_as_go_writes_them() {
    let check = |text: &str, want: Option<u64>| {
        assert_eq!(
            go_duration(text).map(|d| u64::try_from(d.as_millis()).unwrap()),
            want,
            "{text}"
        );
    };
    check("1m30s", Some(90_000));
    check("1.5s", Some(1500));
    check("250ms", Some(250));
    check("1h0m0s", Some(3_600_000));
    check("0", Some(0));
    check("", None);
    check("5", None);
    check("5x", None);
    check("s", None);
    check("-1s", None);
    check("99999999999999999999999h", None);
}

#[test]
fn retries_stay_short_at_first_and_grow_later() {
    let mut retry = Retry::new();
    for _ in 0..100 {
        assert!(retry.next_wait() <= Duration::from_secs(2));
    }
    for _ in 0..200 {
        assert!(retry.next_wait() <= Duration::from_secs(30));
    }
    assert!(retry.next_wait() > Duration::from_secs(20));
    retry.reset();
    assert!(retry.next_wait() < Duration::from_secs(1));
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

#[test]
fn map_messages() {
    let keep_alive = b"\x28\xb5\x2f\xfd\x24\x12\x91\x00\x00{\"KeepAlive\":true}\x0e\x26\x0c\x10";
    assert!(decode_message(keep_alive, 100).unwrap().keep_alive);
    let mut wrong_sum = *keep_alive;
    wrong_sum[30] ^= 1;
    assert!(matches!(
        decode_message(&wrong_sum, 100),
        Err(DecodeError::Compression(_))
    ));
    let nulls =
        br#"{"Node":null,"Peers":null,"DNSConfig":null,"PeersChangedPatch":[],"Unknown":{"a":1}}"#;
    assert_eq!(
        decode_message(&zstd(nulls), 1000).unwrap(),
        tailcfg::MapResponse::default()
    );
    assert!(decode_message(&zstd(b"null"), 100).is_ok());
    assert!(matches!(
        decode_message(&zstd(b"{\"Peers\":7}"), 100),
        Err(DecodeError::Json(_))
    ));
    assert!(matches!(
        decode_message(&zstd(b"{"), 100),
        Err(DecodeError::Json(_))
    ));
    assert!(matches!(
        decode_message(b"", 100),
        Err(DecodeError::Json(_) | DecodeError::Compression(_))
    ));
    assert!(matches!(
        decode_message(b"{}", 100),
        Err(DecodeError::Compression(_))
    ));
    let bomb = zstd(&vec![b' '; 1 << 20]);
    assert!(bomb.len() < 1000);
    assert!(matches!(
        decode_message(&bomb, 1000),
        Err(DecodeError::TooLong(1000))
    ));
}

async fn asked(router: &C2nRouter, request: &[u8]) -> (u16, Bytes) {
    let answered = router.answer(parse_request(request).unwrap()).await;
    (answered.status, answered.body)
}

#[tokio::test]
async fn requests_of_control_find_their_handler() {
    let mut router = C2nRouter::new();
    router.route("POST", "/flush", |_| async { C2nResponse::text(204, "") });
    router.route_prefix("/a/", |request: C2nRequest| async move {
        C2nResponse::text(200, &request.path)
    });
    router.route_prefix("/a/b/", |request: C2nRequest| async move {
        C2nResponse::text(201, &request.query)
    });
    let echo = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(asked(&router, echo).await, (200, Bytes::from("hello")));
    assert_eq!(
        asked(&router, b"GET /echo HTTP/1.0\r\n\r\n").await,
        (200, Bytes::new())
    );
    assert_eq!(
        asked(&router, b"GET /no HTTP/1.1\r\n\r\n").await,
        (400, Bytes::from("unknown c2n path\n"))
    );
    assert_eq!(
        asked(&router, b"GET /flush HTTP/1.1\r\n\r\n").await,
        (405, Bytes::from("bad method\n"))
    );
    assert_eq!(asked(&router, b"POST /flush HTTP/1.1\r\n\r\n").await.0, 204);
    assert_eq!(
        asked(&router, b"GET /a/x HTTP/1.1\r\n\r\n").await,
        (200, Bytes::from("/a/x\n"))
    );
    assert_eq!(
        asked(&router, b"GET http://h/a/b/c?q=1 HTTP/1.1\r\n\r\n").await,
        (201, Bytes::from("q=1\n"))
    );
    let answer = C2nResponse::text(400, "no").encode();
    let want = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nno\n";
    assert_eq!(answer, want);
}

#[test]
fn malformed_requests_of_control() {
    for bad in [
        &b""[..],
        b"GET /",
        b"nonsense\r\n\r\n",
        b"GET / SPDY/3\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(parse_request(bad).is_err());
    }
}

#[test]
fn no_secret_in_debug_output() {
    let login = crate::LoginRequest {
        auth_key: Some(tailcfg::go::Secret::new("tskey-very-secret".to_owned())),
        ..crate::LoginRequest::default()
    };
    assert!(!format!("{login:?}").contains("very-secret"));
    assert!(!format!("{}", Error::Ended).is_empty());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,40}") {
        let _ = decode_message(&bytes, 10_000);
        let _ = decode_message(&zstd(&bytes), 10_000);
        let _ = parse_request(&bytes);
        let _ = parse_key(&bytes);
        let _ = http_date(&text);
        let _ = go_duration(&text);
        let url = ServerUrl::parse("https://control.test").unwrap();
        let _ = url.may_show(&text);
        let _ = ServerUrl::parse(&text);
        let _ = judge(&url, &answer(200, &text));
    }
}
