//! What the daemon logs, where to and how: the same questions to ours and to the original.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the daemon is the test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testkit::Process;

/// A daemon of either kind, in userspace mode and offline.
struct Daemon {
    process: Process,
    dir: TempDir,
}

fn ours() -> PathBuf {
    env!("CARGO_BIN_EXE_tailscaled").into()
}

fn original(test: &str) -> Option<PathBuf> {
    testkit::originals::program(test, "TS_GO_TAILSCALED")
}

fn arguments(command: &mut Command, dir: &Path) {
    command
        .arg("--tun=userspace-networking")
        .arg("--port=0")
        .arg(format!("--socket={}", dir.join("s.sock").display()))
        .arg(format!("--statedir={}", dir.join("state").display()));
    for name in ["TS_PARENT_DEATH_FD", "TS_LOG_VERBOSITY", "TS_LOG_TARGET"] {
        command.env_remove(name);
    }
    command.env("TS_LOGS_DIR", dir);
}

impl Daemon {
    /// Starts `program`; uploads go nowhere unless `set` says otherwise.
    fn start(program: &Path, set: impl FnOnce(&mut Command, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        arguments(&mut command, dir.path());
        command.env("TS_NO_LOGS_NO_SUPPORT", "true");
        set(&mut command, dir.path());
        let log = dir.path().join("log");
        let mut process = Process::start("tailscaled", command, &log);
        let socket = dir.path().join("s.sock");
        process.wait_ready(|_| UnixStream::connect(&socket).ok());
        Self { process, dir }
    }

    fn wait_for(&mut self, what: &str) -> String {
        self.process.wait_ready(|process| {
            let log = process.log();
            log.contains(what).then_some(log)
        })
    }

    fn curl(&self, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-N", "--unix-socket"])
            .arg(self.dir.path().join("s.sock"))
            .arg(format!("http://local-tailscaled.sock/localapi/v0/{path}"))
            .stdin(Stdio::null());
        curl
    }
}

fn is_stamped(line: &str, stamp: &str) -> bool {
    line.len() > stamp.len()
        && line.chars().zip(stamp.chars()).all(|(is, should)| {
            if should == '0' {
                is.is_ascii_digit()
            } else {
                is == should
            }
        })
}

fn first_lines(program: &Path) {
    let mut daemon = Daemon::start(program, |_, _| {});
    let log = daemon.wait_for("LogID: ");
    let stamped = |text: &str| {
        let line = log.lines().find(|line| line.contains(text)).unwrap();
        assert!(is_stamped(line, "0000/00/00 00:00:00 "), "{line}");
        line.split_at("0000/00/00 00:00:00 ".len()).1.to_owned()
    };
    let disabled = "You have disabled logging. Tailscale will not be able to provide support.";
    assert_eq!(stamped("You have disabled"), disabled);
    let starting = stamped("Program starting: v");
    let arguments = starting.split_once(": []string{\"").unwrap().1;
    assert!(
        arguments.contains("\", \"--tun=userspace-networking\", \"--port=0\", \""),
        "{starting}"
    );
    assert!(arguments.ends_with("/state\"}"), "{starting}");
    let id = stamped("LogID: ");
    assert_eq!(id.len(), "LogID: ".len() + 64, "{id}");
    let at = |text: &str| log.find(text).unwrap();
    assert!(at("You have disabled") < at("Program starting"));
    assert!(at("Program starting") < at("LogID"));
}

#[test]
fn the_first_lines_are_the_originals() {
    first_lines(&ours());
    if let Some(program) = original("the_first_lines_are_the_originals") {
        first_lines(&program);
    }
}

fn finer_stamps(program: &Path) {
    let mut daemon = Daemon::start(program, |command, _| {
        command.env("TS_DEBUG_LOG_TIME", "true");
    });
    let log = daemon.wait_for("LogID: ");
    let line = log.lines().find(|line| line.contains("LogID: ")).unwrap();
    assert!(is_stamped(line, "0000/00/00 00:00:00.000000 "), "{line}");
}

#[test]
fn microseconds_where_they_are_asked_for() {
    finer_stamps(&ours());
    if let Some(program) = original("microseconds_where_they_are_asked_for") {
        finer_stamps(&program);
    }
}

/// Starts the daemon where `/run` is a directory of the test, in which a syslog daemon listens or not.
fn with_syslog(program: &Path, listen: bool) -> (Daemon, Option<UnixDatagram>) {
    let run = tempfile::tempdir().unwrap();
    let syslog = listen.then(|| UnixDatagram::bind(run.path().join("log")).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /run && exec \"$@\"")
        .arg(run.path())
        .arg(program);
    arguments(&mut command, dir.path());
    command.arg("--syslog").env("TS_NO_LOGS_NO_SUPPORT", "true");
    let mut process = Process::start("tailscaled", command, &dir.path().join("log"));
    let socket = dir.path().join("s.sock");
    process.wait_ready(|_| UnixStream::connect(&socket).ok());
    // The mount holds the directory.
    drop(run.keep());
    (Daemon { process, dir }, syslog)
}

fn syslog_lines(program: &Path) {
    let (daemon, syslog) = with_syslog(program, true);
    let mut buffer = [0; 4096];
    let syslog = syslog.unwrap();
    let line = loop {
        let len = syslog.recv(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if line.contains("LogID: ") {
            break line;
        }
    };
    // <PRI>Mmm dd hh:mm:ss TAG[PID]: TEXT
    let (head, text) = line.split_once("]: ").unwrap();
    assert!(head.starts_with("<30>"), "{line}");
    let (stamp, tag) = head["<30>".len()..].split_at("Nov 27 16:17:11".len());
    assert!(is_stamped(&stamp[7..], "00:00:0"), "{line}");
    assert_eq!(tag, format!(" tailscaled[{}", daemon.process.pid()));
    assert!(
        text.starts_with("LogID: ") && text.ends_with('\n'),
        "{line}"
    );
    assert!(!daemon.process.log().contains("LogID"), "also on stderr");
}

#[test]
fn syslog_gets_the_lines_and_standard_error_none() {
    let test = "syslog_gets_the_lines_and_standard_error_none";
    if !rustix::process::geteuid().is_root() || Path::new("/dev/log").exists() {
        return testkit::originals::skip(test, "only root can make namespaces without a /dev/log");
    }
    syslog_lines(&ours());
    if let Some(program) = original(test) {
        syslog_lines(&program);
    }
}

#[test]
fn without_a_syslog_daemon_standard_error_gets_them() {
    let test = "without_a_syslog_daemon_standard_error_gets_them";
    if !rustix::process::geteuid().is_root() || Path::new("/dev/log").exists() {
        return testkit::originals::skip(test, "only root can make namespaces without a /dev/log");
    }
    let check = |program: &Path| {
        let (mut daemon, _) = with_syslog(program, false);
        let log = daemon.wait_for("LogID: ");
        let told = "syslog: connecting to syslog daemon failed; continuing to log to stderr: ";
        assert!(log.contains(told), "{log}");
    };
    check(&ours());
    if let Some(program) = original(test) {
        check(&program);
    }
}

/// The first entry of the log tap after the greeting whose text begins with `what`.
fn tapped(daemon: &Daemon, what: &str) -> serde_json::Value {
    let mut tap = daemon
        .curl("logtap")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tap.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "{\"text\":\"[logtap connected]\\n\"}"
    );
    let report = daemon
        .curl("bugreport?note=x")
        .args(["-X", "POST"])
        .output();
    assert!(report.unwrap().status.success());
    let found = lines.find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = entry["text"].as_str().unwrap_or_default();
        text.starts_with(what).then(|| entry.clone())
    });
    tap.kill().unwrap();
    tap.wait().unwrap();
    found.unwrap()
}

