//! Every name that the originals know, what it needs, and how it is read.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::request::{self, Parts, Request, decode};
use crate::server::PREFIX;
use crate::{ApiError, Right};

/// One name with some of its methods.
pub struct Route {
    /// What follows `/localapi/v0/`. With a slash at the end, everything below it.
    pub name: &'static str,
    /// The methods; none is any.
    pub methods: &'static [&'static str],
    /// What it needs.
    pub right: Right,
    /// What who lacks that is told.
    pub denied: &'static str,
    /// What any other method is told.
    pub wrong_method: (u16, &'static str),
    /// The longest body that is read.
    pub body_max: usize,
    /// The status of success.
    pub success: u16,
    pub(crate) action: Action,
}

/// What happens with a request.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// It is read, and given to the handler.
    Read(Read),
    /// It is always answered with this document and this tag.
    Fixed {
        document: &'static str,
        etag: &'static str,
    },
    /// It is answered with the news that this program was built without it.
    Absent,
}

pub(crate) type Read = fn(&Parts<'_>) -> Result<Request, ApiError>;

/// Prefs and the like: some thousand routes fit.
const MIB: usize = 1 << 20;

const fn get(name: &'static str, right: Right, denied: &'static str, read: Read) -> Route {
    Route {
        name,
        methods: &[],
        right,
        denied,
        wrong_method: (405, "unsupported method"),
        body_max: 0,
        success: 200,
        action: Action::Read(read),
    }
}

const fn post(name: &'static str, denied: &'static str, success: u16, read: Read) -> Route {
    Route {
        name,
        methods: &["POST"],
        right: Right::Write,
        denied,
        wrong_method: (400, "want POST"),
        body_max: MIB,
        success,
        action: Action::Read(read),
    }
}

/// A name that the originals know and this program was built without.
const fn absent(name: &'static str) -> Route {
    Route {
        name,
        methods: &[],
        right: Right::Read,
        denied: "access denied",
        wrong_method: (405, "unsupported method"),
        body_max: 0,
        success: 200,
        action: Action::Absent,
    }
}

/// All routes. Of several with one name, the first that takes the method counts.
pub static ROUTES: &[Route] = &[
    get(
        "status",
        Right::Read,
        "status access denied",
        request::status,
    ),
    Route {
        methods: &["GET", "HEAD"],
        ..get("prefs", Right::Read, "prefs access denied", |_| {
            Ok(Request::Prefs)
        })
    },
    Route {
        methods: &["PATCH"],
        wrong_method: (405, "unsupported method"),
        ..post("prefs", "prefs write access denied", 200, |parts| {
            parts.json().map(|edit| Request::EditPrefs(Box::new(edit)))
        })
    },
    Route {
        wrong_method: (405, "unsupported method"),
        ..post(
            "check-prefs",
            "checkprefs access denied",
            200,
            request::check_prefs,
        )
    },
    post("start", "access denied", 204, |parts| {
        parts
            .json()
            .map(|options| Request::Start(Box::new(options)))
    }),
    post("login-interactive", "login access denied", 204, |_| {
        Ok(Request::LoginInteractive)
    }),
    post("logout", "logout access denied", 204, |_| {
        Ok(Request::Logout)
    }),
    Route {
        wrong_method: (405, "use POST"),
        ..post("reset-auth", "reset-auth modify access denied", 204, |_| {
            Ok(Request::ResetAuth)
        })
    },
    get(
        "watch-ipn-bus",
        Right::Read,
        "watch ipn bus access denied",
        request::watch,
    ),
    get("whois", Right::Read, "whois access denied", request::whois),
    Route {
        right: Right::Open,
        ..post("ping", "", 200, request::ping)
    },
    Route {
        methods: &["GET"],
        wrong_method: (405, "use GET or PUT"),
        ..get(
            "profiles/",
            Right::Write,
            "profiles access denied",
            |parts| {
                Ok(match parts.rest.as_str() {
                    "" => Request::Profiles,
                    "current" => Request::CurrentProfile,
                    id => Request::Profile(id.to_owned()),
                })
            },
        )
    },
    Route {
        methods: &["PUT"],
        ..post(
            "profiles/",
            "profiles access denied",
            201,
            |parts| match parts.rest.as_str() {
                "" => Ok(Request::NewProfile),
                "current" => Err(wrong_method("use GET")),
                _ => Err(wrong_method("use POST or DELETE")),
            },
        )
    },
    Route {
        methods: &["POST"],
        ..post("profiles/", "profiles access denied", 204, |parts| {
            named_profile(parts, Request::SwitchProfile)
        })
    },
    Route {
        methods: &["DELETE"],
        ..post("profiles/", "profiles access denied", 204, |parts| {
            named_profile(parts, Request::DeleteProfile)
        })
    },
    Route {
        methods: &["GET"],
        wrong_method: (400, "want GET"),
        ..get("derpmap", Right::Open, "", |_| Ok(Request::DerpMap))
    },
    get(
        "dns-config",
        Right::Read,
        "dns-config access denied",
        |_| Ok(Request::DnsConfig),
    ),
    // The next three are ours alone; the originals know no such names.
    post(
        "prefs-trial",
        "prefs write access denied",
        200,
        request::try_prefs,
    ),
    post("prefs-confirm", "prefs write access denied", 204, |_| {
        Ok(Request::ConfirmPrefs)
    }),
    post(
        "system-diff",
        "system diff access denied",
        200,
        request::system_diff,
    ),
    Route {
        methods: &["GET"],
        wrong_method: (405, "only GET allowed"),
        ..get(
            "dns-osconfig",
            Right::Write,
            "dns-osconfig dump access denied",
            |_| Ok(Request::DnsSystem),
        )
    },
    Route {
        methods: &["GET", "POST"],
        wrong_method: (405, "want POST"),
        ..get("suggest-exit-node", Right::Open, "", |_| {
            Ok(Request::SuggestExitNode)
        })
    },
    Route {
        wrong_method: (405, "only GET allowed"),
        ..get(
            "dns-query",
            Right::Write,
            "dns-query access denied",
            request::dns_query,
        )
    },
    Route {
        right: Right::Open,
        wrong_method: (405, "POST required"),
        ..post("dial", "", 101, request::dial)
    },
    Route {
        methods: &["GET"],
        wrong_method: (405, "GET required"),
        ..get("logtap", Right::Write, "logtap access denied", |_| {
            Ok(Request::LogTap)
        })
    },
    Route {
        wrong_method: (405, "only POST allowed"),
        ..post("shutdown", "shutdown access denied", 200, |_| {
            Ok(Request::Shutdown)
        })
    },
    get("metrics", Right::Write, "metric access denied", |_| {
        Ok(Request::Metrics)
    }),
    get("usermetrics", Right::Open, "", |_| Ok(Request::UserMetrics)),
    get(
        "peer-by-id",
        Right::Read,
        "peer-by-id access denied",
        |parts| request::number(parts, Request::PeerById),
    ),
    get(
        "user-profile",
        Right::Read,
        "user-profile access denied",
        |parts| request::number(parts, Request::UserProfile),
    ),
    Route {
        right: Right::Read,
        wrong_method: (405, "only POST allowed"),
        ..post("bugreport", "bugreport access denied", 200, |parts| {
            Ok(Request::BugReport {
                note: parts.query("note"),
                diagnose: parts.query("diagnose") == "true",
            })
        })
    },
    get(
        "check-ip-forwarding",
        Right::Read,
        "IP forwarding check access denied",
        |_| Ok(Request::CheckIpForwarding),
    ),
    get(
        "check-udp-gro-forwarding",
        Right::Read,
        "UDP GRO forwarding check access denied",
        |_| Ok(Request::CheckUdpGroForwarding),
    ),
    get(
        "check-so-mark-in-use",
        Right::Read,
        "SO_MARK check access denied",
        |_| Ok(Request::CheckSoMarkInUse),
    ),
    Route {
        wrong_method: (405, "POST required"),
        ..post("debug", "debug access denied", 200, request::debug)
    },
    Route {
        wrong_method: (405, "POST required"),
        ..post(
            "set-expiry-sooner",
            "access denied",
            200,
            request::set_expiry_sooner,
        )
    },
    Route {
        wrong_method: (405, "use POST"),
        ..post(
            "set-use-exit-node-enabled",
            "access denied",
            200,
            request::use_exit_node,
        )
    },
    get(
        "cert-domains",
        Right::Read,
        "cert-domains access denied",
        |_| Ok(Request::CertDomains),
    ),
    Route {
        body_max: MIB,
        ..get(
            "component-debug-logging",
            Right::Write,
            "debug access denied",
            |parts| {
                Ok(Request::ComponentDebugLogging {
                    component: parts.form("component"),
                })
            },
        )
    },
    absent("alpha-set-device-attrs"),
    absent("appc-route-info"),
    absent("cert/"),
    absent("conn25/state"),
    absent("debug-bus-events"),
    absent("debug-bus-graph"),
    absent("debug-bus-queues"),
    absent("debug-capture"),
    absent("debug-derp-region"),
    absent("debug-dial-types"),
    absent("debug-log"),
    absent("debug-optional-features"),
    absent("debug-packet-filter-matches"),
    absent("debug-packet-filter-rules"),
    absent("debug-peer-endpoint-changes"),
    absent("debug-peer-relay-sessions"),
    absent("debug-portmap"),
    absent("debug-rotate-disco-key"),
    absent("dev-set-state-store"),
    absent("disconnect-control"),
    absent("drive/fileserver-address"),
    absent("drive/shares"),
    absent("file-put/"),
    absent("file-targets"),
    absent("files/"),
    absent("goroutines"),
    absent("handle-push-message"),
    absent("id-token"),
    absent("pins"),
    absent("policy/"),
    absent("pprof"),
    absent("prefs/service-clients"),
    absent("query-feature"),
    absent("reload-config"),
    absent("routecheck"),
    Route {
        methods: &["GET"],
        denied: "serve config denied",
        wrong_method: (405, "method not allowed"),
        // Compat: `status` asks for it. Nothing can be served, so there is no configuration.
        action: Action::Fixed {
            document: "null",
            etag: NULL_ETAG,
        },
        ..absent("serve-config")
    },
    Route {
        methods: &["POST"],
        right: Right::Write,
        ..absent("serve-config")
    },
    absent("services"),
    absent("set-dns"),
    absent("set-gui-visible"),
    absent("set-push-device-token"),
    absent("set-udp-gro-forwarding"),
    absent("tka/affected-sigs"),
    absent("tka/cosign-recovery-aum"),
    absent("tka/disable"),
    absent("tka/force-local-disable"),
    absent("tka/generate-recovery-aum"),
    absent("tka/init"),
    absent("tka/log"),
    absent("tka/modify"),
    absent("tka/sign"),
    absent("tka/status"),
    absent("tka/submit-recovery-aum"),
    absent("tka/verify-deeplink"),
    absent("tka/wrap-preauth-key"),
    absent("update/check"),
    absent("update/install"),
    absent("update/progress"),
    absent("upload-client-metrics"),
];

/// SHA-256 of `null`.
const NULL_ETAG: &str = "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b";

fn wrong_method(text: &str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn named_profile(parts: &Parts<'_>, make: fn(String) -> Request) -> Result<Request, ApiError> {
    match parts.rest.as_str() {
        "" => Err(wrong_method("use GET or PUT")),
        "current" => Err(wrong_method("use GET")),
        id => Ok(make(id.to_owned())),
    }
}

/// A route and what follows its name in the path.
pub(crate) struct Found<'a> {
    pub(crate) route: &'static Route,
    pub(crate) rest: &'a str,
    /// Whether it takes the method.
    pub(crate) takes_method: bool,
}

/// The route for a path after `/localapi/v0/`: the whole path first, then up to its first slash.
pub(crate) fn find<'a>(path: &'a str, method: &Method) -> Option<Found<'a>> {
    let below = path.find('/').map(|at| path.split_at(at + 1));
    let candidates = [Some((path, "")), below];
    candidates.into_iter().flatten().find_map(|(name, rest)| {
        let mut named = ROUTES.iter().filter(|route| route.name == name).peekable();
        let first = *named.peek()?;
        let takes =
            |route: &&Route| route.methods.is_empty() || route.methods.contains(&method.as_str());
        let taking = named.find(takes);
        Some(Found {
            route: taking.unwrap_or(first),
            rest,
            takes_method: taking.is_some(),
        })
    })
}

/// Reads a request as the server does, without asking who sent it and without serving it: for tests of the readers.
/// `target` is the path, and a query if there is one.
pub fn read(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Request, ApiError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let found = path
        .strip_prefix(PREFIX)
        .and_then(|name| find(name, method))
        .ok_or_else(|| ApiError::not_found("404 page not found"))?;
    let name = found.route.name.trim_end_matches('/');
    let Action::Read(read) = found.route.action else {
        return Err(ApiError::not_built(name));
    };
    let rest = decode(found.rest, false).ok_or_else(|| ApiError::bad_request("bad path"))?;
    read(&Parts {
        rest,
        query,
        headers,
        body,
    })
}
