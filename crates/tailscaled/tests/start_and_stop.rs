//! The daemon's command line, files and end, without any control server.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the daemon is the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

struct Daemon {
    child: Child,
    dir: TempDir,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailscaled"));
    command
        .arg("--tun=userspace-networking")
        .arg("--port=0")
        .arg(format!("--socket={}", dir.join("s.sock").display()))
        .arg(format!("--statedir={}", dir.join("state").display()))
        .args(args)
        .env_remove("TS_PARENT_DEATH_FD")
        .stdin(Stdio::null());
    command
}

impl Daemon {
    fn start(dir: TempDir, args: &[&str]) -> Self {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = command(dir.path(), args).stderr(log).spawn().unwrap();
        let mut daemon = Self { child, dir };
        daemon.wait("the socket", |daemon| {
            UnixStream::connect(daemon.dir.path().join("s.sock")).is_ok()
        });
        daemon
    }

    fn wait(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            if ready(self) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the daemon ended with {status} before {what}:\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no {what}:\n{}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn get(&self, path: &str) -> String {
        self.request(&format!("GET /localapi/v0/{path} HTTP/1.1\r\nHost: local-tailscaled.sock\r\nConnection: close\r\n\r\n"))
    }

    fn request(&self, text: &str) -> String {
        let mut socket = UnixStream::connect(self.dir.path().join("s.sock")).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn end(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tailscaled"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_line_is_gos() {
    let unknown = run(&["--nonsense"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).starts_with("flag provided but not defined: -nonsense\nUsage of ")
    );
    let help = run(&["-help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stderr).contains("-socks5-server string"));
    let bad = run(&["--port=x"]);
    assert_eq!(bad.status.code(), Some(2));
    let stray = run(&["stray"]);
    assert_eq!(stray.status.code(), Some(1));
    assert!(
        text(&stray.stderr).contains("tailscaled does not take non-flag arguments: [\"stray\"]")
    );
    let version = run(&["-version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(text(&version.stdout).starts_with(concat!(env!("CARGO_PKG_VERSION"), "\n")));
    let none = run(&["--socket="]);
    assert_eq!(
        (none.status.code(), text(&none.stderr).as_str()),
        (Some(1), "--socket is required\n")
    );
}

#[test]
fn what_is_not_built_says_so() {
    for args in [
        &["--tun=tap:tap0", "--state=mem:"][..],
        &["--tun=userspace-networking", "--config=x"],
        &["debug"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("not built")
                || said.contains("not included")
                || said.contains("not supported in this build"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_fresh_node_needs_a_login_and_ends_cleanly() {
    let mut daemon = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    daemon.wait("the state", |daemon| {
        daemon
            .get("status")
            .contains("\"BackendState\": \"NeedsLogin\"")
    });
    assert_eq!(daemon.end(rustix::process::Signal::TERM), Some(0));
    assert_eq!(
        std::fs::read_to_string(daemon.dir.path().join("state/tailscaled.state")).unwrap(),
        "{}"
    );
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    let mut daemon = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    let second = command(daemon.dir.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("address already in use"),
        "{}",
        text(&second.stderr)
    );
    assert!(daemon.get("status").starts_with("HTTP/1.1 200"));
    assert_eq!(daemon.end(rustix::process::Signal::INT), Some(0));
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("s.sock")).unwrap());
    let daemon = Daemon::start(dir, &[]);
    assert!(daemon.get("status").starts_with("HTTP/1.1 200"));
}

#[test]
fn an_untrustworthy_state_file_is_left_alone_and_logins_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/tailscaled.state");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, b"{\"_machinekey\": tor").unwrap();
    let daemon = Daemon::start(dir, &[]);
    let status = daemon.get("status");
    assert!(status.contains("\"BackendState\": \"NoState\""), "{status}");
    assert!(
        daemon.log().contains("tailscaled.state"),
        "{}",
        daemon.log()
    );
    let login = daemon.request(
        "POST /localapi/v0/login-interactive HTTP/1.1\r\nHost: local-tailscaled.sock\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(!login.starts_with("HTTP/1.1 2"), "{login}");
    assert_eq!(std::fs::read(&state).unwrap(), b"{\"_machinekey\": tor");
}

#[test]
fn keys_of_a_newer_version_survive() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/tailscaled.state");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, b"{\"_something-new\": \"AQID\"}").unwrap();
    let mut daemon = Daemon::start(dir, &[]);
    daemon.end(rustix::process::Signal::TERM);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(kept["_something-new"], "AQID");
}

#[test]
fn the_debug_listener_announces_its_port_and_serves_metrics() {
    let mut daemon = Daemon::start(tempfile::tempdir().unwrap(), &["--debug=127.0.0.1:0"]);
    daemon.wait("the debug address", |daemon| {
        daemon.log().contains("DEBUG-ADDR=")
    });
    let log = daemon.log();
    let address = log
        .split("DEBUG-ADDR=")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /debug/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("tailscaled_"),
        "{answer}"
    );
}

#[test]
fn the_daemon_ends_with_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    // The reading end is inherited under its number.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
    rustix::io::fcntl_setfd(&write, rustix::io::FdFlags::CLOEXEC).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&read);
    let mut child = command(dir.path(), &[])
        .env("TS_PARENT_DEATH_FD", number.to_string())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if UnixStream::connect(dir.path().join("s.sock")).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.try_wait().unwrap().is_none());
    drop(write);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn foreign_origins_and_hosts_are_refused() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    for header in [
        "Origin: http://evil.example",
        "Referer: http://evil.example/",
        "Host: evil.example",
    ] {
        let host = if header.starts_with("Host") {
            ""
        } else {
            "Host: local-tailscaled.sock\r\n"
        };
        let answer = daemon.request(&format!(
            "GET /localapi/v0/status HTTP/1.1\r\n{host}{header}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 403"), "{header}: {answer}");
    }
}

/// The first request that comes, without its body.
fn first_request(listener: &std::net::TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    text(&head)
}

#[test]
fn logs_go_to_the_log_target_only_where_one_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = command(dir.path(), &[])
        .env("TS_LOG_TARGET", &target)
        .env_remove("TS_NO_LOGS_NO_SUPPORT")
        .stderr(log)
        .spawn()
        .unwrap();
    let daemon = Daemon { child, dir };
    let request = first_request(&listener);
    assert!(
        request.starts_with("POST /c/tailnode.log.tailscale.io/"),
        "{request}"
    );
    let conf = std::fs::read(daemon.dir.path().join("state/tailscaled.log.conf")).unwrap();
    let conf: serde_json::Value = serde_json::from_slice(&conf).unwrap();
    let private = conf["PrivateID"].as_str().unwrap();
    assert!(request.contains(private));
    assert!(
        !daemon.log().contains(private),
        "the private identity is in the log"
    );
}

#[test]
fn an_init_system_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let hear = || {
        let mut bytes = [0; 256];
        let len = listener.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let child = command(dir.path(), &[])
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Daemon { child, dir };
    assert_eq!(hear(), "READY=1");
    // Whoever hears that can ask.
    assert!(daemon.get("status").starts_with("HTTP/1.1 200"));
    assert_eq!(hear(), "STATUS=Needs login: ");
    assert_eq!(daemon.end(rustix::process::Signal::TERM), Some(0));
    assert_eq!(hear(), "STOPPING=1");
}
