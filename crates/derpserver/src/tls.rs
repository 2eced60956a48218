//! The relay's certificates.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::Wall;
use keys::{NodePublic, encode_hex};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer-lived ones are refused by some systems.
const SELF_SIGNED_DAYS: u32 = 365;
/// Either side of the start of the server.
const META_DAYS: u32 = 30;

/// A certificate cannot be had.
#[derive(Debug)]
pub enum CertificateError {
    /// A file cannot be read or written.
    File(String, io::Error),
    /// A file holds no certificate or key in PEM.
    Pem(String),
    /// The certificate is not for the host name.
    WrongName(String),
    /// Certificate and key do not work together, or cannot be made.
    Unusable(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{path}: {error}"),
            Self::Pem(path) => write!(f, "{path}: no PEM that can be used"),
            Self::WrongName(host) => write!(f, "certificate is not valid for host name {host:?}"),
            Self::Unusable(why) => write!(f, "certificate cannot be used: {why}"),
        }
    }
}

impl std::error::Error for CertificateError {}

fn unusable(error: impl fmt::Display) -> CertificateError {
    CertificateError::Unusable(error.to_string())
}

/// A certificate chain with its key, and the name it is for.
pub struct Certificate {
    host: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.host)
    }
}

impl Certificate {
    /// A new self-signed certificate for an address, valid for a year.
    pub fn self_signed(ip: IpAddr, now: Wall) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let mut params = CertificateParams::new([ip.to_string()]).map_err(unusable)?;
        params.distinguished_name = common_name(&ip.to_string());
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(now);
        params.not_after = params.not_before + DAY * SELF_SIGNED_DAYS;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.self_signed(&key).map_err(unusable)?;
        Ok(Self {
            host: ip.to_string(),
            chain: vec![cert.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
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
        let read = |path: &Path| {
            std::fs::read(path).map_err(|e| CertificateError::File(path.display().to_string(), e))
        };
        let bad = |path: &Path| CertificateError::Pem(path.display().to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&crt)?).collect();
        let chain = chain.map_err(|_| bad(&crt))?;
        let leaf = chain.first().ok_or_else(|| bad(&crt))?;
        verify_name(leaf, host)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|_| bad(&key))?;
        Ok(Self {
            host: host.to_owned(),
            chain,
            key,
        })
    }

    fn store(&self, dir: &Path, crt: &Path, key: &Path) -> Result<(), CertificateError> {
        let failed = |path: &Path, e| CertificateError::File(path.display().to_string(), e);
        make_dir(dir).map_err(|e| failed(dir, e))?;
        let leaf = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
        std::fs::write(crt, pem("CERTIFICATE", leaf)).map_err(|e| failed(crt, e))?;
        write_private(key, &pem("PRIVATE KEY", self.key.secret_der())).map_err(|e| failed(key, e))
    }

    /// The name or address that it is for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The SHA-256 of the certificate itself, which clients may pin.
    pub fn sha256(&self) -> [u8; 32] {
        let leaf = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, leaf);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        out
    }

    /// The server's TLS configuration: this chain, and at its end the meta certificate that tells clients the relay's key.
    pub(crate) fn server_config(
        mut self,
        relay: &NodePublic,
        now: Wall,
    ) -> Result<ServerConfig, CertificateError> {
        self.chain.push(meta_certificate(relay, now)?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = aws_lc_rs::sign::any_supported_type(&self.key).map_err(unusable)?;
        let sni = self.host.parse::<IpAddr>().is_err().then_some(self.host);
        let resolver = Resolver {
            sni,
            certified: Arc::new(CertifiedKey::new(self.chain, key)),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Resolver {
    /// What clients must ask for; addresses are not asked for.
    sni: Option<String>,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wrong = self
            .sni
            .as_deref()
            .is_some_and(|sni| hello.server_name() != Some(sni));
        (!wrong).then(|| self.certified.clone())
    }
}

fn verify_name(leaf: &CertificateDer<'_>, host: &str) -> Result<(), CertificateError> {
    let wrong = |_| CertificateError::WrongName(host.to_owned());
    let name =
        ServerName::try_from(host).map_err(|_| CertificateError::WrongName(host.to_owned()))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(unusable)?;
    rustls::client::verify_server_name(&parsed, &name).map_err(wrong)
}

/// A certificate that is never verified: its name holds the relay's key and its serial number the protocol version, so that
/// a client can send its first frame together with its request. Sent under encryption, it does not show on the wire.
fn meta_certificate(
    relay: &NodePublic,
    now: Wall,
) -> Result<CertificateDer<'static>, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(unusable)?;
    let mut name = String::from(derp::META_CERT_PREFIX);
    encode_hex(relay.as_bytes(), &mut name);
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&name);
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970(now);
    params.not_before = now - DAY * META_DAYS;
    params.not_after = now + DAY * META_DAYS;
    params.is_ca = IsCa::ExplicitNoCa;
    let version = u64::try_from(derp::PROTOCOL_VERSION).unwrap_or_default();
    params.serial_number = Some(SerialNumber::from(version));
    let cert = params.self_signed(&key).map_err(unusable)?;
    Ok(cert.der().clone())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

fn since_1970(now: Wall) -> Duration {
    Duration::from_secs(u64::try_from(now.as_unix_secs()).unwrap_or_default())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
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

#[cfg(unix)]
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(not(unix))]
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}
