//! What verifiers take of memory and time for hostile graphs, and provers beside what was foreseen.
//!
//! A binary of its own, whose tests take turns, so that nobody else allocates meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hallmark_model::graph::{Attr, Dim, Graph, ValueId};
use hallmark_model::infer::InferError;
use hallmark_model::skeleton::{Constant, Skeleton};
use hallmark_proof::budget::Exceeded;
use hallmark_proof::estimate::Cost;
use hallmark_proof::lower::{LowerError, Unproved};
use hallmark_proof::pcs::{Security, Whir};
use hallmark_proof::program::{CheckError, Program};
use hallmark_proof::protocol::prove::{Committed, prove};
use hallmark_receipt::{DType, Digest, Tensor};

#[path = "../src/tests/models.rs"]
#[allow(dead_code, clippy::expect_used)] // Graphs of the crate's own making.
mod models;

use models::{In, Make, Random, cnn, dense, dequantise, encoder, ints, lenet, mlp};

/// The system's allocator, counting.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes in use at once while `work` runs, beyond those before it; and what it gives.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let out = work();
    (PEAK.load(Ordering::Relaxed) - before, out)
}

/// Time of this thread on a processor: other work on the machine does not blur it.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The most that refusing a graph may take: seconds of a build without optimisation are a tenth of that in one with it.
const MEMORY: usize = 256 << 20;
const TIME: Duration = Duration::from_secs(3);

/// Lowers a skeleton for inputs of the shapes that it declares, as a verifier does.
fn lowered(skeleton: &Skeleton, requests: usize) -> Result<(), CheckError> {
    let program = Program::new(skeleton)?;
    let graph = program.graph();
    let inputs: Vec<_> = graph.inputs.iter().map(|id| graph.values[id.0].info.clone()).collect();
    program.place(&inputs)?.circuit(requests).map(drop)
}

/// Why `skeleton` is refused, which must be quick and take little.
fn refused(name: &str, skeleton: &Skeleton) -> LowerError {
    let start = now();
    let (bytes, result) = peak(|| lowered(skeleton, 1));
    let spent = now() - start;
    assert!(bytes < MEMORY, "{name}: {} MiB", bytes >> 20);
    assert!(spent < TIME, "{name}: {spent:?}");
    match result {
        Err(CheckError::Lower(error)) => error,
        other => panic!("{name}: {other:?}"),
    }
}

/// The node's operator and what it asks for too much of.
fn exceeded(name: &str, graph: &Graph) -> (&'static str, Exceeded) {
    match refused(name, &Skeleton::of(graph).unwrap()) {
        LowerError::Node { op, why: Unproved::Budget(exceeded), .. } => (op, exceeded),
        other => panic!("{name}: {other}"),
    }
}

/// A model of what `op` makes of an int8 input, and a weight.
fn model(dims: &[usize], op: impl FnOnce(&mut Make, ValueId) -> ValueId) -> Graph {
    let (mut make, x) = Make::input(DType::I8, dims);
    let y = op(&mut make, x);
    let y = dequantise(&mut make, y);
    make.done(&[y])
}

fn list(v: &[i64]) -> In {
    In::Is(Tensor::vector(v.to_vec()))
}

fn wide(make: &mut Make, x: ValueId) -> ValueId {
    make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(x)])
}

