use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use derp::DerpMap;
use netcheck::Report;
use netmap::derp_map_from_wire;
use tailcfg::go::GoTime;

use super::bind::{Bind, address};
use super::report;

#[test]
fn flags_win_over_the_environment() {
    let any = |port| Ok(Bind { ip: None, port });
    assert_eq!(address(None, None, ""), any(0));
    assert_eq!(address(None, None, ":7"), any(7));
    assert_eq!(address(None, Some(8), ":7"), any(8));
    let local = |port| {
        Ok(Bind {
            ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port,
        })
    };
    assert_eq!(address(None, None, "127.0.0.1:7"), local(7));
    assert_eq!(address(Some("127.0.0.1"), None, ":7"), local(0));
    assert_eq!(address(Some("127.0.0.1"), Some(9), ""), local(9));
    for (ip, port, env, words) in [
        (Some("x"), None, "", "invalid bind address: \"x\""),
        (Some(""), None, "", "invalid bind address: \"\""),
        (None, Some(-1), "", "invalid bind port number: -1"),
        (None, Some(65536), "", "invalid bind port number: 65536"),
        (None, None, "nowhere", "invalid bind address: \"nowhere\""),
    ] {
        assert_eq!(address(ip, port, env), Err(words.to_owned()));
    }
}

fn map() -> DerpMap {
    let json = r#"{"Regions":{
        "1":{"RegionID":1,"RegionCode":"one","RegionName":"First","Nodes":[{"Name":"1a","RegionID":1,"HostName":"a.test"}]},
        "2":{"RegionID":2,"RegionCode":"two","RegionName":"Second","Nodes":[{"Name":"2a","RegionID":2,"HostName":"b.test"}]},
        "30":{"RegionID":30,"RegionCode":"x","RegionName":"Third","Nodes":[{"Name":"3a","RegionID":30,"HostName":"c.test"}]}}}"#;
    derp_map_from_wire(&serde_json::from_str(json).expect("a map"))
}

fn measured() -> Report {
    let latencies = [(2, 12_340), (30, 900)];
    let latencies = latencies.map(|(id, micros)| (id, Duration::from_micros(micros)));
    let mut report = Report {
        udp: true,
        ipv4: true,
        ipv4_can_send: true,
        os_has_ipv6: true,
        mapping_varies_by_dest_ip: Some(false),
        preferred_derp: Some(30),
        region_latency: latencies.into(),
        region_v4_latency: latencies.into(),
        global_v4: Some("192.0.2.1:7".parse().expect("an address")),
        ..Report::default()
    };
    let seen = "192.0.2.1:7".parse().expect("an address");
    report.global_counters.insert(seen, 2);
    report
}

fn at() -> GoTime {
    GoTime::from_unix_nanos(1_700_000_000_500_000_000)
}

#[test]
fn a_report_for_people() {
    insta::assert_snapshot!("text", report::text(&measured(), &map(), at(), true));
    let nothing = report::text(&Report::default(), &map(), at(), false);
    insta::assert_snapshot!("text_of_nothing", nothing);
    let took = Duration::from_millis(1234);
    insta::assert_snapshot!("concise", report::concise(&measured(), &map(), took));
}

#[test]
fn a_report_for_programs() {
    insta::assert_snapshot!("json", report::json(&measured(), at(), true));
    insta::assert_snapshot!(
        "json_line_of_nothing",
        report::json(&Report::default(), at(), false)
    );
}
