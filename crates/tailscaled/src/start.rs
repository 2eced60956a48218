//! From the command line to a running node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use host::{DnsConfigurator, Egress, LinkMonitor, Router, Tun, UdpBinder};
use node::LogTap;
use tokio::signal::unix::{SignalKind, signal};

use crate::flags::Flags;
use crate::{features, logging};

pub(crate) type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

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
    logging::start(&flags, env, tap.clone())?;
    if flags.cleanup {
        return clean_up(&flags.tun);
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

/// How packets get from the host into the tunnel.
enum Network {
    /// Through a device of the kernel.
    Device(os::tun::Device),
    /// Only by proxies and the like.
    Userspace,
    /// The same, for want of a device; the text says why.
    Without(String),
}

const USERSPACE: &str = "userspace-networking";

/// `--tun` is a list; the first that works is taken. Nobody who did not ask for a device is left without a daemon where a machine has none to
/// give: an init would start it again and again.
fn open_network(tun: &str, is_asked_for: bool, env: Env<'_>) -> Result<Network> {
    if tun.is_empty() {
        bail!("no --tun value specified");
    }
    let mut errors = Vec::new();
    for name in tun.split(',') {
        tracing::info!("wgengine.NewUserspaceEngine(tun {name:?}) ...");
        match try_network(name, env) {
            Ok(network) => return Ok(network),
            Err(error) => {
                tracing::warn!("wgengine.NewUserspaceEngine(tun {name:?}) error: {error:#}");
                let of_device = error.downcast_ref::<os::tun::Error>();
                if !is_asked_for && of_device.is_some_and(os::tun::Error::is_of_the_machine) {
                    tracing::warn!("going on without a device, as with --tun={USERSPACE}");
                    return Ok(Network::Without(format!("{error:#}")));
                }
                errors.push(format!("{error:#}"));
            }
        }
    }
    bail!("getLocalBackend error: createEngine: {}", errors.join("\n"))
}

fn try_network(name: &str, env: Env<'_>) -> Result<Network> {
    if name == USERSPACE {
        return Ok(Network::Userspace);
    }
    if name.starts_with("tap:") {
        bail!("tap is not supported in this build");
    }
    let mtu = os::tun::mtu(env("TS_DEBUG_MTU").as_deref());
    match os::tun::open_with_queues(name, mtu, workers(env)) {
        Ok(device) => Ok(Network::Device(device)),
        Err(error) => {
            for line in os::tun::diagnose(&error) {
                tracing::info!("{line}");
            }
            Err(error.into())
        }
    }
}

/// Threads for each direction: on few cores one does everything, and more would only wait for each other. `TS_WORKERS` says otherwise.
fn workers(env: Env<'_>) -> usize {
    const MOST: usize = 8;
    const MOST_WANTED: usize = 64;
    let wanted = env("TS_WORKERS").and_then(|text| text.parse().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match wanted {
        Some(wanted) => usize::clamp(wanted, 1, MOST_WANTED),
        None => (cores / 2).clamp(1, MOST),
    }
}

/// Undoes what an earlier process has left behind. Nothing that fails here is an error of ours.
fn clean_up(tun: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    for name in tun.split(',').filter(|name| *name != USERSPACE) {
        let mut failures = runtime.block_on(os::dns::cleanup(name)).failures;
        failures.extend(os::router::cleanup(name).failures);
        for failure in failures {
            tracing::warn!("cleanup: {failure}");
        }
    }
    Ok(())
}

/// What depends on how packets get into the tunnel.
struct NetworkParts {
    /// The device's name; empty without one.
    device: String,
    tun: Option<Box<dyn Tun>>,
    egress: Option<Arc<dyn Egress>>,
    udp: Arc<dyn UdpBinder>,
    links: Box<dyn LinkMonitor>,
    router: Box<dyn Router>,
    dns: Box<dyn DnsConfigurator>,
}

fn network_parts(network: Network) -> Result<NetworkParts> {
    let name = match &network {
        Network::Device(device) => Some(device.name().to_owned()),
        Network::Userspace | Network::Without(_) => None,
    };
    let note = match &network {
        Network::Without(why) => Some(format!(
            "there is no tunnel device, so that only proxies and `tailscale nc` reach the tailnet from here: {why}"
        )),
        _ => None,
    };
    let links = os::links::Monitor::start(name).context("watch the network links")?;
    Ok(match network {
        Network::Userspace | Network::Without(_) => NetworkParts {
            device: String::new(),
            tun: None,
            egress: None,
            udp: Arc::new(os::udp::PlainBinder),
            links: Box::new(links),
            router: Box::new(os::userspace::Untouched { note }),
            dns: Box::new(os::userspace::Untouched::default()),
        },
        Network::Device(device) => {
            let marked = os::router::Marked::probe();
            let router = os::router::LinuxRouter::new(device.name()).context("creating router")?;
            NetworkParts {
                device: device.name().to_owned(),
                egress: Some(Arc::new(marked)),
                udp: Arc::new(os::udp::MarkedBinder(marked)),
                links: Box::new(links),
                router: Box::new(router),
                dns: Box::new(os::dns::LinuxDns::new(device.name())),
                tun: Some(Box::new(device)),
            }
        }
    })
}

fn tell_init(env: Env<'_>) -> node::TellInit {
    let init = os::init::Init::from_environment(env("NOTIFY_SOCKET").as_deref());
    Arc::new(move |line: &str| {
        if let Some(init) = &init {
            init.tell(line);
        }
    })
}

/// Compat: the first lines, which people look for to see where a run begins.
fn announce(no_logs: bool, log_id: &os::logid::LogId) {
    if no_logs {
        tracing::info!("You have disabled logging. Tailscale will not be able to provide support.");
    }
    let args: Vec<String> = std::env::args().map(|arg| format!("{arg:?}")).collect();
    tracing::info!(
        "Program starting: v{}, Rust: []string{{{}}}",
        ipn::version::LONG,
        args.join(", ")
    );
    tracing::info!("LogID: {}", log_id.public());
}

async fn serve(
    flags: Flags,
    place: os::paths::StatePlace,
    tap: LogTap,
    env: Env<'_>,
) -> Result<()> {
    let var_root = place.var_root.clone();
    let no_logs = flags.no_logs || truthy(env, "TS_NO_LOGS_NO_SUPPORT")?;
    let log_dir = os::logid::directory(env, var_root.as_deref());
    let log_id = match no_logs {
        true => os::logid::read(log_dir.as_deref(), &mut rt::OsRng),
        false => os::logid::load(log_dir.as_deref(), &mut rt::OsRng),
    };
    announce(no_logs, &log_id);
    let store = os::store::open(&place.state)?;
    let mut hostinfo = os::facts::hostinfo(env);
    hostinfo.ipn_version = ipn::version::LONG.into();
    hostinfo.backend_log_id = log_id.public().into();
    let parts = network_parts(open_network(&flags.tun, flags.tun_given, env)?)?;
    hostinfo.userspace = Some(parts.tun.is_none());
    hostinfo.userspace_router = Some(parts.tun.is_none());
    hostinfo.no_logs_no_support = no_logs;
    let config = node::Config {
        socket: PathBuf::from(&flags.socket),
        var_root,
        port: flags.port,
        features: features::list(&flags, no_logs, &log_id, &tap, env),
        environment: std::env::vars().collect(),
        own_proxies: own_proxies(&flags),
    };
    let device = parts.device;
    let host = node::HostParts {
        store,
        tun: parts.tun,
        workers: workers(env),
        egress: parts.egress,
        udp: parts.udp,
        links: parts.links,
        router: parts.router,
        dns: parts.dns,
        hostinfo,
        uid_of: Box::new(os::process::uid_of),
        forwarding_problem: Box::new(forwarding_problem),
        udp_problem: Box::new(move || udp_problem(&device)),
        tell_init: tell_init(env),
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

#[cfg(target_os = "linux")]
fn forwarding_problem() -> String {
    os::forwarding::problem()
}

#[cfg(not(target_os = "linux"))]
fn forwarding_problem() -> String {
    "Whether this system forwards packets is not known.".to_owned()
}

#[cfg(target_os = "linux")]
fn udp_problem(device: &str) -> String {
    os::forwarding::udp_problem(device)
}

#[cfg(not(target_os = "linux"))]
fn udp_problem(_device: &str) -> String {
    String::new()
}

/// A proxy setting of the environment that points at our own proxy would send our connections in a circle.
fn own_proxies(flags: &Flags) -> Vec<SocketAddr> {
    [&flags.socks5, &flags.http_proxy]
        .into_iter()
        .filter_map(|address| address.replace("localhost", "127.0.0.1").parse().ok())
        .collect()
}

/// Go's `strconv.ParseBool`; other words end the daemon, so that a typing error is not a silent "no".
pub(crate) fn truthy(env: Env<'_>, name: &str) -> Result<bool> {
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
    fn the_first_kind_of_network_that_works_is_taken() {
        let open = |tun| open_network(tun, false, &|_| None);
        let text = |tun| open(tun).err().map(|error| error.to_string());
        assert_eq!(text(""), Some("no --tun value specified".into()));
        assert!(matches!(
            open("userspace-networking"),
            Ok(Network::Userspace)
        ));
        // No kernel makes a device with such a name, whoever asks.
        assert!(matches!(
            open("tap:x,a-name-of-19-letters,userspace-networking"),
            Ok(Network::Userspace)
        ));
        let error = text("tap:x,a-name-of-19-letters").unwrap();
        assert!(
            error.contains("tap is not supported in this build\n"),
            "{error}"
        );
        assert!(
            error.contains("tstun.New(\"a-name-of-19-letters\"): "),
            "{error}"
        );
    }

    #[test]
    fn booleans_are_gos() {
        let value = |text: &'static str| move |_: &str| Some(text.to_owned());
        assert!(truthy(&value("T"), "X").unwrap());
        assert!(!truthy(&value("False"), "X").unwrap());
        assert!(truthy(&value("yes"), "X").is_err());
    }
}
