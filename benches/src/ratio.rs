//! Ratios that a noisy, shared machine cannot spoil.
//!
//! Contestants run in turn, A B C, then B C A, and so on for many rounds in one process; each is
//! divided by the yardstick *of the same round*, and the median of those ratios is what counts.
//! What slows the machine for longer than a round slows both sides of the division.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

/// Nanoseconds an operation, of each contestant in each round.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Indexed by contestant, then by round.
    nanos: Vec<Vec<f64>>,
}

impl Rounds {
    /// Runs `nr_rounds` rounds of `nr_contestants` contestants.
    ///
    /// `measure(contestant, round)` gives nanoseconds an operation; warming up is its own affair.
    /// Who starts changes from round to round.
    pub fn run(nr_rounds: usize, nr_contestants: usize, mut measure: impl FnMut(usize, usize) -> f64) -> Self {
        assert!(nr_rounds > 0 && nr_contestants > 0, "nothing to measure");
        let mut nanos = vec![Vec::with_capacity(nr_rounds); nr_contestants];
        for round in 0..nr_rounds {
            for turn in 0..nr_contestants {
                let contestant = (round + turn) % nr_contestants;
                nanos[contestant].push(measure(contestant, round));
            }
        }
        Self { nanos }
    }

    /// Nanoseconds an operation of `contestant`.
    pub fn nanos(&self, contestant: usize) -> Spread {
        Spread::of(self.nanos[contestant].clone())
    }

    /// How many times as long as `yardstick` a contestant takes, round by round.
    pub fn ratio(&self, contestant: usize, yardstick: usize) -> Spread {
        self.ratio_to_quickest(contestant, &[yardstick])
    }

    /// How many times as long as the quickest of `yardsticks` in the same round.
    pub fn ratio_to_quickest(&self, contestant: usize, yardsticks: &[usize]) -> Spread {
        let quickest = |round: usize| {
            let nanos = yardsticks.iter().map(|&yardstick| self.nanos[yardstick][round]);
            nanos.fold(f64::INFINITY, f64::min)
        };
        let ratios = self.nanos[contestant].iter().enumerate();
        Spread::of(ratios.map(|(round, nanos)| nanos / quickest(round)).collect())
    }
}

/// A median with what lies around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lower quartile.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of at least one sample.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        // Linear between the two samples next to the quantile.
        let quantile = |part: f64| {
            let at = part * (samples.len() - 1) as f64;
            let (below, above) = (samples[at.floor() as usize], samples[at.ceil() as usize]);
            below + (above - below) * at.fract()
        };
        Self {
            median: quantile(0.5),
            low: quantile(0.25),
            high: quantile(0.75),
            min: quantile(0.0),
            max: quantile(1.0),
        }
    }

    /// One over it: the spread of the inverted ratios.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self {
            median: 1.0 / self.median,
            low: 1.0 / self.high,
            high: 1.0 / self.low,
            min: 1.0 / self.max,
            max: 1.0 / self.min,
        }
    }
}

/// Median and quartiles: `1.31 (1.28-1.35)`. Width and precision are those of the caller.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let text = format!("{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.low, self.high);
        match f.width() {
            Some(width) => write!(f, "{text:>width$}"),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_does_not_move_the_ratio() {
        let weather = [1.0, 1.0, 7.0, 1.0, 3.0];
        let rounds = Rounds::run(5, 2, |contestant, round| weather[round] * [2.0, 3.0][contestant]);
        let ratio = rounds.ratio(1, 0);
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.5, 1.5, 1.5));
        assert_eq!(rounds.nanos(0).max, 14.0);
    }

    #[test]
    fn each_contestant_starts_in_turn() {
        let mut started = Vec::new();
        Rounds::run(4, 3, |contestant, _| {
            started.push(contestant);
            1.0
        });
        assert_eq!(started, [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn quartiles_lie_between_their_neighbours() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        assert_eq!(spread.inverted().median, 0.4);
        assert_eq!(format!("{spread:.1}"), "2.5 (1.8-3.2)");
    }
}
