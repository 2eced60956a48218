//! One file for each thing that must be true; its name says which.

use super::{Scenario, Verdict};

mod a_change_that_would_cut_ssh_is_undone_unless_confirmed;
mod a_dead_daemon_leaves_the_local_network_if_told;
mod a_flushed_firewall_is_mended;
mod a_flushed_routing_table_is_mended;
mod a_jailed_peer_is_reached_and_reaches_nobody;
mod a_local_network_that_goes_away_hands_over_to_a_peer;
mod a_machine_among_carriers_addresses_stays_reachable;
mod a_machine_without_ip6tables_has_ipv6;
mod a_machine_without_iptables_has_its_firewall;
mod a_machine_without_ipv6_is_served_by_ipv4;
mod a_mebibyte_passes_whatever_the_network_carries;
mod a_mebibyte_passes_where_routers_keep_silent;
mod a_package_comes_serves_and_goes_under_systemd;
mod a_resolv_conf_that_a_container_mounted_is_back;
mod a_resolv_conf_that_leads_nowhere_is_back_as_a_link;
mod a_resolv_conf_that_others_overwrite_is_mended;
mod a_resolver_of_the_machines_own_is_asked_for_others;
mod a_route_over_the_control_server_does_not_cut_it_off;
mod a_router_that_does_not_forward_is_told_of;
mod a_routers_busybox_is_enough;
mod a_second_daemon_does_not_harm_the_first;
mod a_start_without_links_comes_up_with_them;
mod a_subnet_router_hides_who_comes_through_it;
mod a_subnet_router_shows_who_comes_through_it_if_told;
mod an_api_for_peers_keeps_browsers_out;
mod an_exit_node_carries_both_families;
mod an_exit_node_leaves_the_local_network_if_told;
mod another_vpn_keeps_its_ways;
mod containers_still_reach_the_internet;
mod debians_resolvconf_is_told_and_told_back;
mod deleted_rules_are_mended;
mod either_program_cleans_up_after_the_other;
mod foreign_firewall_rules_stay_as_they_are;
mod ipv6_of_the_device_comes_back_when_it_is_allowed_again;
mod lost_addresses_are_mended;
mod names_are_asked_where_the_exit_node_is;
mod names_of_others_are_asked_of_the_servers_from_before;
mod names_of_the_tailnet_are_found_without_further_ado;
mod networkmanager_goes_on_beside_us;
mod nothing_is_left_after_a_kill_and_cleanup;
mod nothing_is_left_after_down_and_stop;
mod nothing_leaves_beside_the_exit_node;
mod nothing_leaves_by_ipv6_where_the_device_has_none;
mod nothing_leaves_while_the_daemon_is_dead;
mod nothing_leaves_while_the_exit_node_is_dead;
mod openresolv_is_told_and_told_back;
mod our_rules_come_before_those_of_mwan3;
mod resolv_conf_is_back_after_a_kill_by_cleanup;
mod resolv_conf_is_back_after_a_kill_by_the_next_start;
mod resolv_conf_is_back_after_down;
mod resolv_conf_is_back_after_the_daemon_stops;
mod strange_servers_harm_nobody;
mod systemd_resolved_is_told_again_after_its_restart;
mod systemd_resolved_shares_names_out;
mod the_local_network_wins_over_a_peers_route;
mod what_a_change_would_do_is_told_before;
mod whoever_writes_resolv_conf_last_is_who_is_asked;
mod without_root_the_strict_unit_serves;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const ALL: &[Scenario] = &[$(Scenario { name: stringify!($name), play: $name::play }),*];
    };
}

scenarios![
    names_of_the_tailnet_are_found_without_further_ado,
    names_of_others_are_asked_of_the_servers_from_before,
    resolv_conf_is_back_after_down,
    resolv_conf_is_back_after_the_daemon_stops,
    resolv_conf_is_back_after_a_kill_by_cleanup,
    resolv_conf_is_back_after_a_kill_by_the_next_start,
    a_resolv_conf_that_leads_nowhere_is_back_as_a_link,
    a_resolv_conf_that_a_container_mounted_is_back,
    a_resolv_conf_that_others_overwrite_is_mended,
    whoever_writes_resolv_conf_last_is_who_is_asked,
    systemd_resolved_shares_names_out,
    systemd_resolved_is_told_again_after_its_restart,
    networkmanager_goes_on_beside_us,
    openresolv_is_told_and_told_back,
    debians_resolvconf_is_told_and_told_back,
    a_resolver_of_the_machines_own_is_asked_for_others,
    a_flushed_firewall_is_mended,
    deleted_rules_are_mended,
    a_flushed_routing_table_is_mended,
    lost_addresses_are_mended,
    foreign_firewall_rules_stay_as_they_are,
    nothing_is_left_after_down_and_stop,
    nothing_is_left_after_a_kill_and_cleanup,
    either_program_cleans_up_after_the_other,
    the_local_network_wins_over_a_peers_route,
    a_local_network_that_goes_away_hands_over_to_a_peer,
    a_machine_among_carriers_addresses_stays_reachable,
    a_mebibyte_passes_whatever_the_network_carries,
    a_mebibyte_passes_where_routers_keep_silent,
    a_start_without_links_comes_up_with_them,
    a_router_that_does_not_forward_is_told_of,
    a_subnet_router_hides_who_comes_through_it,
    a_subnet_router_shows_who_comes_through_it_if_told,
    an_exit_node_carries_both_families,
    names_are_asked_where_the_exit_node_is,
    an_api_for_peers_keeps_browsers_out,
    nothing_leaves_beside_the_exit_node,
    nothing_leaves_while_the_exit_node_is_dead,
    nothing_leaves_while_the_daemon_is_dead,
    a_dead_daemon_leaves_the_local_network_if_told,
    nothing_leaves_by_ipv6_where_the_device_has_none,
    an_exit_node_leaves_the_local_network_if_told,
    what_a_change_would_do_is_told_before,
    a_change_that_would_cut_ssh_is_undone_unless_confirmed,
    our_rules_come_before_those_of_mwan3,
    a_route_over_the_control_server_does_not_cut_it_off,
    strange_servers_harm_nobody,
    containers_still_reach_the_internet,
    a_second_daemon_does_not_harm_the_first,
    another_vpn_keeps_its_ways,
    a_machine_without_ipv6_is_served_by_ipv4,
    ipv6_of_the_device_comes_back_when_it_is_allowed_again,
    a_machine_without_ip6tables_has_ipv6,
    a_machine_without_iptables_has_its_firewall,
    a_routers_busybox_is_enough,
    a_jailed_peer_is_reached_and_reaches_nobody,
    a_package_comes_serves_and_goes_under_systemd,
    without_root_the_strict_unit_serves,
];
