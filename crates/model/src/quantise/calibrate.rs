//! Ranges of values on sample inputs (`quantised.md` §3.2).

use std::collections::BTreeMap;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::pattern::MASKED;
use super::plan::{Plan, Plans};
use super::source::Source;
use crate::graph::{Graph, ValueId};

/// Why sample inputs could not be run.
pub type CalibrationError = Box<dyn std::error::Error + Send + Sync>;

/// Runs graphs on the sample inputs: the scalar reference in tests, the engine elsewhere.
pub trait Calibration {
    /// Runs `graph`, whose inputs are the model's, on each sample, in the same order every time, and gives `see` the outputs.
    ///
    /// # Errors
    /// Whatever the run says.
    fn each(
        &mut self,
        graph: &Graph,
        see: &mut dyn FnMut(&[Tensor]) -> Result<(), QuantiseError>,
    ) -> Result<(), CalibrationError>;
}

/// Samples that the scalar reference runs: slow, for small models and tests.
#[derive(Clone, Debug, Default)]
pub struct ByReference {
    /// Inputs in the graph's order, a list for each sample.
    pub samples: Vec<Vec<Tensor>>,
}

impl Calibration for ByReference {
    fn each(
        &mut self,
        graph: &Graph,
        see: &mut dyn FnMut(&[Tensor]) -> Result<(), QuantiseError>,
    ) -> Result<(), CalibrationError> {
        for sample in &self.samples {
            let inputs: Vec<&Tensor> = sample.iter().collect();
            see(&crate::reference::run(graph, &inputs, 1 << 30)?)?;
        }
        Ok(())
    }
}

/// How the range of a value follows from what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clip {
    /// The greatest magnitude.
    Max,
    /// The magnitude that all but one in ten thousand stay below.
    Percentile,
    /// The bound with the least squared error of the value itself.
    LeastError,
}

impl Clip {
    /// Every way, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Max, Self::Percentile, Self::LeastError];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Percentile => "percentile",
            Self::LeastError => "least-error",
        }
    }
}

/// The range that a value is quantised for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub low: f64,
    pub high: f64,
}

/// Bins of a histogram of magnitudes.
const BINS: usize = 2048;
/// What was seen of one value.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    low: f32,
    high: f32,
    /// Counts of magnitudes: bin i holds [i * width, (i + 1) * width).
    bins: Vec<u64>,
    width: f64,
    /// Whether masks may be in it.
    masked: bool,
}

impl Seen {
    fn new(masked: bool) -> Self {
        Self { low: 0.0, high: 0.0, bins: vec![0; BINS], width: 0.0, masked }
    }

    /// Adds numbers; NaN and infinities are no part of a range.
    fn add(&mut self, values: &[f32]) {
        let masked = self.masked;
        let counts = |x: &f32| x.is_finite() && !(masked && f64::from(*x) < -MASKED);
        let most = values.iter().filter(|x| counts(x)).fold(0.0, |most: f32, x| most.max(x.abs()));
        if most > 0.0 && self.width == 0.0 {
            self.width = f64::from(most) / (BINS - 1) as f64;
        }
        while self.width > 0.0 && f64::from(most) >= self.width * BINS as f64 {
            // Twice as wide: neighbours share a bin.
            let merged: Vec<u64> = self.bins.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.bins = merged;
            self.bins.resize(BINS, 0);
            self.width *= 2.0;
        }
        for x in values.iter().filter(|x| counts(x)) {
            self.low = self.low.min(*x);
            self.high = self.high.max(*x);
            let at = if self.width > 0.0 { (f64::from(x.abs()) / self.width) as usize } else { 0 };
            if let Some(bin) = self.bins.get_mut(at) {
                *bin += 1;
            }
        }
    }

    /// The range by `clip`. What never fell below 0 has a range that begins there.
    pub fn range(&self, clip: Clip) -> Range {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let most = low.abs().max(high);
        let bound = match clip {
            Clip::Max => most,
            Clip::Percentile => self.percentile().min(most),
            Clip::LeastError => self.least_error(if low < 0.0 { 127.0 } else { 255.0 }).min(most),
        };
        Range { low: low.max(-bound), high: high.min(bound) }
    }

