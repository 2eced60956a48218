//! The relay's certificate: where it is kept, and the key that it tells.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use host::Wall;
use keys::NodePublic;
use tokio_rustls::TlsAcceptor;
use transport::cert::{CertError, ServerCert, derp_meta_cert};
use transport::tls::pin_of;

/// A certificate cannot be had.
#[derive(Debug)]
pub enum CertificateError {
    /// A file cannot be read or written.
    File(String, io::Error),
    /// The certificate or its key is not what it must be.
    Bad(String, CertError),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{path}: {error}"),
            Self::Bad(host, error) => write!(f, "certificate for {host:?}: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}

/// A certificate chain with its key, and the name or address it is for.
#[derive(Debug)]
pub struct Certificate {
    host: String,
    cert: ServerCert,
}

impl Certificate {
    /// A new self-signed certificate for an address, valid for a year.
    pub fn self_signed(ip: IpAddr, now: Wall) -> Result<Self, CertificateError> {
        let host = ip.to_string();
        match ServerCert::self_signed(&host, now) {
            Ok(cert) => Ok(Self { host, cert }),
            Err(error) => Err(CertificateError::Bad(host, error)),
        }
    }

    /// Reads `<host>.crt` and `<host>.key` (PEM) from a directory; an address without such files gets a self-signed
    /// certificate, which is written there.
    pub fn load(dir: &Path, host: &str, now: Wall) -> Result<Self, CertificateError> {
        let file = |ending: &str| {
            let safe = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
            let name: String = host.chars().filter(safe).collect();
            dir.join(name + ending)
        };
        let (crt, key) = (file(".crt"), file(".key"));
        if let Ok(ip) = host.parse::<IpAddr>()
            && !(crt.exists() && key.exists())
        {
            let made = Self::self_signed(ip, now)?;
            made.store(dir, &crt, &key)?;
            return Ok(made);
        }
        let read = |path: &Path| std::fs::read(path).map_err(|e| failed(path, e));
        let bad = |error| CertificateError::Bad(host.to_owned(), error);
        let cert = ServerCert::from_pem(&read(&crt)?, &read(&key)?).map_err(bad)?;
        cert.check_host(host).map_err(bad)?;
        Ok(Self {
            host: host.to_owned(),
            cert,
        })
    }

    fn store(&self, dir: &Path, crt: &Path, key: &Path) -> Result<(), CertificateError> {
        make_dir(dir).map_err(|e| failed(dir, e))?;
        std::fs::write(crt, self.cert.chain_pem()).map_err(|e| failed(crt, e))?;
        write_private(key, &self.cert.expose_key_pem()).map_err(|e| failed(key, e))
    }

    /// The name or address that it is for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The SHA-256 of the certificate itself, which clients may pin.
    pub fn sha256(&self) -> [u8; 32] {
        self.cert.chain.first().map(pin_of).unwrap_or_default()
    }

    /// Accepts TLS with this chain and, at its end, the meta certificate that tells clients the relay's key.
    pub(crate) fn acceptor(
        &self,
        relay: &NodePublic,
        now: Wall,
    ) -> Result<TlsAcceptor, CertificateError> {
        const VERSION: u8 = derp::PROTOCOL_VERSION as u8;
        let bad = |error| CertificateError::Bad(self.host.clone(), error);
        let meta = derp_meta_cert(relay, VERSION, now).map_err(bad)?;
        self.cert.acceptor(&[meta]).map_err(bad)
    }
}

fn failed(path: &Path, error: io::Error) -> CertificateError {
    CertificateError::File(path.display().to_string(), error)
}

#[cfg(unix)]
fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

#[cfg(not(unix))]
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
