//! Whom is measured: two daemons of one kind, a network apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::netns::{Nat, Netns, Site, World};
use os::netlink::route::{set_link_mtu, set_link_up};
use os::netlink::{Address, Protocol};

use super::{Mode, Options, Route};
use crate::node::Node;
use crate::tailnet::{Control, Tailnet, Whose};

/// The interface of a peer that is only WireGuard.
const INTERFACE: &str = "bench0";
const PORT: u16 = 51820;
/// The oldest release of wireguard-go whose TUN device has super-packets: an older one would flatter us.
const WIREGUARD_GO_SINCE: u32 = 20_231_211;

/// Which program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Ours,
    /// The original.
    Go,
    /// Any that speaks WireGuard and is configured by `wg`: its name and command line.
    WireGuard(String, Vec<String>),
    /// The least that can be done: fixed keys, one peer, nothing checked.
    Bound(PathBuf),
}

/// Where a program is, in `PATH` or beside it.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

impl Kind {
    /// What a user calls it.
    pub(super) fn named(name: &str) -> Result<Self> {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let wireguard = |name: &str, words| Self::WireGuard(name.into(), owned(words));
        Ok(match name {
            "go" => Self::Go,
            "wireguard-go" => wireguard(name, &["wireguard-go", "-f"]),
            "gotatun" => wireguard(
                name,
                &["gotatun", "-f", "-v", "error", "--disable-drop-privileges"],
            ),
            "boringtun" => wireguard(name, &["boringtun-cli", "-f", "--disable-drop-privileges"]),
            "bound" => Self::Bound(std::env::current_exe()?.with_file_name("bound")),
            command => {
                let words: Vec<String> = command.split_whitespace().map(Into::into).collect();
                let first = words.first().context("--peer is empty")?;
                Self::WireGuard(first.clone(), words)
            }
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Ours => "ours",
            Self::Go => "go",
            Self::WireGuard(name, _) => name,
            Self::Bound(_) => "bound",
        }
    }

    pub(super) fn is_tailnet(&self) -> bool {
        matches!(self, Self::Ours | Self::Go)
    }

    /// Says what is missing.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Ours => Ok(()),
            Self::Go => {
                let set = std::env::var_os("TS_GO_TAILSCALED").is_some();
                ensure!(
                    set,
                    "set TS_GO_TAILSCALED and TS_GO_TAILSCALE to the originals"
                );
                Ok(())
            }
            Self::Bound(path) => {
                ensure!(
                    path.exists(),
                    "`bound` is not beside this program: build it"
                );
                Ok(())
            }
            Self::WireGuard(name, words) => {
                ensure!(
                    find("wg").is_some(),
                    "`wg` is missing: install wireguard-tools"
                );
                let program = words.first().map_or(name.as_str(), String::as_str);
                ensure!(
                    find(program).is_some() || PathBuf::from(program).is_file(),
                    "`{program}` is missing"
                );
                if name == "wireguard-go" {
                    check_wireguard_go()?;
                }
                Ok(())
            }
        }
    }
}

fn check_wireguard_go() -> Result<()> {
    // For years the program itself called all its releases 20230223; the package knows better.
    let package = command("dpkg-query").args(["-W", "wireguard-go"]).output();
    let own = command("wireguard-go").arg("--version").output();
    let said = |output: std::io::Result<std::process::Output>| {
        let output = output.ok()?;
        release_of(&String::from_utf8_lossy(&output.stdout))
    };
    let version = said(package).max(said(own));
    ensure!(
        version >= Some(WIREGUARD_GO_SINCE),
        "wireguard-go {} has no offloads and would flatter us: install 0.0.{WIREGUARD_GO_SINCE} or newer (Debian has it in \
         bookworm-backports)",
        version.map_or_else(|| "of unknown age".to_owned(), |date| date.to_string())
    );
    Ok(())
}

/// The date in `wireguard-go v0.0.20231211`.
fn release_of(text: &str) -> Option<u32> {
    let digits = |word: &&str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit());
    text.split(|c: char| !c.is_ascii_digit())
        .find(digits)?
        .parse()
        .ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark runs the programs that it compares"
)]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// A child that ends with its owner.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two daemons that reach each other.
pub(super) struct Pair {
    ends: Ends,
    /// What the second is reached by.
    pub(super) target: IpAddr,
    // Last, so that the daemons end first.
    _world: Option<World>,
}

enum Ends {
    Nodes {
        nodes: Box<[Node; 2]>,
        _tailnet: Box<Tailnet>,
    },
    Programs {
        sites: [Site; 2],
        programs: [Running; 2],
    },
}

