//! Splitting work over threads: always over outputs, never within one reduction.

use std::sync::{Mutex, PoisonError};

use crate::program::Exec;

/// The least work for one thread, in units of `cost` (about an eighth of a nanosecond): below it, waking a thread costs more.
const WORTH: usize = 16_000;

/// Calls `work(start, chunk)` for chunks of `out` that are multiples of `grain` elements long (but for the last), at the same time
/// on several threads where `out.len() * cost` is worth it.
pub(crate) fn chunks<T: Send>(
    exec: &Exec,
    out: &mut [T],
    grain: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let grain = grain.max(1);
    let worth = out.len().saturating_mul(cost) / WORTH;
    let most = exec.pool.threads().min(worth);
    let grains = out.len().div_ceil(grain);
    if most < 2 || grains < 2 {
        work(0, out);
        return;
    }
    // Up to eight for each thread, where each is worth one: parts may differ in what they cost, as positions of a prompt do.
    let parts = worth.min(8 * exec.pool.threads()).max(2 * most);
    let size = grains.div_ceil(grains.min(parts)) * grain;
    // Each part is locked once, by the thread that takes it.
    let parts: Vec<Mutex<&mut [T]>> = out.chunks_mut(size).map(Mutex::new).collect();
    exec.pool.run(parts.len(), |part| {
        if let Some(chunk) = parts.get(part) {
            work(part * size, &mut chunk.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
}

/// Calls `work(i, piece)` for each of the pieces of `out` that begin at `starts` (ascending, the first at 0), at the same time on several
/// threads where `out.len() * cost` is worth it.
pub(crate) fn pieces(
    exec: &Exec,
    out: &mut [f32],
    starts: &[usize],
    cost: usize,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (mut rest, mut parts) = (out, Vec::with_capacity(starts.len()));
    let worth = rest.len().saturating_mul(cost) / WORTH;
    for (i, start) in starts.iter().enumerate() {
        let size = starts.get(i + 1).map_or(rest.len(), |next| next - start);
        let (part, after) = rest.split_at_mut(size);
        // Each part is locked once, by the thread that takes it.
        parts.push(Mutex::new(part));
        rest = after;
    }
    let take = |i: usize| {
        if let Some(part) = parts.get(i) {
            work(i, &mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    };
    if exec.pool.threads().min(worth) < 2 {
        (0..parts.len()).for_each(take);
    } else {
        exec.pool.run(parts.len(), take);
    }
}
