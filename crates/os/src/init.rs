//! The init system that started us (sd_notify(3)).

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// A socket that an init system reads, from `$NOTIFY_SOCKET`: a path, or an abstract name behind `@`.
#[derive(Debug)]
pub struct Init {
    socket: UnixDatagram,
}

impl Init {
    /// `None` where nobody wants to be told, as without the variable.
    pub fn from_environment(name: Option<&str>) -> Option<Self> {
        let name = name.filter(|name| !name.is_empty())?;
        match Self::connect(name) {
            Ok(socket) => Some(Self { socket }),
            Err(error) => {
                tracing::warn!(
                    "NOTIFY_SOCKET={name}: {error}; the init system will not hear that we are ready"
                );
                None
            }
        }
    }

    fn connect(name: &str) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        match name.strip_prefix('@') {
            #[cfg(target_os = "linux")]
            Some(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.connect_addr(&address)?;
            }
            _ if name.starts_with('/') => socket.connect(Path::new(name))?,
            _ => {
                let text = "only paths and abstract names are understood";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Tells it `line`, such as `READY=1`.
    pub fn tell(&self, line: &str) {
        let bytes = std::ffi::OsStr::new(line).as_bytes();
        if let Err(error) = self.socket.send(bytes) {
            tracing::debug!("tell the init system `{line}`: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let init = Init::from_environment(path.to_str()).unwrap();
        init.tell("READY=1");
        assert_eq!(heard(&listener), "READY=1");

        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            let name = format!("tailscaled-test-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixDatagram::bind_addr(&address).unwrap();
            let init = Init::from_environment(Some(&format!("@{name}"))).unwrap();
            init.tell("STOPPING=1");
            assert_eq!(heard(&listener), "STOPPING=1");
        }
        for nobody in [None, Some(""), Some("vsock:2:1"), Some("/there/is/none")] {
            assert!(Init::from_environment(nobody).is_none());
        }
    }
}