impl Pair {
    pub(super) fn start(kind: &Kind, options: &Options) -> Result<Self> {
        let pair = match kind {
            Kind::Ours => Self::tailnet(Whose::Ours, options)?,
            Kind::Go => Self::tailnet(Whose::Go, options)?,
            Kind::WireGuard(..) | Kind::Bound(_) => Self::programs(kind, options)?,
        };
        if options.no_uso {
            for space in [pair.space(0), pair.space(1)] {
                switch_uso_off(space)?;
            }
        }
        Ok(pair)
    }

    fn tailnet(whose: Whose, options: &Options) -> Result<Self> {
        let mut tailnet = Tailnet::start(Control::Ours, whose)?;
        let nat = match options.path {
            Route::Direct => Nat::None,
            Route::Relayed => Nat::Blocked,
        };
        let flags: &[&str] = match options.mode {
            Mode::Tun => &["--tun=tailscale0"],
            Mode::Userspace => &["--tun=userspace-networking"],
        };
        let env = [("TS_DEBUG_MTU".to_owned(), options.mtu.to_string())];
        let mut start = |name| Node::start_with(&mut tailnet, whose, nat, name, flags, &env);
        let nodes = [start("bench1")?, start("bench2")?];
        if options.strangers > 0 {
            let count = options.strangers;
            tailnet.with_admin(async |admin| admin.add_nodes(count).await)?;
        }
        let addresses = [nodes[0].address()?, nodes[1].address()?];
        nodes[0].until_knows(addresses[1])?;
        nodes[1].until_knows(addresses[0])?;
        nodes[0].until_reaches(addresses[1])?;
        if options.path == Route::Direct {
            let (is_direct, said) = nodes[0].ping_until_direct(addresses[1], 20)?;
            ensure!(is_direct, "no direct path: {said}");
        }
        Ok(Self {
            target: addresses[1],
            ends: Ends::Nodes {
                nodes: Box::new(nodes),
                _tailnet: Box::new(tailnet),
            },
            _world: None,
        })
    }

    fn programs(kind: &Kind, options: &Options) -> Result<Self> {
        let mut world = World::new()?;
        let sites = [world.add_site(Nat::None)?, world.add_site(Nat::None)?];
        for site in &sites {
            site.wait_until_connected()?;
        }
        let programs = match kind {
            Kind::WireGuard(name, words) => wireguard(name, words, &sites)?,
            Kind::Bound(path) => bound(path, &sites)?,
            Kind::Ours | Kind::Go => bail!("not a program of that kind"),
        };
        for (site, last) in sites.iter().zip([1, 2]) {
            configure(site.node(), last, options.mtu)?;
        }
        let target = inside(2).into();
        until_pinged(sites[0].node(), target)?;
        Ok(Self {
            target,
            ends: Ends::Programs { sites, programs },
            _world: Some(world),
        })
    }

    /// The network of one end.
    pub(super) fn space(&self, end: usize) -> &Netns {
        match &self.ends {
            Ends::Nodes { nodes, .. } => nodes[end].site.node(),
            Ends::Programs { sites, .. } => sites[end].node(),
        }
    }

    /// The two daemons.
    pub(super) fn pids(&self) -> [u32; 2] {
        match &self.ends {
            Ends::Nodes { nodes, .. } => [nodes[0].pid(), nodes[1].pid()],
            Ends::Programs { programs, .. } => [programs[0].0.id(), programs[1].0.id()],
        }
    }

    /// The first one's SOCKS5 proxy.
    pub(super) fn proxy(&self) -> Result<SocketAddr> {
        match &self.ends {
            Ends::Nodes { nodes, .. } => Ok(nodes[0].proxy()),
            Ends::Programs { .. } => bail!("it has no proxy"),
        }
    }
}

fn inside(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, 0, last)
}

