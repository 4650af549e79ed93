//! Places in a network that stay reachable, as people write them.

use crate::ids::IdError;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A network and, where it is narrowed, a port: `10.1.2.3`, `10.0.0.0/8`, `2001:db8::/32`,
/// `tcp/443@10.1.2.3`. Host bits are never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Allowed {
    address: IpAddr,
    prefix: u8,
    port: Option<(Transport, u16)>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Allowed {
    /// First address of the network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
    /// Bits of the network's prefix: 0-32 or 0-128.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
    /// Protocol and port, where narrowed to one.
    #[must_use]
    pub fn port(&self) -> Option<(Transport, u16)> {
        self.port
    }
    /// Whether it covers so much that an isolation with it isolates little: more than 2^16 IPv4
    /// addresses, or more than a /48 of IPv6 (one site).
    #[must_use]
    pub fn is_wide(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix < 16,
            IpAddr::V6(_) => self.prefix < 48,
        }
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

impl FromStr for Allowed {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fault = |why| IdError::new("allowed network", text, why);
        let (port, network) = match text.split_once('@') {
            None => (None, text),
            Some((narrow, network)) => {
                let (transport, port) = narrow
                    .split_once('/')
                    .ok_or_else(|| fault("write PROTOCOL/PORT before the @, as in tcp/443"))?;
                let transport = match transport {
                    "tcp" => Transport::Tcp,
                    "udp" => Transport::Udp,
                    _ => return Err(fault("the protocol is tcp or udp")),
                };
                let port = port
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| fault("the port is a number from 1 to 65535"))?;
                (Some((transport, port)), network)
            }
        };
        let (address, prefix) = match network.split_once('/') {
            None => (network, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| fault("write an address or network, as in 10.1.2.3 or 2001:db8::/32"))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|n| *n <= max && bits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| fault("the prefix is 0-32, or 0-128 for IPv6"))?,
        };
        if masked(address, prefix) != address {
            return Err(fault(
                "bits beyond the prefix are set: is the prefix right?",
            ));
        }
        let lost = address.is_multicast() || (address.is_unspecified() && prefix == max);
        if lost || address.is_loopback() {
            return Err(fault(
                "unspecified, loopback and multicast addresses need no leave and get none",
            ));
        }
        Ok(Self {
            address,
            prefix,
            port,
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((transport, port)) = self.port {
            let name = match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            write!(f, "{name}/{port}@")?;
        }
        write!(f, "{}", self.address)?;
        let max = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix < max {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Allowed {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}
impl From<Allowed> for String {
    fn from(allowed: Allowed) -> Self {
        allowed.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "10.1.2.3",
            "10.0.0.0/8",
            "2001:db8::/32",
            "tcp/443@10.1.2.3",
            "udp/53@2001:db8::1",
            "0.0.0.0/0",
            "::/0",
        ] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for text in [
            "",
            "nowhere",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "tcp@10.0.0.1",
            "icmp/1@10.0.0.1",
            "tcp/0@10.0.0.1",
            "tcp/70000@10.0.0.1",
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "224.0.0.1",
            "10.0.0.1/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            " 10.0.0.1",
            "a@b@c",
            "ff02::1",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn everything_and_half_of_everything_is_wide() {
        for (text, wide) in [
            ("0.0.0.0/0", true),
            ("0.0.0.0/1", true),
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", false),
            ("::/0", true),
            ("2001:db8::/32", true),
            ("2001:db8:1::/48", false),
        ] {
            let allowed: Allowed = text.parse().unwrap();
            assert_eq!(allowed.is_wide(), wide, "{text}");
        }
    }
}
