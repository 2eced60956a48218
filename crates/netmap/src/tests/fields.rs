//! Every field of a response, and every field of a peer's patch, with its rules for null, empty and given.

use std::collections::BTreeSet;

use packet::PeerId;
use tailcfg::PeerChange;

use super::*;

/// What a value does to what is looked at.
#[derive(Debug, Clone, Copy)]
enum Does {
    Nothing,
    Becomes(&'static str),
}
use Does::{Becomes, Nothing};

/// A field of a response and what comes of it. `null` must always change nothing.
struct Row {
    field: &'static str,
    /// What is looked at.
    look: fn(&NetMap) -> String,
    /// Values and what they do, each on a fresh stream.
    values: &'static [(&'static str, Does)],
}

const START: &str = r#"{"Node":{"ID":1000,"Name":"me.x.net.","Addresses":["100.64.0.9/32"]},
 "Peers":[{"ID":1,"Name":"a.x.net.","Online":true,"LastSeen":"2023-01-01T00:00:00Z"},{"ID":2,"Name":"b.x.net."}],
 "DERPMap":{"Regions":{"1":{"RegionID":1,"RegionCode":"r1"}},"HomeParams":{"RegionScore":{"1":0.5}}},
 "DNSConfig":{"Domains":["d"]},"Domain":"dom","CollectServices":true,"PacketFilter":[{"SrcIPs":["s"]}],
 "UserProfiles":[{"ID":1,"LoginName":"u1"}],"Health":["ill"],"SSHPolicy":{"rules":[]},
 "TKAInfo":{"Disabled":true},"DomainDataPlaneAuditLogID":"log"}"#;

fn ids(map: &NetMap) -> String {
    let ids = map.peers.iter().map(|peer| peer.id.0.to_string());
    ids.collect::<Vec<_>>().join(",")
}

fn first_peer(map: &NetMap) -> Option<&Peer> {
    map.peers.get(PeerId(1)).map(|peer| &**peer)
}

fn name(map: &NetMap) -> String {
    first_peer(map).map_or_else(String::new, |peer| peer.name.to_string())
}

fn seen(map: &NetMap) -> String {
    let seen = first_peer(map).and_then(|peer| peer.last_seen);
    seen.map_or_else(|| "never".to_owned(), |at| at.to_string())
}

fn online(map: &NetMap) -> String {
    format!("{:?}", first_peer(map).and_then(|peer| peer.online))
}

fn own_name(map: &NetMap) -> String {
    map.self_node.name.to_string()
}

fn relays(map: &NetMap) -> String {
    let regions = map.derp_map.regions.values().map(|region| &*region.code);
    let scores = map.derp_map.region_score.values();
    format!(
        "{} {:?}",
        regions.collect::<Vec<_>>().join(","),
        scores.collect::<Vec<_>>()
    )
}

fn sources(map: &NetMap) -> String {
    let rules = map.filter_rules.iter().map(|rule| rule.src_ips.join("+"));
    rules.collect::<Vec<_>>().join(",")
}

fn users(map: &NetMap) -> String {
    let users = map.users.values().map(|user| &*user.login_name);
    users.collect::<Vec<_>>().join(",")
}

fn messages(map: &NetMap) -> String {
    let texts = map.messages.values().map(|message| {
        let text = message.text.rsplit(' ').next().unwrap_or_default();
        format!("{}{text}", if message.title == "T" { "T" } else { "" })
    });
    texts.collect::<Vec<_>>().join(",")
}

fn clock(map: &NetMap) -> String {
    let now = map.clock_offset.control_now(NOW);
    now.map_or_else(|| "none".to_owned(), |at| at.to_string())
}

fn all(map: &NetMap) -> String {
    format!("{map:?}")
}

/// What concerns others than the map changes nothing of it, whatever it says.
const NOT_OURS: fn(&NetMap) -> String = all;

