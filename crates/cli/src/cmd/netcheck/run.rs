//! Does in the world what a measurement asks for.

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use derp::DerpMap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use netcheck::{Action, Check, CheckOptions, Family, Interfaces, ProbeId, Report, stun};
use rt::OsRng;
use tokio::net::UdpSocket;
use transport::{DialConfig, Dialer, ProxyConfig};

use super::bind::Bind;
use crate::command::Env;
use crate::daemon::os_error;

/// A measurement ends sooner; this bounds what it leaves behind.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// The sockets that probes go through. A family without one is not measured.
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    pub(super) const fn none() -> Self {
        Self { v4: None, v6: None }
    }

    /// One socket per family; an error only if there is none at all.
    pub(super) async fn bind(bind: Bind) -> Result<Self, String> {
        let v4 = open(bind, Ipv4Addr::UNSPECIFIED.into()).await;
        let v6 = open(bind, Ipv6Addr::UNSPECIFIED.into()).await;
        if let (Err(v4), Err(v6)) = (&v4, &v6) {
            return Err(format!("{v4}\n{v6}"));
        }
        Ok(Self {
            v4: v4.ok(),
            v6: v6.ok(),
        })
    }

    fn of(&self, family: Family) -> Option<&UdpSocket> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

async fn open(bind: Bind, any: IpAddr) -> Result<UdpSocket, String> {
    let family = if any.is_ipv4() { "udp4" } else { "udp6" };
    let ip = bind.ip.unwrap_or(any);
    let failed = |why: &str| format!("listen {family} {}: {why}", SocketAddr::new(ip, bind.port));
    if ip.is_ipv4() != any.is_ipv4() {
        return Err(failed("the address is of the other family"));
    }
    let bound = UdpSocket::bind((ip, bind.port)).await;
    bound.map_err(|error| failed(&os_error(&error)))
}

/// What opens connections to relays and for maps: as the original's command, through the proxies of the environment.
pub(super) fn dialer(env: &Env) -> Dialer {
    Dialer::new(DialConfig {
        proxy: ProxyConfig::from_env(&env.vars),
        ..DialConfig::default()
    })
}

/// The families that a packet could leave by. Connecting a datagram socket sends nothing.
async fn interfaces(sockets: &Sockets) -> Interfaces {
    async fn routed(any: IpAddr, to: IpAddr) -> io::Result<()> {
        UdpSocket::bind((any, 0)).await?.connect((to, 9)).await
    }
    let v4 = routed(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
    );
    let v6 = routed(
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    );
    Interfaces {
        v4: sockets.v4.is_some() && v4.await.is_ok(),
        v6: sockets.v6.is_some() && v6.await.is_ok(),
    }
}

/// What a step that takes time has come to.
enum Answer {
    Resolved(ProbeId, Option<IpAddr>),
    Https(derp::RegionId, Option<(Duration, IpAddr)>),
}

type Steps<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + 'a>>>;

/// One measurement: of all regions, or of the nearest ones of the previous report and the home region.
pub(super) async fn measure(
    sockets: &Sockets,
    dialer: &Dialer,
    map: &Arc<DerpMap>,
    previous: Option<&Report>,
    home: Option<derp::RegionId>,
) -> Report {
    let options = CheckOptions {
        interfaces: interfaces(sockets).await,
        os_has_ipv6: std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(),
        last: previous,
        home,
        only_tcp_443: false,
        only_stun: false,
    };
    let mut check = Check::start(Arc::clone(map), &options, rt::now());
    let mut steps: Steps<'_> = FuturesUnordered::new();
    let (mut v4, mut v6) = ([0; 2048], [0; 2048]);
    loop {
        while let Some(action) = check.poll_action(rt::now(), &mut OsRng) {
            act(action, &mut check, &steps, sockets, dialer, map).await;
        }
        if let Some(report) = check.poll_report(rt::now()) {
            return report;
        }
        let Some(deadline) = check.next_timeout() else {
            // The report is taken once, above.
            return Report::default();
        };
        let wait = deadline.since(rt::now());
        tokio::select! {
            len = receive(sockets.of(Family::V4), &mut v4) => heard(&mut check, &v4, len),
            len = receive(sockets.of(Family::V6), &mut v6) => heard(&mut check, &v6, len),
            Some(answer) = steps.next() => match answer {
                Answer::Resolved(probe, ip) => check.handle_resolved(probe, ip),
                Answer::Https(region, measured) => check.handle_https(region, measured),
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The next datagram's length. An error is of an older datagram, and tells nothing.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> usize {
    let Some(socket) = socket else {
        return pending().await;
    };
    match socket.recv_from(buffer).await {
        Ok((len, _)) => len,
        Err(_) => {
            // What is broken for good must not spin.
            tokio::time::sleep(Duration::from_millis(20)).await;
            0
        }
    }
}

fn heard(check: &mut Check, buffer: &[u8], len: usize) {
    let datagram = buffer.get(..len).unwrap_or_default();
    if stun::is_stun(datagram) {
        check.handle_datagram(datagram, rt::now());
    }
}

async fn act<'a>(
    action: Action,
    check: &mut Check,
    steps: &Steps<'a>,
    sockets: &Sockets,
    dialer: &'a Dialer,
    map: &'a DerpMap,
) {
    match action {
        Action::Send {
            family,
            to,
            datagram,
        } => {
            let sent = match sockets.of(family) {
                Some(socket) => socket.send_to(&datagram, to).await.is_ok(),
                None => false,
            };
            check.handle_sent(family, sent);
        }
        Action::Resolve {
            probe,
            host,
            family,
        } => steps.push(Box::pin(async move {
            let found = tokio::time::timeout(STEP_TIMEOUT, dialer.resolve(&host)).await;
            let found = found.ok().and_then(Result::ok).into_iter().flatten();
            let mut of_family = found.filter(|ip| ip.is_ipv6() == (family == Family::V6));
            Answer::Resolved(probe, of_family.next())
        })),
        Action::MeasureHttps { regions } => {
            for id in regions {
                steps.push(Box::pin(https(dialer, map, id)));
            }
        }
    }
}

async fn https(dialer: &Dialer, map: &DerpMap, id: derp::RegionId) -> Answer {
    let Some(region) = map.region(id) else {
        return Answer::Https(id, None);
    };
    let measured = transport::derp::latency(dialer, region);
    let measured = tokio::time::timeout(STEP_TIMEOUT, measured).await;
    Answer::Https(id, measured.ok().and_then(Result::ok))
}
