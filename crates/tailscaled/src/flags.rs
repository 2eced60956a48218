//! The daemon's command line.

use goflag::{FlagSet, ParseEnd};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) cleanup: bool,
    pub(crate) debug: String,
    pub(crate) no_logs: bool,
    pub(crate) http_proxy: String,
    pub(crate) port: u16,
    pub(crate) socket: String,
    pub(crate) socks5: String,
    pub(crate) state: String,
    pub(crate) statedir: String,
    pub(crate) syslog: bool,
    pub(crate) tun: String,
    /// Whether `tun` was asked for, and is not just what there usually is.
    pub(crate) tun_given: bool,
    pub(crate) verbose: i64,
    pub(crate) version: bool,
    /// Flags of the original whose parts this build does not have, and that were given a value that asks for them.
    pub(crate) not_built: Vec<&'static str>,
    pub(crate) args: Vec<String>,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

fn number<T: std::str::FromStr + Default>(env: Env<'_>, name: &str) -> T {
    env(name)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn flag_set(program: &str, env: Env<'_>) -> FlagSet {
    FlagSet::new(program)
        .string("bird-socket", "", "path of BIRD's control socket")
        .bool("cleanup", false, "undo what a daemon that died left behind in the system, and exit")
        .string("config", "", "path of a config file")
        .string("debug", "", "address ([ip]:port) for the optional debug server")
        .opt_bool("encrypt-state", "seal the state file with the machine's TPM")
        .opt_bool("hardware-attestation", "prove the node's identity with a key in hardware")
        .bool("no-logs-no-support", false, "upload no logs; nobody can then help from afar")
        .string("outbound-http-proxy-listen", "", "address ([ip]:port) for an HTTP proxy into the tailnet, such as \"localhost:8080\"")
        .port("port", number(env, "PORT"), "UDP port for WireGuard and peer-to-peer traffic; 0 chooses one")
        .string("socket", os::paths::default_socket(), "path of the daemon's unix socket")
        .string("socks5-server", "", "address ([ip]:port) for a SOCKS5 server into the tailnet, such as \"localhost:1080\"")
        .string("state", "", format!("where state is kept: an absolute path, or 'mem:' for nowhere, which registers an ephemeral node. If empty and --statedir is given, it is <statedir>/tailscaled.state. Default: {}", os::paths::STATE_FILE))
        .string("statedir", "", "directory for state, certificates and received files; if empty, taken from --state where possible")
        .bool("syslog", false, "log to the system's syslog instead of standard error")
        .string("syspolicy-file", "/etc/tailscale/syspolicy.json", "path of a JSON file with device policies; empty for none")
        .string("tun", "tailscale0", "name of the tunnel interface; \"userspace-networking\" uses none")
        .int("verbose", number(env, "TS_LOG_VERBOSITY"), "how much to log; 0 is normal, 1 and above more")
        .bool("version", false, "print the version and exit")
}

/// Reads the command line; `args` without the program's name.
pub(crate) fn parse(program: &str, args: Vec<String>, env: Env<'_>) -> Result<Flags, ParseEnd> {
    let parsed = flag_set(program, env).parse(args)?;
    let mut not_built = Vec::new();
    for name in ["bird-socket", "config"] {
        if !parsed.string(name).is_empty() {
            not_built.push(name);
        }
    }
    for name in ["encrypt-state", "hardware-attestation"] {
        if parsed.opt_bool(name) == Some(true) {
            not_built.push(name);
        }
    }
    let text = |name| parsed.string(name).to_owned();
    Ok(Flags {
        cleanup: parsed.bool("cleanup"),
        debug: text("debug"),
        no_logs: parsed.bool("no-logs-no-support"),
        http_proxy: text("outbound-http-proxy-listen"),
        port: parsed.port("port"),
        socket: text("socket"),
        socks5: text("socks5-server"),
        state: text("state"),
        statedir: text("statedir"),
        syslog: parsed.bool("syslog"),
        tun: text("tun"),
        tun_given: parsed.given("tun"),
        verbose: parsed.int("verbose"),
        version: parsed.bool("version"),
        not_built,
        args: parsed.args().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Flags {
        let env = |name: &str| (name == "PORT").then(|| "41641".to_owned());
        parse(
            "tailscaled",
            args.iter().map(|arg| (*arg).to_owned()).collect(),
            &env,
        )
        .unwrap()
    }

    #[test]
    fn defaults_and_environment() {
        let flags = flags(&[]);
        assert_eq!(
            (flags.port, flags.tun.as_str(), flags.verbose),
            (41641, "tailscale0", 0)
        );
        assert!(flags.not_built.is_empty());
    }

    #[test]
    fn go_syntax() {
        let flags = flags(&[
            "-port",
            "0",
            "--tun=userspace-networking",
            "-verbose=2",
            "--config",
            "x",
        ]);
        assert_eq!((flags.port, flags.verbose), (0, 2));
        assert_eq!(flags.not_built, ["config"]);
    }

    #[test]
    fn unknown_flags_exit_with_2() {
        let end = parse("tailscaled", vec!["--nonsense".into()], &|_| None).unwrap_err();
        assert_eq!(end.exit_code(), 2);
        assert!(
            end.to_string()
                .starts_with("flag provided but not defined: -nonsense\nUsage of tailscaled:\n")
        );
    }
}
