//! TLS on the way out: which certificates are accepted, and why.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::x509::facts;
use crate::{Error, Stream};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The start of the common name of a relay's certificate that carries its key instead of proving anything.
pub const META_NAME_PREFIX: &str = "derpkey";

/// Which server certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// Valid for the dialled host under a known root.
    Host,
    /// Valid for this name under a known root, whatever name is sent.
    Name(String),
    /// The one certificate with this SHA-256, within its validity, and valid for the dialled host if that is a name.
    Pin([u8; 32]),
    /// As `Host`, but a fault is only logged. For the control protocol, which authenticates the server itself.
    LogOnly,
    /// Any certificate. For tests.
    Nothing,
}

/// Trusted roots, loaded when first needed: most nodes with a server of their own never need them.
#[derive(Debug, Default)]
pub struct Roots {
    system: OnceLock<Arc<RootCertStore>>,
    baked: OnceLock<Arc<RootCertStore>>,
    extra: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Roots that trust these certificates besides the system's.
    pub fn with_extra(extra: Vec<CertificateDer<'static>>) -> Self {
        Self {
            extra,
            ..Self::default()
        }
    }

    fn system(&self) -> &Arc<RootCertStore> {
        self.system.get_or_init(|| {
            let loaded = rustls_native_certs::load_native_certs();
            for error in &loaded.errors {
                tracing::debug!("loading the system's root certificates: {error}");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(loaded.certs.into_iter().chain(self.extra.clone()));
            Arc::new(roots)
        })
    }

    /// Let's Encrypt's roots, so that a system without any still reaches the usual servers.
    fn baked(&self) -> &Arc<RootCertStore> {
        self.baked.get_or_init(|| {
            let isrg = webpki_roots::TLS_SERVER_ROOTS.iter().filter(|root| {
                let name = root.subject.as_ref();
                name.windows(4).any(|four| four == b"ISRG")
            });
            Arc::new(RootCertStore::from_iter(isrg.cloned()))
        })
    }
}

/// Wraps `stream` in TLS as a client of `host`, which is also what is sent as SNI.
pub async fn connect(
    stream: Stream,
    host: &str,
    verify: Verify,
    roots: &Arc<Roots>,
) -> Result<TlsStream<Stream>, Error> {
    let failed = |error| Error::Tls {
        host: host.to_owned(),
        source: io::Error::other(error),
    };
    let config = client_config(verify, Arc::clone(roots)).map_err(failed)?;
    shake_hands(stream, host, config).await
}

/// As [`connect`], for a server that may answer in HTTP/2; says whether it does.
pub async fn connect_http(
    stream: Stream,
    host: &str,
    verify: Verify,
    roots: &Arc<Roots>,
) -> Result<(Stream, bool), Error> {
    let failed = |error| Error::Tls {
        host: host.to_owned(),
        source: io::Error::other(error),
    };
    let mut config = client_config(verify, Arc::clone(roots)).map_err(failed)?;
    config.alpn_protocols = [HTTP2, HTTP1].map(<[u8]>::to_vec).into();
    let stream = shake_hands(stream, host, config).await?;
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    Ok((Stream::new(stream), speaks_http2))
}

/// Protocols as ALPN names them.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

async fn shake_hands(
    stream: Stream,
    host: &str,
    config: ClientConfig,
) -> Result<TlsStream<Stream>, Error> {
    let failed = |source: io::Error| Error::Tls {
        host: host.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// A client configuration without ALPN: a server must not answer in HTTP/2.
pub fn client_config(verify: Verify, roots: Arc<Roots>) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = Verifier {
        verify,
        roots,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Connections live long; a cache of tickets would only cost memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The SHA-256 of a certificate's DER.
pub fn pin_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, certificate);
    let mut pin = [0; 32];
    pin.copy_from_slice(digest.as_ref());
    pin
}

struct Verifier {
    verify: Verify,
    roots: Arc<Roots>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match &self.verify {
            Verify::Nothing => Ok(()),
            Verify::Host => self.check_chain(leaf, intermediates, host, now),
            Verify::Name(name) => {
                let name = ServerName::try_from(name.as_str())
                    .map_err(|_| CertificateError::NotValidForName)?;
                self.check_chain(leaf, intermediates, &name, now)
            }
            Verify::Pin(pin) => check_pin(pin, leaf, intermediates, host, now),
            Verify::LogOnly => {
                if let Err(error) = self.check_chain(leaf, intermediates, host, now) {
                    tracing::warn!(
                        "the certificate of `{}` is not valid ({error}); going on, the control protocol proves the server itself",
                        host.to_str()
                    );
                }
                Ok(())
            }
        }
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let under = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )
        };
        if let Err(error) = under(self.roots.system()) {
            under(self.roots.baked()).map_err(|_| error)?;
        }
        verify_server_name(&certificate, name)
    }
}

/// A relay sends its pinned certificate and perhaps one that carries its key, and nothing else.
fn check_pin(
    pin: &[u8; 32],
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    host: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let proves = |certificate: &&CertificateDer<'_>| !is_meta(certificate);
    let mut proving = std::iter::once(leaf).chain(others).filter(proves);
    let (Some(only), None) = (proving.next(), proving.next()) else {
        return Err(general(
            "the server must send exactly one certificate besides its relay key",
        ));
    };
    if only != leaf || pin_of(only) != *pin {
        return Err(general(
            "the server's certificate does not have the expected hash",
        ));
    }
    if let ServerName::DnsName(_) = host {
        verify_server_name(&ParsedCertificate::try_from(only)?, host)?;
    }
    let facts = facts(only).ok_or(CertificateError::BadEncoding)?;
    if now.as_secs() < facts.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if !facts.valid_at(now) {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn general(text: &str) -> rustls::Error {
    rustls::Error::General(text.to_owned())
}

fn is_meta(certificate: &CertificateDer<'_>) -> bool {
    let name = facts(certificate).and_then(|facts| facts.common_name);
    name.is_some_and(|name| name.starts_with(META_NAME_PREFIX))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
