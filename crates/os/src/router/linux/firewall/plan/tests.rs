use host::{CgnatGuard, FirewallConfig, NetfilterMode};
use ipnet::IpNet;
use proptest::prelude::*;

use super::super::wish::{Surroundings, wish};
use super::*;
use crate::netlink::message::{APPEND, messages};

/// Does to `have` what a kernel does with a batch. Panics where a kernel would refuse.
fn carry_out(have: &mut Have, batch: Batch) {
    let mut next_handle = 1 + have.rules.iter().map(|rule| rule.handle).max().unwrap_or(0);
    for request in batch.into_requests() {
        let bytes = request.finish(1);
        let message = messages(&bytes).next().unwrap();
        let body = message.body;
        match message.kind & 0xff {
            0 => have.tables.push(TableInfo::parse(body).unwrap()),
            2 => {
                let table = TableInfo::parse(body).unwrap();
                have.tables.retain(|have| have.name != table.name);
                have.chains.retain(|chain| chain.table != table.name);
                have.rules.retain(|rule| rule.table != table.name);
            }
            3 => {
                let chain = ChainInfo::parse(body).unwrap();
                assert!(have.tables.iter().any(|table| table.name == chain.table));
                have.chains.push(chain);
            }
            5 => {
                let chain = ChainInfo::parse(body).unwrap();
                let is_in = |rule: &RuleInfo| rule.table == chain.table && rule.chain == chain.name;
                let asks = |rule: &RuleInfo| {
                    rule.table == chain.table && rule.jump.as_deref() == Some(&chain.name)
                };
                assert!(
                    !have.rules.iter().any(|rule| is_in(rule) || asks(rule)),
                    "busy: {chain:?}"
                );
                have.chains
                    .retain(|have| (&have.table, &have.name) != (&chain.table, &chain.name));
            }
            6 => {
                let numbered = [&bytes[..], &[12, 0, 3, 0], &next_handle.to_be_bytes()].concat();
                next_handle += 1;
                let rule = RuleInfo::parse(&numbered[16..]).unwrap();
                let chains: Vec<_> = have
                    .chains
                    .iter()
                    .filter(|c| c.table == rule.table)
                    .collect();
                assert!(
                    chains.iter().any(|chain| chain.name == rule.chain),
                    "{rule:?}"
                );
                if let Some(jump) = &rule.jump {
                    assert!(chains.iter().any(|chain| chain.name == *jump), "{rule:?}");
                }
                let at = match message.flags & APPEND {
                    0 => 0,
                    _ => have.rules.len(),
                };
                have.rules.insert(at, rule);
            }
            8 => {
                let numbered = [body, &[12, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
                // The first handle counts: without one, all rules of the chain are meant.
                let flush = RuleInfo::parse(body).is_none();
                let rule = RuleInfo::parse(if flush { &numbered } else { body }).unwrap();
                have.rules.retain(|have| {
                    (&have.table, &have.chain) != (&rule.table, &rule.chain)
                        || (!flush && have.handle != rule.handle)
                });
            }
            other => panic!("message {other}"),
        }
    }
}

fn config(mode: NetfilterMode) -> FirewallConfig {
    FirewallConfig {
        mode,
        snat: true,
        port_v4: 41641,
        ..FirewallConfig::default()
    }
}

fn wished(config: &FirewallConfig, family: Family) -> Wish {
    let addresses: [IpNet; 2] = [
        "100.64.0.1/32".parse().unwrap(),
        "fd7a:115c:a1e0::1/128".parse().unwrap(),
    ];
    let around = Surroundings {
        device: "tailscale0",
        addresses: &addresses,
        is_cgnat_underlay: false,
        routes: &[],
    };
    wish(config, &around, family)
}

fn to(have: &mut Have, config: &FirewallConfig) {
    let wish = wished(config, Family::Ip);
    let batch = plan(have, &wish, Family::Ip, Dialect::Native);
    carry_out(have, batch);
    let again = plan(have, &wish, Family::Ip, Dialect::Native);
    assert!(again.is_empty(), "one round is enough");
}

/// As docker and somebody's own rules leave it.
fn foreign() -> Have {
    let table = |name: &str| TableInfo {
        name: name.into(),
        tag: None,
    };
    let chain = |table: &str, name: &str| ChainInfo {
        table: table.into(),
        name: name.into(),
        is_base: true,
        tag: None,
    };
    let rule = |chain: &str, handle, jump: Option<&str>| RuleInfo {
        table: "filter".into(),
        chain: chain.into(),
        handle,
        tag: None,
        jump: jump.map(Into::into),
    };
    Have {
        tables: vec![table("filter"), table("mine")],
        chains: vec![
            chain("filter", "INPUT"),
            chain("filter", "FORWARD"),
            chain("filter", "DOCKER-USER"),
            chain("mine", "INPUT"),
        ],
        rules: vec![
            rule("INPUT", 3, None),
            rule("FORWARD", 4, Some("DOCKER-USER")),
            rule("DOCKER-USER", 5, None),
        ],
    }
}

fn names(have: &Have) -> Vec<String> {
    let all = have.chains.iter();
    all.map(|chain| format!("{}/{}", chain.table, chain.name))
        .collect()
}

#[test]
fn on_and_off_again_leaves_what_was_there() {
    for before in [Have::default(), foreign()] {
        let mut have = before.clone();
        to(&mut have, &config(NetfilterMode::On));
        let first: Vec<_> = have
            .rules
            .iter()
            .filter(|rule| rule.chain == "INPUT")
            .collect();
        assert_eq!(first[0].jump.as_deref(), Some("ts-input"));
        assert!(names(&have).contains(&"nat/ts-postrouting".to_owned()));
        to(&mut have, &config(NetfilterMode::Off));
        assert_eq!(have, before);
    }
}

#[test]
fn without_diversion_nobody_asks_our_chains_but_who_wants_to() {
    let mut have = foreign();
    to(&mut have, &config(NetfilterMode::On));
    to(&mut have, &config(NetfilterMode::NoDivert));
    assert!(
        !have
            .rules
            .iter()
            .any(|rule| rule.jump.as_deref() == Some("ts-input"))
    );
    assert!(have.rules.iter().any(|rule| rule.chain == "ts-input"));
    let own = RuleInfo {
        table: "filter".into(),
        chain: "DOCKER-USER".into(),
        handle: 1000,
        tag: None,
        jump: Some("ts-forward".into()),
    };
    have.rules.push(own.clone());
    to(&mut have, &config(NetfilterMode::NoDivert));
    assert!(have.rules.contains(&own));
    // Gone but for the chain that somebody still asks.
    to(&mut have, &config(NetfilterMode::Off));
    assert!(have.rules.contains(&own));
    let ours: Vec<_> = names(&have)
        .into_iter()
        .filter(|name| name.contains("ts-"))
        .collect();
    assert_eq!(ours, ["filter/ts-forward"]);
}

#[test]
fn what_the_originals_left_becomes_ours() {
    let mut have = foreign();
    let rule = |chain: &str, handle, jump: Option<&str>| RuleInfo {
        table: "filter".into(),
        chain: chain.into(),
        handle,
        tag: None,
        jump: jump.map(Into::into),
    };
    have.chains.push(ChainInfo {
        table: "filter".into(),
        name: "ts-input".into(),
        is_base: false,
        tag: None,
    });
    have.rules.insert(0, rule("INPUT", 10, Some("ts-input")));
    have.rules.insert(1, rule("INPUT", 11, Some("ts-input")));
    have.rules.push(rule("ts-input", 12, None));
    to(&mut have, &config(NetfilterMode::On));
    let jumps = have
        .rules
        .iter()
        .filter(|rule| rule.jump.as_deref() == Some("ts-input"));
    assert_eq!(jumps.count(), 1);
    assert!(!have.rules.iter().any(|rule| rule.handle == 12));
    to(&mut have, &config(NetfilterMode::Off));
    assert_eq!(have, foreign());
}

fn configs() -> impl Strategy<Value = FirewallConfig> {
    let mode = prop_oneof![
        Just(NetfilterMode::Off),
        Just(NetfilterMode::NoDivert),
        Just(NetfilterMode::On)
    ];
    let cgnat = prop_oneof![
        Just(CgnatGuard::Off),
        Just(CgnatGuard::Narrow),
        Just(CgnatGuard::Drop)
    ];
    (mode, cgnat, any::<(bool, bool, u16)>()).prop_map(|(mode, cgnat, (snat, stateful, port))| {
        FirewallConfig {
            mode,
            cgnat,
            snat,
            stateful,
            port_v4: port,
            ..FirewallConfig::default()
        }
    })
}

proptest! {
    #[test]
    fn any_way_leads_to_what_is_wished_and_back(
        configs in prop::collection::vec(configs(), 1..5),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut have = foreign();
        for config in &configs {
            to(&mut have, config);
            for index in &lost {
                // Somebody removes a rule, whosever it is; what is not ours is not ours to bring back.
                let at = index.index(have.rules.len());
                if have.rules[at].tag.is_some() {
                    have.rules.remove(at);
                }
            }
            to(&mut have, config);
        }
        to(&mut have, &FirewallConfig::default());
        prop_assert_eq!(have, foreign());
    }
}