#[test]
fn hostile_graphs_are_refused_before_they_are_followed() {
    let _alone = ALONE.lock().unwrap();
    let at_once = |got: u64| Exceeded::AtOnce { got };

    // Windows far beyond the input: 2^20 positions of a kernel of 2^20.
    let n = 1_usize << 20;
    let conv = model(&[1, 1, 1, n], |make, x| {
        let weight = Tensor::from_vec(vec![1, 1, 1, n], vec![1_i8; n]).unwrap();
        let pads = [("pads", ints(&[0, 0, 0, n as i64 - 1]))];
        make.node("ConvInteger", &pads, vec![In::Of(x), In::Is(weight)])
    });
    assert_eq!(exceeded("kernel", &conv), ("ConvInteger", at_once(1 << 40)));
    let k = 1_i64 << 15;
    let pool = model(&[1, 1, 2, 2], |make, x| {
        let attrs = [("kernel_shape", ints(&[k, k])), ("pads", ints(&[0, 0, k - 2, k - 2]))];
        make.node("MaxPool", &attrs, vec![In::Of(x)])
    });
    assert_eq!(exceeded("tournament", &pool), ("MaxPool", Exceeded::Turns));

    // A sum that is spread again links every element with every other.
    let spread = model(&[1, 1 << 12], |make, x| {
        let x = wide(make, x);
        let sum = make.node("ReduceSum", &[], vec![In::Of(x), list(&[1])]);
        make.node("Add", &[], vec![In::Of(x), In::Of(sum)])
    });
    assert_eq!(exceeded("spread", &spread), ("Add", at_once(1 << 24)));
    // So do shapes that fit nothing, one after the other.
    let reshaped = model(&[1, 1 << 20], |make, mut x| {
        for i in 0..9 {
            x = make.node("Reshape", &[], vec![In::Of(x), list(&[1 << (i + 1), 1 << (19 - i)])]);
        }
        x
    });
    assert_eq!(exceeded("reshapes", &reshaped), ("Reshape", Exceeded::Kept));
    let sliced = model(&[1, 1 << 23], |make, x| {
        make.node("Slice", &[], vec![In::Of(x), list(&[1]), list(&[1 << 23]), list(&[1])])
    });
    assert_eq!(exceeded("slice", &sliced), ("Slice", at_once(1 << 23)));
    let joined = model(&[1, 1 << 12], |make, x| {
        make.node("Concat", &[("axis", Attr::Int(1))], (0..1000).map(|_| In::Of(x)).collect())
    });
    assert_eq!(exceeded("concat", &joined), ("Concat", Exceeded::Turns));
    let fed = model(&[1, 1], |make, x| {
        make.node("Concat", &[("axis", Attr::Int(1))], (0..(1 << 19) + 1).map(|_| In::Of(x)).collect())
    });
    assert_eq!(exceeded("inputs", &fed), ("Concat", at_once((1 << 22) + 8)));
    let masked = model(&[1, (1 << 22) + 1], |make, x| {
        let values: Vec<i64> = (0..256).map(|v| v / 2).collect();
        make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(3))], vec![In::Of(x)])
    });
    assert!(matches!(
        refused("padding", &Skeleton::of(&masked).unwrap()),
        LowerError::Budget(Exceeded::AtOnce { .. })
    ));

    // Functions that differ in their last value alone.
    let functions = model(&[1, 2], |make, mut x| {
        for i in 0..2000 {
            let mut values = [0; 256];
            (values[254], values[255]) = (i / 100, i % 100);
            x = make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(3))], vec![In::Of(x)]);
        }
        x
    });
    assert_eq!(exceeded("functions", &functions), ("Table", Exceeded::Turns));

    // 13 axes of 3 elements, each padded to 4.
    let padded = model(&[3; 13], wide);
    assert!(matches!(
        refused("axes", &Skeleton::of(&padded).unwrap()),
        LowerError::Budget(Exceeded::AtOnce { got }) if got == 1 << 26
    ));
    let ranked = model(&[1, 2], |make, x| {
        let mut dims = vec![1; 65];
        dims[64] = 2;
        make.node("Reshape", &[], vec![In::Of(x), list(&dims)])
    });
    assert!(matches!(
        refused("rank", &Skeleton::of(&ranked).unwrap()),
        LowerError::Infer(InferError::Rank { got: 65, .. })
    ));

    let long = model(&[1, 2], |make, mut x| {
        for _ in 0..1 << 16 {
            x = make.node("Identity", &[], vec![In::Of(x)]);
        }
        x
    });
    assert!(matches!(
        refused("nodes", &Skeleton::of(&long).unwrap()),
        LowerError::Graph { what: "nodes", got, .. } if got == (1 << 16) + 1
    ));
    let split = model(&[1, 1 << 18], |make, x| {
        make.nodes(
            "Split",
            &[("axis", Attr::Int(1)), ("num_outputs", Attr::Int(1 << 18))],
            vec![In::Of(x)],
            1 << 18,
        )[0]
    });
    assert!(matches!(
        refused("values", &Skeleton::of(&split).unwrap()),
        LowerError::Graph { what: "values", .. }
    ));

    // A weight that nobody has.
    let mut skeleton =
        Skeleton::of(&model(&[1, 3], |make, x| dense(make, &mut Random(1), x, [3, 9]))).unwrap();
    for constant in skeleton.body.constants.values_mut() {
        if let Constant::Weight(weight) = constant
            && weight.shape == [3, 9]
        {
            weight.shape = vec![3, 1 << 50];
        }
    }
    let error = refused("weight", &skeleton);
    assert!(matches!(error, LowerError::Infer(InferError::TooLarge { .. })), "{error}");
}

