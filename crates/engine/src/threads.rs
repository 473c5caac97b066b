//! Threads that compute, and the floating-point mode they compute in.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use hallmark_engine::threads::Pool;
//!
//! let pool = Pool::new(2);
//! let sum = AtomicUsize::new(0);
//! pool.run(10, |part| {
//!     sum.fetch_add(part, Ordering::Relaxed);
//! });
//! assert_eq!(sum.into_inner(), 45);
//! ```
#![allow(unsafe_code)] // A job borrows from its caller's stack, and the control registers are read and written by assembly.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Looks at the gate this many times before a thread parks: some hundreds of microseconds, more than the usual pause between two operators.
const SPINS: usize = 20_000;

/// The gate's lowest bits count the workers inside; above them one bit tells that it is open; above it, the job's number.
const OPEN: usize = 1 << 12;
const WORKERS: usize = OPEN - 1;

/// A fixed number of threads: the caller's own and the workers', which live as long as the pool.
///
/// What a part computes must not depend on which thread takes it. Each thread begins with its own run of neighbouring parts, the
/// same in every job, so that it finds in its caches what it wrote in the job before; then it helps those that are behind.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs. Nested and concurrent calls find it locked and run their parts by themselves.
    running: Mutex<()>,
}

struct Shared {
    /// Job number, open bit, workers inside.
    gate: AtomicUsize,
    /// For each thread, how many parts of its run are taken.
    taken: Box<[Taken]>,
    /// The job behind the gate. Written while the gate is closed and empty, read by workers inside.
    job: UnsafeCell<Job>,
    /// The first panic of a worker.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Guards `wake` only: true once the pool ends.
    ended: Mutex<bool>,
    wake: Condvar,
}

/// A counter in a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Taken(AtomicUsize);

#[derive(Clone, Copy)]
struct Job {
    parts: usize,
    work: &'static (dyn Fn(usize) + Sync),
}

