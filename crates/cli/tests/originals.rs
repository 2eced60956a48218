//! Our command line beside the original's, both at one of the original's daemons in a headscale tailnet.
//!
//! What must be equal: exit code, standard output and standard error. Set apart only: times and byte counts, which change between
//! two runs, and the warning that the versions differ.

mod common;

use std::path::Path;

use common::{Outcome, ours, ours_with_stdin};
use testkit::originals::{
    Daemon, HeadscaleOptions, TailscaledOptions, go_cli, go_derper, go_tailscaled, headscale,
    program,
};

/// A node of the tailnet and what names its test.
struct Node<'a> {
    test: &'a str,
    daemon: &'a Daemon,
}

impl Node<'_> {
    fn theirs(&self, args: &[&str]) -> Outcome {
        let output = go_cli(self.test, &self.daemon.socket(), args).expect("checked before");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn ours(&self, args: &[&str]) -> Outcome {
        ours(&self.daemon.socket(), args)
    }

    /// Runs both and compares.
    #[track_caller]
    fn same(&self, args: &[&str]) -> Outcome {
        let theirs = self.theirs(args).normalised();
        let ours = self.ours(args);
        assert_eq!(ours.clone().normalised(), theirs, "tailscale {args:?}");
        ours
    }

    /// Runs both, which must print equal JSON but for members that change by themselves.
    #[track_caller]
    fn same_json(&self, args: &[&str]) {
        let (theirs, ours) = (self.theirs(args), self.ours(args));
        assert_eq!(
            (ours.code, ours.stdout.is_empty()),
            (theirs.code, theirs.stdout.is_empty()),
            "tailscale {args:?}"
        );
        assert_eq!(
            steady(&ours.stdout),
            steady(&theirs.stdout),
            "tailscale {args:?}"
        );
    }
}

/// The lines of a JSON text without members that change between two runs, and with the health warnings sorted: the daemon tells
/// them in another order each time.
fn steady(json: &str) -> Vec<String> {
    const MOVING: [&str; 6] = [
        "RxBytes",
        "TxBytes",
        "LastWrite",
        "LastHandshake",
        "LastSeen",
        "CurAddr",
    ];
    let moves = |line: &str| {
        MOVING
            .iter()
            .any(|name| line.trim_start().starts_with(&format!("\"{name}\":")))
    };
    let mut lines: Vec<String> = json
        .lines()
        .filter(|line| !moves(line))
        .map(str::to_owned)
        .collect();
    if let Some(start) = lines.iter().position(|line| line.trim() == "\"Health\": [") {
        let end = start
            + lines[start..]
                .iter()
                .position(|line| line.trim() == "],")
                .expect("the end of the list");
        lines[start + 1..end]
            .iter_mut()
            .for_each(|line| *line = line.trim_end_matches(',').to_owned());
        lines[start + 1..end].sort();
    }
    lines
}

/// Without direct paths, which may or may not have come up between two runs.
fn relayed_only() -> TailscaledOptions {
    let env = vec![("TS_DEBUG_ALWAYS_USE_DERP".to_owned(), "1".to_owned())];
    TailscaledOptions {
        env,
        ..TailscaledOptions::default()
    }
}

fn have_programs(test: &str) -> bool {
    [
        "TS_HEADSCALE",
        "TS_GO_DERPER",
        "TS_GO_TAILSCALED",
        "TS_GO_TAILSCALE",
    ]
    .iter()
    .all(|v| program(test, v).is_some())
}

#[test]
fn commands_answer_as_the_originals_do() {
    const TEST: &str = "commands_answer_as_the_originals_do";
    if !have_programs(TEST) {
        return;
    }
    let derper = go_derper(TEST).expect("derper");
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let headscale = headscale(TEST, &options).expect("headscale");
    let key = headscale.auth_key(&headscale.create_user("ann"), &[]);
    let [a, b] = [(); 2].map(|()| go_tailscaled(TEST, &relayed_only()).expect("tailscaled"));
    let (a, b) = (
        Node {
            test: TEST,
            daemon: &a,
        },
        Node {
            test: TEST,
            daemon: &b,
        },
    );

    before_login(&a);
    log_in(&a, &b, &headscale.url(), &key);
    let address = running(&a, &b);
    connect(&a, &address);
    settings(&a, &headscale.url());
    single_settings(&a);
    reports(&a);
    off_and_on(&a);
    logged_out(&a);
}

