//! The machine's syslog, over its local socket.
//!
//! Compat: facility, severity and tag are the original's, so that rules in `rsyslog.conf` go on to match.

use std::io::{self, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

/// LOG_DAEMON and LOG_INFO.
const PRIORITY: u8 = 3 << 3 | 6;
const TAG: &str = "tailscaled";
const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// A connection to the syslog daemon, made anew when it restarts.
#[derive(Debug)]
pub struct Syslog {
    sockets: Vec<PathBuf>,
    connection: Connection,
}

#[derive(Debug)]
enum Connection {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl Syslog {
    /// Connects to whoever listens at one of the usual places.
    pub fn connect() -> io::Result<Self> {
        Self::connect_to(SOCKETS.iter().map(PathBuf::from).collect())
    }

    fn connect_to(sockets: Vec<PathBuf>) -> io::Result<Self> {
        let connection = dial(&sockets)?;
        Ok(Self {
            sockets,
            connection,
        })
    }

    /// Hands over one message. `stamp` is the local time in syslog's manner, `Nov 27 16:17:11`.
    pub fn write(&mut self, stamp: &str, text: &str) -> io::Result<()> {
        let line = line(stamp, std::process::id(), text);
        if self.connection.send(line.as_bytes()).is_ok() {
            return Ok(());
        }
        self.connection = dial(&self.sockets)?;
        self.connection.send(line.as_bytes())
    }
}

impl Connection {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => socket.send(line).map(drop),
            Self::Stream(socket) => socket.write_all(line),
        }
    }
}

fn dial(sockets: &[PathBuf]) -> io::Result<Connection> {
    let datagram = |path: &Path| {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).map(|()| Connection::Datagram(socket))
    };
    let found = sockets.iter().find_map(|path| datagram(path).ok());
    let stream = |path: &PathBuf| UnixStream::connect(path).map(Connection::Stream).ok();
    found
        .or_else(|| sockets.iter().find_map(stream))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "Unix syslog delivery error"))
}

fn line(stamp: &str, pid: u32, text: &str) -> String {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("<{PRIORITY}>{stamp} {TAG}[{pid}]: {text}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "Nov  7 16:17:11";

    #[test]
    fn a_line_is_gos() {
        assert_eq!(
            line(STAMP, 7, "hello"),
            "<30>Nov  7 16:17:11 tailscaled[7]: hello\n"
        );
        assert!(line(STAMP, 7, "hello\n").ends_with(": hello\n"));
    }

    #[test]
    fn a_daemon_that_restarts_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let sockets = || vec![dir.path().join("nothing"), path.clone()];
        let missing = Syslog::connect_to(sockets()).unwrap_err();
        assert_eq!(missing.to_string(), "Unix syslog delivery error");
        let receive = |daemon: &UnixDatagram| {
            let mut buffer = [0; 200];
            let len = daemon.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect_to(sockets()).unwrap();
        syslog.write(STAMP, "first").unwrap();
        assert!(receive(&daemon).ends_with("]: first\n"));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(syslog.write(STAMP, "lost").is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.write(STAMP, "second").unwrap();
        assert!(receive(&daemon).ends_with("]: second\n"));
    }

    #[test]
    fn streams_are_spoken_to_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut syslog = Syslog::connect_to(vec![path]).unwrap();
        syslog.write(STAMP, "over a stream").unwrap();
        drop(syslog);
        let mut text = String::new();
        let (mut socket, _) = daemon.accept().unwrap();
        io::Read::read_to_string(&mut socket, &mut text).unwrap();
        assert!(text.ends_with("]: over a stream\n"), "{text}");
    }
}
