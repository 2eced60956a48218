use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Method, StatusCode};
use ipn::{Notify, PeerStatus, PingResult, Prefs, State, Status, WatchMask};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use transport::server::{Credentials, Server};

use crate::*;

/// A daemon that is always running, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    prefs: Mutex<Prefs>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn answer(&self, request: Request) -> Result<Reply, ApiError> {
        self.asked.lock().unwrap().push(format!("{request:?}"));
        let mut prefs = self.prefs.lock().unwrap();
        match request {
            Request::Status { peers } => Reply::json_tabs(&status(&prefs, peers)),
            Request::Prefs => Reply::json_tabs(&*prefs),
            Request::EditPrefs(edit) if edit.prefs.hostname == "bad" => {
                Err(ApiError::refused_prefs("no such host"))
            }
            Request::EditPrefs(edit) => {
                prefs.apply(&edit);
                Reply::json_tabs(&*prefs)
            }
            Request::CheckPrefs(_) => Reply::json(&ipn::CheckPrefsResponse::default()),
            Request::WatchBus(WatchMask::ENGINE_UPDATES) => {
                Ok(Reply::Notifies(stream::pending().boxed()))
            }
            Request::WatchBus(_) => Ok(Reply::Notifies(
                stream::iter([Arc::new(Notify {
                    state: Some(State::Running),
                    ..Notify::default()
                })])
                .chain(stream::pending())
                .boxed(),
            )),
            Request::Ping { ip, .. } => Reply::json(&PingResult {
                ip: ip.to_string(),
                node_name: "peer".into(),
                node_ip: ip.to_string(),
                latency_seconds: 0.001,
                derp_region_id: 1,
                derp_region_code: "lab".into(),
                ..PingResult::default()
            }),
            Request::WhoIs { .. } => Err(ApiError::not_found("no match for IP:port")),
            Request::Dial(to) if to.host == "outside" => {
                Ok(Reply::DialSelf(([127, 0, 0, 1], to.port).into()))
            }
            Request::Dial(_) => {
                let (ours, theirs) = tokio::io::duplex(64);
                rt::Task::spawn("echo", async move {
                    let (mut read, mut write) = tokio::io::split(theirs);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                })
                .detach();
                Ok(Reply::Dialed(Box::new(ours)))
            }
            _ => Ok(Reply::Done),
        }
    }
}

impl Handler for Fake {
    fn operator_uid(&self) -> Option<u32> {
        None
    }
    fn call(&self, _: Actor, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        std::future::ready(self.answer(request)).boxed()
    }
}

fn status(prefs: &Prefs, peers: bool) -> Status {
    let node = |last: u8, name: &str| PeerStatus {
        id: format!("n{last}"),
        public_key: keys::NodePublic::from_bytes([last; 32]),
        host_name: name.into(),
        dns_name: format!("{name}.lab.example."),
        os: "linux".into(),
        tailscale_ips: Some(vec![[100, 64, 0, last].into()]),
        in_network_map: true,
        online: true,
        ..PeerStatus::default()
    };
    let peer = node(2, "peer");
    Status {
        version: ipn::version::LONG.into(),
        backend_state: if prefs.want_running {
            "Running"
        } else {
            "Stopped"
        }
        .into(),
        have_node_key: true,
        tailscale_ips: Some(vec![[100, 64, 0, 1].into()]),
        self_status: Some(Box::new(node(1, "me"))),
        magic_dns_suffix: "lab.example".into(),
        peer: peers.then(|| [(peer.public_key, peer)].into()),
        ..Status::default()
    }
}

