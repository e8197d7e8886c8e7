//! Which real servers take frames, and how many of them are enough.

/// What health checks say of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing is wrong with it.
    #[default]
    Sound,
    /// It keeps the flows that it has and gets no new one, as with weight 0.
    Inhibited,
    /// No frame is sent to it.
    Failed,
}

/// How much weight of a service must be alive, as keepalived has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Sum of the weights of real servers that take new flows.
    pub weight: u32,
    /// So much more it takes to have the quorum again, and so much less to lose it.
    pub hysteresis: u32,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { weight: 1, hysteresis: 0 }
    }
}

impl Quorum {
    /// Whether the quorum is there with so much `live` weight. No weight at all never is.
    #[must_use]
    pub fn holds(&self, live: u64, held_before: bool) -> bool {
        let (weight, hysteresis) = (u64::from(self.weight), u64::from(self.hysteresis));
        let needed = if held_before { weight.saturating_sub(hysteresis) } else { weight + hysteresis };
        live > 0 && live >= needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_lost_below_and_found_above_the_band() {
        let quorum = Quorum { weight: 5, hysteresis: 2 };
        let held: Vec<bool> = [5, 4, 3, 2, 3, 6, 7, 6, 3, 0]
            .into_iter()
            .scan(true, |held, live| {
                *held = quorum.holds(live, *held);
                Some(*held)
            })
            .collect();
        assert_eq!(held, [true, true, true, false, false, false, true, true, true, false]);
    }

    #[test]
    fn by_default_one_is_enough_and_none_is_not() {
        for before in [true, false] {
            assert!(Quorum::default().holds(1, before));
            assert!(!Quorum::default().holds(0, before));
        }
        assert!(!Quorum { weight: 1, hysteresis: 1 }.holds(0, true));
    }
}
