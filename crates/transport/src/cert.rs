//! Certificates of our own servers: made, loaded, pinned, and offered.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::Wall;
use keys::NodePublic;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::TlsAcceptor;

use crate::tls::{META_NAME_PREFIX, pin_of, provider};
use crate::x509::facts;

const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no certificate.
#[derive(Debug)]
pub enum CertError {
    /// Making one failed.
    Make(rcgen::Error),
    /// The files' content is no certificate and key in PEM.
    Load(String),
    /// The certificate is not for this host.
    WrongHost(String),
    /// The TLS library does not accept certificate and key.
    Unusable(rustls::Error),
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(error) => write!(f, "making a certificate: {error}"),
            Self::Load(what) => write!(f, "loading a certificate: {what}"),
            Self::WrongHost(host) => write!(f, "the certificate is not valid for `{host}`"),
            Self::Unusable(error) => write!(f, "using a certificate: {error}"),
        }
    }
}

impl std::error::Error for CertError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Make(error) => Some(error),
            Self::Unusable(error) => Some(error),
            Self::Load(_) | Self::WrongHost(_) => None,
        }
    }
}

impl From<rcgen::Error> for CertError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// A certificate chain with its private key.
pub struct ServerCert {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCert")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl ServerCert {
    /// A self-signed certificate for one name or address, good for a year: what a relay without a domain uses.
    pub fn self_signed(host: &str, now: Wall) -> Result<Self, CertError> {
        let mut params = params(host, now, Duration::ZERO, 365 * DAY);
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into()?),
        });
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// Reads a chain and a key (PKCS#8, SEC1 or PKCS#1) from PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertError> {
        let load = |what: &str, error: rustls_pki_types::pem::Error| {
            CertError::Load(format!("{what}: {error}"))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| load("chain", error))?;
        if chain.is_empty() {
            return Err(CertError::Load("chain: no certificate".to_owned()));
        }
        // The library's error could quote the key.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| CertError::Load("key: no private key in PEM".to_owned()))?;
        Ok(Self { chain, key })
    }

    /// Checks that the leaf is for this name or address.
    pub fn check_host(&self, host: &str) -> Result<(), CertError> {
        let wrong = || CertError::WrongHost(host.to_owned());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let leaf = self.chain.first().ok_or_else(wrong)?;
        let leaf =
            rustls::server::ParsedCertificate::try_from(leaf).map_err(CertError::Unusable)?;
        rustls::client::verify_server_name(&leaf, &name).map_err(|_| wrong())
    }

    /// The leaf's pin as it stands in a DERP map: `sha256-raw:` and hex.
    pub fn pin_text(&self) -> String {
        let pin = self.chain.first().map(pin_of).unwrap_or_default();
        derp::NodeCert::pin_text(&pin)
    }

    /// The chain in PEM.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect()
    }

    /// The private key in PEM. A secret.
    pub fn expose_key_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem(label, self.key.secret_der())
    }

    /// Accepts TLS connections with this certificate, `extra` certificates at the end of the chain, HTTP/1.1 in ALPN.
    pub fn acceptor(&self, extra: &[CertificateDer<'static>]) -> Result<TlsAcceptor, CertError> {
        let chain = self.chain.iter().chain(extra).cloned().collect();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(CertError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, self.key.clone_key())
            .map_err(CertError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The certificate at the end of a relay's chain that tells its key, so that a client saves a round trip. It proves
/// nothing. Source: `derpserver` in the originals.
pub fn derp_meta_cert(
    relay: &NodePublic,
    version: u8,
    now: Wall,
) -> Result<CertificateDer<'static>, CertError> {
    let mut name = String::from(META_NAME_PREFIX);
    keys::encode_hex(relay.as_bytes(), &mut name);
    let mut params = params(&name, now, 30 * DAY, 30 * DAY);
    params.serial_number = Some(SerialNumber::from_slice(&[version]));
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    Ok(params.self_signed(&key)?.der().clone())
}

/// The relay's key in a chain that has such a certificate.
pub(crate) fn relay_key_in(chain: &[CertificateDer<'_>]) -> Option<NodePublic> {
    chain.iter().find_map(|certificate| {
        let facts = facts(certificate)?;
        let digits = facts.common_name?;
        let mut key = [0; 32];
        keys::decode_hex(digits.strip_prefix(META_NAME_PREFIX)?, &mut key).ok()?;
        // The serial number is the protocol version: one byte, not zero.
        (facts.serial.len() == 1).then(|| NodePublic::from_bytes(key))
    })
}

fn params(name: &str, now: Wall, before: Duration, after: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(now.as_unix_secs()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(before);
    params.not_after = epoch + now.saturating_add(after);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