const ROWS: &[Row] = &[
    Row {
        field: "MapSessionHandle",
        look: NOT_OURS,
        values: &[(r#""h""#, Nothing)],
    },
    Row {
        field: "Seq",
        look: NOT_OURS,
        values: &[("7", Nothing)],
    },
    Row {
        field: "KeepAlive",
        look: NOT_OURS,
        values: &[("true", Nothing), ("false", Nothing)],
    },
    Row {
        field: "PingRequest",
        look: NOT_OURS,
        values: &[("{}", Nothing), (r#"{"URL":"u"}"#, Nothing)],
    },
    Row {
        field: "PopBrowserURL",
        look: NOT_OURS,
        values: &[(r#""""#, Nothing), (r#""https://x""#, Nothing)],
    },
    Row {
        field: "Debug",
        look: NOT_OURS,
        values: &[("{}", Nothing), (r#"{"SleepSeconds":1,"Exit":1}"#, Nothing)],
    },
    Row {
        field: "ControlDialPlan",
        look: NOT_OURS,
        values: &[
            ("{}", Nothing),
            (r#"{"Candidates":[{"IP":"1.2.3.4"}]}"#, Nothing),
        ],
    },
    Row {
        field: "ClientVersion",
        look: NOT_OURS,
        values: &[("{}", Nothing), (r#"{"LatestVersion":"9"}"#, Nothing)],
    },
    Row {
        field: "DefaultAutoUpdate",
        look: NOT_OURS,
        values: &[("true", Nothing), ("false", Nothing)],
    },
    Row {
        field: "Node",
        look: own_name,
        values: &[
            ("{}", Becomes("")),
            (r#"{"ID":1000,"Name":"n."}"#, Becomes("n.")),
        ],
    },
    Row {
        field: "DERPMap",
        look: relays,
        values: &[
            ("{}", Nothing),
            (r#"{"Regions":null,"HomeParams":null}"#, Nothing),
            (r#"{"Regions":{}}"#, Becomes(" [0.5]")),
            (
                r#"{"Regions":{"2":{"RegionID":2,"RegionCode":"r2"},"3":null}}"#,
                Becomes("r2 [0.5]"),
            ),
            (r#"{"HomeParams":{"RegionScore":null}}"#, Nothing),
            (r#"{"HomeParams":{"RegionScore":{}}}"#, Becomes("r1 []")),
        ],
    },
    Row {
        field: "Peers",
        look: ids,
        values: &[
            ("[]", Nothing),
            (r#"[{"ID":5}]"#, Becomes("5")),
            (r#"[{"ID":5},{"ID":5}]"#, Becomes("5")),
        ],
    },
    Row {
        field: "PeersChanged",
        look: name,
        values: &[
            ("[]", Nothing),
            (r#"[{"ID":1,"Name":"n."}]"#, Becomes("n.")),
            (r#"[{"ID":1},{"ID":1,"Name":"m."}]"#, Becomes("m.")),
        ],
    },
    Row {
        field: "PeersRemoved",
        look: ids,
        values: &[("[]", Nothing), ("[9]", Nothing), ("[1,1,9]", Becomes("2"))],
    },
    Row {
        field: "PeersChangedPatch",
        look: online,
        values: &[
            ("[]", Nothing),
            (r#"[{"NodeID":9,"Online":false}]"#, Nothing),
            (r#"[{"NodeID":1,"Online":false}]"#, Becomes("Some(false)")),
        ],
    },
    Row {
        field: "PeerSeenChange",
        look: seen,
        values: &[
            ("{}", Nothing),
            (r#"{"9":true}"#, Nothing),
            (r#"{"1":true}"#, Becomes("2023-11-14T22:13:20Z")),
            (r#"{"1":false}"#, Becomes("never")),
        ],
    },
    Row {
        field: "OnlineChange",
        look: online,
        values: &[
            ("{}", Nothing),
            (r#"{"9":false}"#, Nothing),
            (r#"{"1":false}"#, Becomes("Some(false)")),
        ],
    },
    Row {
        field: "DNSConfig",
        look: |map| map.dns.domains.join(","),
        values: &[("{}", Becomes("")), (r#"{"Domains":["e"]}"#, Becomes("e"))],
    },
    Row {
        field: "Domain",
        look: |map| map.domain.to_string(),
        values: &[(r#""""#, Nothing), (r#""new""#, Becomes("new"))],
    },
    Row {
        field: "CollectServices",
        look: |map| map.collect_services.to_string(),
        values: &[("true", Nothing), ("false", Becomes("false"))],
    },
    Row {
        field: "PacketFilter",
        look: sources,
        values: &[("[]", Becomes("")), (r#"[{"SrcIPs":["t"]}]"#, Becomes("t"))],
    },
    Row {
        field: "PacketFilters",
        look: sources,
        values: &[
            ("{}", Nothing),
            (r#"{"none":null}"#, Nothing),
            (r#"{"base":null}"#, Becomes("")),
            (r#"{"base":[]}"#, Becomes("")),
            (r#"{"a":[{"SrcIPs":["a"]}]}"#, Becomes("a,s")),
            (r#"{"*":null}"#, Becomes("")),
        ],
    },
    Row {
        field: "UserProfiles",
        look: users,
        values: &[
            ("[]", Nothing),
            (
                r#"[{"ID":1,"LoginName":"v"},{"ID":2,"LoginName":"w"}]"#,
                Becomes("v,w"),
            ),
        ],
    },
    Row {
        field: "Health",
        look: messages,
        values: &[("[]", Becomes("")), (r#"["worse"]"#, Becomes("worse"))],
    },
    Row {
        field: "DisplayMessages",
        look: messages,
        values: &[
            ("{}", Nothing),
            (r#"{"none":null,"*":null}"#, Nothing),
            (r#"{"m":{"Title":"T","Text":"x"}}"#, Becomes("Tx")),
        ],
    },
    Row {
        field: "SSHPolicy",
        look: |map| {
            format!(
                "{:?}",
                map.ssh_policy
                    .as_ref()
                    .map(|policy| policy.get().to_owned())
            )
        },
        values: &[(r#"{"rules":[1]}"#, Becomes(r#"Some("{\"rules\":[1]}")"#))],
    },
    Row {
        field: "ControlTime",
        look: clock,
        values: &[
            (r#""0001-01-01T00:00:00Z""#, Nothing),
            (r#""2023-11-14T22:13:50Z""#, Nothing),
            (r#""2024-11-14T22:13:20Z""#, Becomes("2024-11-14T22:13:20Z")),
        ],
    },
    Row {
        field: "TKAInfo",
        look: |map| format!("{} {}", map.locked, ids(map)),
        values: &[
            (r#"{"Disabled":true}"#, Nothing),
            ("{}", Becomes("true ")),
            (r#"{"Head":"H"}"#, Becomes("true ")),
        ],
    },
    Row {
        field: "DomainDataPlaneAuditLogID",
        look: |map| map.audit_log_id.to_string(),
        values: &[(r#""""#, Nothing), (r#""other""#, Becomes("other"))],
    },
];

fn check(look: fn(&NetMap) -> String, json: &str, does: Does) {
    let mut session = MapSession::new();
    session.apply(read(START), NOW).unwrap();
    let before = Arc::clone(session.map().unwrap());
    let change = session.apply(read(json), NOW).unwrap();
    let after = session.map().unwrap();
    match does {
        Nothing => assert_eq!(look(after), look(&before), "{json}"),
        Becomes(want) => {
            assert_eq!(look(after), want, "{json}");
            assert!(change.is_some(), "{json}");
        }
    }
}

#[test]
fn every_field_of_a_response() {
    let named: BTreeSet<&str> = ROWS.iter().map(|row| row.field).collect();
    let known: BTreeSet<&str> = MapResponse::FIELDS.iter().copied().collect();
    assert_eq!(named, known);
    for row in ROWS {
        let json = format!(r#"{{"{}":null}}"#, row.field);
        check(all, &json, Nothing);
        for (value, does) in row.values {
            let json = format!(r#"{{"{}":{value}}}"#, row.field);
            check(row.look, &json, *does);
        }
    }
}

fn patched(look: fn(&Peer) -> String) -> impl Fn(&str) -> (String, String) {
    move |json| {
        let mut session = MapSession::new();
        let start = r#"{"Node":{"ID":1000},"Peers":[{"ID":1,"HomeDERP":5,"Cap":100,"CapMap":{"c":null},"Endpoints":["192.0.2.1:1"],
            "KeySignature":"AQ==","Online":true,"LastSeen":"2023-01-01T00:00:00Z","KeyExpiry":"2040-01-01T00:00:00Z"}]}"#;
        session.apply(read(start), NOW).unwrap();
        let look = |session: &MapSession| {
            let peers = &session.map().unwrap().peers;
            look(peers.get(PeerId(1)).unwrap())
        };
        let before = look(&session);
        let json = format!(r#"{{"PeersChangedPatch":[{{"NodeID":1,{json}}}]}}"#);
        session.apply(read(&json), NOW).unwrap();
        (before, look(&session))
    }
}

#[test]
fn every_field_of_a_patch() {
    type Look = fn(&Peer) -> String;
    let key = r#""nodekey:0101010101010101010101010101010101010101010101010101010101010101""#;
    let disco = r#""discokey:0101010101010101010101010101010101010101010101010101010101010101""#;
    type Values<'a> = &'a [(&'a str, Option<&'a str>)];
    let rows: &[(&str, Look, Values<'_>)] = &[
        ("NodeID", |peer| peer.id.0.to_string(), &[]),
        (
            "DERPRegion",
            |peer| peer.home_derp.to_string(),
            &[("0", None), ("7", Some("7")), ("70000", None), ("-1", None)],
        ),
        (
            "Cap",
            |peer| peer.cap.to_string(),
            &[("0", None), ("101", Some("101"))],
        ),
        (
            "CapMap",
            |peer| peer.cap_map.len().to_string(),
            &[("{}", Some("0")), (r#"{"a":null,"b":[1]}"#, Some("2"))],
        ),
        (
            "Endpoints",
            |peer| format!("{:?}", peer.endpoints),
            &[
                ("[]", Some("[]")),
                (r#"["192.0.2.2:2"]"#, Some("[192.0.2.2:2]")),
            ],
        ),
        ("Key", |peer| peer.key.to_string(), &[(key, Some(key))]),
        (
            "KeySignature",
            |peer| {
                format!(
                    "{:?}",
                    peer.rare.as_ref().map(|rare| rare.key_signature.0.len())
                )
            },
            &[(r#""""#, None), (r#""AQID""#, Some("Some(3)"))],
        ),
        (
            "DiscoKey",
            |peer| peer.disco.to_string(),
            &[(disco, Some(disco))],
        ),
        (
            "Online",
            |peer| format!("{:?}", peer.online),
            &[("false", Some("Some(false)"))],
        ),
        (
            "LastSeen",
            |peer| format!("{:?}", peer.last_seen.map(|at| at.to_string())),
            &[(
                r#""2024-01-01T00:00:00Z""#,
                Some(r#"Some("2024-01-01T00:00:00Z")"#),
            )],
        ),
        (
            "KeyExpiry",
            |peer| format!("{:?}", peer.key_expiry.map(|at| at.to_string())),
            &[
                (r#""0001-01-01T00:00:00Z""#, Some("None")),
                (
                    r#""2050-01-01T00:00:00Z""#,
                    Some(r#"Some("2050-01-01T00:00:00Z")"#),
                ),
            ],
        ),
    ];
    let named: BTreeSet<&str> = rows.iter().map(|(field, ..)| *field).collect();
    let known: BTreeSet<&str> = PeerChange::FIELDS.iter().copied().collect();
    assert_eq!(named, known);
    for (field, look, values) in rows {
        let patched = patched(*look);
        if *field != "NodeID" {
            let (before, after) = patched(&format!(r#""{field}":null"#));
            assert_eq!(before, after, "{field} null");
        }
        for (value, want) in *values {
            let (before, after) = patched(&format!(r#""{field}":{value}"#));
            let want = want.map_or(before, |want| want.trim_matches('"').to_owned());
            assert_eq!(after, want, "{field} {value}");
        }
    }
}
