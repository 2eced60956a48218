//! From flags to a running relay, and its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use derp::NodeCert;
use derpserver::{Certificate, Config, Server, StartError, Verify};
use keys::NodePrivate;
use rt::OsRng;

use crate::flags::Flags;
use crate::keyfile;

const DEFAULT_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// Serves until SIGINT or SIGTERM.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    if !flags.not_built.is_empty() {
        bail!("not built: {}", flags.not_built.join(", "));
    }
    let stop = stop_signal()?;
    let server = start(&flags).await?;
    let tls = if flags.tls() { " with TLS" } else { "" };
    tracing::info!("derper: serving on {}{tls}", server.addr);
    if let Some(addr) = server.stun_addr {
        tracing::info!("STUN server listening on {addr}");
    }
    if let (Some(ip), Some(pin)) = (flags.host_ip(), server.pin) {
        tracing::info!("{}", describe(ip, &pin));
    }
    stop.await;
    server.shutdown().await;
    Ok(())
}

/// What to write into a DERP map for a relay with a self-signed certificate.
fn describe(ip: IpAddr, pin: &[u8; 32]) -> String {
    format!(
        "Using self-signed certificate for IP address \"{ip}\". In the DERP map, the node is:\n  \
         {{\"Name\":\"custom\",\"RegionID\":900,\"HostName\":\"{ip}\",\"CertName\":\"{}\"}}",
        NodeCert::pin_text(pin)
    )
}

async fn start(flags: &Flags) -> anyhow::Result<Server> {
    let (host, port) = flags.listen()?;
    let private_key = private_key(flags)?;
    let home = flags.home_page()?;
    let mut error = None;
    // A machine without IPv6 has no socket for both families.
    for ip in addresses(host).await? {
        let config = Config {
            listen: SocketAddr::new(ip, port),
            plain_http: port_of(ip, flags.http_port.filter(|_| flags.tls()), "http-port")?,
            stun: port_of(ip, flags.stun_port, "stun-port")?,
            certificate: certificate(flags)?,
            derp: flags.derp,
            home: home.clone(),
            verify: verify(flags),
            write_timeout: flags.write_timeout,
            tcp_keepalive: flags.tcp_keepalive,
            tcp_user_timeout: flags.tcp_user_timeout,
            ..Config::new(private_key.clone())
        };
        match Server::start(config).await {
            Ok(server) => return Ok(server),
            Err(e @ StartError::Certificate(_)) => return Err(e.into()),
            Err(e @ StartError::Bind(..)) => error.get_or_insert(e),
        };
    }
    match error {
        Some(error) => Err(error.into()),
        None => bail!("no address to listen on for {host:?}"),
    }
}

async fn addresses(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    if host.is_empty() {
        return Ok(vec![
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv4Addr::UNSPECIFIED.into(),
        ]);
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let found = tokio::net::lookup_host((host, 0)).await;
    let found = found.with_context(|| format!("cannot look up {host:?}"))?;
    Ok(found.map(|addr| addr.ip()).collect())
}

fn port_of(ip: IpAddr, port: Option<i64>, flag: &str) -> anyhow::Result<Option<SocketAddr>> {
    let Some(port) = port else {
        return Ok(None);
    };
    let port = u16::try_from(port).with_context(|| format!("-{flag} {port} is no port"))?;
    Ok(Some(SocketAddr::new(ip, port)))
}

fn private_key(flags: &Flags) -> anyhow::Result<NodePrivate> {
    if flags.dev {
        return Ok(NodePrivate::generate(&mut OsRng));
    }
    if !flags.key_file.is_empty() {
        return keyfile::load_or_create(Path::new(&flags.key_file));
    }
    if !is_root() {
        bail!("-c <config path> not specified");
    }
    let path = Path::new("/var/lib/derper/derper.key");
    tracing::info!("no config path specified; using {}", path.display());
    keyfile::load_or_create(path)
}

fn certificate(flags: &Flags) -> anyhow::Result<Option<Certificate>> {
    if !flags.tls() {
        return Ok(None);
    }
    if flags.cert_dir.as_os_str().is_empty() {
        bail!("missing required --certdir flag");
    }
    match flags.cert_mode.as_str() {
        "manual" => {
            let certificate = Certificate::load(&flags.cert_dir, &flags.hostname, rt::wall())?;
            Ok(Some(certificate))
        }
        "letsencrypt" | "gcp" => bail!(
            "certificates by ACME: not built; use -certmode=manual, or a plain port behind a proxy that has a certificate"
        ),
        other => bail!("unsupported cert mode: {other:?}"),
    }
}

fn verify(flags: &Flags) -> Verify {
    if !flags.verify_clients {
        return Verify::Nobody;
    }
    Verify::LocalDaemon(match flags.socket.as_str() {
        "" => PathBuf::from(DEFAULT_SOCKET),
        path => PathBuf::from(path),
    })
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
