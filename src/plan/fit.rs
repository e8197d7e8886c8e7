//! What a burst costs by its size: a fixed part, which all its frames share, and a part for each frame.

/// Bursts of about one size, as they were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstPoint {
    /// Mean frames of a burst.
    pub frames: f64,
    /// Mean cost of a burst, in any unit.
    pub cost: f64,
    /// How many bursts.
    pub bursts: f64,
}

/// The line through them: `per_burst + per_frame * frames`. Neither part is negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The fixed part of a burst.
    pub per_burst: f64,
    /// The part of each frame.
    pub per_frame: f64,
    /// Whether the bursts were too much alike to tell the parts: then they are told by what is usual.
    pub assumed: bool,
    /// Inverse of the weighted normal equations.
    inverse: [[f64; 2]; 2],
    /// Relative spread of the points about the line, over what is expected of them.
    spread: f64,
    freedom: f64,
}

/// What a class of bursts may be off the line by, relative, however many bursts it has: real costs are no line.
const OFF_THE_LINE: f64 = 0.05;
/// Squared relative spread of the costs of single bursts: about their median, of which interruptions are a part.
const SINGLE_BURST_VARIANCE: f64 = 1.0;
/// Spread that is believed beforehand, over what is expected, and as how many points.
const SPREAD_BEFOREHAND: f64 = 1.0;
const WEIGHT_BEFOREHAND: f64 = 3.0;
/// Which part of the largest bursts' cost their frames have, where bursts are too much alike to tell; and how sure it is.
const USUAL_SHARE_OF_FRAMES: f64 = 0.7;
const USUAL_SHARE_SPREAD: f64 = 0.2;
/// The classes tell the parts if so many of them have so many bursts, and the largest are so many times the smallest.
const CLASSES_TO_TELL: usize = 3;
const BURSTS_TO_TELL: f64 = 20.0;
const RANGE_TO_TELL: f64 = 4.0;
/// Rounds in which weights, which depend on the line, and the line are made anew.
const ROUNDS: usize = 8;

/// Sums of the normal equations.
#[derive(Clone, Copy, Default)]
struct Sums {
    one: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Fit {
    /// The line through `points`, by least squares of relative distances. `None` without a point.
    ///
    /// A class of few bursts weighs less; one of very many not much more than one of many, because costs are no exact line
    /// and each size tells something.
    pub fn of(points: &[BurstPoint]) -> Option<Self> {
        let points: Vec<BurstPoint> = points
            .iter()
            .copied()
            .filter(|point| point.bursts >= 1.0 && point.frames > 0.0 && point.cost > 0.0)
            .collect();
        let largest = points.iter().max_by(|a, b| (a.frames).total_cmp(&b.frames))?;
        // An uncertain class of a few huge bursts must not say what is usual.
        let top = points.iter().filter(|point| point.bursts >= BURSTS_TO_TELL);
        let top = top.max_by(|a, b| a.frames.total_cmp(&b.frames)).unwrap_or(largest);
        let assumed = !tells_parts(&points);
        let prior = assumed.then_some(*top);
        let mut line = (0.0, top.cost / top.frames);
        let mut sums = Sums::default();
        for _ in 0..ROUNDS {
            sums = sums_of(&points, line, prior);
            line = solve(&sums)?;
        }
        let (per_burst, per_frame) = line;
        let determinant = sums.one * sums.xx - sums.x * sums.x;
        let inverse = [[sums.xx / determinant, -sums.x / determinant], [-sums.x / determinant, sums.one / determinant]];
        let off: f64 = points
            .iter()
            .map(|point| {
                let distance = point.cost - at(line, point.frames);
                weight(point, line) * distance * distance
            })
            .sum();
        let free = (points.len() as f64 - 2.0).max(0.0);
        let freedom = WEIGHT_BEFOREHAND + free;
        let spread = ((WEIGHT_BEFOREHAND * SPREAD_BEFOREHAND.powi(2) + off) / freedom).sqrt();
        Some(Self { per_burst, per_frame, assumed, inverse, spread, freedom })
    }

    /// Cost of a frame in bursts of so many.
    pub fn frame_cost(&self, frames: f64) -> f64 {
        self.per_frame + self.per_burst / frames
    }

    /// How far [`Self::frame_cost`] may be off, either way: in nine of ten cases, if costs are a line.
    pub fn frame_cost_uncertainty(&self, frames: f64) -> f64 {
        let [[one, mixed], [_, xx]] = self.inverse;
        let variance = (one + 2.0 * frames * mixed + frames * frames * xx).max(0.0);
        student(self.freedom) * self.spread * variance.sqrt() / frames
    }
}

fn tells_parts(points: &[BurstPoint]) -> bool {
    let sizes: Vec<f64> =
        points.iter().filter(|point| point.bursts >= BURSTS_TO_TELL).map(|point| point.frames).collect();
    let smallest = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    sizes.len() >= CLASSES_TO_TELL && largest >= RANGE_TO_TELL * smallest
}

fn at((per_burst, per_frame): (f64, f64), frames: f64) -> f64 {
    per_burst + per_frame * frames
}

/// One over the variance that is expected of a class.
fn weight(point: &BurstPoint, line: (f64, f64)) -> f64 {
    let relative = OFF_THE_LINE.powi(2) + SINGLE_BURST_VARIANCE / point.bursts;
    1.0 / (relative * at(line, point.frames).powi(2)).max(f64::MIN_POSITIVE)
}

fn sums_of(points: &[BurstPoint], line: (f64, f64), prior: Option<BurstPoint>) -> Sums {
    let mut sums = Sums::default();
    for point in points {
        let weight = weight(point, line);
        sums.one += weight;
        sums.x += weight * point.frames;
        sums.xx += weight * point.frames * point.frames;
        sums.y += weight * point.cost;
        sums.xy += weight * point.frames * point.cost;
    }
    if let Some(top) = prior {
        // As a measurement of the slope alone.
        let usual = top.cost / top.frames;
        let weight = 1.0 / (USUAL_SHARE_SPREAD * usual).powi(2);
        sums.xx += weight;
        sums.xy += weight * USUAL_SHARE_OF_FRAMES * usual;
    }
    sums
}

/// The line; where one of its parts would be negative, the best one without that part.
fn solve(sums: &Sums) -> Option<(f64, f64)> {
    let determinant = sums.one * sums.xx - sums.x * sums.x;
    if determinant <= 0.0 || !determinant.is_finite() {
        return None;
    }
    let per_frame = (sums.one * sums.xy - sums.x * sums.y) / determinant;
    let per_burst = (sums.xx * sums.y - sums.x * sums.xy) / determinant;
    Some(match (per_burst >= 0.0, per_frame >= 0.0) {
        (false, _) => (0.0, sums.xy / sums.xx),
        (_, false) => (sums.y / sums.one, 0.0),
        _ => (per_burst, per_frame),
    })
}

/// Student's t for nine of ten cases, two-sided.
fn student(freedom: f64) -> f64 {
    // Hill's first terms about the normal quantile; within 2 % from 3 on.
    let z: f64 = 1.645;
    z + (z.powi(3) + z) / (4.0 * freedom) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom * freedom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: [f64; 7] = [1.0, 2.4, 5.3, 11.0, 22.0, 45.0, 64.0];

    fn points(sizes: &[f64], bursts: f64, cost: impl Fn(f64) -> f64) -> Vec<BurstPoint> {
        sizes.iter().map(|&frames| BurstPoint { frames, cost: cost(frames), bursts }).collect()
    }

    #[test]
    fn nothing_tells_nothing() {
        assert_eq!(Fit::of(&[]), None);
        assert_eq!(Fit::of(&[BurstPoint { frames: 1.0, cost: 0.0, bursts: 10.0 }]), None);
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, quantile) in [(3.0, 2.353), (4.0, 2.132), (5.0, 2.015), (10.0, 1.812)] {
            assert!((student(freedom) / quantile - 1.0).abs() < 0.02, "{freedom}: {}", student(freedom));
        }
    }

