use proptest::prelude::*;

use crate::page::{self, HomePage, Route};
use crate::request::{Head, HeadError, Response, read_head};

async fn head(text: &str) -> Result<Option<Head>, HeadError> {
    let mut buf = Vec::new();
    let result = read_head(&mut text.as_bytes(), &mut buf).await;
    if let Ok(Some(_)) = result {
        let end = text.find("\r\n\r\n").unwrap() + 4;
        assert_eq!(
            buf,
            &text.as_bytes()[end..],
            "what follows the head is kept"
        );
    }
    result
}

async fn good(text: &str) -> Head {
    head(text).await.unwrap().unwrap()
}

async fn answer(text: &str) -> Response {
    match page::route(&good(text).await, true, &HomePage::Default) {
        Route::Answer(response) => response,
        route @ Route::Derp { .. } => panic!("{route:?}"),
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut found = response.headers.iter().filter(|(n, _)| *n == name);
    found.next().map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn heads_are_bounded_and_checked() {
    assert!(matches!(head("").await, Ok(None)));
    assert!(matches!(head("GET / HT").await, Err(HeadError::Malformed)));
    assert!(matches!(
        head("\x16\x03\x01junk\r\n\r\n").await,
        Err(HeadError::Malformed)
    ));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    assert!(matches!(head(&long).await, Err(HeadError::TooLong)));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    assert!(matches!(head(&many).await, Err(HeadError::TooLong)));
    let h = good("GET /derp?x HTTP/1.1\r\nUPGRADE: DERP\r\nHost: h\r\n\r\nrest").await;
    assert_eq!((h.path(), h.upgrade().as_str()), ("/derp", "derp"));
}

#[tokio::test]
async fn connections_continue_as_http_says() {
    for (text, want) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", false),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        assert_eq!(good(text).await.may_continue(), want, "{text}");
    }
}

#[tokio::test]
async fn derp_needs_an_upgrade() {
    let derp = |fast_start| Route::Derp { fast_start };
    let route = |h: &Head| page::route(h, true, &HomePage::Default);
    let h = good("GET /derp HTTP/1.1\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n").await;
    assert_eq!(route(&h), derp(false));
    let Route::Answer(disabled) = page::route(&h, false, &HomePage::Default) else {
        panic!("disabled");
    };
    assert_eq!(
        (disabled.status.0, disabled.body.as_str()),
        (404, "derp server disabled\n")
    );
    let h = good("GET /derp HTTP/1.1\r\nUpgrade: derp\r\nDerp-Fast-Start: 1\r\n\r\n").await;
    assert_eq!(route(&h), derp(true));
    let plain = answer("GET /derp HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        (plain.status.0, plain.body.as_str()),
        (426, "DERP requires connection upgrade\n")
    );
    let socket = answer("GET /derp HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(socket.status.0, 501);
    assert!(socket.body.contains("not built"));
}

#[tokio::test]
async fn plain_requests_are_answered() {
    for path in ["/derp/probe", "/derp/latency-check"] {
        for method in ["GET", "HEAD"] {
            let probe = answer(&format!("{method} {path} HTTP/1.1\r\n\r\n")).await;
            assert_eq!(probe.status.0, 200);
            assert_eq!(header(&probe, "Access-Control-Allow-Origin"), Some("*"));
        }
        let post = answer(&format!("POST {path} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(
            (post.status.0, post.body.as_str()),
            (405, "bogus probe method\n")
        );
    }
    let dns = answer("GET /bootstrap-dns?q=a HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        (dns.status.0, dns.body.as_str(), dns.close),
        (200, "", true)
    );
    assert_eq!(header(&dns, "Content-Type"), Some("application/json"));
    assert_eq!(
        answer("GET /robots.txt HTTP/1.1\r\n\r\n").await.body,
        "User-agent: *\nDisallow: /\n"
    );
    assert_eq!(answer("CONNECT a:443 HTTP/1.1\r\n\r\n").await.status.0, 403);
    assert_eq!(
        answer("GET /debug/vars HTTP/1.1\r\n\r\n").await.status.0,
        404
    );
    let home = answer("GET /any HTTP/1.1\r\n\r\n").await;
    assert!(home.status.0 == 200 && home.body.contains("DERP"));
}

#[tokio::test]
async fn challenges_are_repeated_if_well_formed() {
    let longest = "a".repeat(64);
    let too_long = "a".repeat(65);
    for (challenge, want) in [
        ("ts_derp1.example:80", true),
        (longest.as_str(), true),
        (too_long.as_str(), false),
        ("a b", false),
        ("", false),
    ] {
        let text =
            format!("GET /generate_204 HTTP/1.1\r\nX-Tailscale-Challenge: {challenge}\r\n\r\n");
        let response = answer(&text).await;
        assert_eq!(response.status.0, 204);
        let want = want.then(|| format!("response {challenge}"));
        assert_eq!(header(&response, "X-Tailscale-Response"), want.as_deref());
        let bytes = String::from_utf8(response.encode(false, false)).unwrap();
        assert!(!bytes.contains("Content-Length") && bytes.ends_with("\r\n\r\n"));
    }
}

#[tokio::test]
async fn the_plain_port_sends_to_tls() {
    let to = page::route_plain(&good("GET /a?b HTTP/1.1\r\nHost: r.example\r\n\r\n").await);
    assert_eq!(to.status.0, 302);
    assert_eq!(header(&to, "Location"), Some("https://r.example/a?b"));
    let post = page::route_plain(&good("POST / HTTP/1.1\r\n\r\n").await);
    assert_eq!((post.status.0, post.body.as_str()), (400, "Use HTTPS\n"));
    let probe = page::route_plain(&good("GET /generate_204 HTTP/1.1\r\n\r\n").await);
    assert_eq!(probe.status.0, 204);
}

proptest! {
    #[test]
    fn heads_of_junk_are_refused_quietly(
        method in "[A-Z]{0,5}|[ -~]{0,9}",
        target in "/[a-z_0-9/?=-]{0,20}|[ -~]{0,30}",
        headers in prop::collection::vec("(upgrade|host|connection|x-tailscale-challenge|[a-z-]{1,9}): [ -~]{0,30}", 0..6),
        junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut text = format!("{method} {target} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes();
        text.extend_from_slice(&junk);
        let mut buf = Vec::new();
        let head = at_once(read_head(&mut text.as_slice(), &mut buf));
        if let Ok(Some(head)) = head {
            let _ = page::route(&head, true, &HomePage::Default);
            let bytes = page::route_plain(&head).encode(false, !head.may_continue());
            // Nothing of a request can begin a header of the answer.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let head = text.split("\r\n\r\n").next().unwrap_or_default();
            for line in head.split("\r\n").skip(1) {
                let name = line.split(':').next().unwrap_or_default();
                prop_assert!(["Location", "Content-Length", "Connection", "Content-Type", "X-Content-Type-Options", "Cache-Control", "X-Tailscale-Response"].contains(&name), "{}", line);
            }
        }
    }
}

/// Reading from memory never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("waits"),
    }
}

#[test]
fn home_flag() {
    assert_eq!(HomePage::parse(""), Some(HomePage::Default));
    assert_eq!(HomePage::parse("blank"), Some(HomePage::Blank));
    assert_eq!(
        HomePage::parse("https://a/"),
        Some(HomePage::Redirect("https://a/".to_owned()))
    );
    assert_eq!(HomePage::parse("ftp://a"), None);
}

#[test]
fn responses_to_head_have_no_body() {
    let response = Response::error((400, "Bad Request"), "no");
    let text = String::from_utf8(response.encode(true, true)).unwrap();
    assert!(text.contains("Content-Length: 3\r\n") && text.contains("Connection: close\r\n"));
    assert!(text.ends_with("\r\n\r\n"));
    assert!(response.encode(false, false).ends_with(b"no\n"));
}

mod certificates {
    use host::Wall;
    use transport::cert::CertError;

    use crate::tls::{Certificate, CertificateError};

    const NOW: Wall = Wall::from_unix_secs(1_800_000_000);

    #[test]
    fn an_address_gets_a_lasting_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs");
        let made = Certificate::load(&certs, "127.0.0.1", NOW).unwrap();
        let again = Certificate::load(&certs, "127.0.0.1", NOW).unwrap();
        assert_eq!(made.sha256(), again.sha256());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode =
                |name: &str| certs.join(name).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode("127.0.0.1.key"), 0o600);
        }
        let other = std::fs::copy(certs.join("127.0.0.1.crt"), certs.join("127.0.0.2.crt"));
        other.unwrap();
        std::fs::copy(certs.join("127.0.0.1.key"), certs.join("127.0.0.2.key")).unwrap();
        assert!(matches!(
            Certificate::load(&certs, "127.0.0.2", NOW),
            Err(CertificateError::Bad(_, CertError::WrongHost(_)))
        ));
        std::fs::write(certs.join("127.0.0.1.key"), "junk").unwrap();
        assert!(matches!(
            Certificate::load(&certs, "127.0.0.1", NOW),
            Err(CertificateError::Bad(_, CertError::Load(_)))
        ));
    }

    #[test]
    fn a_name_must_have_files() {
        let dir = tempfile::tempdir().unwrap();
        let error = Certificate::load(dir.path(), "relay.example", NOW).unwrap_err();
        assert!(error.to_string().contains("relay.example.crt"), "{error}");
        assert!(
            Certificate::load(dir.path(), "../../etc/passwd", NOW)
                .unwrap_err()
                .to_string()
                .contains("....etcpasswd.crt")
        );
    }
}