fn before_login(a: &Node<'_>) {
    for args in [
        &["status"][..],
        &["status", "--header"],
        &["ip"],
        &["ping", "100.64.0.1"],
        &["ping"],
        &["nc", "x", "1"],
        &["whois", "100.64.0.1"],
        &["whois", "bad address"],
        &["up", "--advertise-routes=10.0.0.1/8"],
        &["up", "--advertise-routes=::/0"],
        &["up", "--advertise-tags=tag:9"],
        &["up", "--exit-node=nobody"],
        &["up", "--exit-node-allow-lan-access"],
        &["up", "--hostname=-x"],
        &["up", "--hostname=a_b.c"],
        &["up", "--netfilter-mode=no"],
        &["up", "--auth-key=file:/nonexistent/key", "--timeout=5s"],
        &["up", "--login-server=http://127.0.0.1:1", "--timeout=1ms"],
        &["debug", "prefs"],
        &["debug", "prefs", "--pretty"],
        &["debug", "statedir", "x"],
        &["debug", "via", "7", "10.1.0.0/16"],
        &["debug", "via", "fd7a:115c:a1e0:b1a:0:7:a01:0/112"],
        &["debug", "via", "70000", "10.1.0.0/16"],
        &["debug", "via"],
        &["debug", "local-creds"],
        &["debug", "force-prefer-derp"],
        &["debug", "set-expire"],
        &["debug", "component-logs"],
        &["debug", "component-logs", "nonsense"],
        &["debug", "localapi"],
        &["debug", "localapi", "no-such-route"],
        &["debug", "test-risk"],
        &["debug", "test-risk", "--accept-risk=all"],
        &["debug", "resolve"],
        &["whoami"],
        &["whoami", "x"],
        &["get"],
        &["get", "--json"],
        &["get", "--set-flags"],
        &["get", "sync"],
        &["get", "nothing"],
        &["get", "a", "b"],
        &["switch", "--list"],
        &["switch", "--list", "--json"],
        &["switch", "nobody"],
        &["switch"],
        &["switch", "--json", "x"],
        &["switch", "remove"],
        &["switch", "remove", "nobody"],
        &["wait", "--timeout=300ms"],
        &["wait", "x"],
        &["login", "--hostname=-x"],
        &["login", "stray"],
        &["netcheck", "--bind-port=70000"],
        &["netcheck", "--bind-address=x"],
        &["set", "stray"],
        &["set", "--relay-server-port=x"],
        &["set", "--relay-server-static-endpoints=x"],
        &["set", "--exit-node=nobody"],
        &["set", "--netfilter-mode=no"],
    ] {
        a.same(args);
    }
    a.same_json(&["status", "--json"]);
}

/// Ours logs one node in, the original's the other.
fn log_in(a: &Node<'_>, b: &Node<'_>, url: &str, key: &str) {
    let file = a.daemon.state_dir().join("key");
    std::fs::write(&file, format!("{key}\n")).expect("write the key");
    let (server, file) = (
        format!("--login-server={url}"),
        format!("--auth-key=file:{}", file.display()),
    );
    let ours = a.ours(&[
        "up",
        "--reset",
        &server,
        &file,
        "--hostname=node-a",
        "--timeout=60s",
    ]);
    assert_eq!(
        (ours.code, ours.stdout.as_str()),
        (0, ""),
        "{}",
        ours.stderr
    );
    let theirs = b.theirs(&[
        "up",
        &server,
        &format!("--auth-key={key}"),
        "--hostname=node-b",
        "--timeout=60s",
    ]);
    assert_eq!(theirs.code, 0, "{}", theirs.stderr);
}

