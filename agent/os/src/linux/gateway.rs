//! Whether the default gateway answers, from what the kernel knows anyway: nothing is sent.

use std::net::Ipv4Addr;
use std::path::Path;

/// Route flag: the route goes through a gateway (`RTF_GATEWAY`).
const VIA_GATEWAY: u32 = 0x2;
/// Neighbour flag: the entry is resolved (`ATF_COM`).
const RESOLVED: u32 = 0x2;

/// `None` without a default route over IPv4, or before anything was sent to the gateway.
pub(super) fn reachable(route: &Path, arp: &Path) -> Option<bool> {
    let gateway = default_gateway(&std::fs::read_to_string(route).ok()?)?;
    neighbour(&std::fs::read_to_string(arp).ok()?, gateway)
}

fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let address = u32::from_str_radix(fields.get(2)?, 16).ok()?;
        // The kernel prints the address as one number in its own byte order.
        (*fields.get(1)? == "00000000" && flags & VIA_GATEWAY != 0)
            .then(|| Ipv4Addr::from(address.to_ne_bytes()))
    })
}

fn neighbour(table: &str, wanted: Ipv4Addr) -> Option<bool> {
    table
        .lines()
        .skip(1)
        .find_map(|line| {
            let mut fields = line.split_whitespace();
            let address: Ipv4Addr = fields.next()?.parse().ok()?;
            let flags = fields.nth(1)?.strip_prefix("0x")?;
            (address == wanted).then(|| u32::from_str_radix(flags, 16).ok())?
        })
        .map(|flags| flags & RESOLVED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n";
    const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
        192.168.0.7      0x1         0x0         00:00:00:00:00:00     *        eth0\n\
        192.168.0.1      0x1         0x2         02:00:00:00:00:01     *        eth0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateway_of_the_default_route_is_looked_up_among_the_neighbours() {
        let gateway = default_gateway(ROUTE);
        assert_eq!(gateway, Some(Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!(neighbour(ARP, Ipv4Addr::new(192, 168, 0, 1)), Some(true));
        assert_eq!(neighbour(ARP, Ipv4Addr::new(192, 168, 0, 7)), Some(false));
        assert_eq!(neighbour(ARP, Ipv4Addr::new(192, 168, 0, 9)), None);
    }

    #[test]
    fn a_table_that_makes_no_sense_tells_nothing() {
        for text in ["", "x", "Iface\nx y z\n", "a\neth0 00000000 zz zz"] {
            assert_eq!(default_gateway(text), None);
            assert_eq!(neighbour(text, Ipv4Addr::LOCALHOST), None);
        }
    }
}
