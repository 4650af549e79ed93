//! What an isolated host may still say and hear: pure data, from which each OS makes its own rules.
//!
//! Nothing here decides that a host is isolated, and nothing here knows nftables or WFP. A backend
//! drops everything that no [`Permit`] names, in both directions and for connections that stand
//! already; loopback is not a permit, for it never leaves the host.

use ringward_domain::net::{Allowed, Transport};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Addresses of control servers that stay open at most: a name that resolves to more is cut.
pub const SERVER_ADDRESSES_MAX: usize = 32;
/// Resolvers that stay open at most; resolv.conf itself knows three.
pub const RESOLVERS_MAX: usize = 8;

/// Why something stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A control server, or a proxy on the way to it.
    Server,
    /// A resolver, for a control server is known by name.
    Resolver,
    /// Leases of addresses are renewed.
    Dhcp,
    /// IPv6 finds its neighbours and routers.
    Neighbours,
    /// Routers say that a packet is too large.
    PathMtu,
    /// The order's allow list names it.
    Allowed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "control server",
            Self::Resolver => "resolver of the servers' names",
            Self::Dhcp => "DHCP",
            Self::Neighbours => "neighbour discovery",
            Self::PathMtu => "path MTU",
            Self::Allowed => "allow list",
        })
    }
}

/// A network: an address whose bits beyond the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// First address.
    pub address: IpAddr,
    /// Bits of the prefix: 0-32 or 0-128.
    pub prefix: u8,
}

impl Network {
    /// One address alone. An IPv4 address written as IPv6 becomes what it is.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        write!(f, "{}", self.address)?;
        match self.prefix == whole {
            true => Ok(()),
            false => write!(f, "/{}", self.prefix),
        }
    }
}

/// What may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Everything to and from a network, whoever begins.
    Everything(Network),
    /// What this host begins to a port of a network, and the answers: nobody there can open a
    /// connection to this host.
    Outgoing {
        /// Where to.
        to: Network,
        /// By which protocol.
        transport: Transport,
        /// To which port.
        port: u16,
    },
    /// DHCP as a client: UDP 68 to 67 and back, UDP 546 to 547 and back on the link.
    Dhcp,
    /// ICMPv6 neighbour and router discovery (hop limit 255, so on the link only) and the multicast
    /// listener reports without which snooping switches do not deliver it (hop limit 1).
    Neighbours,
    /// Incoming ICMP "fragmentation needed" and ICMPv6 "packet too big".
    PathMtu,
}

/// One thing that stays open, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permit {
    /// What may pass.
    pub traffic: Traffic,
    /// Why.
    pub reason: Reason,
}

/// Everything that stays open on an isolated host, without doubles and in a fixed order: equal plans
/// make equal rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    permits: BTreeSet<Permit>,
}

/// What a plan is made of.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// Where the control servers are now, and on which port.
    pub servers: BTreeSet<(IpAddr, u16)>,
    /// Whether a server is known by name, so that names must be resolved.
    pub named: bool,
    /// The resolvers that the host is configured with.
    pub resolvers: BTreeSet<IpAddr>,
    /// The order's allow list.
    pub allow: Vec<Allowed>,
}

impl Plan {
    /// What stays open on this ground.
    #[must_use]
    pub fn of(ground: &Ground) -> Self {
        let mut permits = BTreeSet::new();
        let mut permit = |traffic, reason| {
            permits.insert(Permit { traffic, reason });
        };
        let reachable = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
        for (address, port) in ground.servers.iter().take(SERVER_ADDRESSES_MAX) {
            if reachable(address) {
                let (to, port) = (Network::host(*address), *port);
                let transport = Transport::Tcp;
                permit(
                    Traffic::Outgoing {
                        to,
                        transport,
                        port,
                    },
                    Reason::Server,
                );
            }
        }
        if ground.named {
            let resolvers = ground.resolvers.iter().filter(|at| reachable(at));
            for address in resolvers.take(RESOLVERS_MAX) {
                for transport in [Transport::Udp, Transport::Tcp] {
                    let (to, port) = (Network::host(*address), 53);
                    permit(
                        Traffic::Outgoing {
                            to,
                            transport,
                            port,
                        },
                        Reason::Resolver,
                    );
                }
            }
        }
        for allowed in &ground.allow {
            let to = Network {
                address: allowed.address(),
                prefix: allowed.prefix(),
            };
            let traffic = match allowed.port() {
                None => Traffic::Everything(to),
                Some((transport, port)) => Traffic::Outgoing {
                    to,
                    transport,
                    port,
                },
            };
            permit(traffic, Reason::Allowed);
        }
        permit(Traffic::Dhcp, Reason::Dhcp);
        permit(Traffic::Neighbours, Reason::Neighbours);
        permit(Traffic::PathMtu, Reason::PathMtu);
        Self { permits }
    }

