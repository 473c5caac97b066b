//! Buffers that a warm run uses again, and the count of the bytes that a run holds.

use hallmark_receipt::{Data, Tensor};

use crate::error::Stop;

/// Free `f32` buffers and the byte count of one run. A program keeps one for each run that goes on at the same time.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// Free buffers, ascending by capacity.
    free: Vec<Vec<f32>>,
    /// Bytes of `free`.
    free_bytes: usize,
    /// Bytes of the run's live buffers.
    live: usize,
    /// The most bytes that a run may hold.
    limit: usize,
}

impl Arena {
    /// Begins a run under `limit` bytes.
    pub(crate) fn begin(&mut self, limit: usize) {
        self.limit = limit;
        self.live = 0;
    }

    /// Bytes that the run may still take.
    pub(crate) fn left(&self) -> usize {
        self.limit.saturating_sub(self.live)
    }

    /// Counts `bytes` before they are allocated.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Stop> {
        match self.live.checked_add(bytes).filter(|&sum| sum <= self.limit) {
            Some(sum) => {
                self.live = sum;
                Ok(())
            }
            None => Err(Stop::Memory { live: self.live, needed: bytes, limit: self.limit }),
        }
    }

    /// Gives `bytes` back.
    pub(crate) fn discharge(&mut self, bytes: usize) {
        self.live = self.live.saturating_sub(bytes);
    }

    /// A buffer of `n` elements with unspecified (but initialised) values, counted.
    pub(crate) fn take(&mut self, n: usize) -> Result<Vec<f32>, Stop> {
        let bytes = n.saturating_mul(size_of::<f32>());
        self.charge(bytes)?;
        let at = self.free.partition_point(|buffer| buffer.capacity() < n);
        if let Some(buffer) = self.free.get(at)
            && buffer.capacity() <= n.saturating_mul(2).max(256)
        {
            let mut buffer = self.free.remove(at);
            self.free_bytes = self.free_bytes.saturating_sub(capacity_bytes(&buffer));
            buffer.resize(n, 0.0);
            return Ok(buffer);
        }
        // Idle buffers count too: what is live plus what lies idle stays within the limit.
        if self.live.saturating_add(self.free_bytes) > self.limit {
            self.free.clear();
            self.free_bytes = 0;
        }
        Ok(vec![0.0; n])
    }

    /// Takes back a tensor that nobody needs any more.
    pub(crate) fn recycle(&mut self, tensor: Tensor) {
        self.discharge(bytes(&tensor));
        if let (_, Data::F32(buffer)) = tensor.into_parts() {
            self.keep(buffer);
        }
    }

    fn keep(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() == 0 {
            return;
        }
        self.free_bytes = self.free_bytes.saturating_add(capacity_bytes(&buffer));
        let at = self.free.partition_point(|other| other.capacity() < buffer.capacity());
        self.free.insert(at, buffer);
    }
}

fn capacity_bytes(buffer: &Vec<f32>) -> usize {
    buffer.capacity().saturating_mul(size_of::<f32>())
}

/// Bytes that a tensor's elements take in memory.
pub(crate) fn bytes(tensor: &Tensor) -> usize {
    match tensor.data() {
        Data::Str(v) => v
            .iter()
            .fold(0, |sum: usize, text| sum.saturating_add(size_of::<String>()).saturating_add(text.len())),
        data => data.len().saturating_mul(data.dtype().size().unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_limit_holds_before_allocation() {
        let mut arena = Arena::default();
        arena.begin(4000);
        let a = arena.take(900).unwrap();
        assert!(matches!(arena.take(101), Err(Stop::Memory { live: 3600, needed: 404, limit: 4000 })));
        let at = a.as_ptr();
        arena.recycle(Tensor::vector(a));
        assert_eq!(arena.left(), 4000);
        let again = arena.take(880).unwrap();
        assert_eq!(again.as_ptr(), at);
        assert!(matches!(arena.take(1 << 60), Err(Stop::Memory { .. })));
    }
}
