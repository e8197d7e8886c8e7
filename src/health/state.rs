//! When a check's answers make it up or down: rise, fall and the damping of one that flaps.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{HealthCheckConfig, InitialState};

/// A check that flaps needs at most this many times its `rise` to be up again: a power of two.
pub const MOST_DAMPING: u32 = 16;

/// What makes a check up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Good answers in a row that make it up.
    pub rise: u32,
    /// Bad answers in a row that make it down.
    pub fall: u32,
    /// How long it is remembered that it went down; zero = not at all.
    pub flap_window: Duration,
}

impl From<&HealthCheckConfig> for Rules {
    fn from(check: &HealthCheckConfig) -> Self {
        Self { rise: check.rise, fall: check.fall, flap_window: Duration::from_secs(check.flap_window_s.into()) }
    }
}

/// Whether a check is up, and what that rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckState {
    rules: Rules,
    up: bool,
    /// Answers in a row that speak against `up`.
    against: u32,
    /// When it went down the last few times: those that can make a difference.
    downs: VecDeque<Duration>,
    flaps: u64,
}

impl CheckState {
    /// Before the first answer.
    #[must_use]
    pub fn new(rules: Rules, initial: InitialState) -> Self {
        Self { rules, up: initial == InitialState::Up, against: 0, downs: VecDeque::new(), flaps: 0 }
    }

    /// The same by other rules: what is known stays known.
    #[must_use]
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is up, and the last answer speaks against that.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.up && self.against > 0
    }

    /// Times that it went down.
    #[must_use]
    pub fn flaps(&self) -> u64 {
        self.flaps
    }

    /// Good answers in a row that it takes to be up at the time `now`: `rise`, doubled for each time but the first that
    /// it went down within the window, [`MOST_DAMPING`] times `rise` at most.
    #[must_use]
    pub fn needed_rise(&self, now: Duration) -> u32 {
        let recent = self.downs.iter().filter(|at| now.saturating_sub(**at) < self.rules.flap_window).count();
        let doublings = u32::try_from(recent.saturating_sub(1)).unwrap_or(u32::MAX);
        self.rules.rise.saturating_mul(2_u32.saturating_pow(doublings).min(MOST_DAMPING))
    }

    /// Takes in an answer at the time `now`, on a clock that never goes back. Returns whether it went up or down.
    pub fn learn(&mut self, good: bool, now: Duration) -> bool {
        if good == self.up {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.up { self.rules.fall } else { self.needed_rise(now) };
        if self.against < needed {
            return false;
        }
        self.up = good;
        self.against = 0;
        if !good {
            self.flaps += 1;
            self.downs.push_back(now);
            // The first does not count, each other one doubles.
            if self.downs.len() > MOST_DAMPING.ilog2() as usize + 1 {
                self.downs.pop_front();
            }
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn state(rise: u32, fall: u32, initial: InitialState) -> CheckState {
        CheckState::new(Rules { rise, fall, flap_window: WINDOW }, initial)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Gives answers until it goes up or down; how many that took.
    fn until_it_changes(state: &mut CheckState, good: bool, now: Duration) -> u32 {
        (1..).find(|_| state.learn(good, now)).unwrap_or(0)
    }

    #[test]
    fn rise_and_fall_are_counted_in_a_row() {
        let mut state = state(2, 3, InitialState::Up);
        let answers = [false, false, true, false, false, false, true, false, true, true];
        let up: Vec<bool> = answers
            .iter()
            .map(|good| {
                state.learn(*good, seconds(1));
                state.is_up()
            })
            .collect();
        assert_eq!(up, [true, true, true, true, true, false, false, false, false, true]);
        assert_eq!(state.flaps(), 1);
    }

    #[test]
    fn one_that_is_up_and_was_answered_badly_is_in_doubt() {
        let mut state = state(2, 3, InitialState::Up);
        let doubts: Vec<bool> = [true, false, true, false, false, false, false, true]
            .iter()
            .map(|good| {
                state.learn(*good, seconds(1));
                state.is_in_doubt()
            })
            .collect();
        assert_eq!(doubts, [false, true, false, true, true, false, false, false]);
    }

    #[test]
    fn one_that_begins_down_takes_its_rise() {
        let mut state = state(3, 1, InitialState::Down);
        assert!(!state.is_up());
        assert_eq!(until_it_changes(&mut state, true, seconds(0)), 3);
        assert_eq!(state.flaps(), 0);
    }

    #[test]
    fn each_time_down_within_the_window_doubles_the_rise_up_to_sixteen_times() {
        let mut state = state(3, 1, InitialState::Up);
        let mut needed = Vec::new();
        for round in 0..8 {
            until_it_changes(&mut state, false, seconds(round));
            needed.push(until_it_changes(&mut state, true, seconds(round)));
        }
        assert_eq!(needed, [3, 6, 12, 24, 48, 48, 48, 48]);
        until_it_changes(&mut state, false, seconds(8));
        assert_eq!(state.needed_rise(seconds(8)), 48);
        assert_eq!(
            state.needed_rise(seconds(64)),
            24,
            "those of the seconds 4 and before are forgotten, 5 to 8 are not"
        );
        assert_eq!(state.needed_rise(seconds(68)), 3);
    }

    #[test]
    fn without_a_window_nothing_is_damped() {
        let mut state = CheckState::new(Rules { rise: 2, fall: 1, flap_window: Duration::ZERO }, InitialState::Up);
        for round in 0..10 {
            until_it_changes(&mut state, false, seconds(round));
            assert_eq!(until_it_changes(&mut state, true, seconds(round)), 2);
        }
    }

    proptest! {
        /// What it says is what a look at the whole history says.
        #[test]
        fn the_state_is_that_of_the_history(
            rise in 1u32..4, fall in 1u32..4, initially_up: bool,
            answers in prop::collection::vec((any::<bool>(), 0u64..20), 0..300),
        ) {
            let initial = if initially_up { InitialState::Up } else { InitialState::Down };
            let mut state = state(rise, fall, initial);
            let (mut up, mut now, mut last_change) = (initially_up, 0, 0);
            let mut downs: Vec<u64> = Vec::new();
            for (at, (good, pause)) in answers.iter().enumerate() {
                now += pause;
                let changed = state.learn(*good, seconds(now));
                let run = answers[last_change..=at].iter().rev().take_while(|(good, _)| *good != up).count() as u32;
                let recent = downs.iter().filter(|down| now - **down < WINDOW.as_secs()).count() as u32;
                let damping = 2u32.pow(recent.saturating_sub(1).min(4));
                let expected = run >= if up { fall } else { rise * damping };
                prop_assert_eq!(changed, expected);
                if changed {
                    up = !up;
                    last_change = at + 1;
                    if !up { downs.push(now) }
                }
                prop_assert_eq!(state.is_up(), up);
                prop_assert_eq!(state.flaps(), downs.len() as u64);
            }
        }

        /// However much it flapped: so many good answers and it is up, so many bad ones and it is down.
        #[test]
        fn enough_answers_always_bring_it_over(answers in prop::collection::vec(any::<bool>(), 0..200), good: bool) {
            let mut state = state(2, 3, InitialState::Up);
            for answer in answers {
                state.learn(answer, seconds(0));
            }
            let most = if good { 2 * MOST_DAMPING } else { 3 };
            for _ in 0..most {
                state.learn(good, seconds(0));
            }
            prop_assert_eq!(state.is_up(), good);
        }
    }
}
