//! When frames are due.

/// The most that is sent at once, and what has to lie between two bursts.
///
/// Frames are due by the clock alone, so that a late one makes none of its followers late. What a generator is behind by
/// it catches up in bursts no larger than any other, at most at twice its rate.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Frames in a second; none for as many as can be.
    rate: Option<f64>,
    burst: u64,
    start_ns: u64,
    sent: u64,
    not_before_ns: u64,
    most_behind_ns: u64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send so many frames.
    Send(u64),
    /// Nothing until then, by CLOCK_MONOTONIC in nanoseconds.
    WaitUntil(u64),
}

impl Pace {
    /// From `start_ns` on, `rate_pps` frames in a second, at most `burst` at once.
    pub fn new(rate_pps: Option<f64>, burst: usize, start_ns: u64) -> Self {
        Self {
            rate: rate_pps,
            burst: burst.max(1) as u64,
            start_ns,
            sent: 0,
            not_before_ns: start_ns,
            most_behind_ns: 0,
        }
    }

    /// What is due at `now_ns`.
    #[inline]
    pub fn due(&self, now_ns: u64) -> Due {
        let Some(rate) = self.rate else { return Due::Send(self.burst) };
        if now_ns < self.not_before_ns {
            return Due::WaitUntil(self.not_before_ns);
        }
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        // The first one is due at once.
        let due = rounded_down(elapsed_ns as f64 * rate / 1e9).saturating_add(1).saturating_sub(self.sent);
        if due == 0 { Due::WaitUntil(self.due_at_ns(self.sent)) } else { Due::Send(due.min(self.burst)) }
    }

    /// Notes that so many frames were sent at `now_ns`.
    #[inline]
    pub fn sent(&mut self, frames: u64, now_ns: u64) {
        if let Some(rate) = self.rate {
            self.most_behind_ns = self.most_behind_ns.max(now_ns.saturating_sub(self.due_at_ns(self.sent)));
            self.not_before_ns = now_ns.saturating_add(rounded_down(frames as f64 * 1e9 / rate / 2.0));
        }
        self.sent += frames;
    }

    /// The most that a frame was sent behind the time it was due; 0 without a rate.
    pub fn most_behind_ns(&self) -> u64 {
        self.most_behind_ns
    }

    /// When the frame behind `sent` others is due.
    fn due_at_ns(&self, sent: u64) -> u64 {
        match self.rate {
            Some(rate) => self.start_ns.saturating_add(rounded_down((sent as f64 * 1e9 / rate).ceil())),
            None => self.start_ns,
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and `as` saturates")]
fn rounded_down(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays a generator that looks at the clock at these intervals; returns frames sent and the end.
    fn play(pace: &mut Pace, mut now_ns: u64, turns: &[u64]) -> (u64, u64) {
        let mut sent = 0;
        for turn_ns in turns {
            now_ns += turn_ns;
            if let Due::Send(frames) = pace.due(now_ns) {
                pace.sent(frames, now_ns);
                sent += frames;
            }
        }
        (sent, now_ns)
    }

    proptest! {
        #[test]
        fn never_ahead_of_the_clock_and_never_more_than_a_burst(
            rate in 1.0f64..1e7, burst in 1usize..256, turns in prop::collection::vec(0u64..1_000_000, 1..300),
        ) {
            let mut pace = Pace::new(Some(rate), burst, 1_000);
            let mut now_ns = 1_000;
            let mut sent = 0;
            for turn_ns in turns {
                now_ns += turn_ns;
                match pace.due(now_ns) {
                    Due::Send(frames) => {
                        prop_assert!(frames >= 1 && frames <= burst as u64);
                        pace.sent(frames, now_ns);
                        sent += frames;
                        prop_assert!(sent as f64 <= (now_ns - 1_000) as f64 * rate / 1e9 + 1.0 + 1e-6);
                    }
                    Due::WaitUntil(then_ns) => prop_assert!(then_ns > now_ns, "waiting for what is past"),
                }
            }
        }
    }

    #[test]
    fn who_looks_often_enough_keeps_the_rate() {
        for rate in [1e3, 333_333.0, 1e6] {
            let mut pace = Pace::new(Some(rate), 32, 5);
            let (sent, end_ns) = play(&mut pace, 5, &vec![3_000; 1_000_000]);
            let wanted = (end_ns - 5) as f64 * rate / 1e9;
            assert!((sent as f64 - wanted).abs() <= 1.0, "{sent} for {wanted}");
            assert!(pace.most_behind_ns() <= 3_000 + 32, "{}", pace.most_behind_ns());
        }
    }

    #[test]
    fn a_stall_is_caught_up_at_no_more_than_twice_the_rate() {
        let mut pace = Pace::new(Some(1e6), 16, 0);
        // A millisecond was slept through: a thousand frames are due. In the next half only a thousand may leave.
        let (first, at_ns) = play(&mut pace, 0, &[1_000_000]);
        let (half, at_ns) = play(&mut pace, at_ns, &[100; 5_000]);
        assert!(first == 16 && (984..=1_016).contains(&half), "{first} {half}");
        let (rest, at_ns) = play(&mut pace, at_ns, &vec![100; 20_000]);
        assert_eq!(first + half + rest, at_ns / 1_000 + 1, "all is caught up in the end");
        assert!(pace.most_behind_ns() >= 900_000);
    }

    #[test]
    fn without_a_rate_a_burst_is_always_due() {
        let mut pace = Pace::new(None, 64, 0);
        assert_eq!(play(&mut pace, 0, &[0; 10]).0, 640);
        assert_eq!(pace.most_behind_ns(), 0);
    }
}
