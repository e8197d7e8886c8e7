//! Which flow comes next, and by which addresses and ports a flow goes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::service::{Protocol, ServiceKey};

/// Most services of a generator.
const MAX_SERVICES: u64 = 1 << 20;

/// In which order flows take their turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FlowOrder {
    /// One after the other.
    Sequential,
    /// In each round every flow once, in an order without a pattern.
    Shuffled,
    /// At random, the n-th flow in proportion to 1 / n^exponent: few carry much, many little.
    Zipf {
        /// Over 0; 1 is the classic.
        exponent: f64,
    },
}

impl fmt::Display for FlowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequential => f.write_str("sequential"),
            Self::Shuffled => f.write_str("shuffled"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

impl FromStr for FlowOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || format!("{text:?} is no order: write sequential, shuffled, zipf or zipf:1.2");
        match text.split_once(':') {
            None if text == "sequential" => Ok(Self::Sequential),
            None if text == "shuffled" => Ok(Self::Shuffled),
            None if text == "zipf" => Ok(Self::Zipf { exponent: 1.0 }),
            Some(("zipf", exponent)) => {
                let exponent = exponent.parse().ok().filter(|exponent| (0.01..=10.0).contains(exponent));
                exponent.map(|exponent| Self::Zipf { exponent }).ok_or_else(refuse)
            }
            _ => Err(refuse()),
        }
    }
}

/// Names one flow after the other.
#[derive(Clone, Debug)]
pub struct FlowWalk {
    flows: u32,
    walk: Walk,
}

#[derive(Clone, Debug)]
enum Walk {
    Sequential { next: u32 },
    Shuffled { state: u32, mask: u32, half: u32 },
    Zipf { random: fastrand::Rng, exponent: f64, range: f64 },
}

impl FlowWalk {
    /// A walk over flows 0 to `flows` - 1; there is at least one. Those of the same seed are the same.
    pub fn new(order: FlowOrder, flows: u32, seed: u64) -> Self {
        let flows = flows.max(1);
        let walk = match order {
            FlowOrder::Sequential => Walk::Sequential { next: 0 },
            FlowOrder::Shuffled => {
                let bits = 32 - (flows - 1).leading_zeros();
                let mask = u32::try_from((1u64 << bits) - 1).unwrap_or(u32::MAX);
                Walk::Shuffled {
                    state: u32::try_from(seed % (1 << 32)).unwrap_or(0) & mask,
                    mask,
                    half: bits.div_ceil(2),
                }
            }
            FlowOrder::Zipf { exponent } => {
                let end = f64::from(flows) + 1.0;
                let range = if exponent == 1.0 { end.ln() } else { end.powf(1.0 - exponent) - 1.0 };
                Walk::Zipf { random: fastrand::Rng::with_seed(seed), exponent, range }
            }
        };
        Self { flows, walk }
    }

    /// The next flow.
    #[inline]
    pub fn next_flow(&mut self) -> u32 {
        match &mut self.walk {
            Walk::Sequential { next } => {
                let flow = *next;
                *next = if flow + 1 == self.flows { 0 } else { flow + 1 };
                flow
            }
            // A linear congruential generator whose period is the next power of two (Hull and Dobell), its weak low bits
            // mixed with its high ones; what lies beyond the flows is passed over, less than every other time.
            Walk::Shuffled { state, mask, half } => loop {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & *mask;
                let flow = *state ^ (*state >> *half);
                if flow < self.flows {
                    break flow;
                }
            },
            // The whole part of a number that is spread over [1, flows + 1) by a power law: its distribution inverted.
            Walk::Zipf { random, exponent, range } => {
                let at = random.f64() * *range;
                let number = if *exponent == 1.0 { at.exp() } else { (at + 1.0).powf(1.0 / (1.0 - *exponent)) };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "from 1 on; `as` saturates"
                )]
                let number = number as u32;
                number.saturating_sub(1).min(self.flows - 1)
            }
        }
    }
}

/// Addresses from a first to a last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    count: u64,
}

