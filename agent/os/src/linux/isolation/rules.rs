//! A plan as the text of one nftables transaction. Pure.
//!
//! No connection tracking: what stood before the transaction would count as established, and a host
//! whose tracking table is full or whose module is missing could not be isolated. Answers are told
//! from openings by the TCP flags instead. No sets: plain rules load on every nft since 0.9 and on
//! kernels without interval concatenations.

use crate::isolation::{Network, Permit, Plan, Traffic};
use ringward_domain::net::Transport;
use std::fmt::Write;

/// The one table that is ours.
pub const TABLE: &str = "inet ringward";

/// The table is made anew in one transaction: no packet sees a host without it or with half of it.
const HEAD: &str = "add table inet ringward\ndelete table inet ringward\ntable inet ringward {\n";
/// Removes the table, and does nothing where there is none.
pub const REMOVE: &str = "add table inet ringward\ndelete table inet ringward\n";

/// After reassembly (-400, where it is on), before everything else that filters.
const PRIORITY: &str = "-310";

/// The transaction that isolates.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut text = HEAD.to_owned();
    chain(&mut text, "receive", "input", |lines| {
        lines.push("iif lo accept".to_owned());
        plan.permits().for_each(|permit| receive(permit, lines));
    });
    chain(&mut text, "send", "output", |lines| {
        lines.push("oif lo accept".to_owned());
        plan.permits().for_each(|permit| send(permit, lines));
        // Local programs learn at once; the answer goes over loopback and nowhere else.
        lines.push("meta l4proto tcp reject with tcp reset".to_owned());
        lines.push("reject with icmpx type admin-prohibited".to_owned());
    });
    // Containers, guests and routed neighbours of this host.
    chain(&mut text, "pass", "forward", |_| {});
    text.push_str("}\n");
    text
}

fn chain(text: &mut String, name: &str, hook: &str, fill: impl FnOnce(&mut Vec<String>)) {
    let mut lines = Vec::new();
    fill(&mut lines);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\tchain {name} {{");
    let _ = writeln!(
        text,
        "\t\ttype filter hook {hook} priority {PRIORITY}; policy drop;"
    );
    for line in lines {
        let _ = writeln!(text, "\t\t{line}");
    }
    text.push_str("\t}\n");
}

fn family(network: &Network) -> &'static str {
    if network.address.is_ipv4() {
        "ip"
    } else {
        "ip6"
    }
}

/// nft refuses `ip saddr 0.0.0.0/0`; the family alone says the same.
fn matching(side: &str, network: &Network) -> String {
    match (network.prefix, family(network)) {
        (0, "ip") => "meta nfproto ipv4".to_owned(),
        (0, _) => "meta nfproto ipv6".to_owned(),
        (_, family) => format!("{family} {side} {network}"),
    }
}

fn send(permit: &Permit, lines: &mut Vec<String>) {
    match permit.traffic {
        Traffic::Everything(to) => lines.push(format!("{} accept", matching("daddr", &to))),
        Traffic::Outgoing {
            to,
            transport,
            port,
        } => {
            let name = match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            let to = matching("daddr", &to);
            lines.push(format!("{to} {name} dport {port} accept"));
        }
        Traffic::Dhcp => {
            lines.push("meta nfproto ipv4 udp sport 68 udp dport 67 accept".to_owned());
            for to in ["fe80::/10", "ff02::1:2"] {
                lines.push(format!("ip6 daddr {to} udp sport 546 udp dport 547 accept"));
            }
        }
        Traffic::Neighbours => {
            lines.push(
                "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } \
                 ip6 hoplimit 255 accept"
                    .to_owned(),
            );
            lines.push(
                "icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } \
                 ip6 hoplimit 1 accept"
                    .to_owned(),
            );
        }
        Traffic::PathMtu => {}
    }
}

fn receive(permit: &Permit, lines: &mut Vec<String>) {
    match permit.traffic {
        Traffic::Everything(from) => lines.push(format!("{} accept", matching("saddr", &from))),
        Traffic::Outgoing {
            to,
            transport,
            port,
        } => {
            let from = matching("saddr", &to);
            lines.push(match transport {
                Transport::Tcp => {
                    format!("{from} tcp sport {port} tcp flags & (syn | ack) != syn accept")
                }
                Transport::Udp => format!("{from} udp sport {port} accept"),
            });
        }
        Traffic::Dhcp => {
            lines.push("meta nfproto ipv4 udp sport 67 udp dport 68 accept".to_owned());
            lines.push("ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept".to_owned());
        }
        Traffic::Neighbours => {
            lines.push(
                "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } \
                 ip6 hoplimit 255 accept"
                    .to_owned(),
            );
            lines.push("icmpv6 type mld-listener-query ip6 hoplimit 1 accept".to_owned());
        }
        Traffic::PathMtu => {
            lines.push("icmp type destination-unreachable icmp code frag-needed accept".to_owned());
            lines.push("icmpv6 type packet-too-big accept".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::isolation::Ground;
    use crate::isolation::sample::plan;

    #[test]
    fn the_rules_of_a_plan_are_these_and_no_others() {
        assert_eq!(text(&plan()), include_str!("golden.nft"));
    }

    #[test]
    fn nothing_counts_as_established() {
        let text = text(&plan());
        assert!(!text.contains("ct state"), "{text}");
        assert_eq!(text.matches("policy drop").count(), 3, "{text}");
    }

    #[test]
    fn equal_grounds_make_equal_rules_in_whatever_order_they_were_found() {
        let allow: Vec<_> = ["10.1.0.0/16", "10.2.0.0/16"]
            .map(|t| t.parse().unwrap())
            .to_vec();
        let (mut one, mut other) = (Ground::default(), Ground::default());
        one.allow = allow.clone();
        other.allow = allow.into_iter().rev().collect();
        assert_eq!(text(&Plan::of(&one)), text(&Plan::of(&other)));
    }
}
