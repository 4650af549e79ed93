//! What an isolated Windows host may still say and hear, as filters of the Windows Filtering Platform:
//! pure data, made and tested on every OS.
//!
//! All filters stand in one sublayer of ours, the heaviest there is. In it the heaviest filter that
//! matches decides: a permit, else the block of its layer. Either clears the action right, so that no
//! filter of a lighter sublayer changes it: the user's own firewall neither opens nor closes anything
//! here, and none of its rules is touched. Connections that stand are judged anew when filters change.
//!
//! The connect and accept layers see every TCP connection, the first datagram of every UDP flow, ICMP,
//! and raw sockets. Answers belong to a flow that was let through. ICMP errors ("packet too big") pass
//! in a layer of their own, which is left open: [`Traffic::PathMtu`] needs no filter. What this host
//! forwards for guests and containers is blocked whole; frames of a virtual switch never come by here,
//! which is why such a switch is told as a way around.

use crate::isolation::{Network, Permit, Plan, Reason, Traffic};
use ringward_domain::net::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// This host begins, over IPv4.
    ConnectV4,
    /// This host begins, over IPv6.
    ConnectV6,
    /// Another one begins, over IPv4.
    AcceptV4,
    /// Another one begins, over IPv6.
    AcceptV6,
    /// Between others, over IPv4.
    ForwardV4,
    /// Between others, over IPv6.
    ForwardV6,
}

impl Layer {
    /// Every one that is closed.
    pub const ALL: [Self; 6] = [
        Self::ConnectV4,
        Self::ConnectV6,
        Self::AcceptV4,
        Self::AcceptV6,
        Self::ForwardV4,
        Self::ForwardV6,
    ];

    /// Where sockets of this host are.
    const OWN: [Self; 4] = [
        Self::ConnectV4,
        Self::ConnectV6,
        Self::AcceptV4,
        Self::AcceptV6,
    ];
}

/// What has to hold for a filter to match; all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// It never leaves this host.
    Loopback,
    /// The protocol's number.
    Protocol(u8),
    /// The port on this host; of ICMP the type.
    LocalPort(u16),
    /// The port over there.
    RemotePort(u16),
    /// Who is over there.
    Remote(Network),
}

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    /// Where it stands.
    pub layer: Layer,
    /// What has to hold.
    pub conditions: Vec<Condition>,
    /// Why it permits; `None` where it blocks.
    pub permits: Option<Why>,
}

/// Why a filter permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It never leaves this host.
    Loopback,
    /// The plan names it.
    Plan(Reason),
}

impl Filter {
    /// Its weight in the sublayer, 0-15: permits before blocks.
    #[must_use]
    pub fn weight(&self) -> u8 {
        match self.permits {
            Some(_) => 15,
            None => 0,
        }
    }

    /// What `netsh wfp show filters` shows a person.
    #[must_use]
    pub fn name(&self) -> String {
        match self.permits {
            None => "Ringward isolation: everything else".to_owned(),
            Some(Why::Loopback) => "Ringward isolation: loopback".to_owned(),
            Some(Why::Plan(reason)) => format!("Ringward isolation: {reason}"),
        }
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
const LINK: Network = Network {
    address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    prefix: 10,
};
/// All DHCPv6 servers and relays of the link.
const DHCP_V6_SERVERS: Network = Network {
    address: IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2)),
    prefix: 128,
};
/// Router and neighbour solicitations, neighbour advertisements, listener reports and leave-takings.
const NEIGHBOURS_SENT: [u16; 6] = [133, 135, 136, 131, 132, 143];
/// Router and neighbour advertisements, neighbour solicitations, listener queries. The stack itself
/// drops those that come from further away than the link.
const NEIGHBOURS_HEARD: [u16; 4] = [134, 135, 136, 130];

/// The filters of a plan, in a fixed order: equal plans make equal filters.
#[must_use]
pub fn filters(plan: &Plan) -> Vec<Filter> {
    let mut filters = Vec::new();
    for layer in Layer::ALL {
        filters.push(Filter {
            layer,
            conditions: Vec::new(),
            permits: None,
        });
    }
    for layer in Layer::OWN {
        filters.push(Filter {
            layer,
            conditions: vec![Condition::Loopback],
            permits: Some(Why::Loopback),
        });
    }
    for permit in plan.permits() {
        add(permit, &mut filters);
    }
    filters.sort();
    filters
}

/// Connect or accept, of a network's family.
fn layer(network: &Network, begins_here: bool) -> Layer {
    match (network.address.is_ipv4(), begins_here) {
        (true, true) => Layer::ConnectV4,
        (true, false) => Layer::AcceptV4,
        (false, true) => Layer::ConnectV6,
        (false, false) => Layer::AcceptV6,
    }
}