impl AddressRange {
    /// Number of addresses.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The address behind so many others.
    #[inline]
    pub fn at(&self, index: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(u32::try_from(index).unwrap_or(u32::MAX))))
            }
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(index)))),
        }
    }

    fn between(first: IpAddr, last: IpAddr) -> Option<Self> {
        let distance = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => u128::from(last.to_bits().checked_sub(first.to_bits())?),
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits().checked_sub(first.to_bits())?,
            _ => return None,
        };
        // More than anybody can use: there are at most 2^24 flows in a stream.
        Some(Self { first, count: u64::try_from(distance).unwrap_or(u64::MAX - 1).saturating_add(1) })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}", self.first),
            count => write!(f, "{}-{}", self.first, self.at(count - 1)),
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || format!("{text:?} is no range of addresses: write 198.18.0.0/16, 10.0.0.1-10.0.0.99 or one address");
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (first.parse().map_err(|_| refuse())?, last.parse().map_err(|_| refuse())?);
            return Self::between(first, last).ok_or_else(refuse);
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(bits), str::parse::<u32>).map_err(|_| refuse())?;
        let host = bits.checked_sub(length).ok_or_else(refuse)?;
        let hosts = 1u128.checked_shl(host).map_or(u128::MAX, |count| count - 1);
        let first = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !u32::try_from(hosts).unwrap_or(u32::MAX))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !hosts)),
        };
        Ok(Self { first, count: u64::try_from(hosts).unwrap_or(u64::MAX - 1).saturating_add(1) })
    }
}

/// Ports from a first to a last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Number of ports.
    pub fn count(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    #[inline]
    fn at(&self, index: u64) -> u16 {
        self.first.wrapping_add(u16::try_from(index).unwrap_or(0))
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 1024, last: u16::MAX }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("{text:?} is no range of ports: write 1024-65535 or one port from 1 on")),
        }
    }
}

/// Virtual services written as one: `udp 192.0.2.1:53`, `tcp 192.0.2.1-192.0.2.9:80-89`, `udp [2001:db8::1]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    protocol: Protocol,
    addresses: AddressRange,
    ports: PortRange,
}

impl ServiceRange {
    /// Number of services.
    pub fn count(&self) -> u64 {
        self.addresses.count().saturating_mul(self.ports.count())
    }

    /// All of them, ports of one address after the other.
    pub fn services(&self) -> impl Iterator<Item = ServiceKey> + '_ {
        (0..self.count()).map(|index| ServiceKey {
            vip: self.addresses.at(index / self.ports.count()),
            protocol: self.protocol,
            port: self.ports.at(index % self.ports.count()),
        })
    }
}

impl FromStr for ServiceRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || {
            format!(
                "{text:?} is no virtual service: write \"udp 192.0.2.1:53\", \"tcp 192.0.2.1-192.0.2.9:80\" or \
                 \"udp [2001:db8::1]:53\""
            )
        };
        let (protocol, rest) = text.split_once([' ', '/']).ok_or_else(refuse)?;
        let (addresses, ports) = rest.trim().rsplit_once(':').ok_or_else(refuse)?;
        let bare = addresses.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let range = Self {
            protocol: protocol.parse().map_err(|_| refuse())?,
            addresses: bare.unwrap_or(addresses).parse().map_err(|_| refuse())?,
            ports: ports.parse().map_err(|_| refuse())?,
        };
        if bare.is_some() != range.addresses.first().is_ipv6() {
            return Err(refuse());
        }
        if range.count() > MAX_SERVICES {
            return Err(format!("{text:?} are more than {MAX_SERVICES} virtual services"));
        }
        Ok(range)
    }
}

/// What a flow goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowAddresses {
    /// Number of its service.
    pub service: usize,
    /// Where it comes from.
    pub source: IpAddr,
    /// The port that it comes from.
    pub source_port: u16,
}

/// The flows of a generator: services in turn, and for each of them one source after the other.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    services: Box<[ServiceKey]>,
    sources_v4: AddressRange,
    sources_v6: AddressRange,
    ports: PortRange,
    flows: u32,
}

impl FlowPlan {
    /// A plan for so many flows.
    ///
    /// # Errors
    /// A sentence that says what there is too little of.
    pub fn new(
        services: Vec<ServiceKey>,
        [sources_v4, sources_v6]: [AddressRange; 2],
        ports: PortRange,
        flows: u32,
    ) -> Result<Self, String> {
        let plan = Self { services: services.into_boxed_slice(), sources_v4, sources_v6, ports, flows };
        if plan.services.is_empty() || flows == 0 {
            return Err("there must be a virtual service and a flow at least".to_owned());
        }
        for service in &plan.services {
            let sources = plan.sources(service.vip.is_ipv4());
            let room = sources.count().saturating_mul(ports.count()).saturating_mul(plan.services.len() as u64);
            if room < u64::from(flows) {
                return Err(format!(
                    "{flows} flows need more sources than {sources} with ports {ports} for {} virtual services, which make \
                     {room} flows: give a wider --source or --source-ports",
                    plan.services.len()
                ));
            }
        }
        Ok(plan)
    }

    /// Number of flows.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// The services, by number.
    pub fn services(&self) -> &[ServiceKey] {
        &self.services
    }

