//! What the control server may ask of this node through its map stream, beside `/echo`.
//!
//! What is not built is not known here, and answers as the originals' smaller builds do: `unknown c2n path`.

use std::collections::BTreeMap;
use std::sync::Arc;

use backend::Command;
use control::{C2nRequest, C2nResponse, C2nRouter};
use ipn::{MaskedPrefs, Prefs};
use metrics::UserMetrics;
use netmap::{MapSession, NetMap};
use serde_json::{Map, Value, json};
use tailcfg::{C2nDebugNetmapRequest, C2nUpdateResponse, MapResponse};

use crate::brain::BrainHandle;

/// All handlers.
pub(crate) fn router(brain: &BrainHandle, metrics: &Arc<UserMetrics>) -> C2nRouter {
    let mut router = C2nRouter::new();
    let with = |answer: fn(&BrainHandle, &C2nRequest) -> C2nResponse| {
        let brain = brain.clone();
        move |request: C2nRequest| std::future::ready(answer(&brain, &request))
    };
    router.route("", "/debug/prefs", with(prefs));
    router.route("", "/debug/health", with(health));
    router.route("", "/debug/netmap", with(net_map));
    router.route("GET", "/update", with(update));
    router.route("POST", "/update", with(update));
    let metrics = Arc::clone(metrics);
    router.route("", "/debug/metrics", move |_| {
        std::future::ready(text(200, &metrics.to_prometheus()))
    });
    router.route("", "/debug/component-logging", |request| async move {
        let component = request.value("component").unwrap_or_default();
        json_line(&json!({ "Error": crate::api::no_component_logging(&component) }))
    });
    // Compat: what the originals answer where they have nothing to answer with.
    for path in [
        "/debug/pprof/heap",
        "/debug/pprof/allocs",
        "/debug/logheap",
        "/debug/goroutines",
    ] {
        router.route("", path, |_| async {
            C2nResponse::text(501, "not implemented")
        });
    }
    router.route("POST", "/logtail/flush", |_| async {
        C2nResponse::text(500, "no log flusher wired up")
    });
    router.route("POST", "/sockstats", |_| async {
        C2nResponse::text(500, "no sockstatLogger")
    });
    if cfg!(target_os = "linux") {
        let brain = brain.clone();
        router.route("POST", "/netfilter-kind", move |request| {
            set_netfilter_kind(brain.clone(), request)
        });
    }
    router
}

fn prefs(brain: &BrainHandle, _: &C2nRequest) -> C2nResponse {
    json_line(&*brain.snapshot().prefs)
}

fn health(brain: &BrainHandle, _: &C2nRequest) -> C2nResponse {
    json_line(&*brain.snapshot().health)
}

/// Nobody but the user's package manager updates this daemon.
fn update(brain: &BrainHandle, request: &C2nRequest) -> C2nResponse {
    let enabled = brain.snapshot().prefs.auto_update.apply == Some(true);
    let err = match (request.method.as_str(), enabled) {
        ("POST", false) => "not enabled",
        ("POST", true) => "not supported",
        _ => "",
    };
    json_line(&C2nUpdateResponse {
        err: err.to_owned(),
        enabled,
        ..C2nUpdateResponse::default()
    })
}

async fn set_netfilter_kind(brain: BrainHandle, request: C2nRequest) -> C2nResponse {
    let edit = MaskedPrefs {
        netfilter_kind_set: true,
        prefs: Prefs {
            netfilter_kind: request.value("kind").unwrap_or_default(),
            ..Prefs::default()
        },
        ..MaskedPrefs::default()
    };
    match brain.command(Command::EditPrefs(Box::new(edit))).await {
        Ok(_) => C2nResponse {
            status: 204,
            content_type: "",
            body: Default::default(),
        },
        Err(error) => C2nResponse::text(500, &error.to_string()),
    }
}

/// The tailnet as this node understands it; and, of a map that the server would send, what this node would understand.
fn net_map(brain: &BrainHandle, request: &C2nRequest) -> C2nResponse {
    let wanted = match request.method.as_str() {
        "GET" => C2nDebugNetmapRequest::default(),
        "POST" => match serde_json::from_slice(&request.body) {
            Ok(wanted) => wanted,
            Err(error) => {
                let problem = format!("failed to decode request body: {error}");
                return C2nResponse::text(400, &problem);
            }
        },
        _ => return C2nResponse::text(405, "method not allowed"),
    };
    let C2nDebugNetmapRequest {
        candidate,
        omit_fields,
    } = wanted;
    let mut answer = Map::new();
    let snapshot = brain.snapshot();
    let current = snapshot.netmap.as_deref();
    answer.insert("current".into(), shown(current, &omit_fields));
    if let Some(candidate) = candidate {
        match understood(*candidate) {
            Ok(map) => {
                answer.insert("candidate".into(), shown(Some(&map), &omit_fields));
            }
            Err(error) => {
                let problem = format!("failed to convert candidate MapResponse: {error}");
                return C2nResponse::text(400, &problem);
            }
        }
    }
    json_line(&answer)
}

fn understood(candidate: MapResponse) -> Result<Arc<NetMap>, String> {
    let mut session = MapSession::new();
    session
        .apply(candidate, rt::wall())
        .map_err(|error| error.to_string())?;
    session
        .map()
        .cloned()
        .ok_or_else(|| "it is only a keep-alive".to_owned())
}

/// A tailnet in the originals' form (`netmap.NetworkMap`), without what is compiled from it.
fn shown(map: Option<&NetMap>, omitted: &[String]) -> Value {
    let Some(map) = map else {
        return Value::Null;
    };
    let suffix = map.suffix();
    let own = map.self_node.to_wire(suffix);
    let caps: BTreeMap<&String, Value> = own.cap_map.keys().map(|cap| (cap, json!({}))).collect();
    let peers: Vec<_> = map.peers.iter().map(|peer| peer.to_wire(suffix)).collect();
    let users: BTreeMap<_, _> = map.users.iter().map(|(id, user)| (*id, &**user)).collect();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("Cached", false.into());
    put("SelfNode", value(&own));
    put("AllCaps", value(&caps));
    put("NodeKey", map.node_key().to_string().into());
    put("MachineKey", own.machine.to_string().into());
    put("Peers", value(&peers));
    put("DNS", value(&*map.dns));
    put("PacketFilterRules", value(&*map.filter_rules));
    put("SSHPolicy", value(&map.ssh_policy.as_deref()));
    put("CollectServices", map.collect_services.into());
    put("DERPMap", value(&map.derp_map_wire.as_deref()));
    put("DisplayMessages", value(&*map.messages));
    put("TKAEnabled", map.locked.into());
    put("Domain", map.domain.to_string().into());
    put("DomainAuditLogID", map.audit_log_id.to_string().into());
    put("UserProfiles", value(&users));
    for name in omitted {
        if let Some(field) = fields.get_mut(name) {
            *field = Value::Null;
        }
    }
    Value::Object(fields)
}

/// Wire types always have a JSON form.
fn value<T: serde::Serialize + ?Sized>(part: &T) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

/// JSON with a line end, as Go's encoder writes it.
fn json_line(body: &impl serde::Serialize) -> C2nResponse {
    match tailcfg::go::to_vec(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            C2nResponse::json(bytes)
        }
        Err(error) => C2nResponse::text(500, &error.to_string()),
    }
}

fn text(status: u16, body: &str) -> C2nResponse {
    C2nResponse {
        status,
        content_type: "text/plain",
        body: body.as_bytes().to_vec().into(),
    }
}