/// The family alone says as much as a network of all its addresses.
fn remote(network: Network) -> Option<Condition> {
    (network.prefix > 0).then_some(Condition::Remote(network))
}

fn add(permit: &Permit, into: &mut Vec<Filter>) {
    let mut permit_in = |layer: Layer, conditions: Vec<Condition>| {
        into.push(Filter {
            layer,
            conditions,
            permits: Some(Why::Plan(permit.reason)),
        });
    };
    match permit.traffic {
        Traffic::Everything(network) => {
            for begins_here in [true, false] {
                permit_in(
                    layer(&network, begins_here),
                    remote(network).into_iter().collect(),
                );
            }
        }
        Traffic::Outgoing {
            to,
            transport,
            port,
        } => {
            let protocol = match transport {
                Transport::Tcp => TCP,
                Transport::Udp => UDP,
            };
            let narrow = [Condition::Protocol(protocol), Condition::RemotePort(port)];
            permit_in(
                layer(&to, true),
                remote(to).into_iter().chain(narrow).collect(),
            );
        }
        Traffic::Dhcp => {
            let lease = |local, port| {
                vec![
                    Condition::Protocol(UDP),
                    Condition::LocalPort(local),
                    Condition::RemotePort(port),
                ]
            };
            permit_in(Layer::ConnectV4, lease(68, 67));
            permit_in(Layer::AcceptV4, lease(68, 67));
            for (layer, network) in [
                (Layer::ConnectV6, LINK),
                (Layer::ConnectV6, DHCP_V6_SERVERS),
                (Layer::AcceptV6, LINK),
            ] {
                let mut conditions = lease(546, 547);
                conditions.push(Condition::Remote(network));
                permit_in(layer, conditions);
            }
        }
        Traffic::Neighbours => {
            let of = |kind| vec![Condition::Protocol(ICMP_V6), Condition::LocalPort(kind)];
            for kind in NEIGHBOURS_SENT {
                permit_in(Layer::ConnectV6, of(kind));
            }
            for kind in NEIGHBOURS_HEARD {
                permit_in(Layer::AcceptV6, of(kind));
            }
        }
        Traffic::PathMtu => {}
    }
}

/// Addresses out of a value of the registry: commas or spaces between them, a zone perhaps behind.
#[must_use]
pub fn resolvers_in(value: &str) -> Vec<IpAddr> {
    let words = value.split([',', ' ', '\0']);
    let addresses = words.filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok());
    addresses.filter(|at| !at.is_unspecified()).collect()
}