/// Gives the address of node b.
fn running(a: &Node<'_>, b: &Node<'_>) -> String {
    testkit::wait_until("node a sees node b online", || {
        let status = a.ours(&["status"]).stdout;
        (status.contains("node-b") && !status.contains("offline")).then_some(())
    });
    let address = b.ours(&["ip", "-4"]).stdout.trim().to_owned();
    let ping = ["ping", "--c=2", "--timeout=10s", &address];
    testkit::wait_until("the first ping is answered", || {
        a.ours(&ping).stdout.contains("pong").then_some(())
    });
    for args in [
        &["status"][..],
        &["status", "--peers=false"],
        &["status", "--self=false"],
        &["status", "--active"],
        &["status", "--header"],
        &["ip"],
        &["ip", "-1"],
        &["ip", "-6"],
        &["ip", "--1=false"],
        &["ip", "node-b"],
        &["ip", "NODE-B"],
        &["ip", "node-b.tailnet.test."],
        &["ip", "100.64.9.9"],
        &["ip", "--assert=100.64.9.9"],
        &["ip", "-4", "node-b"],
        &["whois", &address],
        &["whois", "--proto=tcp", &format!("{address}:80")],
        &["whois", "100.64.9.9"],
        &["whois", "--json", "100.64.9.9"],
        &["ping", "node-a"],
        &["ping", "--tsmp", &address],
        &["ping", "--icmp", "node-b"],
        &["ping", "--verbose", "--tsmp", "node-b"],
        &["ping", "100.64.9.9"],
        &["ping", "--c=1", "--timeout=20s", "node-b"],
        &["ping", "--peerapi", "node-b"],
        &["nc", "node-b", "99999"],
        &["debug", "derp-map"],
        &["debug", "prefs"],
        &["debug", "prefs", "--pretty"],
        &["debug", "statedir"],
        &["debug", "control-knobs"],
        &["debug", "component-logs", "magicsock"],
        &["debug", "restun"],
        &["debug", "force-prefer-derp", "900"],
        &["debug", "derp", "999"],
        &["debug", "localapi", "prefs"],
        &["wait"],
        &["whoami"],
        &["switch", "--list"],
        &["switch", "--list", "--json"],
        &["switch", "node-b"],
        &["switch", "ann"],
        &["switch", "remove", "ann"],
    ] {
        a.same(args);
    }
    a.same_json(&["whoami", "--json"]);
    a.same_json(&["debug", "netmap"]);
    for args in [
        &["status", "--json"][..],
        &["status", "--json", "--active"],
        &["whois", "--json", &address],
    ] {
        a.same_json(args);
    }
    address
}

/// `nc` to a server behind the peer.
fn connect(a: &Node<'_>, address: &str) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut got = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut got).expect("read");
        std::io::Write::write_all(&mut stream, b"world").expect("write");
        got
    });
    let ours = ours_with_stdin(&a.daemon.socket(), &["nc", address, &port], b"hello", true);
    assert_eq!(
        (ours.code, ours.stdout.as_str()),
        (0, "world"),
        "{}",
        ours.stderr
    );
    assert_eq!(&server.join().expect("server"), b"hello");
}

/// Command lines that would lose settings, and edits of a running node.
fn settings(a: &Node<'_>, url: &str) {
    let server = format!("--login-server={url}");
    for args in [
        &["up", "--accept-routes"][..],
        &["up", "--hostname=node-a"],
        &["up", &server, "--accept-dns=false"],
        &[
            "up",
            "--login-server=http://127.0.0.1:1",
            "--hostname=node-a",
        ],
        &["up", "--hostname=node-a", &server, "--exit-node=100.64.9.9"],
        &["up", "--hostname=node-a", &server, "--exit-node=nobody"],
        &["up", "--hostname=node-a", &server, "--exit-node=node-b"],
        &["up", "--hostname=node-a", &server, "--exit-node=node-a"],
        &[
            "up",
            "--hostname=node-a",
            &server,
            "--netfilter-mode=nodivert",
        ],
        &["up", "--hostname=node-a", &server],
        &["up", "--hostname=node-a", &server, "--netfilter-mode=on"],
        &[
            "up",
            "--hostname=node-a",
            &server,
            "--shields-up",
            "--advertise-exit-node",
            "--snat-subnet-routes=false",
        ],
        &["up", "--hostname=node-a", &server],
        &["debug", "prefs"],
        &["up", "--reset", "--hostname=node-a", &server],
        &["debug", "prefs"],
    ] {
        a.same(args);
    }
}