// SAFETY: `job` is the only field that is not Sync by itself. It is written by the holder of `Pool::running` while the gate is
// closed and no worker is inside, and read by workers between entering (an acquire of the release that opened the gate) and
// leaving; see `Pool::run`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the job's closure is Sync.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller's included: 1 starts none. WebAssembly always has 1. Where the system refuses
    /// a thread, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        let threads = if cfg!(target_family = "wasm") { 1 } else { threads.clamp(1, WORKERS) };
        let shared = Arc::new(Shared {
            gate: AtomicUsize::new(0),
            taken: std::iter::repeat_with(Taken::default).take(threads).collect(),
            job: UnsafeCell::new(Job { parts: 0, work: &|_| () }),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            ended: Mutex::new(false),
            wake: Condvar::new(),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("hallmark-{index}"))
                    .spawn(move || shared.worker(index))
                    .ok()
            })
            .collect();
        Self { shared, workers, running: Mutex::new(()) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once with each of `0..parts` and returns when all calls have ended. Which thread takes which part is
    /// open. Subnormals are kept in all of them. A call from within a part runs on that part's thread alone.
    ///
    /// # Panics
    /// With a part's panic, once no thread works any more.
    pub fn run(&self, parts: usize, work: impl Fn(usize) + Sync) {
        let _mode = KeepSubnormals::begin();
        let guard = if parts > 1 && !self.workers.is_empty() { try_lock(&self.running) } else { None };
        let Some(_running) = guard else {
            (0..parts).for_each(work);
            return;
        };
        let shared = &*self.shared;
        let work: &(dyn Fn(usize) + Sync) = &work;
        // SAFETY: only the lifetime changes. No worker uses the job after `close` below has returned, and `close` runs before
        // this frame ends, by the panic of a part too.
        let work =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        // SAFETY: the gate is closed and empty (the previous holder of `running` waited for that), so nobody reads.
        unsafe { *shared.job.get() = Job { parts, work } };
        shared.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        shared.open();
        let mine = catch_unwind(AssertUnwindSafe(|| shared.take_parts(0, parts, work)));
        shared.close();
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// [`Pool::run`] over consecutive ranges that cover `0..len`, each a multiple of `grain` long but for the last: about
    /// four for each thread, so that a thread that was held up does not hold up the others.
    pub fn run_ranges(&self, len: usize, grain: usize, work: impl Fn(std::ops::Range<usize>) + Sync) {
        let grains = len.div_ceil(grain.max(1));
        let parts = if self.threads() == 1 { 1 } else { grains.min(4 * self.threads()) };
        self.run(parts, |part| {
            let start = (grains * part / parts) * grain;
            let end = ((grains * (part + 1) / parts) * grain).min(len);
            work(start..end);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.gate.fetch_add(2 * OPEN, Ordering::SeqCst);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics were caught inside; there is nothing to learn here.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

fn try_lock(mutex: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Shared {
    /// Lets workers in to a new job.
    fn open(&self) {
        // The gate is closed and empty, so adding OPEN sets the bit; closing adds it again, which carries into the number.
        self.gate.fetch_add(OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // A sleeper counts itself before its last look at the gate, and looks while it holds this lock: it saw the
            // gate open, or it waits already.
            let _lock = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }

    /// Lets no further worker in and waits for those inside.
    fn close(&self) {
        self.gate.fetch_add(OPEN, Ordering::SeqCst);
        let mut spins = 0;
        while self.gate.load(Ordering::Acquire) & WORKERS != 0 {
            spins += 1;
            if spins < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Runs parts until none is left: those of `thread`'s own run, then those of the threads after it.
    fn take_parts(&self, thread: usize, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let threads = self.taken.len();
        for owner in (thread..threads).chain(0..thread) {
            let run = parts * owner / threads..parts * (owner + 1) / threads;
            while let Some(part) = run.clone().nth(self.taken[owner].0.fetch_add(1, Ordering::Relaxed)) {
                work(part);
            }
        }
    }

    /// The life of worker `index`.
    fn worker(&self, index: usize) {
        let _mode = KeepSubnormals::begin();
        let mut done = usize::MAX;
        let mut spins = 0;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            if gate & OPEN != 0 && gate / OPEN != done {
                // The exchange fails if the gate was closed meanwhile, or if another worker moved; look again then.
                if self.gate.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    done = gate / OPEN;
                    // SAFETY: this worker is counted inside; the job stays until it leaves.
                    let job = unsafe { *self.job.get() };
                    if let Err(panic) =
                        catch_unwind(AssertUnwindSafe(|| self.take_parts(index, job.parts, job.work)))
                    {
                        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                    }
                    self.gate.fetch_sub(1, Ordering::Release);
                    spins = 0;
                }
                continue;
            }
            spins += 1;
            if spins < SPINS {
                spin_loop();
                continue;
            }
            spins = 0;
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            while !*ended {
                let gate = self.gate.load(Ordering::SeqCst);
                if gate & OPEN != 0 && gate / OPEN != done {
                    break;
                }
                ended = self.wake.wait(ended).unwrap_or_else(PoisonError::into_inner);
            }
            let ended = *ended;
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            if ended {
                return;
            }
        }
    }
}

/// While it lives, this thread rounds to nearest even and keeps subnormals (`numeric.md` §1); then its own mode returns.
#[derive(Debug)]
#[must_use = "the mode lasts as long as this value"]
pub struct KeepSubnormals {
    before: ControlWord,
    /// A mode belongs to its thread.
    not_send: std::marker::PhantomData<*const ()>,
}

impl KeepSubnormals {
    /// Sets the mode.
    pub fn begin() -> Self {
        let before = control::read();
        if before != control::DEFAULT {
            control::write(control::DEFAULT);
        }
        Self { before, not_send: std::marker::PhantomData }
    }
}

impl Drop for KeepSubnormals {
    fn drop(&mut self) {
        if self.before != control::DEFAULT {
            control::write(self.before);
        }
    }
}

use control::ControlWord;

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub(super) type ControlWord = u32;
    /// All exceptions masked, nearest even, neither flush-to-zero nor denormals-are-zero.
    pub(super) const DEFAULT: ControlWord = 0x1f80;
    /// The six sticky exception flags, which are no mode.
    const FLAGS: ControlWord = 0x3f;

    pub(super) fn read() -> ControlWord {
        let mut word = 0_u32;
        // SAFETY: stores the control register into a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
        word & !FLAGS
    }

    pub(super) fn write(word: ControlWord) {
        // SAFETY: loads either the default or a word that this thread had before, so no reserved bit is set.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &word, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    pub(super) type ControlWord = u64;
    /// Nearest even, no flushing, no default-NaN mode.
    pub(super) const DEFAULT: ControlWord = 0;

    pub(super) fn read() -> ControlWord {
        let word: u64;
        // SAFETY: reads a register that user code may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: ControlWord) {
        // SAFETY: writes zero or a word that this thread had before.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    //! RISC-V and WebAssembly have no flushing mode, and compiled code on them rounds to nearest even.
    pub(super) type ControlWord = ();
    pub(super) const DEFAULT: ControlWord = ();
    pub(super) fn read() -> ControlWord {}
    pub(super) fn write((): ControlWord) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_part_once() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads);
            for parts in [0, 1, 2, 3, 7, 64] {
                for _ in 0..50 {
                    let seen: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(parts, |part| {
                        seen[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
            let sum = AtomicUsize::new(0);
            pool.run_ranges(1003, 16, |range| {
                assert!(range.start % 16 == 0 && (range.end % 16 == 0 || range.end == 1003));
                sum.fetch_add(range.len(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 1003);
        }
    }

    #[test]
    fn parked_workers_wake_and_nested_runs_end() {
        let pool = Pool::new(3);
        let count = AtomicU64::new(0);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            pool.run(8, |_| {
                pool.run(4, |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        assert_eq!(count.into_inner(), 96);
    }

    #[test]
    fn callers_on_several_threads() {
        let pool = Pool::new(2);
        let count = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(5, |_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 3_000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(16, |part| assert!(part < 3))));
        assert!(caught.is_err());
        pool.run(4, |_| ());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn subnormals_are_kept_and_the_callers_mode_returns() {
        let flushing = control::DEFAULT | 0x8040;
        control::write(flushing);
        let kept = AtomicU64::new(0);
        let pool = Pool::new(2);
        pool.run(64, |_| {
            let tiny = std::hint::black_box(f32::from_bits(3));
            kept.fetch_add(u64::from(std::hint::black_box(tiny * 1.0).to_bits()), Ordering::Relaxed);
        });
        let after = control::read();
        control::write(control::DEFAULT);
        assert_eq!(after, flushing);
        assert_eq!(kept.into_inner(), 3 * 64);
    }
}
