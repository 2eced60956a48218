//! The servers of one scenario.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use controlserver::NewAuthKey;
use lab::netns::World;
use serde::Serialize;
use tailcfg::{DerpMap, DerpNode, DerpRegion};
use testkit::originals::{self, Derper, Headscale, HeadscaleOptions};

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whose {
    /// This project's.
    Ours,
    /// The original.
    Go,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Go => "Go",
        })
    }
}

/// Which control server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Control {
    /// This project's.
    Ours,
    /// headscale.
    Headscale,
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Headscale => "headscale",
        })
    }
}

/// A program of ours beside the running one, or the original that `variable` names.
pub(crate) fn program(whose: Whose, name: &str, variable: &str) -> Result<PathBuf> {
    match whose {
        Whose::Go => std::env::var_os(variable)
            .map(PathBuf::from)
            .with_context(|| format!("set {variable} to the path of the original `{name}`")),
        Whose::Ours => {
            let own = std::env::current_exe()?;
            // Tests are one directory further down.
            let mut places = own
                .ancestors()
                .skip(1)
                .take(2)
                .map(|place| place.join(name));
            places
                .find(|path| path.is_file())
                .with_context(|| format!("`{name}` is not beside this program: build it"))
        }
    }
}

/// An internet with two relays and a control server.
pub(crate) struct Tailnet {
    pub(crate) world: World,
    pub(crate) relays: Vec<Derper>,
    server: Server,
    pub(crate) url: String,
    pub(crate) auth_key: String,
}

enum Server {
    Ours {
        server: controlserver::Server,
        runtime: tokio::runtime::Runtime,
    },
    Headscale(Headscale),
}

impl Tailnet {
    pub(crate) fn start(control: Control, relay: Whose) -> Result<Self> {
        let world = World::new()?;
        let derper = program(relay, "derper", "TS_GO_DERPER")?;
        // Two, so that a NAT shows its kind.
        let relays = world.internet().run(|| {
            World::SERVERS
                .map(|address| originals::derper(&derper, address))
                .into()
        })?;
        match control {
            Control::Ours => Self::start_ours(world, relays),
            Control::Headscale => Self::start_headscale(world, relays),
        }
    }

    fn start_ours(world: World, relays: Vec<Derper>) -> Result<Self> {
        let runtime = world.internet().runtime()?;
        let config = controlserver::Config {
            listen: SocketAddr::from((World::SERVERS[0], 8080)),
            derp_map: derp_map(&relays),
            ..controlserver::Config::default()
        };
        let (server, key) = world.internet().block_on(&runtime, async {
            let server = controlserver::Server::start(config).await?;
            let new = NewAuthKey {
                user: "interop".into(),
                reusable: true,
                ..NewAuthKey::default()
            };
            let made = server.admin().create_auth_key(new).await;
            let made = made.map_err(|error| anyhow::anyhow!("make an auth key: {error:?}"))?;
            anyhow::Ok((server, made.key.unwrap_or_default()))
        })??;
        Ok(Self {
            url: server.url(),
            auth_key: key.to_string(),
            server: Server::Ours { server, runtime },
            world,
            relays,
        })
    }

    /// Has our control server's administrator do something.
    pub(crate) fn with_admin<R: Send>(
        &self,
        act: impl AsyncFnOnce(controlserver::Admin) -> std::result::Result<R, controlserver::Refused>
        + Send,
    ) -> Result<R> {
        let Server::Ours { server, runtime } = &self.server else {
            bail!("only our own control server has such an administrator");
        };
        let admin = server.admin();
        let done = self.world.internet().run(|| runtime.block_on(act(admin)))?;
        done.map_err(|error| anyhow::anyhow!("the control server refuses: {error}"))
    }

    fn start_headscale(world: World, relays: Vec<Derper>) -> Result<Self> {
        let options = HeadscaleOptions {
            derp_map: Some(originals::derp_map_yaml_of(&relays)),
            address: Some(World::SERVERS[0]),
            ..HeadscaleOptions::default()
        };
        let headscale = world
            .internet()
            .run(|| originals::headscale("interop", &options))?
            .context("set TS_HEADSCALE to the path of headscale")?;
        let user = headscale.create_user("interop");
        Ok(Self {
            url: headscale.url(),
            auth_key: headscale.auth_key(&user, &[]),
            server: Server::Headscale(headscale),
            world,
            relays,
        })
    }
}

impl Drop for Tailnet {
    fn drop(&mut self) {
        if let Server::Headscale(headscale) = &mut self.server {
            headscale.kill();
        }
        for relay in &mut self.relays {
            relay.kill();
        }
    }
}

/// A region for each relay.
fn derp_map(relays: &[Derper]) -> DerpMap {
    let region = |id: i32, relay: &Derper| DerpRegion {
        region_id: id,
        region_code: format!("test{id}"),
        region_name: format!("Test {id}"),
        nodes: vec![DerpNode {
            name: format!("{id}a"),
            region_id: id,
            host_name: relay.address().to_string(),
            cert_name: relay.cert_name().to_owned(),
            ipv4: relay.address().to_string(),
            ipv6: "none".into(),
            stun_port: relay.stun_port().into(),
            derp_port: relay.port().into(),
            ..DerpNode::default()
        }],
        ..DerpRegion::default()
    };
    let regions = (900..)
        .zip(relays)
        .map(|(id, relay)| (id, Some(region(id, relay))));
    DerpMap {
        regions: Some(BTreeMap::from_iter(regions)),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}