/// Our measurement beside the original's: the same keys, the same home.
fn reports(a: &Node<'_>) {
    let keys = |outcome: &Outcome| {
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let keys: Vec<String> = report
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        // Not IPv4CanSend: on loopback the original may have its answer before it has noted that it could send.
        let steady = [
            "UDP",
            "IPv4",
            "IPv6",
            "OSHasIPv6",
            "MappingVariesByDestIP",
            "PreferredDERP",
        ];
        (keys, steady.map(|key| report[key].clone()))
    };
    for args in [
        &["netcheck", "--format=json"][..],
        &["netcheck", "--format=json-line"],
    ] {
        let (theirs, ours) = (a.theirs(args), a.ours(args));
        assert_eq!(
            (ours.code, keys(&ours)),
            (theirs.code, keys(&theirs)),
            "{args:?}"
        );
        assert_eq!(
            ours.stdout.lines().count() > 1,
            theirs.stdout.lines().count() > 1
        );
    }
    // We look for no captive portal: that would contact servers that nobody named.
    let words = |outcome: &Outcome| {
        let lines = outcome.stdout.lines();
        let lines = lines.filter(|line| !line.contains("CaptivePortal"));
        let word = |line: &str| {
            line.split_once(": ")
                .map_or(line, |(word, _)| word)
                .to_owned()
        };
        lines.map(word).collect::<Vec<_>>()
    };
    let args = ["netcheck", "--verbose"];
    assert_eq!(words(&a.ours(&args)), words(&a.theirs(&args)));
    let args = ["netcheck", "--format=xml"];
    let [theirs, ours] = [a.theirs(&args), a.ours(&args)].map(Outcome::normalised);
    assert_eq!((ours.code, ours.stderr), (theirs.code, theirs.stderr));
}

/// What `set` changes and what `get` shows.
fn single_settings(a: &Node<'_>) {
    for args in [
        &["set", "--shields-up", "--accept-dns=false"][..],
        &["get"],
        &[
            "set",
            "--hostname=renamed",
            "--nickname=short",
            "--shields-up=false",
        ],
        &["get", "all", "--json"],
        &["get", "nickname"],
        &[
            "set",
            "--advertise-routes=10.0.0.0/8",
            "--netfilter-mode=off",
        ],
        &["get", "advertise-routes"],
        &["set", "--advertise-exit-node", "--snat-subnet-routes=false"],
        &["get", "advertise-exit-node"],
        &["set", "--advertise-routes=", "--netfilter-mode=on"],
        &["get", "--set-flags"],
        &["set", "--advertise-exit-node=false"],
        &["set", "--advertise-routes=10.0.0.1/8"],
        &["set", "--exit-node=node-b"],
        &["set", "--exit-node=100.64.9.9"],
        &["set", "--exit-node=node-a"],
        &["set", "--exit-node=auto:any"],
        &["get", "exit-node"],
        &["set", "--exit-node="],
        &["set", "--update-check=false", "--auto-update=false"],
        &["set", "--operator=nobody"],
        &["get"],
        &[
            "set",
            "--relay-server-port=0",
            "--relay-server-static-endpoints=192.0.2.1:1",
        ],
        &["debug", "prefs"],
        &[
            "set",
            "--relay-server-port=",
            "--operator=",
            "--snat-subnet-routes",
        ],
        &["set", "--hostname=node-a", "--accept-dns", "--nickname="],
        &["debug", "prefs", "--pretty"],
    ] {
        a.same(args);
    }
}

fn off_and_on(a: &Node<'_>) {
    let down = a.ours(&["down"]).normalised();
    assert_eq!(
        down,
        Outcome {
            code: 0,
            stdout: String::new(),
            stderr: String::new()
        }
    );
    for args in [
        &["down"][..],
        &["status"],
        &["ip"],
        &["ping", "node-b"],
        &["debug", "prefs"],
    ] {
        a.same(args);
    }
    a.same_json(&["status", "--json"]);
    let up = a.ours(&["up"]).normalised();
    assert_eq!(
        (up.code, up.stdout.as_str(), up.stderr.as_str()),
        (0, "", "")
    );
    a.same(&["up"]);
    a.same(&[
        "up",
        "--json",
        "--timeout=60s",
        "--auth-key=unused",
        "--reset",
        "--login-server=http://127.0.0.1:1",
    ]);
}