    /// Everything that stays open.
    pub fn permits(&self) -> impl Iterator<Item = &Permit> {
        self.permits.iter()
    }
}

/// Why a host is not isolated, or not open again.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// There is nothing on this host that could do it.
    #[error("this host cannot be isolated: {why}; {next}")]
    Unsupported {
        /// What is missing or too old.
        why: String,
        /// What to do next.
        next: &'static str,
    },
    /// The firewall refused the rules; nothing changed.
    #[error("the firewall refused: {why}; {next}")]
    Refused {
        /// In its own words.
        why: String,
        /// What to do next.
        next: &'static str,
    },
    /// The rules would not survive a reboot; nothing changed.
    #[error("keeping the rules for the next boot")]
    Disk(#[source] crate::HostError),
}

/// A plan with something of everything, for the tests of every system's rules.
#[cfg(test)]
pub(crate) mod sample {
    #![allow(clippy::unwrap_used)]
    use super::{Ground, Plan};

    /// Servers of both kinds, names to look up, and holes of each form.
    pub(crate) fn plan() -> Plan {
        Plan::of(&Ground {
            servers: [
                ("192.0.2.1".parse().unwrap(), 7443),
                ("2001:db8::1".parse().unwrap(), 7443),
            ]
            .into(),
            named: true,
            resolvers: ["192.0.2.53".parse().unwrap()].into(),
            allow: [
                "10.9.0.0/16",
                "tcp/22@2001:db8::9",
                "0.0.0.0/0",
                "udp/123@::/0",
            ]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ground(named: bool) -> Ground {
        Ground {
            servers: [
                ("192.0.2.1".parse().unwrap(), 7443),
                ("::ffff:192.0.2.1".parse().unwrap(), 7443),
                ("2001:db8::1".parse().unwrap(), 7443),
                ("127.0.0.1".parse().unwrap(), 7443),
            ]
            .into(),
            named,
            resolvers: ["127.0.0.53".parse().unwrap(), "192.0.2.53".parse().unwrap()].into(),
            allow: vec![
                "10.9.0.0/16".parse().unwrap(),
                "tcp/22@2001:db8::9".parse().unwrap(),
            ],
        }
    }

    fn count(plan: &Plan, reason: Reason) -> usize {
        plan.permits()
            .filter(|permit| permit.reason == reason)
            .count()
    }

    #[test]
    fn one_server_address_is_permitted_once_in_whichever_family_it_is_written() {
        assert_eq!(count(&Plan::of(&ground(false)), Reason::Server), 2);
    }

    #[test]
    fn names_are_resolved_only_where_a_server_has_one() {
        assert_eq!(count(&Plan::of(&ground(false)), Reason::Resolver), 0);
        let plan = Plan::of(&ground(true));
        assert_eq!(
            count(&plan, Reason::Resolver),
            2,
            "one resolver, both transports"
        );
    }

    #[test]
    fn a_port_narrows_an_allowed_network_to_what_this_host_begins() {
        let plan = Plan::of(&ground(false));
        let allowed: Vec<_> = plan
            .permits()
            .filter(|p| p.reason == Reason::Allowed)
            .collect();
        assert!(matches!(allowed[0].traffic, Traffic::Everything(_)));
        assert!(matches!(
            allowed[1].traffic,
            Traffic::Outgoing { port: 22, .. }
        ));
    }

    #[test]
    fn a_name_with_very_many_addresses_opens_few() {
        let servers = (0..200u32).map(|n| (IpAddr::from(n.to_be_bytes()), 1));
        let ground = Ground {
            servers: servers.collect(),
            ..Ground::default()
        };
        assert!(count(&Plan::of(&ground), Reason::Server) <= SERVER_ADDRESSES_MAX);
    }
}
