//! Power-law lengths of runs: many short ones, few long ones.

#![forbid(unsafe_code)]

use crate::random::SplitMix;

/// Lengths drawn in advance, so that drawing one costs a load that never misses.
const NR_DRAWN: usize = 8192;

/// Lengths of 1 to a longest number of pages, where a length `n` is drawn as often as `1 / n^exponent` says.
#[derive(Clone, Debug)]
pub struct PowerLaw {
    drawn: Vec<u16>,
    at: usize,
}

impl PowerLaw {
    /// Draws the lengths. `exponent` 1 gives every octave of lengths the same share of the draws, 2 the same share of the
    /// pages.
    pub fn new(exponent: u32, longest: u16, random: &mut SplitMix) -> Self {
        // The inverse of the distribution whose density on 1..longest + 1 is `1 / x^exponent`, rounded down.
        let end = f64::from(longest) + 1.0;
        let length = |unit: f64| match exponent {
            1 => end.powf(unit),
            2 => 1.0 / (1.0 - unit * (1.0 - 1.0 / end)),
            _ => unreachable!("no row draws with exponent {exponent}"),
        };
        Self { drawn: (0..NR_DRAWN).map(|_| (length(random.unit()) as u16).clamp(1, longest)).collect(), at: 0 }
    }

    /// The next length.
    #[inline]
    pub fn draw(&mut self) -> u32 {
        self.at = (self.at + 1) % NR_DRAWN;
        u32::from(self.drawn[self.at])
    }

    /// The mean of the lengths.
    pub fn mean(&self) -> f64 {
        self.drawn.iter().map(|&length| f64::from(length)).sum::<f64>() / NR_DRAWN as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octave_has_its_share() {
        for (exponent, weigh) in [(1, false), (2, true)] {
            let mut law = PowerLaw::new(exponent, 4095, &mut SplitMix::new(1));
            let mut octaves = [0.0; 12];
            for _ in 0..NR_DRAWN {
                let length = law.draw();
                octaves[length.ilog2() as usize] += if weigh { f64::from(length) } else { 1.0 };
            }
            let all: f64 = octaves.iter().sum();
            // The longest octaves hold few draws when they are weighed by pages.
            for (octave, part) in octaves.iter().enumerate().take(8) {
                let share = 12.0 * part / all;
                assert!((0.7..1.4).contains(&share), "exponent {exponent}, octave {octave}: {share:.2}");
            }
        }
    }
}