    proptest! {
        /// From bursts of a few frames the cost of full ones is found exactly, if costs are a line.
        #[test]
        fn a_line_is_recovered(a in 1.0..5_000.0f64, b in 1.0..5_000.0f64, classes in 3usize..=7, bursts in 50.0..1e6f64) {
            let fit = Fit::of(&points(&SIZES[..classes], bursts, |n| a + b * n)).unwrap();
            prop_assert!(!fit.assumed);
            prop_assert!((fit.per_burst / a - 1.0).abs() < 1e-6 && (fit.per_frame / b - 1.0).abs() < 1e-6, "{fit:?}");
            prop_assert!((fit.frame_cost(64.0) / (b + a / 64.0) - 1.0).abs() < 1e-6);
        }

        /// A frame never costs more in larger bursts, and nothing is negative or unknown, whatever the points are.
        #[test]
        fn a_frame_costs_less_in_larger_bursts(
            points in prop::collection::vec((1.0..512.0f64, 1.0..1e7f64, 0.0..1e6f64), 1..10),
            size in 1.0..256.0f64,
        ) {
            let points: Vec<_> =
                points.into_iter().map(|(frames, cost, bursts)| BurstPoint { frames, cost, bursts }).collect();
            if let Some(fit) = Fit::of(&points) {
                prop_assert!(fit.per_burst >= 0.0 && fit.per_frame >= 0.0, "{fit:?}");
                prop_assert!(fit.frame_cost(2.0 * size) <= fit.frame_cost(size) && fit.frame_cost(size) > 0.0);
                prop_assert!(fit.frame_cost_uncertainty(size) > 0.0 && fit.frame_cost_uncertainty(size).is_finite());
            }
        }

        /// The scale of time does not matter.
        #[test]
        fn units_do_not_matter(a in 1.0..5_000.0f64, b in 1.0..5_000.0f64, unit in 0.01..100.0f64) {
            let of = |unit: f64| Fit::of(&points(&SIZES[..2], 100.0, |n| unit * (a + b * n))).unwrap();
            prop_assert!((of(unit).frame_cost(64.0) / of(1.0).frame_cost(64.0) / unit - 1.0).abs() < 1e-9);
        }
    }

    /// Classes that are off the line by 8 % and bursts that differ by as much as they cost: the truth is inside in about
    /// nine of ten cases.
    #[test]
    fn the_truth_is_inside_of_noisy_measurements() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut normal = move || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let (mut inside, mut cases) = (0, 0);
        for case in 0..2000 {
            let (a, b) = (100.0 + f64::from(case % 40) * 50.0, 200.0 + f64::from(case / 40) * 40.0);
            let classes = 3 + usize::try_from(case % 3).unwrap();
            let bursts = 10f64.powi(2 + case % 4);
            let mut noisy = points(&SIZES[..classes], bursts, |n| a + b * n);
            for point in &mut noisy {
                point.cost *= (1.0 + 0.08 * normal() + normal() / bursts.sqrt()).max(0.1);
            }
            let fit = Fit::of(&noisy).unwrap();
            let off = (fit.frame_cost(64.0) - (b + a / 64.0)).abs();
            inside += i32::from(off <= fit.frame_cost_uncertainty(64.0));
            cases += 1;
        }
        assert!(inside * 100 >= cases * 85, "{inside} of {cases}");
        assert!(inside * 100 <= cases * 99, "an interval that is never missed tells nothing: {inside} of {cases}");
    }
}