/// The bits of an IPv4 network as the platform takes them: address and mask, in the host's order.
#[must_use]
pub fn address_and_mask(address: Ipv4Addr, prefix: u8) -> (u32, u32) {
    let mask = u32::MAX
        .checked_shl(32_u32.saturating_sub(u32::from(prefix)))
        .unwrap_or(0);
    (u32::from(address) & mask, mask)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::isolation::Ground;
    use crate::isolation::sample::plan;
    use std::collections::BTreeSet;

    /// What would become of a packet: the heaviest filter that matches, as the platform decides it.
    fn passes(filters: &[Filter], layer: Layer, packet: &Packet) -> bool {
        let of_layer = filters.iter().filter(|filter| filter.layer == layer);
        let matching = of_layer.filter(|filter| packet.matches(filter));
        let heaviest = matching.max_by_key(|filter| filter.weight());
        heaviest.expect("a block in every layer").permits.is_some()
    }

    struct Packet {
        loopback: bool,
        protocol: u8,
        local: u16,
        remote: (IpAddr, u16),
    }

    impl Packet {
        fn new(protocol: u8, local: u16, address: &str, port: u16) -> Self {
            Self {
                loopback: false,
                protocol,
                local,
                remote: (address.parse().unwrap(), port),
            }
        }

        fn matches(&self, filter: &Filter) -> bool {
            filter.conditions.iter().all(|condition| match condition {
                Condition::Loopback => self.loopback,
                Condition::Protocol(protocol) => self.protocol == *protocol,
                Condition::LocalPort(port) => self.local == *port,
                Condition::RemotePort(port) => self.remote.1 == *port,
                Condition::Remote(network) => is_in(self.remote.0, *network),
            })
        }
    }

    fn is_in(address: IpAddr, network: Network) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        };
        let apart = bits(address) ^ bits(network.address);
        let same_family = address.is_ipv4() == network.address.is_ipv4();
        same_family && apart.leading_zeros() >= u32::from(network.prefix)
    }

    fn strict() -> Vec<Filter> {
        filters(&Plan::of(&Ground {
            servers: [("192.0.2.1".parse().unwrap(), 7443)].into(),
            named: true,
            resolvers: ["192.0.2.53".parse().unwrap()].into(),
            allow: vec!["10.9.0.0/16".parse().unwrap()],
        }))
    }

    #[test]
    fn the_filters_of_a_plan_are_these_and_no_others() {
        let lines: Vec<String> = filters(&plan())
            .iter()
            .map(|filter| {
                let conditions: Vec<String> = filter
                    .conditions
                    .iter()
                    .map(|condition| match condition {
                        Condition::Remote(network) => format!("Remote({network})"),
                        other => format!("{other:?}"),
                    })
                    .collect();
                let act = if filter.permits.is_some() {
                    "permit"
                } else {
                    "block"
                };
                let (layer, name) = (filter.layer, filter.name());
                let conditions = conditions.join(" ");
                format!(
                    "{layer:?} {} {act} [{conditions}] {name}\n",
                    filter.weight()
                )
            })
            .collect();
        assert_eq!(lines.concat(), include_str!("wfp-golden.txt"));
    }

    #[test]
    fn every_layer_is_closed_and_none_but_a_permit_opens_it() {
        let filters = strict();
        for layer in Layer::ALL {
            let blocks = filters
                .iter()
                .filter(|f| f.layer == layer && f.permits.is_none());
            let blocks: Vec<_> = blocks.collect();
            assert_eq!(blocks.len(), 1, "{layer:?}");
            assert!(blocks[0].conditions.is_empty() && blocks[0].weight() == 0);
        }
        let forwards = |f: &&Filter| matches!(f.layer, Layer::ForwardV4 | Layer::ForwardV6);
        assert_eq!(
            filters.iter().filter(forwards).count(),
            2,
            "nothing is forwarded"
        );
    }

    #[test]
    fn what_the_plan_names_passes_and_nothing_beside_it() {
        let filters = strict();
        let connects = |packet: &Packet| passes(&filters, Layer::ConnectV4, packet);
        let accepts = |packet: &Packet| passes(&filters, Layer::AcceptV4, packet);
        assert!(connects(&Packet::new(TCP, 50_000, "192.0.2.1", 7443)));
        assert!(!connects(&Packet::new(TCP, 50_000, "192.0.2.1", 443)));
        assert!(!connects(&Packet::new(UDP, 50_000, "192.0.2.1", 7443)));
        assert!(
            !accepts(&Packet::new(TCP, 7443, "192.0.2.1", 7443)),
            "a server opens nothing"
        );
        assert!(connects(&Packet::new(UDP, 50_000, "192.0.2.53", 53)));
        assert!(!connects(&Packet::new(UDP, 50_000, "198.51.100.1", 53)));
        for passes in [&connects as &dyn Fn(&Packet) -> bool, &accepts] {
            assert!(passes(&Packet::new(TCP, 445, "10.9.255.255", 50_000)));
            assert!(!passes(&Packet::new(TCP, 445, "10.10.0.0", 50_000)));
            assert!(passes(&Packet::new(UDP, 68, "192.0.2.9", 67)));
            let here = Packet {
                loopback: true,
                ..Packet::new(TCP, 1, "198.51.100.1", 2)
            };
            assert!(passes(&here));
        }
    }

    #[test]
    fn the_link_stays_usable_and_no_more_of_icmp() {
        let filters = strict();
        let of = |kind| Packet::new(ICMP_V6, kind, "2001:db8::7", 0);
        for kind in 128..=143 {
            let sent = passes(&filters, Layer::ConnectV6, &of(kind));
            assert_eq!(sent, NEIGHBOURS_SENT.contains(&kind), "sends {kind}");
            let heard = passes(&filters, Layer::AcceptV6, &of(kind));
            assert_eq!(heard, NEIGHBOURS_HEARD.contains(&kind), "hears {kind}");
        }
        let lease = |address| Packet::new(UDP, 546, address, 547);
        assert!(passes(&filters, Layer::ConnectV6, &lease("ff02::1:2")));
        assert!(passes(&filters, Layer::AcceptV6, &lease("fe80::1")));
        assert!(!passes(&filters, Layer::AcceptV6, &lease("2001:db8::1")));
    }

    #[test]
    fn equal_plans_make_equal_filters_and_no_filter_twice() {
        let all = filters(&plan());
        assert_eq!(all, filters(&plan()));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_mask_covers_what_its_prefix_says() {
        let address = Ipv4Addr::new(10, 9, 8, 7);
        assert_eq!(address_and_mask(address, 16), (0x0a09_0000, 0xffff_0000));
        assert_eq!(address_and_mask(address, 32), (0x0a09_0807, u32::MAX));
        assert_eq!(address_and_mask(address, 0), (0, 0));
    }

    #[test]
    fn resolvers_are_read_however_the_registry_lists_them() {
        let found = resolvers_in("192.0.2.53,192.0.2.54 fe80::1%12\0 0.0.0.0 nonsense");
        let texts: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["192.0.2.53", "192.0.2.54", "fe80::1"]);
        assert!(resolvers_in("").is_empty());
    }
}
