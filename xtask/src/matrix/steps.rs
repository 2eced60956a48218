//! The commands that are compared, in the order in which they are given.

/// What commands must know of the tailnet.
pub(super) struct Tailnet {
    pub(super) url: String,
    /// Auth keys: the peer's, and one for each account of the node, which are of two users.
    pub(super) keys: [String; 3],
}

/// One command line, with `URL`, `KEY1` and `KEY2` for what differs between tailnets.
#[derive(Clone, Copy)]
pub(super) struct Step {
    line: &'static str,
    /// The command is repeated until its output has this.
    until: &'static str,
}

const fn step(line: &'static str) -> Step {
    Step { line, until: "" }
}

const fn until(line: &'static str, until: &'static str) -> Step {
    Step { line, until }
}

impl Step {
    pub(super) fn shown(&self) -> &'static str {
        self.line
    }

    pub(super) fn args(&self, tailnet: &Tailnet) -> Vec<String> {
        let words = self.line.split(' ');
        words
            .map(|word| {
                word.replace("URL", &tailnet.url)
                    .replace("KEY1", &tailnet.keys[1])
                    .replace("KEY2", &tailnet.keys[2])
            })
            .collect()
    }

    pub(super) fn is_steady(&self, stdout: &[String]) -> bool {
        stdout.iter().any(|line| line.contains(self.until)) || self.until.is_empty()
    }

    /// `--timeout` in the command line ends it much sooner.
    pub(super) fn limit_secs(&self) -> u32 {
        90
    }
}

pub(super) fn all() -> Vec<Step> {
    let parts = [
        NEW,
        LOGIN,
        RUNNING,
        NETCHECK,
        SET,
        UP_AND_DOWN,
        ACCOUNTS,
        LOGOUT,
    ];
    parts.into_iter().flatten().copied().collect()
}

/// Before anybody has logged in.
const NEW: &[Step] = &[
    step("status"),
    step("status --json"),
    step("ip"),
    step("whoami"),
    step("whois 100.64.0.1"),
    step("ping peer"),
    step("get"),
    step("get --json"),
    step("switch --list"),
    step("switch nobody"),
    step("wait --timeout=1s"),
    step("down"),
];

const LOGIN: &[Step] = &[
    step("login --login-server=URL --timeout=4s"),
    step("status"),
    step("login --login-server=URL --auth-key=file:/nonexistent/key --timeout=4s"),
    step("login --login-server=URL --auth-key=KEY1 --hostname=node --nickname=first --timeout=60s"),
    step("wait --timeout=60s"),
    until("status --header", "peer"),
];

const RUNNING: &[Step] = &[
    step("status"),
    step("status --json"),
    step("status --json --peers=false"),
    step("status --peers=false"),
    step("status --self=false"),
    step("status --nonsense"),
    step("ip"),
    step("ip -1"),
    step("ip -4"),
    step("ip -6"),
    step("ip peer"),
    step("ip nobody.invalid"),
    step("ip 100.64.0.99"),
    step("ip --assert=100.64.0.2"),
    step("ip --assert=100.64.0.9"),
    until("ping --c=1 --until-direct=false peer", "pong"),
    step("ping --c=1 peer"),
    step("ping --tsmp peer"),
    step("ping --icmp peer"),
    step("ping --peerapi peer"),
    step("ping node"),
    step("ping 100.64.0.99"),
    step("ping"),
    step("whois 100.64.0.1"),
    step("whois --json 100.64.0.1"),
    step("whois 100.64.0.1:80"),
    step("whois 100.64.0.99"),
    step("whois"),
    step("whoami"),
    step("whoami --json"),
];

const NETCHECK: &[Step] = &[
    step("netcheck"),
    step("netcheck --format=json"),
    step("netcheck --format=json-line"),
    step("netcheck --format=xml"),
    step("netcheck --bind-port=70000"),
    step("netcheck --bind-address=nowhere"),
];

const SET: &[Step] = &[
    step("set --shields-up --accept-dns=false --hostname=renamed"),
    until("status --peers=false", "renamed"),
    step("get"),
    step("get hostname"),
    step("get all --json"),
    step("get --set-flags"),
    step("get nothing"),
    step("set --advertise-routes=10.0.0.0/8 --netfilter-mode=off"),
    step("set --advertise-exit-node"),
    step("get advertise-routes"),
    step("get advertise-exit-node"),
    step("set --advertise-routes= --advertise-exit-node=false --netfilter-mode=on"),
    step("set --advertise-routes=10.0.0.1/8"),
    step("set --exit-node=peer"),
    step("set --exit-node=100.64.0.2"),
    step("set --exit-node=nobody"),
    step("set --exit-node=auto:any"),
    step("get exit-node"),
    step("set --exit-node="),
    step("set --operator=ann"),
    step("set --operator="),
    step("set --auto-update=false --update-check=false"),
    step("set --update-check"),
    step("set --nickname=one"),
    step("set --relay-server-port=x"),
    step("set --sync=maybe"),
    step("set stray"),
    step("debug prefs"),
    step("debug prefs --pretty"),
];

const UP_AND_DOWN: &[Step] = &[
    step("up --accept-routes"),
    step("up --login-server=http://127.0.0.1:1 --reset"),
    step("up --login-server=URL --hostname=node --reset"),
    until("status --peers=false", " node "),
    step("up --login-server=URL --hostname=node"),
    step("up"),
    step("up --json"),
    step("up --login-server=URL --hostname=node --json"),
    step("down"),
    step("down"),
    step("status"),
    step("status --json"),
    step("ip"),
    step("whoami"),
    step("ping peer"),
    step("up --timeout=60s"),
    step("up"),
    step("wait --timeout=60s"),
    until("status --peers=false", "100.64.0.2"),
];

const ACCOUNTS: &[Step] = &[
    step("switch --list"),
    step("switch --list --json"),
    step(
        "login --login-server=URL --auth-key=KEY2 --hostname=second --nickname=second --timeout=60s",
    ),
    step("switch --list"),
    step("switch --list --json"),
    step("switch second"),
    step("switch ann"),
    step("switch one"),
    step("switch one"),
    step("get nickname"),
    step("switch --list"),
    step("status --peers=false"),
    step("ip"),
    step("switch nobody"),
    step("switch"),
    step("switch --json one"),
    step("switch remove nobody"),
    step("switch remove one"),
    step("switch remove second"),
    step("switch --list"),
    step("switch --list --json"),
    step("login --login-server=URL --timeout=4s"),
    step("switch --list"),
    step("switch one"),
    step("wait --timeout=60s"),
];

const LOGOUT: &[Step] = &[
    step("logout"),
    until("status", "Logged out"),
    step("switch --list"),
    step("logout"),
    step("get"),
    step("ip"),
];
