//! The present speed of variants that have not run for a while, from those that have: they share the machine.

use crate::cost_model::PresentSpeed;

/// A variant when it last ran.
#[derive(Clone, Debug)]
struct Seen {
    steps: u64,
    /// Estimated relative speeds of all variants at that time.
    speeds: Vec<f64>,
}

/// See the module docs.
#[derive(Clone, Debug)]
pub struct Levels {
    seen: Vec<Seen>,
    /// The variant that ran last.
    recent: usize,
}

impl Levels {
    /// For `variants` variants, none of which has run.
    pub fn new(variants: usize) -> Levels {
        Levels { seen: vec![Seen { steps: 0, speeds: vec![1.0; variants] }; variants], recent: 0 }
    }

    /// Forgets what is known of a variant.
    fn forget(&mut self, at: usize) {
        let variants = self.seen.len();
        self.seen[at] = Seen { steps: 0, speeds: vec![1.0; variants] };
        self.seen.iter_mut().for_each(|seen| seen.speeds[at] = 1.0);
    }

    /// By how much each variant is faster than its own cost model says. `now` has a speed for each variant that is loaded.
    pub fn update(&mut self, now: &[Option<PresentSpeed>]) -> Vec<f64> {
        // A variant that is not loaded, or was loaded again, starts anew.
        for at in 0..now.len().min(self.seen.len()) {
            if now[at].is_none_or(|now| now.steps < self.seen[at].steps) {
                self.forget(at);
            }
        }
        let missing = PresentSpeed { steps: 0, relative: 1.0, bandwidth: 0.0 };
        let now: Vec<PresentSpeed> = now.iter().map(|now| now.unwrap_or(missing)).collect();
        let now = now.as_slice();
        let ran = |seen: &Seen, now: &PresentSpeed| now.steps.saturating_sub(seen.steps);
        let most = (0..now.len().min(self.seen.len())).max_by_key(|&v| ran(&self.seen[v], &now[v]));
        self.recent = most.filter(|&v| ran(&self.seen[v], &now[v]) > 0).unwrap_or(self.recent);
        let recent = self.recent;
        let fresh = |seen: &Seen, now: &PresentSpeed| now.steps != seen.steps;
        let factor = |(seen, own): (&Seen, &PresentSpeed)| match (now.get(recent), seen.speeds.get(recent)) {
            (Some(now), Some(then)) if now.steps > 0 && !fresh(seen, own) && *then > 0.0 => now.relative / then,
            _ => 1.0,
        };
        let factors: Vec<f64> = self.seen.iter().zip(now).map(factor).collect();
        // What the others are estimated at, since one that has not run says nothing of now.
        let speeds: Vec<f64> = now.iter().zip(&factors).map(|(now, factor)| now.relative * factor).collect();
        for (seen, now) in self.seen.iter_mut().zip(now).filter(|(seen, now)| fresh(seen, now)) {
            *seen = Seen { steps: now.steps, speeds: speeds.clone() };
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(steps: u64, relative: f64) -> Option<PresentSpeed> {
        Some(PresentSpeed { steps, relative, bandwidth: relative * 1e9 })
    }

    #[test]
    fn an_idle_variant_follows_the_one_that_runs() {
        let mut levels = Levels::new(2);
        assert_eq!(levels.update(&[speed(0, 1.0), speed(0, 1.0)]), [1.0, 1.0]);
        // The first has run: the second, which never did, is as much faster or slower.
        assert_eq!(levels.update(&[speed(5, 0.8), speed(0, 1.0)]), [1.0, 0.8]);
        assert_eq!(levels.update(&[speed(9, 0.8), speed(4, 0.6)]), [1.0, 1.0], "both know for themselves");
        // The bus is busy, and the second runs no more.
        assert_eq!(levels.update(&[speed(12, 0.4), speed(4, 0.6)]), [1.0, 0.5]);
        assert_eq!(levels.update(&[speed(12, 0.4), speed(4, 0.6)]), [1.0, 0.5], "nothing new");
        assert_eq!(levels.update(&[speed(20, 0.8), speed(4, 0.6)]), [1.0, 1.0], "it is clear again");
        // The first sees half a machine while the second has not run, and stops: it returns with the second.
        let mut late = Levels::new(2);
        late.update(&[speed(5, 0.8), speed(5, 0.8)]);
        assert_eq!(late.update(&[speed(9, 0.4), speed(5, 0.8)]), [1.0, 0.5]);
        assert_eq!(late.update(&[speed(9, 0.4), speed(8, 0.4)]), [1.0, 1.0]);
        assert_eq!(late.update(&[speed(9, 0.4), speed(30, 0.8)]), [2.0, 1.0]);
        assert_eq!(levels.update(&[speed(20, 0.8), speed(6, 0.3)]), [0.5, 1.0], "and the other way round");
        // A variant that was dropped is like one that never ran.
        assert_eq!(levels.update(&[None, speed(6, 0.3)]), [0.3, 1.0]);
        // Loaded again, the one that ran last knows nothing yet, and the other keeps what it knows.
        let mut again = Levels::new(2);
        again.update(&[speed(5, 0.8), speed(5, 0.8)]);
        again.update(&[speed(9, 0.4), speed(5, 0.8)]);
        again.update(&[None, speed(5, 0.8)]);
        assert_eq!(again.update(&[speed(0, 1.0), speed(5, 0.8)])[1], 1.0);
    }
}