/// Starts a WireGuard at each site and makes them each other's peers.
fn wireguard(name: &str, words: &[String], sites: &[Site; 2]) -> Result<[Running; 2]> {
    let folder = tempfile::tempdir()?;
    let key = |args: &[&str], input: &str| -> Result<String> {
        let mut child = command("wg")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no way in")?;
        std::io::Write::write_all(&mut stdin, input.as_bytes())?;
        drop(stdin);
        Ok(String::from_utf8(child.wait_with_output()?.stdout)?
            .trim()
            .to_owned())
    };
    let privates = [key(&["genkey"], "")?, key(&["genkey"], "")?];
    let publics = [
        key(&["pubkey"], &privates[0])?,
        key(&["pubkey"], &privates[1])?,
    ];
    let start = |end: usize| -> Result<Running> {
        // Both ends have a socket by the interface's name in one folder of the machine.
        let interface = interface(end);
        let space = sites[end].node();
        let program = words.first().map_or(name, String::as_str);
        let spawned = space.run(|| {
            command(program)
                .args(words.get(1..).unwrap_or_default())
                .arg(&interface)
                .env("WG_PROCESS_FOREGROUND", "1")
                .env("LOG_LEVEL", "error")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })?;
        let running = Running(spawned.with_context(|| format!("start `{program}`"))?);
        let other = 1 - end;
        let config = format!(
            "[Interface]\nPrivateKey={}\nListenPort={PORT}\n[Peer]\nPublicKey={}\nEndpoint={}:{PORT}\nAllowedIPs={}/32\n",
            privates[end],
            publics[other],
            sites[other].address(),
            inside(other as u8 + 1),
        );
        let path = folder.path().join(&interface);
        std::fs::write(&path, config)?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(50));
            let set = space.run(|| {
                command("wg")
                    .arg("setconf")
                    .arg(&interface)
                    .arg(&path)
                    .stderr(Stdio::null())
                    .status()
            })??;
            if set.success() {
                return Ok(running);
            }
        }
        bail!("`{program}` does not take its configuration");
    };
    Ok([start(0)?, start(1)?])
}

fn interface(end: usize) -> String {
    format!("{INTERFACE}{end}")
}

fn bound(path: &Path, sites: &[Site; 2]) -> Result<[Running; 2]> {
    let start = |end: usize| -> Result<Running> {
        let spawned = sites[end].node().run(|| {
            command(&path.to_string_lossy())
                .arg(interface(end))
                .arg(format!("{}:{PORT}", sites[end].address()))
                .arg(format!("{}:{PORT}", sites[1 - end].address()))
                .stdin(Stdio::null())
                .spawn()
        })?;
        Ok(Running(spawned.context("start `bound`")?))
    };
    let running = [start(0)?, start(1)?];
    std::thread::sleep(Duration::from_millis(300));
    Ok(running)
}

/// Gives the interface its address and MTU.
fn configure(space: &Netns, last: u8, mtu: u32) -> Result<()> {
    let name = interface(usize::from(last) - 1);
    space.netlink(Protocol::Route, |netlink| {
        let link = netlink.link_named(&name)?;
        let link = link.ok_or_else(|| std::io::Error::other("the interface is not there"))?;
        let net = ipnet::Ipv4Net::new_assert(inside(last), 24).into();
        let address = Address {
            link: link.index,
            net,
        };
        netlink.request(address.add())?;
        netlink.request(set_link_mtu(link.index, mtu))?;
        netlink.request(set_link_up(link.index, true))
    })
}

fn until_pinged(space: &Netns, target: IpAddr) -> Result<()> {
    for _ in 0..50 {
        let pinged = space.run(|| {
            command("ping")
                .args(["-c1", "-W1", &target.to_string()])
                .stdout(Stdio::null())
                .status()
        })??;
        if pinged.success() {
            return Ok(());
        }
    }
    bail!("{target} does not answer")
}

/// Has the network take UDP datagrams one by one, as a card without their segmentation.
fn switch_uso_off(space: &Netns) -> Result<()> {
    ensure!(
        find("ethtool").is_some(),
        "`ethtool` is missing: install it"
    );
    let links = space.netlink(Protocol::Route, |netlink| netlink.links())?;
    let cables = links.iter().filter(|link| {
        !link.loopback && link.name != "tailscale0" && !link.name.starts_with(INTERFACE)
    });
    for link in cables {
        let status = space.run(|| {
            command("ethtool")
                .args(["-K", &link.name, "tx-udp-segmentation", "off"])
                .stdout(Stdio::null())
                .status()
        })??;
        ensure!(status.success(), "ethtool could not change {}", link.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_wireguard_go_is_read() {
        assert_eq!(
            release_of("wireguard-go v0.0.20231211\n\nUserspace"),
            Some(20_231_211)
        );
        assert_eq!(
            release_of("wireguard-go\t0.0.20231211-1~bpo12+1"),
            Some(20_231_211)
        );
        assert_eq!(release_of("wireguard-go 0.0.20220316"), Some(20_220_316));
        assert_eq!(release_of("wireguard-go devel"), None);
    }

    #[test]
    fn peers_have_names() {
        assert_eq!(Kind::named("go").unwrap(), Kind::Go);
        let own = Kind::named("my-wg --fast").unwrap();
        assert_eq!(own.name(), "my-wg");
        assert!(Kind::named(" ").is_err());
    }
}