    fn percentile(&self) -> f64 {
        let total: u64 = self.bins.iter().sum();
        let mut above = 0;
        let rare = |above: u64| above.saturating_mul(10_000) > total;
        let kept = self.bins.iter().rposition(|count| {
            above += count;
            rare(above)
        });
        kept.map_or(0.0, |bin| (bin + 1) as f64 * self.width)
    }

    /// The bound with the least sum of squared errors at so many levels: rounding below it, cutting off above it.
    fn least_error(&self, levels: f64) -> f64 {
        let last = self.bins.iter().rposition(|count| *count > 0).unwrap_or(0) + 1;
        let error = |bound: f64| {
            let step = bound / levels;
            let each = |(i, count): (usize, &u64)| {
                let x = (i as f64 + 0.5) * self.width;
                let error = if x > bound { (x - bound) * (x - bound) } else { step * step / 12.0 };
                error * *count as f64
            };
            self.bins.iter().enumerate().map(each).sum::<f64>()
        };
        let bounds =
            (last.div_ceil(5)..=last).step_by(last.div_ceil(128).max(1)).map(|i| i as f64 * self.width);
        let best = bounds.map(|bound| (error(bound), bound)).reduce(|a, b| if b.0 < a.0 { b } else { a });
        best.map_or(0.0, |(_, bound)| bound)
    }
}

/// Runs the float graph on the samples and looks at every value that needs a range.
pub(super) fn observe(
    source: &Source,
    plans: &Plans,
    calibration: &mut dyn Calibration,
) -> Result<BTreeMap<ValueId, Seen>, QuantiseError> {
    let ranged = |(id, plan): (&ValueId, &Plan)| {
        let needs = match plan {
            Plan::Input | Plan::Start { .. } | Plan::Fused(_) | Plan::Table { .. } => true,
            Plan::Integer
            | Plan::Same { .. }
            | Plan::Concat { .. }
            | Plan::Scaled { .. }
            | Plan::Softmax { .. }
            | Plan::Embedding { .. } => false,
        };
        (needs && source.dtype(*id) == Some(DType::F32)).then_some(*id)
    };
    let ids: Vec<ValueId> = plans.plans.iter().filter_map(ranged).collect();
    let masked = |id: &ValueId| matches!(plans.plans.get(id), Some(Plan::Fused(fused)) if plans.masks(fused));
    let mut seen: BTreeMap<ValueId, Seen> = ids.iter().map(|id| (*id, Seen::new(masked(id)))).collect();
    let mut probe = source.graph.clone();
    probe.outputs.clone_from(&ids);
    probe.output_keys.clear();
    let mut samples = 0_usize;
    let ran = calibration.each(&probe, &mut |outputs| {
        samples += 1;
        for (id, tensor) in ids.iter().zip(outputs) {
            if let (Some(seen), Some(values)) = (seen.get_mut(id), tensor.as_slice::<f32>()) {
                seen.add(values);
            }
        }
        Ok(())
    });
    ran.map_err(QuantiseError::run)?;
    if samples == 0 {
        return Err(QuantiseError::NoSamples);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_are_cut_off_where_that_is_asked_for() {
        let mut seen = Seen::new(false);
        for part in 0..40_u32 {
            seen.add(&(0..1000).map(|i| ((i * 37 + part) % 1000) as f32 / 1000.0).collect::<Vec<_>>());
        }
        seen.add(&[30.0, -2.0, f32::NAN, f32::INFINITY]);
        let max = seen.range(Clip::Max);
        assert_eq!((max.low, max.high), (-2.0, 30.0));
        let percentile = seen.range(Clip::Percentile);
        assert!((0.99..1.1).contains(&percentile.high), "{percentile:?}");
        let least = seen.range(Clip::LeastError);
        assert!((0.9..30.0).contains(&least.high), "{least:?}");
        assert_eq!(seen.bins.iter().sum::<u64>(), 40_002);
    }

    #[test]
    fn masks_are_no_part_of_a_range() {
        let mut seen = Seen::new(true);
        seen.add(&[-1e9, f32::NEG_INFINITY, -3.0, 2.0]);
        assert_eq!(seen.range(Clip::Max), Range { low: -3.0, high: 2.0 });
        assert_eq!(Seen::new(false).range(Clip::LeastError), Range { low: 0.0, high: 0.0 });
    }
}
