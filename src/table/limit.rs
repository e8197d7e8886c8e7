//! How many connections a real server is given: `-x` and `-y` of ipvsadm.

/// The limits of a real server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionLimit {
    /// With so many connections it gets no new flow; not 0.
    pub upper: u32,
    /// It gets new flows again when it has fewer than this; `None` is three quarters of `upper`.
    pub lower: Option<u32>,
}

impl ConnectionLimit {
    /// Whether a real server with so many connections gets no new flow. Between the limits it depends on what was before.
    ///
    /// As in Linux's ip_vs_conn.c (`ip_vs_bind_dest`, `ip_vs_unbind_dest`).
    #[inline]
    #[must_use]
    pub fn is_full(self, connections: u64, was_full: bool) -> bool {
        let upper = u64::from(self.upper);
        let has_room_again = match self.lower {
            Some(lower) => connections < u64::from(lower),
            None => connections.saturating_mul(4) < upper * 3,
        };
        connections >= upper || was_full && !has_room_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_from_the_upper_limit_until_below_the_lower_one() {
        let courses = [
            (None, [(7, false), (8, true), (7, true), (6, true), (5, false), (7, false), (9, true), (0, false)]),
            (Some(3), [(7, false), (8, true), (5, true), (3, true), (2, false), (7, false), (8, true), (2, false)]),
            (Some(8), [(7, false), (8, true), (7, false), (8, true), (100, true), (7, false), (6, false), (8, true)]),
        ];
        for (lower, course) in courses {
            let limit = ConnectionLimit { upper: 8, lower };
            let mut full = false;
            for (connections, expected) in course {
                full = limit.is_full(connections, full);
                assert_eq!(full, expected, "{connections} with {limit:?}");
            }
        }
    }
}
