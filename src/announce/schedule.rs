//! When the segment is told of which VIP.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Times after the first announcement: one may be lost, and a switch may hear nothing for a while after a link came up.
const REPEATS: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// Pause of announcements that keep a virtual MAC address in the tables of switches: forwarded frames bear the
/// interface's own, and most switches forget after five minutes.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// What is to be told, and when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeSet<(Instant, IpAddr)>,
    vips: HashMap<IpAddr, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: Instant,
    next: Option<Instant>,
    told: usize,
}

impl Schedule {
    /// Tells of `vip` from now on, anew if it was told already.
    pub(super) fn begin(&mut self, vip: IpAddr, now: Instant) {
        self.end(vip);
        self.vips.insert(vip, Entry { first: now, next: Some(now), told: 0 });
        self.due.insert((now, vip));
    }

    /// Tells of `vip` no more.
    pub(super) fn end(&mut self, vip: IpAddr) {
        if let Some(Entry { next: Some(next), .. }) = self.vips.remove(&vip) {
            self.due.remove(&(next, vip));
        }
    }

    /// Tells of `vip` once more, now.
    pub(super) fn defend(&mut self, vip: IpAddr, now: Instant) {
        let Some(entry) = self.vips.get_mut(&vip) else { return };
        if let Some(next) = entry.next.replace(now) {
            self.due.remove(&(next, vip));
        }
        // What was to be told at that time is told now.
        entry.told = entry.told.saturating_sub(1);
        self.due.insert((now, vip));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One that is due. With `refresh` it will be due again for ever.
    pub(super) fn take(&mut self, now: Instant, refresh: bool) -> Option<IpAddr> {
        let (due, vip) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, vip));
        let entry = self.vips.get_mut(&vip)?;
        let repeat = REPEATS.get(entry.told).map(|after| entry.first + *after);
        entry.told += 1;
        // A late one is not followed by the next at once.
        entry.next = repeat.map(|at| at.max(now)).or_else(|| refresh.then(|| now + REFRESH));
        if let Some(next) = entry.next {
            self.due.insert((next, vip));
        }
        Some(vip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds at which `vip` is told of within two minutes.
    fn times(schedule: &mut Schedule, start: Instant, refresh: bool) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(due) = schedule.next().filter(|due| *due < start + Duration::from_secs(120)) {
            schedule.take(due, refresh).unwrap();
            times.push(due.duration_since(start).as_millis());
        }
        times
    }

    #[test]
    fn a_vip_is_told_five_times_and_once_a_minute_if_that_is_wanted() {
        let (start, vip) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let mut schedule = Schedule::default();
        schedule.begin(vip, start);
        assert_eq!(times(&mut schedule, start, false), [0, 200, 1_000, 3_000, 10_000]);
        schedule.begin(vip, start);
        assert_eq!(times(&mut schedule, start, true), [0, 200, 1_000, 3_000, 10_000, 70_000]);
    }

    #[test]
    fn a_vip_is_defended_at_once_and_goes_on_as_before() {
        let (start, vip) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let mut schedule = Schedule::default();
        schedule.begin(vip, start);
        assert_eq!(times(&mut schedule, start, false), [0, 200, 1_000, 3_000, 10_000]);
        schedule.defend(vip, start + Duration::from_secs(20));
        assert_eq!(times(&mut schedule, start, false), [20_000], "not for ever");
        schedule.end(vip);
        schedule.defend(vip, start);
        assert_eq!(schedule.next(), None, "only what is told of is defended");
    }

    #[test]
    fn a_new_beginning_replaces_the_old_one_and_an_end_ends_it() {
        let (start, vip) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let mut schedule = Schedule::default();
        schedule.begin(vip, start);
        assert_eq!(schedule.take(start, false), Some(vip));
        assert_eq!(schedule.take(start, false), None);
        let later = start + Duration::from_millis(100);
        schedule.begin(vip, later);
        assert_eq!(times(&mut schedule, later, false), [0, 200, 1_000, 3_000, 10_000]);
        schedule.begin(vip, start);
        schedule.end(vip);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.take(start, true), None);
    }
}
