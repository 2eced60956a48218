//! A daemon that answers from a list, on a unix socket of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

/// One answer: the request's method and target as they stand in its first line, the status and the body.
#[derive(Clone)]
pub(crate) struct Answer {
    request: &'static str,
    status: u16,
    body: String,
    /// The connection stays open after the body, as a subscription does.
    hangs: bool,
}

pub(crate) fn answer(request: &'static str, status: u16, body: impl Into<String>) -> Answer {
    Answer {
        request,
        status,
        body: body.into(),
        hangs: false,
    }
}

pub(crate) fn stream(request: &'static str, lines: &[&str]) -> Answer {
    let body = lines.iter().map(|line| format!("{line}\n")).collect();
    Answer {
        request,
        status: 200,
        body,
        hangs: true,
    }
}

pub(crate) struct CannedDaemon {
    dir: TempDir,
    seen: Arc<Mutex<Vec<String>>>,
}

impl CannedDaemon {
    /// Answers each request with the first matching answer; with 404 where there is none.
    pub(crate) fn start(version: &'static str, answers: Vec<Answer>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("sock")).expect("listen");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                open.extend(serve(stream, version, &answers, &log));
            }
        });
        Self { dir, seen }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// The requests so far, those that only look left out: first line, `reason` and body.
    pub(crate) fn commands(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no panic there");
        seen.iter()
            .filter(|request| !request.starts_with("GET "))
            .cloned()
            .collect()
    }
}

/// Answers one request; gives the connection back if it must stay open.
fn serve(
    stream: UnixStream,
    version: &str,
    answers: &[Answer],
    log: &Mutex<Vec<String>>,
) -> Option<UnixStream> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let target = first.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let (mut length, mut reason) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("x-tailscale-reason", value)) => reason = format!(" reason={value}"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let entry = format!("{target}{reason} {}", String::from_utf8_lossy(&body));
    log.lock().ok()?.push(entry.trim_end().to_owned());
    let missing = answer("", 404, "404 page not found\n");
    let found = answers
        .iter()
        .find(|a| a.request == target)
        .unwrap_or(&missing);
    let mut stream = reader.into_inner();
    let length = if found.hangs {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", found.body.len())
    };
    let head = format!(
        "HTTP/1.1 {} X\r\nTailscale-Version: {version}\r\nConnection: close\r\n{length}\r\n",
        found.status
    );
    stream.write_all(head.as_bytes()).ok()?;
    if found.status != 204 {
        stream.write_all(found.body.as_bytes()).ok()?;
    }
    found.hangs.then_some(stream)
}
