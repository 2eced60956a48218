//! The originals: headscale, and Go's tailscaled, tailscale and derper.
#![expect(
    clippy::disallowed_methods,
    reason = "starting the original programs is what this module is for"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Process, free_port};

/// Says on stderr that `test` is skipped and why, as one line that the test harness does not swallow.
///
/// One write: CI reads these lines, and other threads print at the same time.
pub fn skip(test: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {test}: {reason}\n").as_bytes());
}

/// The program that `variable` names; otherwise says on stderr why `test` is skipped.
pub fn program(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty());
    if path.is_none() {
        skip(
            test,
            &format!(
                "set {variable} to the path of the original program (built from its Go source)"
            ),
        );
    }
    path.map(PathBuf::from)
}

fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("making a temporary directory: {error}"))
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content)
        .unwrap_or_else(|error| panic!("writing `{}`: {error}", path.display()));
}

fn stdout_of(what: &str, output: Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// How a [`Headscale`] is set up.
#[derive(Debug, Clone, Default)]
pub struct HeadscaleOptions {
    /// The DERP map in headscale's YAML ([`derp_map_yaml`]); by default one region where nobody listens.
    pub derp_map: Option<String>,
    /// The policy (HuJSON); by default everything is allowed.
    pub policy: Option<String>,
    /// Where it listens; by default on loopback.
    pub address: Option<Ipv4Addr>,
}

/// A headscale with a state of its own.
#[derive(Debug)]
pub struct Headscale {
    program: PathBuf,
    address: SocketAddr,
    process: Process,
    // After the process: its log is shown when a test fails.
    dir: TempDir,
}

/// Starts headscale (`TS_HEADSCALE`) and waits until it answers.
pub fn headscale(test: &str, options: &HeadscaleOptions) -> Option<Headscale> {
    let program = program(test, "TS_HEADSCALE")?;
    let dir = temp_dir();
    let ip = options.address.unwrap_or(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::from((ip, free_port()));
    let derp_map = options
        .derp_map
        .clone()
        .unwrap_or_else(|| derp_map_yaml("127.0.0.1", 1, None, -1));
    write(&dir.path().join("derp.yaml"), &derp_map);
    if let Some(policy) = &options.policy {
        write(&dir.path().join("policy.hujson"), policy);
    }
    let policy_path = options
        .policy
        .as_ref()
        .map(|_| dir.path().join("policy.hujson").display().to_string());
    let config = headscale_config(dir.path(), address, &policy_path.unwrap_or_default());
    write(&dir.path().join("config.yaml"), &config);
    let process = start_headscale(&program, dir.path(), address);
    Some(Headscale {
        program,
        dir,
        address,
        process,
    })
}

fn start_headscale(program: &Path, dir: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.join("config.yaml")).arg("serve");
    let mut process = Process::start("headscale", command, &dir.join("headscale.log"));
    process.wait_ready(|_| http_ok(address, "/health").then_some(()));
    process
}

fn headscale_config(dir: &Path, address: SocketAddr, policy: &str) -> String {
    let dir = dir.display();
    format!(
        r#"
server_url: http://{address}
listen_addr: {address}
metrics_listen_addr: ""
grpc_listen_addr: ""
noise:
  private_key_path: {dir}/noise_private.key
prefixes:
  v4: 100.64.0.0/10
  v6: fd7a:115c:a1e0::/48
  allocation: sequential
derp:
  server:
    enabled: false
  urls: []
  paths: [{dir}/derp.yaml]
  auto_update_enabled: false
disable_check_updates: true
node:
  ephemeral:
    inactivity_timeout: 30m
database:
  type: sqlite
  sqlite:
    path: {dir}/db.sqlite
    write_ahead_log: true
log:
  level: debug
  format: text
policy:
  mode: file
  path: "{policy}"
dns:
  magic_dns: true
  base_domain: tailnet.test
  override_local_dns: false
  nameservers:
    global: []
unix_socket: {dir}/headscale.sock
unix_socket_permission: "0700"
logtail:
  enabled: false
"#
    )
}

impl Headscale {
    /// The control URL for `--login-server`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs headscale's own command line against it and returns its stdout; fails the test if that fails.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.path().join("config.yaml"));
        let output = command.args(args).output();
        let output = output.unwrap_or_else(|error| panic!("running headscale: {error}"));
        stdout_of(&format!("headscale {args:?}"), output)
    }

    /// Creates a user and returns its id.
    pub fn create_user(&self, name: &str) -> String {
        let json = self.cli(&["users", "create", name, "-o", "json"]);
        json_scalar(&json, "id").unwrap_or_else(|| panic!("no id in {json}"))
    }

    /// Lets the node in that waits at this login page, for the user with this name.
    pub fn register(&self, user: &str, page: &str) {
        let id = page
            .rsplit_once("/register/")
            .map(|(_, id)| id)
            .unwrap_or_else(|| panic!("no registration page: {page}"));
        self.cli(&["auth", "register", "--user", user, "--auth-id", id]);
    }

    /// Creates a reusable auth key for the user with this id; `flags` are further ones such as `--ephemeral`.
    pub fn auth_key(&self, user_id: &str, flags: &[&str]) -> String {
        let mut args = vec![
            "preauthkeys",
            "create",
            "-u",
            user_id,
            "-e",
            "24h",
            "-o",
            "json",
        ];
        args.push("--reusable");
        args.extend_from_slice(flags);
        let json = self.cli(&args);
        json_scalar(&json, "key").unwrap_or_else(|| panic!("no key in {json}"))
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port with the same state.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = start_headscale(&self.program, self.dir.path(), self.address);
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A DERP map of one region, 900, for [`HeadscaleOptions::derp_map`]. `stun_port` -1 means none.
pub fn derp_map_yaml(host: &str, port: u16, cert_name: Option<&str>, stun_port: i32) -> String {
    format!(
        "regions:{}",
        region_yaml(900, host, port, cert_name, stun_port)
    )
}

/// A DERP map for [`HeadscaleOptions::derp_map`] with a region, from 900 on, for each relay.
pub fn derp_map_yaml_of(relays: &[Derper]) -> String {
    let regions = (900..).zip(relays).map(|(id, relay)| {
        let host = relay.address.to_string();
        let stun_port = i32::from(relay.stun_port);
        region_yaml(id, &host, relay.port, Some(&relay.cert_name), stun_port)
    });
    format!("regions:{}", regions.collect::<String>())
}

fn region_yaml(id: u16, host: &str, port: u16, cert_name: Option<&str>, stun_port: i32) -> String {
    let code = match id {
        900 => "test".to_owned(),
        other => format!("test{other}"),
    };
    let cert_name = cert_name
        .map(|name| format!("\n        certname: \"{name}\""))
        .unwrap_or_default();
    format!(
        r#"
  {id}:
    regionid: {id}
    regioncode: {code}
    regionname: Test
    nodes:
      - name: {id}a
        regionid: {id}
        hostname: "{host}"
        ipv4: "{host}"
        ipv6: none
        derpport: {port}
        stunport: {stun_port}{cert_name}
"#
    )
}

/// A derper, Go's or ours, with a self-signed certificate and STUN beside it.
#[derive(Debug)]
pub struct Derper {
    program: PathBuf,
    address: Ipv4Addr,
    port: u16,
    stun_port: u16,
    cert_name: String,
    process: Process,
    // After the process: its log is shown when a test fails.
    dir: TempDir,
}

/// Starts Go's derper (`TS_GO_DERPER`) on loopback and waits until it listens.
pub fn go_derper(test: &str) -> Option<Derper> {
    let program = program(test, "TS_GO_DERPER")?;
    Some(derper(&program, Ipv4Addr::LOCALHOST))
}

/// Starts the derper at `program` and waits until it listens.
pub fn derper(program: &Path, address: Ipv4Addr) -> Derper {
    let dir = temp_dir();
    let (port, stun_port) = (free_port(), free_port());
    let mut process = start_derper(program, dir.path(), address, [port, stun_port]);
    let cert_name = process.wait_ready(|process| cert_name_in(&process.log()));
    Derper {
        program: program.to_owned(),
        dir,
        address,
        port,
        stun_port,
        cert_name,
        process,
    }
}

fn start_derper(
    program: &Path,
    dir: &Path,
    address: Ipv4Addr,
    [port, stun_port]: [u16; 2],
) -> Process {
    let mut command = Command::new(program);
    command
        .arg(format!("-a={address}:{port}"))
        .arg(format!("-stun-port={stun_port}"))
        .arg("-http-port=-1")
        .arg("-certmode=manual")
        .arg(format!("-hostname={address}"))
        .arg("-certdir")
        .arg(dir.join("certs"))
        .arg("-c")
        .arg(dir.join("derper.key"));
    let mut process = Process::start("derper", command, &dir.join("derper.log"));
    process.wait_ready(|_| TcpStream::connect((address, port)).ok());
    process
}

/// The pin that derper logs for its self-signed certificate.
fn cert_name_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("sha256-raw:")?;
    let digest = rest.get(..64)?;
    Some(format!("sha256-raw:{digest}"))
}

impl Derper {
    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The TLS port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The STUN port.
    pub fn stun_port(&self) -> u16 {
        self.stun_port
    }

    /// The certificate's pin, as it stands in a DERP map: `sha256-raw:` and hex.
    pub fn cert_name(&self) -> &str {
        &self.cert_name
    }

    /// Its region as a DERP map for headscale.
    pub fn derp_map_yaml(&self) -> String {
        derp_map_yaml_of(std::slice::from_ref(self))
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports with the same keys.
    pub fn start_again(&mut self) {
        self.process.kill();
        let ports = [self.port, self.stun_port];
        self.process = start_derper(&self.program, self.dir.path(), self.address, ports);
    }
}

/// How a [`Daemon`] is set up.
#[derive(Debug, Clone, Default)]
pub struct TailscaledOptions {
    /// Further flags.
    pub flags: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// A state directory to use instead of a fresh one.
    pub state_dir: Option<PathBuf>,
}

/// A tailscaled in userspace mode, with SOCKS5 and HTTP proxy on one port: Go's or ours.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    options: TailscaledOptions,
    proxy_port: u16,
    process: Process,
    // After the process: its log is shown when a test fails.
    dir: TempDir,
}

/// Starts Go's tailscaled (`TS_GO_TAILSCALED`) and waits for its socket.
pub fn go_tailscaled(test: &str, options: &TailscaledOptions) -> Option<Daemon> {
    let program = program(test, "TS_GO_TAILSCALED")?;
    Some(daemon(&program, options))
}

/// Starts the tailscaled at `program` and waits for its socket.
pub fn daemon(program: &Path, options: &TailscaledOptions) -> Daemon {
    let dir = temp_dir();
    let proxy_port = free_port();
    let process = start_tailscaled(program, options, dir.path(), proxy_port);
    Daemon {
        program: program.to_owned(),
        options: options.clone(),
        dir,
        proxy_port,
        process,
    }
}

fn start_tailscaled(
    program: &Path,
    options: &TailscaledOptions,
    dir: &Path,
    proxy_port: u16,
) -> Process {
    let socket = dir.join("tailscaled.sock");
    let state_dir = options
        .state_dir
        .clone()
        .unwrap_or_else(|| dir.join("state"));
    let mut command = Command::new(program);
    command
        .arg("--tun=userspace-networking")
        .arg("--no-logs-no-support")
        // Tests read every line.
        .env("TS_DEBUG_LOG_RATE", "all")
        .arg("--port=0")
        .arg(format!("--socks5-server=127.0.0.1:{proxy_port}"))
        .arg(format!(
            "--outbound-http-proxy-listen=127.0.0.1:{proxy_port}"
        ))
        .arg("--socket")
        .arg(&socket)
        .arg("--statedir")
        .arg(state_dir)
        .args(&options.flags)
        .env("TS_DISABLE_PORTMAPPER", "1")
        .env("TS_DISABLE_UPNP", "1")
        .env("HOME", dir)
        // A machine of a test's own has no such bus; that of the machine around it is not to be asked.
        .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
        .envs(options.env.iter().map(|(name, value)| (name, value)));
    // A socket left over from an earlier life would look ready.
    let _ = std::fs::remove_file(&socket);
    let mut process = Process::start(
        &program.display().to_string(),
        command,
        &dir.join("tailscaled.log"),
    );
    process.wait_ready(|_| socket_answers(&socket).then_some(()));
    process
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The LocalAPI socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("tailscaled.sock")
    }

    /// The port of SOCKS5 and HTTP proxy on 127.0.0.1.
    pub fn proxy_port(&self) -> u16 {
        self.proxy_port
    }

    /// The directory with its state.
    pub fn state_dir(&self) -> PathBuf {
        let own = || self.dir.path().join("state");
        self.options.state_dir.clone().unwrap_or_else(own)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same state.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = start_tailscaled(
            &self.program,
            &self.options,
            self.dir.path(),
            self.proxy_port,
        );
    }
}

/// Runs Go's tailscale (`TS_GO_TAILSCALE`) against a daemon's socket, whosever daemon that is.
pub fn go_cli(test: &str, socket: &Path, args: &[&str]) -> Option<Output> {
    let program = program(test, "TS_GO_TAILSCALE")?;
    let mut command = Command::new(program);
    command.arg("--socket").arg(socket).args(args);
    let output = command.output();
    Some(output.unwrap_or_else(|error| panic!("running tailscale: {error}")))
}

#[cfg(unix)]
fn socket_answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

#[cfg(not(unix))]
fn socket_answers(path: &Path) -> bool {
    path.exists()
}

fn http_ok(address: SocketAddr, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}

/// The value of the first member `name` of a flat JSON text; enough for headscale's answers, without a JSON library.
fn json_scalar(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start();
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next().map(str::to_owned),
        None => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest.get(..end).map(str::to_owned)
        }
    }
}
