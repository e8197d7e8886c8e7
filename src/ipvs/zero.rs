//! What ipvsadm's `-Z` does: the director's counters only ever grow, so that everybody can take differences; what they
//! said when they were zeroed is kept beside them, and taken off what ipvsadm lists.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::table::{Counts, ServiceRow, Table};
use crate::service::ServiceKey;

/// What was counted when counters were zeroed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeroed {
    /// When the director started whose counters these are, in nanoseconds since 1970: another one begins at 0.
    started_unix_ns: u64,
    /// By the service's name.
    services: BTreeMap<String, Marks>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Marks {
    counts: Counts,
    servers: BTreeMap<IpAddr, Counts>,
}

impl Zeroed {
    /// With the counters of one service, or of all, zeroed as of `table`, for a director that started at this time.
    #[must_use]
    pub fn zero(mut self, table: &Table, started_unix_ns: u64, only: Option<ServiceKey>) -> Self {
        if self.started_unix_ns != started_unix_ns {
            self = Self { started_unix_ns, services: BTreeMap::new() };
        }
        // What is gone counts anew when it comes back.
        self.services.retain(|name, _| table.services.iter().any(|row| row.key.to_string() == *name));
        for row in table.services.iter().filter(|row| only.is_none_or(|only| only == row.key)) {
            let servers = row.servers.iter().map(|server| (server.address, server.counts)).collect();
            self.services.insert(row.key.to_string(), Marks { counts: row.counts, servers });
        }
        self
    }

    /// What was counted since.
    #[must_use]
    pub fn taken_off(&self, mut table: Table, started_unix_ns: u64) -> Table {
        if self.started_unix_ns == started_unix_ns {
            table.services.iter_mut().for_each(|row| self.take_off(row));
        }
        table
    }

    fn take_off(&self, row: &mut ServiceRow) {
        let Some(marks) = self.services.get(&row.key.to_string()) else { return };
        row.counts = row.counts.counted_since(marks.counts);
        for server in &mut row.servers {
            let mark = marks.servers.get(&server.address).copied().unwrap_or_default();
            server.counts = server.counts.counted_since(mark);
        }
    }
}

impl Counts {
    /// Without what had been counted at a mark. Counters below their mark are those of a service that was made anew.
    fn counted_since(self, mark: Self) -> Self {
        if self.packets < mark.packets { self } else { self.since(mark) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::table::{Connections, ServerRow};

    fn table(packets: [u64; 2]) -> Table {
        let row = |name: &str, packets: u64| {
            let counts = Counts { connections: packets / 4, packets, bytes: packets * 60 };
            let address = "192.168.88.100".parse().unwrap();
            ServiceRow {
                key: name.parse().unwrap(),
                scheduler: "rr".to_owned(),
                flags: Default::default(),
                persistence_s: None,
                netmask: None,
                counts,
                servers: vec![ServerRow {
                    address,
                    weight: 1,
                    upper_threshold: 0,
                    lower_threshold: 0,
                    connections: Connections::default(),
                    counts,
                }],
            }
        };
        let services = vec![row("tcp 192.168.88.15:80", packets[0]), row("udp 192.168.88.15:53", packets[1])];
        Table { size: 0, services }
    }

    fn packets(table: &Table) -> Vec<(u64, u64)> {
        table.services.iter().map(|row| (row.counts.packets, row.servers[0].counts.packets)).collect()
    }

    #[test]
    fn what_was_counted_before_is_taken_off() {
        let all = Zeroed::default().zero(&table([100, 200]), 7, None);
        assert_eq!(packets(&all.taken_off(table([108, 200]), 7)), [(8, 8), (0, 0)]);
        let one = all.zero(&table([108, 220]), 7, Some("tcp 192.168.88.15:80".parse().unwrap()));
        assert_eq!(packets(&one.taken_off(table([109, 220]), 7)), [(1, 1), (20, 20)]);
        assert_eq!(packets(&one.taken_off(table([5, 220]), 7)), [(5, 5), (20, 20)], "a service that was made anew");
        assert_eq!(packets(&one.taken_off(table([109, 220]), 8)), [(109, 109), (220, 220)], "another director");
        assert_eq!(packets(&one.zero(&table([1, 2]), 8, None).taken_off(table([4, 2]), 8)), [(3, 3), (0, 0)]);
    }
}
