//! How a short operation is timed: by the plan of bench/lib/measure.mjs.

use crate::system::parse;
use std::time::Instant;

pub struct Plan {
    warmup_batches: usize,
    batches: usize,
    rounds_per_batch: usize,
}

impl Plan {
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let [warmup_batches, batches, rounds_per_batch] = args else {
            return Err("a plan has three numbers".into());
        };
        Ok(Self {
            warmup_batches: parse(warmup_batches)?,
            batches: parse(batches)?,
            rounds_per_batch: parse(rounds_per_batch)?,
        })
    }

    pub fn rounds_per_batch(&self) -> usize {
        self.rounds_per_batch
    }

    /// Nanoseconds per round: a sample is a batch's time divided by its rounds. The operation is
    /// given the number of its round in the batch.
    pub fn time(
        &self,
        mut round: impl FnMut(usize) -> Result<(), String>,
    ) -> Result<Vec<f64>, String> {
        let mut samples = Vec::with_capacity(self.batches);
        for batch in 0..self.warmup_batches + self.batches {
            let start = Instant::now();
            for number in 0..self.rounds_per_batch {
                round(number)?;
            }
            if batch >= self.warmup_batches {
                samples.push(start.elapsed().as_nanos() as f64 / self.rounds_per_batch as f64);
            }
        }
        Ok(samples)
    }
}
