//! The local API as bytes on the socket, so that nothing of ours stands between a test and a daemon's answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use testkit::originals::Daemon;

/// Status and body of one answer.
pub(crate) fn local(daemon: &Daemon, method: &str, path: &str, body: &str) -> (u16, String) {
    local_with(daemon, method, path, "", body)
}

/// The same with further headers, each with its line end.
pub(crate) fn local_with(
    daemon: &Daemon,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let mut socket = ask(daemon, method, path, headers, body);
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.get(9..12).and_then(|code| code.parse().ok());
    (status.unwrap_or_default(), body.to_owned())
}

/// The same; any status but this one fails the test.
pub(crate) fn local_ok(
    daemon: &Daemon,
    status: u16,
    method: &str,
    path: &str,
    body: &str,
) -> String {
    let (got, answer) = local(daemon, method, path, body);
    assert_eq!(got, status, "{method} {path}: {answer}");
    answer
}

// HTTP/1.0: an answer ends with its connection, and a stream is not chunked.
fn ask(daemon: &Daemon, method: &str, path: &str, headers: &str, body: &str) -> UnixStream {
    let mut socket = UnixStream::connect(daemon.socket()).unwrap();
    let len = body.len();
    let request = format!(
        "{method} /localapi/v0/{path} HTTP/1.0\r\nHost: local-tailscaled.sock\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// A subscription to the bus.
pub(crate) struct Watch {
    messages: Receiver<Value>,
}

/// For how long a message may be waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(90);

impl Watch {
    /// Returns once the daemon has the subscription.
    pub(crate) fn open(daemon: &Daemon, mask: u64) -> Self {
        let mut lines = BufReader::new(ask(
            daemon,
            "GET",
            &format!("watch-ipn-bus?mask={mask}"),
            "",
            "",
        ));
        let mut head = String::new();
        while lines.read_line(&mut head).unwrap() > 2 {}
        assert!(head.get(9..12) == Some("200"), "{head}");
        let (send, messages) = channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap();
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        Self { messages }
    }

    /// All messages up to the first that is the one wanted.
    pub(crate) fn until(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            match self.messages.recv_timeout(PATIENCE) {
                Ok(message) => {
                    let found = is_it(&message);
                    seen.push(message);
                    if found {
                        return seen;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} among {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the bus ended before {what}: {seen:#?}")
                }
            }
        }
    }
}
