//! The program as a service manager or a script sees it.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "starts the program under test; what fails here fails the test"
)]

use std::process::{Command, Output};

fn derper(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command.args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_and_usage() {
    let version = derper(&["-version"]);
    assert!(version.status.success());
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        env!("CARGO_PKG_VERSION")
    );
    let bad = derper(&["--nope"]);
    assert_eq!(bad.status.code(), Some(2));
    let text = stderr(&bad);
    assert!(
        text.starts_with("flag provided but not defined: -nope\nUsage of "),
        "{text}"
    );
    assert_eq!(derper(&["-h"]).status.code(), Some(0));
}

#[test]
fn what_is_not_built_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k").display().to_string();
    for (args, want) in [
        (&["-mesh-with=a"][..], "not built: -mesh-with"),
        (&["-c", &key, "-a=127.0.0.1:443"], "by ACME: not built"),
        (
            &[
                "-c",
                &key,
                "-a=127.0.0.1:0",
                "-certmode=gcp",
                "-http-port=x",
            ],
            "invalid value",
        ),
        (&["-c", &key, "-a=nonsense"], "invalid server address"),
        (
            &["-c", &key, "-a=127.0.0.1:0", "-home=nope"],
            "unknown --home value",
        ),
    ] {
        let output = derper(args);
        assert!(!output.status.success());
        let text = stderr(&output);
        assert!(text.contains(want), "{args:?}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn serves_until_terminated_and_keeps_its_identity() {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use testkit::{Process, free_port, wait_until};
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("derper.key");
    let (port, stun) = (free_port(), free_port());
    let mut greetings = Vec::new();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
        command
            .args([format!("-a=127.0.0.1:{port}"), format!("-stun-port={stun}")])
            .arg("-c")
            .arg(&key);
        let mut process = Process::start("derper", command, &dir.path().join("log"));
        let mut stream = process.wait_ready(|_| TcpStream::connect(("127.0.0.1", port)).ok());
        stream
            .write_all(b"GET /derp HTTP/1.1\r\nUpgrade: derp\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        greetings.push(String::from_utf8(answer).unwrap());
        let pid = rustix::process::Pid::from_raw(process.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        wait_until("the port is free again", || {
            std::net::TcpListener::bind(("127.0.0.1", port)).ok()
        });
    }
    assert!(greetings[0].contains("Derp-Public-Key: "), "{greetings:?}");
    assert_eq!(greetings[0], greetings[1]);
}