struct Daemon {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    _server: Server,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        *fake.prefs.lock().unwrap() = Prefs {
            control_url: ipn::DEFAULT_CONTROL_URL.into(),
            want_running: true,
            ..Prefs::new()
        };
        let listener = bind(&dir.path().join("made/daemon.sock")).unwrap();
        let server = serve(listener, Arc::clone(&fake) as Arc<dyn Handler>);
        Self {
            dir,
            fake,
            _server: server,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("made/daemon.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }

    /// The whole answer to a request of these lines.
    async fn raw(&self, lines: &[&str]) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let request = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
        // Who refuses a request may not read it to its end.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }
}

#[tokio::test]
async fn the_client_and_the_server_agree() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert_eq!(client.status().await.unwrap().peer.unwrap().len(), 1);
    assert_eq!(client.status_without_peers().await.unwrap().peer, None);
    assert_eq!(client.server_version(), Some(ipn::version::LONG));
    let edit = ipn::MaskedPrefs {
        prefs: Prefs {
            hostname: "x".into(),
            ..Prefs::default()
        },
        hostname_set: true,
        ..ipn::MaskedPrefs::default()
    };
    assert_eq!(client.patch_prefs(&edit).await.unwrap().hostname, "x");
    assert_eq!(client.check_prefs(&Prefs::new()).await.unwrap(), None);
    client.start(&ipn::Options::default()).await.unwrap();
    client.login_interactive().await.unwrap();
    client.new_profile().await.unwrap();
    client.switch_profile("a b").await.unwrap();
    assert_eq!(client.whois("", "100.64.0.2").await.unwrap(), None);
    let pong = client
        .ping([100, 64, 0, 2].into(), "TSMP", 0)
        .await
        .unwrap();
    assert_eq!(pong.node_name, "peer");
    client.logout().await.unwrap();
    let mut bus = client.watch(WatchMask::INITIAL_STATE).await.unwrap();
    assert_eq!(
        bus.next().await.unwrap().unwrap().state,
        Some(State::Running)
    );
    let asked = daemon.fake.asked.lock().unwrap();
    assert!(
        asked.contains(&"SwitchProfile(\"a b\")".to_owned()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn refusals_reach_the_user_in_their_words() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let edit = ipn::MaskedPrefs {
        prefs: Prefs {
            hostname: "bad".into(),
            ..Prefs::default()
        },
        hostname_set: true,
        ..ipn::MaskedPrefs::default()
    };
    assert_eq!(
        client.patch_prefs(&edit).await.unwrap_err().to_string(),
        "no such host"
    );
    let error = client
        .send(Method::GET, "tka/status", 200, Default::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "501 Not Implemented: not built: tka/status"
    );
    let error = client
        .send(Method::GET, "nonsense", 200, Default::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "404 Not Found: 404 page not found");
    let error = client
        .send(Method::GET, "start", 204, Default::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "400 Bad Request: want POST");
    let nobody = Client::new(daemon.dir.path().join("none")).patient(Duration::ZERO);
    let error = nobody.status().await.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "Failed to connect to local Tailscale daemon for /localapi/v0/status; not running?"
        ),
        "{error}"
    );
    assert!(
        error.ends_with("none: connect: no such file or directory"),
        "{error}"
    );
}

#[tokio::test]
async fn a_dialed_connection_is_a_pipe() {
    let daemon = Daemon::start();
    let Dialed::Connected(mut pipe) = daemon.client().dial("tcp", "peer", 80).await.unwrap() else {
        panic!("not in the tailnet");
    };
    pipe.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    pipe.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let Dialed::DialSelf(addr) = daemon.client().dial("tcp", "outside", 80).await.unwrap() else {
        panic!("in the tailnet");
    };
    assert_eq!(addr.to_string(), "127.0.0.1:80");
}

#[tokio::test]
async fn lured_browsers_are_refused() {
    let daemon = Daemon::start();
    let get = "GET /localapi/v0/status HTTP/1.1";
    for (header, status) in [
        ("Host: local-tailscaled.sock", "200"),
        ("Host:", "200"),
        ("Host: evil.example", "403"),
        (
            "Host: local-tailscaled.sock\r\nOrigin: http://evil.example",
            "403",
        ),
        (
            "Host: local-tailscaled.sock\r\nReferer: http://evil.example/",
            "403",
        ),
    ] {
        let answer = daemon.raw(&[get, header]).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{header}: {answer}"
        );
        assert_eq!(answer.contains("invalid localapi request"), status == "403");
    }
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let daemon = Daemon::start();
    for path in ["status", "nonsense", "prefs"] {
        let line = format!("GET /localapi/v0/{path} HTTP/1.1");
        let answer = daemon
            .raw(&[&line, "Host: local-tailscaled.sock"])
            .await
            .to_lowercase();
        for header in [
            "tailscale-cap: 145",
            "tailscale-version: 1.",
            "x-frame-options: deny",
            "nosniff",
        ] {
            assert!(answer.contains(header), "{header} in {answer}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let error = client
        .send(Method::POST, "start", 204, vec![b' '; 2 << 20].into())
        .await
        .unwrap_err();
    let refused = matches!(&error, ClientError::Status { status, .. } if *status == StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        refused || matches!(error, ClientError::Broken(_)),
        "{error}"
    );
    let long = format!("X: {}", "y".repeat(300 << 10));
    let answer = daemon
        .raw(&["GET /localapi/v0/status HTTP/1.1", "Host:", &long])
        .await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert!(client.status().await.is_ok());
}

#[tokio::test]
async fn a_live_socket_is_not_taken_and_a_dead_one_is() {
    let daemon = Daemon::start();
    let error = bind(&daemon.socket()).unwrap_err().to_string();
    assert!(
        error.ends_with("daemon.sock: address already in use"),
        "{error}"
    );
    let dead = daemon.dir.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    bind(&dead).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&dead).unwrap().permissions().mode() & 0o777,
        0o666
    );
}

#[test]
fn who_may_change_things() {
    let by = |uid| {
        Some(Credentials {
            uid,
            gid: 1,
            pid: None,
        })
    };
    for (peer, own, operator, right) in [
        (by(0), 0, None, Right::Write),
        (by(1000), 0, None, Right::Read),
        (by(1000), 0, Some(1000), Right::Write),
        (by(1000), 1000, None, Right::Write),
        (by(1001), 1000, Some(1000), Right::Read),
        (by(0), 1000, None, Right::Write),
        (None, 0, Some(0), Right::Read),
    ] {
        assert_eq!(Actor::new(peer, own, operator).right, right);
    }
}

#[test]
fn names_are_unique_but_for_methods() {
    for (at, route) in routes::ROUTES.iter().enumerate() {
        for other in routes::ROUTES
            .iter()
            .skip(at + 1)
            .filter(|other| other.name == route.name)
        {
            assert!(
                route
                    .methods
                    .iter()
                    .all(|method| !other.methods.contains(method)),
                "{}",
                route.name
            );
            assert!(
                !route.methods.is_empty() && !other.methods.is_empty(),
                "{}",
                route.name
            );
        }
    }
}

/// Runs the originals' command line against the fake daemon: exit code and both streams.
async fn go_cli(daemon: &Daemon, cli: &str, args: &[&str]) -> (Option<i32>, String) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a foreign client is the point of the test"
    )]
    let mut command = std::process::Command::new(cli);
    command
        .arg(format!("--socket={}", daemon.socket().display()))
        .args(args);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(30), run)
        .await
        .unwrap()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_originals_command_line_is_content() {
    let Ok(cli) = std::env::var("TS_GO_TAILSCALE") else {
        testkit::originals::skip(
            "the_originals_command_line_is_content",
            "set TS_GO_TAILSCALE to the path of the originals' tailscale",
        );
        return;
    };
    let daemon = Daemon::start();
    for (args, code, wanted) in [
        (&["status"][..], 0, "100.64.0.2"),
        (&["status", "--json"], 0, "\"BackendState\": \"Running\""),
        (&["ip", "-4"], 0, "100.64.0.1"),
        (
            &["ping", "--c=1", "100.64.0.2"],
            1,
            "pong from peer (100.64.0.2) via DERP(lab)",
        ),
        (&["whois", "100.64.0.9"], 1, "not found"),
        (&["up"], 0, ""),
        (&["set", "--hostname=bad"], 1, "no such host"),
        (&["down"], 0, ""),
        (&["status"], 1, "Tailscale is stopped."),
        (&["drive", "list"], 1, "not built: drive/shares"),
    ] {
        let (got, text) = go_cli(&daemon, &cli, args).await;
        assert!(
            got == Some(code) && text.contains(wanted),
            "{args:?}: exit {got:?}\n{text}"
        );
    }
    assert!(!daemon.fake.prefs.lock().unwrap().want_running);
}

#[tokio::test]
async fn nothing_is_served_and_nothing_can_be() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let none = client.send(Method::GET, "serve-config", 200, Default::default());
    assert_eq!(&none.await.unwrap()[..], b"null");
    let error = client.send(Method::POST, "serve-config", 200, Default::default());
    let error = error.await.unwrap_err().to_string();
    assert_eq!(error, "501 Not Implemented: not built: serve-config");
}

/// Clients act only once they know that they are subscribed.
#[tokio::test]
async fn a_subscription_is_confirmed_before_there_is_news() {
    let daemon = Daemon::start();
    let mut bus = daemon
        .client()
        .watch(WatchMask::ENGINE_UPDATES)
        .await
        .unwrap();
    assert!(bus.next().now_or_never().is_none());
}
