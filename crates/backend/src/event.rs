//! What the brain is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Routes;
use crate::suggest::Suggestion;
use host::{Applied, DnsConfig, LinkState, RouterConfig, SystemDns};
use ipn::{MaskedPrefs, Options, Prefs};
use keys::DiscoPublic;
use netmap::NetMapChange;
use packet::PeerId;
use tailcfg::go::GoTime;
use tailcfg::{ClientVersion, Hostinfo, NetInfo, UserProfile};

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The daemon has come up. The first event, and only once: it starts the current profile.
    Boot,
    /// A local client wants something; the answer is an [`Effect::Reply`](crate::Effect::Reply) with the same id.
    Command {
        /// Whatever tells the answers apart.
        id: CommandId,
        /// What is wanted.
        command: Command,
    },
    /// The control client has news.
    Control {
        /// The [`Client`](crate::ControlEffect::Start) that it comes from. News from any but the present one is ignored.
        client: ClientId,
        /// The news.
        event: ControlEvent,
    },
    /// The packet engine has news.
    Engine(EngineEvent),
    /// What became of a write to the state store.
    Stored {
        /// The key that was to be written or removed.
        key: String,
        /// Why it could not be.
        failure: Option<String>,
    },
    /// What became of something that was to be applied to the machine.
    Applied {
        /// What was applied.
        target: Target,
        /// How that went.
        applied: Applied,
    },
    /// Somebody else changed what was applied: it must be applied again.
    Drifted(Target),
    /// What the machine's resolver is without us, or why that cannot be known.
    SystemDns(Result<Arc<SystemDns>, String>),
    /// The machine's links.
    Link(Arc<LinkState>),
    /// The state store can (`None`) or cannot be trusted.
    Store(Option<String>),
    /// Where our own API for peers listens; 0 if it does not.
    PeerApi {
        /// Port on our IPv4 address.
        port_v4: u16,
        /// Port on our IPv6 address.
        port_v6: u16,
    },
    /// Whether anybody follows changes of peers on the bus: without, they are left out of its messages.
    PeerWatchers(bool),
    /// The machine's own facts have changed (name, system, open ports).
    Hostinfo(Arc<Hostinfo>),
    /// The moment that [`Backend::next_timeout`](crate::Backend::next_timeout) named has come.
    Timer,
}

/// Tells answers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Tells control clients apart: each start makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClientId(pub u64);

/// What a local client wants. Rights have been checked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Change prefs; answers with the new ones.
    EditPrefs(Box<MaskedPrefs>),
    /// Say whether these prefs would do.
    CheckPrefs(Box<Prefs>),
    /// Start anew, with changed prefs or an auth key.
    Start(Box<Options>),
    /// Log in with somebody at hand: who is to be shown the page.
    LoginInteractive(Recipient),
    /// Log out and forget the login.
    Logout,
    /// Forget all logins and the machine's key.
    ResetAuth,
    /// Turn to a new, empty login.
    NewProfile,
    /// Turn to another login.
    SwitchProfile(String),
    /// Forget a login.
    DeleteProfile(String),
    /// Ask the control server for everything again.
    RefreshNetMap,
    /// Let the key run out at this moment, which must not be later than it would anyhow.
    SetExpirySooner(GoTime),
    /// Turn the exit node that was used last on, or the present one off; answers with the prefs.
    UseExitNode(bool),
    /// Say which exit node would be best.
    SuggestExitNode,
    /// Change prefs, and undo that unless it is confirmed in time; answers with the new ones.
    TryPrefs {
        /// What to change.
        edit: Box<MaskedPrefs>,
        /// For how long it stays without being confirmed.
        within: Duration,
    },
    /// What was tried is to stay.
    ConfirmPrefs,
    /// Say what the machine should be like with prefs changed like this.
    Preview(Box<MaskedPrefs>),
}

/// Who gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recipient {
    /// Every subscriber.
    #[default]
    Everybody,
    /// The subscribers that live in this process.
    Process(i32),
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The prefs now, without secrets.
    Prefs(Arc<Prefs>),
    /// This exit node, if any.
    Suggestion(Option<Suggestion>),
    /// What the machine should be like.
    Preview(Box<Preview>),
}

/// What the machine should be like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preview {
    /// Its routing.
    pub router: RouterConfig,
    /// Its resolver.
    pub dns: DnsConfig,
    /// Who routes what.
    pub routes: Arc<Routes>,
}

/// Why a command was not done. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// What was asked for makes no sense.
    Invalid(String),
    /// There is no such thing.
    NotFound(String),
    /// It cannot be done in this state.
    Unavailable(String),
    /// It was tried, and somebody else refused.
    Failed(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text)
            | Self::NotFound(text)
            | Self::Unavailable(text)
            | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CommandError {}

/// News from the control client.
#[derive(Debug, Clone)]
pub enum ControlEvent {
    /// Somebody must open this page; the registration goes on by itself after that.
    AuthUrl(String),
    /// The node key of the last [`Login`](crate::ControlEffect::Login) is registered.
    Registered(Registered),
    /// The registration failed. The client tries again by itself, with back-off.
    RegisterFailed {
        /// Why.
        error: String,
        /// Whether the server said so to the user, in words for the user.
        for_user: bool,
    },
    /// The server does not take the key of the last login because it has run out. The client waits for another login.
    KeyExpired,
    /// The map poll was refused because the server does not know this key: it must be registered again. The client waits
    /// for another login.
    NotRegistered,
    /// The tailnet has changed. It was heard from as well.
    NetMap(NetMapChange),
    /// The long poll is open, and something came on it; keep-alives count.
    MapHeard,
    /// The long poll has ended. The client opens it again by itself.
    MapDown {
        /// Why, unless it was asked to.
        error: Option<String>,
    },
    /// What became of a [`Logout`](crate::ControlEffect::Logout).
    LoggedOut(Result<(), String>),
    /// What became of a [`SetExpiry`](crate::ControlEffect::SetExpiry).
    ExpirySet(Result<(), String>),
    /// The user should see this page.
    BrowseTo(String),
    /// What is known of newer versions.
    ClientVersion(ClientVersion),
}

/// A registration that succeeded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registered {
    /// Whose node it is: number of the user, names of the login.
    pub user: UserProfile,
}

/// News from the packet engine.
#[derive(Debug, Clone)]
pub enum EngineEvent {
    /// Our home relay region; 0 is none.
    HomeDerp(u16),
    /// How much is alive. This decides between Starting and Running.
    Live {
        /// Open relay links, as the originals count them: from the end of the first attempt on.
        derps: usize,
        /// Peers with a live session.
        peers: usize,
    },
    /// A relay link came up or went down.
    DerpConnected {
        /// Which region.
        region: u16,
        /// Whether it is up.
        connected: bool,
    },
    /// A frame came from a relay. At most one in a few seconds is enough.
    DerpHeard {
        /// Which region.
        region: u16,
    },
    /// A relay says that it is not well; empty text: it is again.
    DerpTrouble {
        /// Which region.
        region: u16,
        /// Its words.
        text: String,
    },
    /// What is known of our network.
    NetInfo(Box<NetInfo>),
    /// The ports of the UDP sockets, for IPv4 and IPv6; 0 where there is none.
    Ports([u16; 2]),
    /// Whether no UDP socket could be bound.
    Udp4Unbound(bool),
    /// A peer told us its disco key inside the tunnel.
    DiscoAdvertised {
        /// Whose packet it was.
        peer: PeerId,
        /// The key.
        key: DiscoPublic,
    },
}

/// What can be applied to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// OS routing.
    Router,
    /// OS resolver.
    Dns,
}
