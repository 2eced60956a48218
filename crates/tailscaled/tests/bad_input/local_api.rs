//! Local clients that stall, flood, ask for what is not there, or may not ask.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;

use crate::ours::{Node, our_cli, until};

const HEAD: &str = "Host: local-tailscaled.sock\r\nConnection: close\r\n";

fn connect(node: &Node) -> UnixStream {
    UnixStream::connect(node.daemon.socket()).unwrap()
}

/// The whole answer; empty if the daemon hangs up without one.
fn ask(node: &Node, parts: &[&[u8]]) -> String {
    let mut socket = connect(node);
    for part in parts {
        // Who refuses a request need not read it to its end.
        if socket.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(node: &Node, method: &str, path: &str) -> String {
    ask(
        node,
        &[
            format!("{method} /localapi/v0/{path} HTTP/1.1\r\n{HEAD}Content-Length: 0\r\n\r\n")
                .as_bytes(),
        ],
    )
}

#[tokio::test]
async fn stalled_clients_do_not_keep_others_waiting() {
    raise_open_files();
    let node = Node::start();
    let idle: Vec<UnixStream> = (0..200).map(|_| connect(&node)).collect();
    let slow: Vec<UnixStream> = (0..100)
        .map(|at| {
            let mut socket = connect(&node);
            let text = format!(
                "POST /localapi/v0/start HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\n{{"
            );
            // Each stalls at another place: in the line, in the headers, in the body.
            socket
                .write_all(&text.as_bytes()[..(at * text.len() / 99).max(1)])
                .unwrap();
            socket
        })
        .collect();
    let deaf: Vec<UnixStream> = (0..50)
        .map(|_| {
            let mut socket = connect(&node);
            let text = format!("GET /localapi/v0/watch-ipn-bus?mask=14 HTTP/1.1\r\n{HEAD}\r\n");
            socket.write_all(text.as_bytes()).unwrap();
            socket
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(node.state().await, "NeedsLogin");
    }
    drop((idle, slow, deaf));
    assert_eq!(node.state().await, "NeedsLogin");
}

#[tokio::test]
async fn what_is_huge_is_refused_without_being_kept() {
    let node = Node::start();
    assert_eq!(node.state().await, "NeedsLogin");
    let before = node.memory_kib("VmHWM");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..10 {
        let long = ask(
            &node,
            &[
                b"GET /localapi/v0/status HTTP/1.1\r\nX: ",
                &chunk,
                b"\r\n",
                HEAD.as_bytes(),
                b"\r\n",
            ],
        );
        assert!(
            long.is_empty() || long.starts_with("HTTP/1.1 431 "),
            "{long}"
        );
        let line = ask(
            &node,
            &[
                b"GET /localapi/v0/status?",
                &chunk,
                b" HTTP/1.1\r\n",
                HEAD.as_bytes(),
                b"\r\n",
            ],
        );
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 4"), "{line}");
        let many: String = (0..10_000).map(|at| format!("X-{at}: y\r\n")).collect();
        let many = ask(
            &node,
            &[
                b"GET /localapi/v0/status HTTP/1.1\r\n",
                many.as_bytes(),
                HEAD.as_bytes(),
                b"\r\n",
            ],
        );
        assert!(
            many.is_empty() || many.starts_with("HTTP/1.1 431 "),
            "{many}"
        );
    }
    for path in [
        "prefs",
        "start",
        "check-prefs",
        "status",
        "login-interactive",
        "no-such-thing",
        "tka/init",
    ] {
        let method = if path == "prefs" { "PATCH" } else { "POST" };
        let announced = format!(
            "{method} /localapi/v0/{path} HTTP/1.1\r\n{HEAD}Content-Length: {}\r\n\r\n",
            64 << 20
        );
        let chunked = format!(
            "{method} /localapi/v0/{path} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n"
        );
        let size = format!("{:x}\r\n", chunk.len());
        let mut endless = vec![chunked.as_bytes()];
        endless.extend([size.as_bytes(), &chunk, b"\r\n"].repeat(64));
        let mut long = vec![announced.as_bytes()];
        long.extend([&chunk[..]].repeat(64));
        for body in [long, endless] {
            let answer = ask(&node, &body);
            let status = answer.get(9..12).unwrap_or_default();
            let refused = ["413", "400", "404", "501"].contains(&status)
                || (path == "status" && status == "200");
            assert!(answer.is_empty() || refused, "{path}: {answer}");
        }
    }
    let grown = node.memory_kib("VmHWM").saturating_sub(before);
    assert!(
        grown < 16 << 10,
        "{grown} KiB for requests that were refused"
    );
    assert_eq!(node.state().await, "NeedsLogin");
}

#[tokio::test]
async fn what_is_not_http_ends_only_its_connection() {
    let node = Node::start();
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
    ] {
        let answer = ask(&node, &[junk, b"\r\n\r\n"]);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    let hosts = [
        "Host: local-tailscaled.sock\r\nHost: evil.example",
        "Host: local-tailscaled.sock",
    ];
    for (target, host, status) in [
        ("", hosts[0], "400"),
        ("http://evil.example", hosts[1], "403"),
    ] {
        let text = format!(
            "GET {target}/localapi/v0/status HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"
        );
        let answer = ask(&node, &[text.as_bytes()]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{text}: {answer}"
        );
    }
    assert_eq!(node.state().await, "NeedsLogin");
}

#[tokio::test]
async fn names_and_methods_that_do_not_exist() {
    let node = Node::start();
    for (method, path, status, words) in [
        ("GET", "no-such-thing", 404, "404 page not found"),
        ("GET", "", 404, "404 page not found"),
        ("GET", "status/", 404, "404 page not found"),
        ("GET", "../../etc/passwd", 404, "404 page not found"),
        ("GET", "tka/status", 501, "not built: tka/status"),
        ("GET", "files/", 501, "not built: files"),
        ("POST", "serve-config", 501, "not built: serve-config"),
        ("DELETE", "serve-config", 405, "method not allowed"),
        ("GET", "start", 400, "want POST"),
        ("DELETE", "prefs", 405, "unsupported method"),
        ("GET", "shutdown", 405, "only POST allowed"),
        ("POST", "derpmap", 400, "want GET"),
        ("PATCH", "profiles/", 405, "use GET or PUT"),
        ("POST", "prefs", 405, "unsupported method"),
        ("POST", "start", 400, "EOF"),
        ("GET", "whois", 400, "missing 'addr' parameter"),
        ("GET", "watch-ipn-bus?mask=x", 400, "bad mask"),
        ("POST", "ping?ip=nonsense&type=disco", 400, "invalid IP"),
        ("GET", "whois?addr=%zz", 400, "'addr' parameter"),
    ] {
        let answer = request(&node, method, path);
        let want = format!("HTTP/1.1 {status} ");
        assert!(
            answer.starts_with(&want) && answer.contains(words),
            "{method} {path}: {answer}"
        );
    }
    assert_eq!(node.state().await, "NeedsLogin");
}

#[tokio::test]
async fn nothing_is_served_and_that_is_said() {
    let node = Node::start();
    let answer = request(&node, "GET", "serve-config").to_lowercase();
    assert!(
        answer.starts_with("http/1.1 200 ") && answer.ends_with("\r\n\r\nnull"),
        "{answer}"
    );
    // SHA-256 of `null`.
    let tag = "etag: 74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b\r\n";
    assert!(answer.contains(tag), "{answer}");
    let answer = request(&node, "GET", "check-so-mark-in-use");
    assert!(
        answer.ends_with("\r\n\r\n{\"UseSOMark\":true}\n"),
        "{answer}"
    );
}

/// A user who is neither root nor the daemon's own.
const NOBODY: u32 = 65_534;

/// Copies a program by another process. A copy that this process wrote could not be run while a child of another test, forked
/// in between, still holds it open for writing (`ETXTBSY`).
fn copy_program(from: &std::path::Path, to: &std::path::Path) {
    #[expect(clippy::disallowed_methods, reason = "preparing the test")]
    let copied = std::process::Command::new("cp")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

/// Room for as many connections as these tests hold open, whatever the limit that they are started with.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn who_is_not_root_may_look_but_not_change() {
    if !rustix::process::geteuid().is_root() {
        testkit::originals::skip(
            "who_is_not_root_may_look_but_not_change",
            "run as root, who can become another user",
        );
        return;
    }
    raise_open_files();
    let node = Node::start();
    // The daemon's temporary directory is private.
    let socket = node.daemon.socket();
    let dir = socket.parent().unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cli = dir.join("tailscale");
    copy_program(&our_cli(), &cli);
    let nobody = |args: &[&str]| {
        #[expect(
            clippy::disallowed_methods,
            reason = "running the command line is the test"
        )]
        let mut command = std::process::Command::new(&cli);
        let output = command
            .arg("--socket")
            .arg(&socket)
            .args(args)
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    // However many connections one user hoards.
    let hoard: Vec<UnixStream> = (0..600).map(|_| connect(&node)).collect();
    let (code, said) = nobody(&["status", "--json"]);
    drop(hoard);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"NeedsLogin\""), "{said}");
    // Root's own share of connections is free again as soon as the daemon has seen their end.
    until("the hoard is gone", async || node.api.prefs().await.is_ok()).await;
    let before = node.api.prefs().await.unwrap();
    let (code, said) = nobody(&["down"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("access denied"), "{said}");
    let (code, said) = nobody(&[
        "up",
        "--login-server=http://127.0.0.1:1",
        "--auth-key=x",
        "--timeout=5s",
    ]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.to_lowercase().contains("access denied"), "{said}");
    let (code, said) = nobody(&["logout"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(node.api.prefs().await.unwrap(), before);
}