    /// By what flow number `flow` of all goes.
    #[inline]
    pub fn addresses(&self, flow: u32) -> FlowAddresses {
        let flow = u64::from(flow);
        let services = self.services.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "it is less than the length of a slice")]
        let service = (flow % services) as usize;
        let sources = self.sources(self.services[service].vip.is_ipv4());
        let nth = flow / services;
        FlowAddresses {
            service,
            source: sources.at(nth % sources.count()),
            source_port: self.ports.at(nth / sources.count() % self.ports.count()),
        }
    }

    fn sources(&self, v4: bool) -> &AddressRange {
        if v4 { &self.sources_v4 } else { &self.sources_v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn plan(services: &[&str], sources: &str, ports: &str, flows: u32) -> Result<FlowPlan, String> {
        let ranges: Vec<ServiceRange> = services.iter().map(|text| text.parse().unwrap()).collect();
        let services = ranges.iter().flat_map(ServiceRange::services).collect();
        FlowPlan::new(services, [sources.parse()?, "2001:2::/112".parse()?], ports.parse()?, flows)
    }

    #[test]
    fn every_flow_has_addresses_of_its_own_until_there_are_no_more() {
        let services = ["udp 192.0.2.1-192.0.2.2:53", "tcp [2001:db8::1]:80"];
        let all = plan(&services, "198.18.0.0/30", "1000-1004", 60).unwrap();
        let distinct: HashSet<FlowAddresses> = (0..60).map(|flow| all.addresses(flow)).collect();
        assert_eq!(distinct.len(), 60);
        assert!(distinct.iter().all(|flow| flow.source.is_ipv4() == all.services()[flow.service].vip.is_ipv4()));
        let error = plan(&services, "198.18.0.0/30", "1000-1004", 61).unwrap_err();
        assert!(error.contains("wider --source"), "{error}");
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        for (text, first, count) in [
            ("198.18.0.0/15", "198.18.0.0", 1 << 17),
            ("10.0.0.9/30", "10.0.0.8", 4),
            ("10.0.0.9", "10.0.0.9", 1),
            ("10.0.0.250-10.0.1.5", "10.0.0.250", 12),
            ("0.0.0.0/0", "0.0.0.0", 1 << 32),
            ("2001:db8::/120", "2001:db8::", 256),
            ("::/0", "::", u64::MAX),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!((range.first().to_string().as_str(), range.count()), (first, count), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0.2-10.0.0.1", "10.0.0.1-::1", "::/129", "a"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        for text in ["0", "5-4", "1-65536", ""] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        for text in ["udp 10.0.0.1", "icmp 10.0.0.1:1", "udp 2001:db8::1:53", "udp [10.0.0.1]:53", "udp 10.0.0.0/8:1-9"]
        {
            assert!(text.parse::<ServiceRange>().is_err(), "{text}");
        }
        assert_eq!("tcp 10.0.0.0/30:80-81".parse::<ServiceRange>().unwrap().count(), 8);
    }

    proptest! {
        #[test]
        fn a_round_has_every_flow_once(flows in 1u32..5000, seed: u64) {
            for order in [FlowOrder::Sequential, FlowOrder::Shuffled] {
                let mut walk = FlowWalk::new(order, flows, seed);
                for _ in 0..2 {
                    let round: HashSet<u32> = (0..flows).map(|_| walk.next_flow()).collect();
                    prop_assert_eq!(round.len(), flows as usize);
                    prop_assert!(round.iter().all(|flow| *flow < flows));
                }
            }
        }
    }

    #[test]
    fn a_shuffled_round_is_not_in_order() {
        let mut walk = FlowWalk::new(FlowOrder::Shuffled, 1000, 1);
        let round: Vec<u32> = (0..1000).map(|_| walk.next_flow()).collect();
        let neighbors = round.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(neighbors < 20, "{neighbors}");
    }

    #[test]
    fn the_first_flows_of_a_power_law_carry_their_share() {
        for exponent in [0.8, 1.0, 1.5] {
            let mut walk = FlowWalk::new(FlowOrder::Zipf { exponent }, 1000, 7);
            let mut counts = [0u32; 1000];
            for _ in 0..200_000 {
                counts[walk.next_flow() as usize] += 1;
            }
            assert!(counts[0] > counts[9] && counts[9] > counts[99] && counts[99] > counts[999], "{exponent}");
            // The first is to the second as the area below x^-s from 1 to 2 to that from 2 to 3.
            let area =
                |from: f64| ((from + 1.0).powf(1.001 - exponent) - from.powf(1.001 - exponent)) / (1.001 - exponent);
            let (expected, found) = (area(1.0) / area(2.0), f64::from(counts[0]) / f64::from(counts[1]));
            assert!((found / expected - 1.0).abs() < 0.1, "{exponent}: {found} for {expected}");
        }
    }
}