#[test]
fn graphs_that_repeat_themselves_take_little() {
    let _alone = ALONE.lock().unwrap();
    // Factors that go into a weight's own column, one by one; sums that double; elements that move and move.
    let scaled = model(&[1, 3], |make, x| {
        let mut x = dense(make, &mut Random(1), x, [3, 9]);
        for i in 0..300 {
            x = make.node("Mul", &[], vec![In::Of(x), In::Is(Random(i).int32(&[9], 2))]);
        }
        x
    });
    let doubled = model(&[1, 3], |make, x| {
        let mut x = dense(make, &mut Random(1), x, [3, 9]);
        for _ in 0..300 {
            x = make.node("Add", &[], vec![In::Of(x), In::Of(x)]);
        }
        x
    });
    let moved = model(&[1, 30, 20], |make, mut x| {
        for _ in 0..150 {
            x = make.node("Transpose", &[("perm", ints(&[0, 2, 1]))], vec![In::Of(x)]);
            x = make.node("Reshape", &[], vec![In::Of(x), list(&[1, 30, 20])]);
        }
        x
    });
    for (name, graph) in [("scaled", scaled), ("doubled", doubled), ("moved", moved)] {
        let skeleton = Skeleton::of(&graph).unwrap();
        let start = now();
        let (bytes, result) = peak(|| lowered(&skeleton, 4));
        assert_eq!(result, Ok(()), "{name}");
        let spent = now() - start;
        assert!(bytes < 64 << 20 && spent < TIME, "{name}: {} MiB in {spent:?}", bytes >> 20);
    }
}

/// A network, and how many requests are proved at once.
type Row = (&'static str, fn() -> Graph, usize);

const SMALL: &[Row] = &[("mlp", || mlp(1, &[64, 64, 32, 10]), 1), ("lenet", || lenet(1, 28), 1)];
const LARGE: &[Row] = &[
    ("dense", || mlp(1, &[1024; 5]), 1),
    ("cnn", || cnn(1), 1),
    ("encoder", || encoder(1, [32, 128, 4], 4), 1),
    ("batch", || mlp(1, &[1024; 5]), 64),
];

/// Commits to and proves each network, and compares what that took with what was foreseen.
fn foreseen(rows: &[Row]) {
    let whir = Whir::new(Security::Standard);
    let mut missed = false;
    for (name, graph, requests) in rows {
        let graph = graph();
        let program = Program::new(&Skeleton::of(&graph).unwrap()).unwrap();
        let placed = program.smallest().unwrap();
        let circuit = placed.circuit(*requests).unwrap();
        let shape = graph.values[graph.inputs[0].0].info.shape.as_ref().unwrap();
        let dims: Vec<usize> = shape.iter().map(|dim| if let Dim::Known(n) = dim { *n } else { 1 }).collect();
        let mut random = Random(7);
        let core: Vec<Vec<Tensor>> =
            (0..*requests).map(|_| placed.before(&[random.float(&dims)]).unwrap()).collect();
        let claims = (0..*requests).map(|i| Digest([i as u8; 32])).collect();
        let cost = Cost::of(&circuit);
        let (proving, committing) = peak(|| {
            let (committing, model) = peak(|| Committed::new(&whir, &circuit, &graph).unwrap());
            let statement = placed.statement(model.root, claims);
            prove(&whir, &circuit, &statement, &model, &core, &mut |_| ()).unwrap();
            committing
        });
        let ratio = |foreseen: u64, taken: usize| foreseen as f64 / taken as f64;
        let ratios = [ratio(cost.commit, committing), ratio(cost.prove, proving)];
        eprintln!(
            "{name}: commit {} of {} KiB ({:.2}), prove {} of {} KiB ({:.2})",
            committing >> 10,
            cost.commit >> 10,
            ratios[0],
            proving >> 10,
            cost.prove >> 10,
            ratios[1],
        );
        // Small commitments are padded to what is folded at first.
        missed |= ratios[0] < 1.0 || !(1.0..1.6).contains(&ratios[1]);
    }
    assert!(!missed);
}

#[test]
fn what_a_small_proof_takes_is_foreseen() {
    let _alone = ALONE.lock().unwrap();
    foreseen(SMALL);
}

#[test]
#[ignore = "minutes in a build without optimisation"]
fn what_a_proof_takes_is_foreseen() {
    let _alone = ALONE.lock().unwrap();
    foreseen(LARGE);
}