#[test]
fn entries_of_the_log_tap_are_the_originals() {
    let check = |program: &Path| {
        let daemon = Daemon::start(program, |_, _| {});
        let entry = tapped(&daemon, "user bugreport: BUG-");
        let text = entry["text"].as_str().unwrap();
        assert!(text.ends_with('\n'), "{entry}");
        let keys: Vec<_> = entry["logtail"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(keys, ["client_time", "proc_id", "proc_seq"], "{entry}");
        assert!(entry["logtail"]["proc_id"].as_u64().unwrap() > 0);
        let time = entry["logtail"]["client_time"].as_str().unwrap();
        assert!(is_stamped(time, "0000-00-00T00:00:00.000"), "{entry}");
        assert!(time.ends_with('Z'), "{entry}");
    };
    check(&ours());
    if let Some(program) = original("entries_of_the_log_tap_are_the_originals") {
        check(&program);
    }
}

#[test]
fn the_log_tap_is_for_those_who_may_write() {
    use std::os::unix::process::CommandExt as _;
    let test = "the_log_tap_is_for_those_who_may_write";
    if !rustix::process::geteuid().is_root() {
        return testkit::originals::skip(test, "run as root, who can become another user");
    }
    let check = |program: &Path| {
        let daemon = Daemon::start(program, |_, _| {});
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(daemon.dir.path(), open).unwrap();
        let mut curl = daemon.curl("logtap");
        let answer = curl.args(["-w", "%{http_code}"]).uid(65534).gid(65534);
        let answer = String::from_utf8(answer.output().unwrap().stdout).unwrap();
        assert_eq!(answer, "logtap access denied\n403");
    };
    check(&ours());
    if let Some(program) = original(test) {
        check(&program);
    }
}

#[test]
fn the_originals_command_line_shows_our_log() {
    let test = "the_originals_command_line_shows_our_log";
    let Some(cli) = testkit::originals::program(test, "TS_GO_TAILSCALE") else {
        return;
    };
    let daemon = Daemon::start(&ours(), |_, _| {});
    let mut logs = Command::new(cli)
        .arg(format!(
            "--socket={}",
            daemon.dir.path().join("s.sock").display()
        ))
        .args(["debug", "daemon-logs", "--time", "--verbose=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "[logtap connected]");
    let report = daemon.curl("bugreport").args(["-X", "POST"]).output();
    assert!(report.unwrap().status.success());
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("user bugreport")));
    let line = line.unwrap();
    assert!(is_stamped(&line, "0000-00-00T00:00:00."), "{line}");
    logs.kill().unwrap();
    let mut rest = String::new();
    let _ = logs
        .stderr
        .take()
        .map(|mut end| end.read_to_string(&mut rest));
    logs.wait().unwrap();
}
