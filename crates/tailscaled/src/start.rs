//! From the command line to a running node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use node::LogTap;
use tokio::signal::unix::{SignalKind, signal};

use crate::flags::Flags;
use crate::{features, logging};

type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The original's subcommands that this build does not have.
pub(crate) fn subcommand(first: Option<&str>) -> Option<ExitCode> {
    let name = first?;
    match name {
        "debug" | "be-child" | "serve-taildrive" => {
            eprintln!("tailscaled {name}: not built yet in this version");
        }
        "install-system-daemon" | "uninstall-system-daemon" => {
            eprintln!("{name} not available on {}", std::env::consts::OS);
        }
        _ => return None,
    }
    Some(ExitCode::FAILURE)
}

/// Runs the daemon until it is asked to end.
pub(crate) fn run(flags: Flags, env: Env<'_>) -> Result<()> {
    if !flags.args.is_empty() {
        bail!(
            "tailscaled does not take non-flag arguments: {:?}",
            flags.args
        );
    }
    watch_parent(env)?;
    if flags.version {
        println!("{}", ipn::version::text());
        return Ok(());
    }
    if flags.socket.is_empty() {
        bail!("--socket is required");
    }
    if let Some(name) = flags.not_built.first() {
        bail!("--{name} is not included in this build");
    }
    let tap = LogTap::default();
    logging::start(flags.verbose, tap.clone());
    require_userspace(&flags.tun)?;
    if flags.cleanup {
        // Userspace mode leaves nothing in the system, and no other mode is built.
        return Ok(());
    }
    os::process::forbid_core_dumps();
    let default_state = os::paths::default_state_file(env);
    let place = os::paths::state_place(&flags.state, &flags.statedir, default_state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(512 << 10)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let served = runtime.block_on(serve(flags, place, tap, env));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served
}

fn watch_parent(env: Env<'_>) -> Result<()> {
    let Some(fd) = env("TS_PARENT_DEATH_FD") else {
        return Ok(());
    };
    let fd: i32 = fd
        .parse()
        .with_context(|| format!("TS_PARENT_DEATH_FD is not a number: `{fd}`"))?;
    if fd <= 2 {
        return Ok(());
    }
    os::lifeline::watch(fd, || std::process::exit(1))
        .with_context(|| format!("watch TS_PARENT_DEATH_FD {fd}"))
}

/// `--tun` is a list to be tried in order; of its kinds only userspace networking is built.
fn require_userspace(tun: &str) -> Result<()> {
    if tun.is_empty() {
        bail!("no --tun value specified");
    }
    let wanted: Vec<&str> = tun.split(',').collect();
    if !wanted.contains(&"userspace-networking") {
        bail!(
            "--tun={tun}: a TUN device is not built yet in this version; use --tun=userspace-networking"
        );
    }
    if let Some(device) = wanted.iter().find(|name| **name != "userspace-networking") {
        tracing::warn!(
            "--tun: a TUN device such as `{device}` is not built yet; using userspace-networking"
        );
    }
    Ok(())
}

async fn serve(
    flags: Flags,
    place: os::paths::StatePlace,
    tap: LogTap,
    env: Env<'_>,
) -> Result<()> {
    let var_root = place.var_root.clone();
    let no_logs = flags.no_logs || truthy(env, "TS_NO_LOGS_NO_SUPPORT")?;
    let log_id = os::logid::load(
        os::logid::directory(env, var_root.as_deref()).as_deref(),
        &mut rt::OsRng,
    );
    tracing::info!("Program starting: v{}", ipn::version::LONG);
    tracing::info!("LogID: {}", log_id.public());
    let store = os::store::open(&place.state)?;
    let mut hostinfo = os::facts::hostinfo(env);
    hostinfo.ipn_version = ipn::version::LONG.into();
    hostinfo.backend_log_id = log_id.public().into();
    hostinfo.userspace = Some(true);
    hostinfo.userspace_router = Some(true);
    hostinfo.no_logs_no_support = no_logs;
    let config = node::Config {
        socket: PathBuf::from(&flags.socket),
        var_root,
        port: flags.port,
        features: features::list(&flags, no_logs, &log_id, &tap, env),
        environment: std::env::vars().collect(),
        own_proxies: own_proxies(&flags),
    };
    let host = node::HostParts {
        store,
        udp: std::sync::Arc::new(os::udp::PlainBinder),
        links: Box::new(os::links::Monitor::start(None).context("watch the network links")?),
        router: Box::new(os::userspace::Untouched),
        dns: Box::new(os::userspace::Untouched),
        hostinfo,
        uid_of: Box::new(os::process::uid_of),
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let stop = async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "terminated",
        };
        tracing::info!("tailscaled got signal {name}; shutting down");
    };
    node::run(config, host, tap, stop)
        .await
        .map_err(anyhow::Error::msg)
}

/// A proxy setting of the environment that points at our own proxy would send our connections in a circle.
fn own_proxies(flags: &Flags) -> Vec<SocketAddr> {
    [&flags.socks5, &flags.http_proxy]
        .into_iter()
        .filter_map(|address| address.replace("localhost", "127.0.0.1").parse().ok())
        .collect()
}

/// Go's `strconv.ParseBool`; other words end the daemon, so that a typing error is not a silent "no".
fn truthy(env: Env<'_>, name: &str) -> Result<bool> {
    match env(name).as_deref() {
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => bail!("invalid boolean environment variable {name} value {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tun_device_is_refused_and_a_fall_back_is_taken() {
        assert!(
            require_userspace("tailscale0")
                .unwrap_err()
                .to_string()
                .contains("not built")
        );
        assert!(require_userspace("").is_err());
        assert!(require_userspace("userspace-networking").is_ok());
        assert!(require_userspace("tailscale0,userspace-networking").is_ok());
    }

    #[test]
    fn booleans_are_gos() {
        let value = |text: &'static str| move |_: &str| Some(text.to_owned());
        assert!(truthy(&value("T"), "X").unwrap());
        assert!(!truthy(&value("False"), "X").unwrap());
        assert!(truthy(&value("yes"), "X").is_err());
    }
}
