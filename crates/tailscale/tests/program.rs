//! The program as a shell sees it.

#![expect(
    clippy::disallowed_methods,
    reason = "the program itself is what is tested"
)]

#[cfg(unix)]
#[path = "../../cli/tests/common/canned.rs"]
mod canned;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

fn tailscale(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailscale"));
    command.args(args).stdin(Stdio::null());
    command
}

#[test]
fn streams_and_exit_codes_are_told_apart() {
    for (args, code, on_stdout, on_stderr) in [
        (&["version"][..], 0, true, false),
        (&["-V"], 0, true, false),
        (&["--help"], 0, false, true),
        (&[], 0, false, true),
        (&["nonsense"], 1, false, true),
        (&["set"], 1, false, true),
        (&["--nonsense"], 2, false, true),
        (&["up", "--timeout=soon"], 2, false, true),
        (&["debug", "env"], 0, true, false),
    ] {
        let output = tailscale(args)
            .env("SHOWN", "yes")
            .output()
            .expect("run tailscale");
        let seen = (
            output.status.code(),
            !output.stdout.is_empty(),
            !output.stderr.is_empty(),
        );
        assert_eq!(seen, (Some(code), on_stdout, on_stderr), "{args:?}");
    }
}

/// As `tailscale ... | head`: no message, and the exit code of a program that the signal ended.
#[cfg(unix)]
#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let mut child = tailscale(&["debug", "stat", "/", "/", "/"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    drop(child.stdout.take());
    let mut told = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut told)
        .expect("read");
    assert_eq!(
        (child.wait().expect("ended").code(), told.as_str()),
        (Some(141), "")
    );
}

/// `nc` ends when the other side does, even while somebody could still type.
#[cfg(unix)]
#[test]
fn nc_does_not_wait_for_a_terminal() {
    use std::io::BufRead as _;
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("listen");
    let daemon = std::thread::spawn(move || {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"BackendState\":\"Running\"}\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n\r\nhello",
        ];
        for answer in answers {
            let (stream, _) = listener.accept().expect("accept");
            let mut lines = std::io::BufReader::new(stream);
            let mut line = String::from("x");
            while !line.trim_end().is_empty() {
                line.clear();
                lines.read_line(&mut line).expect("read the request");
            }
            lines
                .get_mut()
                .write_all(answer.as_bytes())
                .expect("answer");
        }
    });
    let mut command = tailscale(&[
        "--socket",
        &socket.display().to_string(),
        "nc",
        "peer",
        "80",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    let typing = child.stdin.take();
    let mut got = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut got)
        .expect("read");
    assert_eq!(
        (child.wait().expect("ended").code(), got.as_str()),
        (Some(0), "hello")
    );
    drop(typing);
    daemon.join().expect("the daemon");
}

/// Ctrl-C while `up` waits: the daemon goes on, and the user is told that nobody waits.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_wait() {
    use canned::{CannedDaemon, answer, stream};
    let status = r#"{"BackendState":"NeedsLogin"}"#;
    let daemon = CannedDaemon::start(
        "1",
        vec![
            answer("GET /localapi/v0/status", 200, status),
            answer("GET /localapi/v0/prefs", 200, "{}"),
            answer("POST /localapi/v0/check-prefs", 200, "{}"),
            answer("POST /localapi/v0/start", 204, ""),
            answer("POST /localapi/v0/login-interactive", 204, ""),
            stream(
                "GET /localapi/v0/watch-ipn-bus?mask=0",
                &[r#"{"BrowseToURL":"https://login.test/a"}"#],
            ),
        ],
    );
    let mut command = tailscale(&["--socket", &daemon.socket().display().to_string(), "up"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("run");
    let mut told = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut seen = String::new();
    while !seen.contains("https://login.test/a") {
        assert_ne!(
            std::io::BufRead::read_line(&mut told, &mut seen).expect("read"),
            0,
            "{seen}"
        );
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    seen.clear();
    told.read_to_string(&mut seen).expect("read");
    assert_eq!(
        (child.wait().expect("ended").code(), seen.trim()),
        (Some(1), "context canceled")
    );
    assert_eq!(daemon.commands().len(), 3);
}
