//! Our daemon and the original's, each with a TUN device in a network of its own behind a NAT, in a tailnet of our control
//! server. Needs root and the originals' programs.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use controlserver::NewAuthKey;
use lab::netns::{Nat, Netns, Site, World};
use testkit::originals::{Daemon, TailscaledOptions, daemon, go_cli, program};

const LEN: usize = 4 << 20;

struct Servers {
    _control: controlserver::Server,
    _relay: derpserver::Server,
    url: String,
    key: String,
}

async fn start_servers() -> Servers {
    let relay = lab::start_relay_at(World::SERVERS[0]).await.unwrap();
    let control = controlserver::Server::start(controlserver::Config {
        listen: (World::SERVERS[0], 0).into(),
        domain: "lab.test".into(),
        derp_map: lab::derp_map(&relay),
        ..controlserver::Config::default()
    });
    let control = control.await.unwrap();
    let key = NewAuthKey {
        user: "lab".into(),
        reusable: true,
        ..NewAuthKey::default()
    };
    let key = control.admin().create_auth_key(key).await.unwrap();
    Servers {
        url: control.url(),
        key: key.key.unwrap(),
        _control: control,
        _relay: relay,
    }
}

struct Node {
    site: Site,
    daemon: Daemon,
    test: &'static str,
}

impl Node {
    fn start(test: &'static str, program: &Path, site: Site) -> Self {
        let options = TailscaledOptions {
            flags: vec!["--tun=tailscale0".into()],
            ..TailscaledOptions::default()
        };
        let daemon = site.node().run(|| daemon(program, &options)).unwrap();
        Self { site, daemon, test }
    }

    /// The original's command line serves both.
    fn cli(&self, args: &[&str]) -> String {
        let output = go_cli(self.test, &self.daemon.socket(), args).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}{errors}");
        text
    }

    fn up(&self, servers: &Servers, name: &str) {
        let server = format!("--login-server={}", servers.url);
        let key = format!("--auth-key={}", servers.key);
        let host = format!("--hostname={name}");
        // The machine's resolver is not the network namespace's.
        self.cli(&[
            "up",
            &server,
            &key,
            &host,
            "--accept-dns=false",
            "--timeout=60s",
        ]);
    }

    fn ip(&self, family: &str) -> IpAddr {
        self.cli(&["ip", family]).trim().parse().unwrap()
    }
}

fn inside<R: Send>(space: &Netns, f: impl FnOnce() -> R + Send) -> R {
    space.run(f).unwrap()
}

/// Sends bytes from kernel to kernel and gets them back.
fn exchange(from: &Node, to: &Node, address: IpAddr) {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let listener = inside(to.site.node(), || TcpListener::bind((any, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = vec![0; LEN];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        peer.ip()
    });
    let sent: Vec<u8> = (0..LEN).map(|n| ((n * 31) >> 3) as u8).collect();
    let received = inside(from.site.node(), || {
        let target = SocketAddr::from((address, port));
        let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(20)).unwrap();
        stream.write_all(&sent).unwrap();
        let mut bytes = vec![0; LEN];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    });
    assert!(received == sent, "the bytes came back changed");
    let family = if address.is_ipv4() { "-4" } else { "-6" };
    assert_eq!(echo.join().unwrap(), from.ip(family));
}

#[test]
fn kernels_reach_each_other_through_both_daemons() {
    let test = "kernels_reach_each_other_through_both_daemons";
    if !rustix::process::geteuid().is_root() {
        testkit::originals::skip(test, "only root can make network namespaces");
        return;
    }
    let (Some(theirs), Some(_)) = (
        program(test, "TS_GO_TAILSCALED"),
        program(test, "TS_GO_TAILSCALE"),
    ) else {
        return;
    };
    let mut world = World::new().unwrap();
    let sites = [Nat::Easy, Nat::Easy].map(|nat| world.add_site(nat).unwrap());
    let runtime = world.internet().runtime().unwrap();
    let servers = inside(world.internet(), || runtime.block_on(start_servers()));
    let [here, there] = sites;
    let ours = Node::start(test, Path::new(env!("CARGO_BIN_EXE_tailscaled")), here);
    let theirs = Node::start(test, &theirs, there);
    ours.up(&servers, "ours");
    theirs.up(&servers, "theirs");
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let target = to.ip("-4").to_string();
        for kind in ["--tsmp", "--icmp"] {
            from.cli(&["ping", kind, "-c", "1", &target]);
        }
        for family in ["-4", "-6"] {
            exchange(from, to, to.ip(family));
        }
        // Fails if the path does not become direct.
        from.cli(&["ping", "-c", "20", "--until-direct", &target]);
        exchange(from, to, to.ip("-4"));
    }
}
