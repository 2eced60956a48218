//! `tailscale exit-node`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use goflag::{Parsed, quote};
use ipn::PeerStatus;
use localapi::SuggestedExitNode;
use tailcfg::{Location, cap};

use super::status::last_seen;
use crate::command::{Context, Error};
use crate::text::shell;
use crate::text::table::Columns;

const COLUMNS: Columns = Columns { min: 10, pad: 5 };
/// The row of a country whose best node could be in any of its cities.
const ANY: &str = "Any";

pub(crate) async fn list(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err("unexpected non-flag arguments to 'tailscale exit-node list'".into());
    }
    let status = context.status_or_hint(true).await?;
    let mut nodes: Vec<PeerStatus> = status.peer.unwrap_or_default().into_values().collect();
    nodes.retain(|node| node.exit_node_option);
    if nodes.is_empty() {
        return Err("no exit nodes found".into());
    }
    let filter = parsed.string("filter");
    let rows = rows(&nodes, filter);
    if rows.is_empty() && !filter.is_empty() {
        return Err(format!("no exit nodes found for {}", quote(filter)).into());
    }
    let can_suggest = nodes
        .iter()
        .any(|node| node.cap_map.contains_key(cap::SUGGEST_EXIT_NODE));
    context.out(table(&rows, can_suggest, rt::wall().as_unix_secs()))
}

pub(crate) async fn suggest(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| format!("suggest exit node: {error}");
    let answer = context.post("suggest-exit-node", "").await;
    let answer = answer.map_err(|error| failed(&error))?;
    let found: SuggestedExitNode = serde_json::from_str(&answer).map_err(|error| failed(&error))?;
    if found.id.is_empty() {
        return context.out("No exit node suggestion is available.\n");
    }
    context.out(format!(
        "Suggested exit node: {}\nTo accept this suggestion, use `tailscale set --exit-node={}`.\n",
        found.name,
        shell::quote(&found.name)
    ))
}

/// One line of the list.
struct Row<'a> {
    country: String,
    city: String,
    node: &'a PeerStatus,
}

/// By country, then by city. Of a city only the best node is shown and the one in use, unless its country was asked for; those that say
/// nothing of where they are, are all shown.
fn rows<'a>(nodes: &'a [PeerStatus], filter: &str) -> Vec<Row<'a>> {
    let mut nodes: Vec<&PeerStatus> = nodes.iter().collect();
    nodes.sort_by_key(|node| &node.dns_name);
    let mut countries: BTreeMap<(String, String), BTreeMap<String, Vec<&PeerStatus>>> =
        BTreeMap::new();
    for node in nodes {
        let Location {
            country,
            country_code,
            city,
            ..
        } = location(node);
        if filter.is_empty() || same_word(&country, filter) {
            let cities = countries.entry((country, country_code)).or_default();
            cities.entry(city).or_default().push(node);
        }
    }
    let mut rows = Vec::new();
    for ((country, _), mut cities) in countries {
        let is_known = !country.is_empty();
        let mut row = |city: &str, node| {
            rows.push(Row {
                country: country.clone(),
                city: city.to_owned(),
                node,
            });
        };
        for nodes in cities.values_mut().filter(|_| is_known) {
            nodes.sort_by_key(|node| Reverse(location(node).priority));
        }
        if is_known && cities.len() > 1 {
            // The first of those that are equal.
            let all = cities.values().flatten();
            let best = all.min_by_key(|node| Reverse(location(node).priority));
            best.into_iter().for_each(|node| row(ANY, node));
        }
        for (city, nodes) in &cities {
            for (at, node) in nodes.iter().enumerate() {
                if !is_known || !filter.is_empty() || at == 0 || node.exit_node {
                    row(city, node);
                }
            }
        }
    }
    rows
}

fn location(node: &PeerStatus) -> Location {
    node.location.clone().unwrap_or_default()
}

fn same_word(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn table(rows: &[Row<'_>], can_suggest: bool, now: i64) -> String {
    let mut text = "\n IP\tHOSTNAME\tCOUNTRY\tCITY\tSTATUS\t".to_owned();
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    for row in rows {
        let ips = row.node.tailscale_ips.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "\n {}\t{}\t{}\t{}\t{}\t",
            ips.first().map(ToString::to_string).unwrap_or_default(),
            row.node.dns_name.trim_matches('.'),
            or_dash(&row.country),
            or_dash(&row.city),
            state(row.node, now),
        );
    }
    text += "\n\n\
             # To view the complete list of exit nodes for a country, use `tailscale exit-node list --filter=` followed by the country name.\n\
             # To use an exit node, use `tailscale set --exit-node=` followed by the IP or hostname.\n";
    if can_suggest {
        text += "# To have Tailscale suggest an exit node, use `tailscale exit-node suggest`.\n";
    }
    COLUMNS.align(&text)
}

fn state(node: &PeerStatus, now: i64) -> String {
    let is_away = !node.active && (node.exit_node || !node.online);
    match (node.exit_node, is_away) {
        (true, true) => format!("selected but offline{}", last_seen(node.last_seen, now)),
        (false, true) => format!("offline{}", last_seen(node.last_seen, now)),
        (true, false) => "selected".to_owned(),
        (false, false) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, place: Option<(&str, &str, i64)>) -> PeerStatus {
        PeerStatus {
            dns_name: format!("{name}.tail.example."),
            location: place.map(|(country, city, priority)| Location {
                country: country.into(),
                country_code: country[..2].to_uppercase(),
                city: city.into(),
                city_code: city[..3].to_lowercase(),
                priority,
                ..Location::default()
            }),
            ..PeerStatus::default()
        }
    }

    #[test]
    fn of_each_city_the_best_is_shown() {
        let mut used = node("h-poor", Some(("Norway", "Oslo", 1)));
        used.exit_node = true;
        let nodes = [
            node("b-plain", None),
            node("a-plain", None),
            node("d-poor", Some(("Germany", "Berlin", 1))),
            node("c-rich", Some(("Germany", "Berlin", 9))),
            node("e-best", Some(("Germany", "Munich", 10))),
            node("g-rich", Some(("Norway", "Oslo", 5))),
            used,
        ];
        let shown = |filter: &str| -> Vec<String> {
            let shown = |row: &Row<'_>| format!("{} {}", row.city, &row.node.dns_name[..1]);
            rows(&nodes, filter).iter().map(shown).collect()
        };
        assert_eq!(
            shown(""),
            [
                " a", " b", "Any e", "Berlin c", "Munich e", "Oslo g", "Oslo h"
            ]
        );
        assert_eq!(
            shown("germany"),
            ["Any e", "Berlin c", "Berlin d", "Munich e"]
        );
        assert_eq!(shown("France"), Vec::<String>::new());
    }
}
