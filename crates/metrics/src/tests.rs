use super::*;

#[test]
fn names_and_layout_are_those_of_the_originals() {
    let metrics = UserMetrics::default();
    metrics.inbound.count(Path::Derp, 2, 300);
    metrics.inbound.count_dropped(DropReason::Acl, 1);
    metrics.home_derp_region_id.set(900);
    let text = metrics.to_prometheus();

    let family = "# TYPE tailscaled_inbound_bytes_total counter\n\
                  # HELP tailscaled_inbound_bytes_total Counts the number of bytes received from other peers\n\
                  tailscaled_inbound_bytes_total{path=\"derp\"} 300\n\
                  tailscaled_inbound_bytes_total{path=\"direct_ipv4\"} 0\n";
    assert!(text.contains(family), "{text}");
    assert!(text.contains("\ntailscaled_inbound_packets_total{path=\"derp\"} 2\n"));
    assert!(text.contains("\ntailscaled_inbound_dropped_packets_total{reason=\"acl\"} 1\n"));
    assert!(text.contains("\ntailscaled_outbound_dropped_packets_total{reason=\"error\"} 0\n"));
    assert!(text.contains("\ntailscaled_home_derp_region_id 900\n"));
    assert!(text.contains("\ntailscaled_health_messages{type=\"warning\"} 0\n"));
}

#[test]
fn families_and_samples_are_sorted() {
    let text = UserMetrics::default().to_prometheus();
    let families: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let mut sorted = families.clone();
    sorted.sort_unstable();
    assert_eq!(families, sorted);
    assert_eq!(families.len(), 10);
}