fn logged_out(a: &Node<'_>) {
    let out = a.ours(&["logout", "--reason=over"]).normalised();
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (0, "", "")
    );
    testkit::wait_until("the node is logged out", || {
        a.ours(&["status", "--json"])
            .stdout
            .contains("\"NeedsLogin\"")
            .then_some(())
    });
    a.same(&["status"]);
}

/// What an outcome shows of a login.
fn shown(outcome: &Outcome) -> (i32, bool, Vec<String>) {
    // The last part of the URL is a secret of this login, and the picture of it is another one.
    let (stdout, stderr) = (&outcome.stdout, &outcome.stderr);
    let lines = stdout
        .lines()
        .chain(stderr.lines())
        .filter(|line| !line.starts_with("Warning: client") && !line.contains("\"QR\":"));
    let lines = lines.map(|line| match line.split_once("/register/") {
        Some((before, after)) => format!(
            "{before}/register/...{}",
            after.trim_start_matches(|c: char| c.is_alphanumeric() || "-_".contains(c))
        ),
        None => line.to_owned(),
    });
    (outcome.code, stdout.is_empty(), lines.collect())
}

/// The page of a login that is under way, once it is another one than `before`.
fn login_page(node: &Node<'_>, before: &str) -> String {
    testkit::wait_until("there is a login page", || {
        let status = node.ours(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        let page = status["AuthURL"].as_str()?;
        (!page.is_empty() && page != before).then(|| page.to_owned())
    })
}

/// Somebody opens the page that a command shows, and the command ends.
#[test]
fn who_opens_the_page_is_let_in() {
    const TEST: &str = "who_opens_the_page_is_let_in";
    if !have_programs(TEST) {
        return;
    }
    let derper = go_derper(TEST).expect("derper");
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let headscale = headscale(TEST, &options).expect("headscale");
    headscale.create_user("ann");
    let server = format!("--login-server={}", headscale.url());
    let login = ["login", &server, "--hostname=node", "--timeout=90s"];
    let again = [
        "up",
        &server,
        "--hostname=node",
        "--force-reauth",
        "--timeout=90s",
    ];
    let stories = [true, false].map(|is_ours| {
        let daemon = go_tailscaled(TEST, &relayed_only()).expect("tailscaled");
        let node = Node {
            test: TEST,
            daemon: &daemon,
        };
        let mut page = String::new();
        [&login[..], &again[..]].map(|args| {
            std::thread::scope(|scope| {
                let command = scope.spawn(|| {
                    if is_ours {
                        node.ours(args)
                    } else {
                        node.theirs(args)
                    }
                });
                page = login_page(&node, &page);
                headscale.register("ann", &page);
                shown(&command.join().expect("the command"))
            })
        })
    });
    let [ours, theirs] = stories;
    assert_eq!(ours, theirs);
    for (code, _, lines) in ours {
        assert_eq!(
            (code, lines.last().map(String::as_str)),
            (0, Some("Success.")),
            "{lines:?}"
        );
    }
}

#[test]
fn who_must_log_in_is_shown_where() {
    const TEST: &str = "who_must_log_in_is_shown_where";
    if !have_programs(TEST) {
        return;
    }
    let headscale = headscale(TEST, &HeadscaleOptions::default()).expect("headscale");
    let server = format!("--login-server={}", headscale.url());
    for args in [
        &["up", &server, "--timeout=8s"][..],
        &["up", &server, "--timeout=8s", "--json"],
        &["login", &server, "--timeout=8s", "--nickname=x"],
    ] {
        let [ours, theirs] = [true, false].map(|is_ours| {
            let daemon = go_tailscaled(TEST, &TailscaledOptions::default()).expect("tailscaled");
            let node = Node {
                test: TEST,
                daemon: &daemon,
            };
            shown(&if is_ours {
                node.ours(args)
            } else {
                node.theirs(args)
            })
        });
        assert_eq!(ours, theirs, "tailscale {args:?}");
        assert!(
            ours.2.iter().any(|line| line.contains("/register/...")),
            "{ours:?}"
        );
    }
}

#[test]
fn nobody_listens() {
    const TEST: &str = "nobody_listens";
    let socket = Path::new("/nonexistent/tailscaled.sock");
    for args in [
        // Each of these waits some seconds for a daemon that may be starting.
        &["status"][..],
        &["down"],
        &["whois", "1.2.3.4"],
        &["debug", "derp-map"],
        // Mistakes that need no daemon.
        &["nonsense"],
        &["dns"],
        &["dns", "nonsense"],
        &["up", "x", "y z"],
        &["whois"],
        &["ip", "-4", "-6"],
        &["debug"],
    ] {
        let Some(theirs) = go_cli(TEST, socket, args) else {
            return;
        };
        let ours = ours(socket, args);
        let stderr = String::from_utf8_lossy(&theirs.stderr).into_owned();
        // Whether some daemon runs on the machine changes between two runs on a busy test machine.
        let words = |text: &str| {
            text.split(" (which")
                .next()
                .unwrap_or("")
                .split("; it doesn't")
                .next()
                .unwrap_or("")
                .to_owned()
        };
        assert_eq!(
            (ours.code, ours.stdout.as_bytes(), words(&ours.stderr)),
            (
                theirs.status.code().unwrap_or(-1),
                &theirs.stdout[..],
                words(&stderr)
            ),
            "{args:?}"
        );
    }
}

/// The original's help has our help's flags, kinds, defaults and commands; the texts are our own.
#[test]
fn help_lists_the_same_commands_and_flags() {
    const TEST: &str = "help_lists_the_same_commands_and_flags";
    let socket = Path::new("/nonexistent/tailscaled.sock");
    let commands: [&[&str]; 35] = [
        &[],
        &["up"],
        &["down"],
        &["login"],
        &["set"],
        &["get"],
        &["switch"],
        &["switch", "remove"],
        &["wait"],
        &["whoami"],
        &["netcheck"],
        &["debug", "watch-ipn"],
        &["debug", "netmap"],
        &["debug", "via"],
        &["debug", "resolve"],
        &["debug", "localapi"],
        &["debug", "component-logs"],
        &["debug", "set-expire"],
        &["debug", "statedir"],
        &["debug", "restun"],
        &["debug", "test-risk"],
        &["logout"],
        &["status"],
        &["ip"],
        &["ping"],
        &["nc"],
        &["whois"],
        &["version"],
        &["debug"],
        &["debug", "daemon-logs"],
        &["debug", "prefs"],
        &["debug", "metrics"],
        &["debug", "derp"],
        &["dns"],
        &["completion"],
    ];
    for command in commands {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let Some(theirs) = go_cli(TEST, socket, &args) else {
            return;
        };
        let ours = ours(socket, &args);
        assert_eq!(
            (ours.code, ours.stdout.as_str()),
            (theirs.status.code().unwrap_or(-1), ""),
            "{args:?}"
        );
        assert_eq!(
            without_additions(outline(&ours.stderr)),
            outline(&String::from_utf8_lossy(&theirs.stderr)),
            "{args:?}"
        );
    }
}

/// Without what only we have: a flag with its default, and a command.
fn without_additions(mut outline: Vec<String>) -> Vec<String> {
    if let Some(at) = outline.iter().position(|line| line.contains("--dry-run")) {
        outline.remove(at);
        if outline.get(at).is_some_and(|line| line == "false)") {
            outline.remove(at);
        }
    }
    outline.retain(|line| line.split_ascii_whitespace().next() != Some("system"));
    outline
}

/// A help text without the parts in its author's own words: synopsis, names of commands, flags with their defaults.
fn outline(help: &str) -> Vec<String> {
    // Flags that belong to parts which are not built.
    const LEFT_OUT: [&str; 4] = [
        "--cpu-profile",
        "--file",
        "--mem-profile",
        "--profile-seconds",
    ];
    let mut out = Vec::new();
    let mut section = "";
    let mut skipping = false;
    for line in help.lines() {
        if !line.starts_with(' ') && !line.starts_with('\t') {
            section = line;
            continue;
        }
        let word = line.trim_start().split(' ').next().unwrap_or("");
        match section {
            "USAGE" => out.push(line.trim().to_owned()),
            "SUBCOMMANDS" => out.push(word.to_owned()),
            "FLAGS" if line.starts_with("  --") => {
                skipping = LEFT_OUT.contains(&word);
                if !skipping {
                    out.push(line.to_owned());
                }
            }
            "FLAGS" if !skipping => out.extend(
                line.rsplit_once(" (default ")
                    .map(|(_, default)| default.to_owned()),
            ),
            _ => {}
        }
    }
    out
}
