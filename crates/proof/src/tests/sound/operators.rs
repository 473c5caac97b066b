//! Every operator with every element that its constraints pin wrong, and everything after it proved as if
//! it were right.

use hallmark_model::graph::{Attr, Graph, ValueId};
use hallmark_receipt::{DType, Tensor};

use super::Case;
use super::forge::{Tricks, forge};
use super::liar::{Lie, P, Rows, filled, finish, tell};
use crate::circuit::{ColumnId, Outputs, Step};
use crate::field::{Field, from_i64, to_i64};
use crate::lower::spread_index;
use crate::pcs::{Direct, Pcs, PcsError};
use crate::protocol::ProofError;
use crate::tests::models::{In, Make, Random, dense, dequantise, ints, quantise, requantise, small};
use crate::witness::Witness;

fn shape(v: &[i64]) -> In {
    In::Is(Tensor::vector(v.to_vec()))
}

/// A model of one operator over an int8 input of this shape. If `last`, its output leaves the core as it
/// is; otherwise a layer follows.
fn one(
    dims: &[usize],
    last: bool,
    op: impl FnOnce(&mut Make, &mut Random, ValueId) -> (ValueId, DType, Vec<usize>),
) -> Graph {
    let (mut make, x) = Make::input(DType::F32, dims);
    let x = quantise(&mut make, x);
    around(make, x, last, op)
}

/// The same over the input `x`.
fn around(
    mut make: Make,
    x: ValueId,
    last: bool,
    op: impl FnOnce(&mut Make, &mut Random, ValueId) -> (ValueId, DType, Vec<usize>),
) -> Graph {
    let mut random = Random(3);
    let (mut y, dtype, dims) = op(&mut make, &mut random, x);
    // A weight that every model has, since commitments are to at least one column.
    let to = [("to", Attr::Int(6))];
    if last {
        if dtype != DType::I32 {
            y = make.node("Cast", &to, vec![In::Of(y)]);
        }
        let bias = random.int32(&dims[dims.len() - 1..], 50);
        y = make.node("Add", &[], vec![In::Of(y), In::Is(bias)]);
    } else {
        if dtype == DType::I32 || dtype == DType::I16 {
            if dtype == DType::I16 {
                y = make.node("Cast", &to, vec![In::Of(y)]);
            }
            y = small(&mut make, y, Tensor::scalar(5_i32), 9);
        }
        y = dense(&mut make, &mut random, y, [dims[dims.len() - 1], 3]);
        y = small(&mut make, y, Tensor::scalar(3_i32), 12);
    }
    let y = dequantise(&mut make, y);
    make.done(&[y])
}

/// The first and the last element of a column that are not padding, and one that is, if any.
fn places(case: &Case, id: ColumnId) -> ([usize; 2], Option<usize>) {
    let shape = &case.circuit.column(id).shape;
    let last = shape.0.iter().zip(shape.strides()).map(|(n, stride)| (n - 1) * stride).sum();
    let padded = shape.0.iter().zip(shape.strides()).find(|(n, _)| !n.is_power_of_two());
    ([0, last], padded.map(|(n, stride)| n * stride))
}

/// Tells every lie about one step, and expects each to be refused with its own error.
fn lies(step: &Step, index: usize, case: &Case, random: &mut Random) -> Vec<Lie> {
    let mut lies = Vec::new();
    for column in filled(step) {
        let ([first, last], _) = places(case, column);
        let power = 1 << (1 + random.below(23));
        lies.extend([(first, 1), (last, -1), (last, power)].map(|(at, by)| Lie::Element(column, at, by)));
    }
    if let Step::Divide { column, limbs, .. } = step {
        let ([first, last], _) = places(case, limbs.first().map_or(ColumnId(0), |(limb, _)| *limb));
        if !limbs.is_empty() {
            lies.extend([(first, P), (last, -P), (first, 1)].map(|(at, by)| Lie::Dividend(index, at, by)));
        }
        if column.is_some() {
            lies.extend([(first, 1), (last, -1)].map(|(at, by)| Lie::Quotient(index, at, by)));
        }
    }
    lies
}

/// Whether an error is the one that a lie about `step` must end in.
fn expected(step: &Step, error: &ProofError) -> bool {
    match step {
        Step::Input { .. } if matches!(error, ProofError::Row { what: "input", .. }) => true,
        Step::Copy { .. } if matches!(error, ProofError::Identity(_)) => true,
        // Lookups are checked first, and what a lie leads to may be in no table.
        _ => *error == ProofError::Fractions("inputs or outputs"),
    }
}

fn refuse_every_lie(name: &str, case: &Case) {
    let requests = case.circuit.requests;
    let honest = case.honest();
    assert_eq!(case.judge(&honest, &case.prove(&honest)), Ok(()), "{name}");
    let mut random = Random(9);
    let mut told = 0;
    for (index, step) in case.circuit.steps.iter().enumerate() {
        for lie in lies(step, index, case, &mut random) {
            let rows = if told % 2 == 0 { Rows::Input } else { Rows::Output };
            let witness = tell(case, lie, rows);
            if witness.columns == honest.columns {
                continue; // a clamp swallowed it
            }
            told += 1;
            let error = case.judge(&witness, &case.prove(&witness)).expect_err(name);
            assert!(expected(step, &error), "{name}: {step:?} {lie:?}: {error}");
            if told % 3 == 0 {
                let tricks = Tricks { victim: told % case.circuit.lookups.len().max(1), ..Tricks::default() };
                let error = case.judge(&witness, &forge(case, &witness, &tricks)).expect_err(name);
                let ends = matches!(
                    error,
                    ProofError::Witness(PcsError::False(_))
                        | ProofError::Model(PcsError::False(_))
                        | ProofError::Row { .. }
                );
                assert!(ends, "{name}: {step:?} {lie:?} forged: {error}");
            }
        }
        // Padding may be anything where nothing reads it: then the outputs are what they are.
        for column in filled(step) {
            if let (_, Some(at)) = places(case, column) {
                let witness = tell(case, Lie::Element(column, at, 5), Rows::Input);
                let outputs =
                    |w: &Witness| (0..requests).map(|i| w.outputs(&case.circuit, i)).collect::<Vec<_>>();
                let proof = case.try_prove(&witness);
                if proof.is_ok_and(|proof| case.judge(&witness, &proof).is_ok()) {
                    assert_eq!(outputs(&witness), outputs(&honest), "{name}: {step:?} padding");
                }
            }
        }
    }
    assert!(told > 0, "{name}");
}

/// Both as the last operator and before a layer.
fn operator(
    name: &str,
    dims: &[usize],
    op: impl Fn(&mut Make, &mut Random, ValueId) -> (ValueId, DType, Vec<usize>),
) {
    refuse_every_lie(name, &Case::new(one(dims, true, &op), 1));
    refuse_every_lie(name, &Case::new(one(dims, false, &op), 3));
}

#[test]
fn contractions() {
    operator("MatMulInteger", &[2, 3], |make, random, x| {
        let y = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[3, 5]))]);
        (y, DType::I32, vec![2, 5])
    });
    operator("MatMulInteger of two activations", &[1, 2, 3, 3], |make, _, x| {
        let y = make.node("MatMulInteger", &[], vec![In::Of(x), In::Of(x)]);
        (y, DType::I32, vec![1, 2, 3, 3])
    });
    // Neither operand's padding is zero by itself, and the inner axis has some.
    operator("MatMulInteger of two functions", &[2, 3], |make, _, x| {
        let values: Vec<i64> = (-128..128).map(|v| 50 - v / 4).collect();
        let attrs = [("table", ints(&values)), ("to", Attr::Int(3))];
        let x = make.node("Table", &attrs, vec![In::Of(x)]);
        let turned = make.node("Transpose", &[], vec![In::Of(x)]);
        (make.node("MatMulInteger", &[], vec![In::Of(x), In::Of(turned)]), DType::I32, vec![2, 2])
    });
    operator("ConvInteger", &[1, 2, 5, 4], |make, random, x| {
        let attrs = [("strides", ints(&[2, 1])), ("pads", ints(&[1, 0, 0, 1])), ("dilations", ints(&[1, 2]))];
        let y = make.node("ConvInteger", &attrs, vec![In::Of(x), In::Is(random.int8(&[3, 2, 3, 2]))]);
        (y, DType::I32, vec![1, 3, 2, 3])
    });
    operator("ConvInteger in groups", &[1, 4, 3, 3], |make, random, x| {
        let y = make.node(
            "ConvInteger",
            &[("group", Attr::Int(2))],
            vec![In::Of(x), In::Is(random.int8(&[6, 2, 2, 2]))],
        );
        (y, DType::I32, vec![1, 6, 2, 2])
    });
}

#[test]
fn sums_and_products() {
    let wide = |make: &mut Make, x| make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(x)]);
    for name in ["Add", "Sub", "Mul"] {
        operator(name, &[2, 3], |make, random, x| {
            let x = wide(make, x);
            let y = make.node(name, &[], vec![In::Of(x), In::Is(random.int32(&[3], 100))]);
            (y, DType::I32, vec![2, 3])
        });
        operator(name, &[2, 3], |make, _, x| {
            let x = wide(make, x);
            let turned = make.node("Slice", &[], vec![In::Of(x), shape(&[1]), shape(&[2]), shape(&[0])]);
            let y = make.node(name, &[], vec![In::Of(x), In::Of(turned)]);
            (y, DType::I32, vec![2, 3])
        });
    }
    operator("ReduceSum", &[2, 3, 2], |make, _, x| {
        let x = wide(make, x);
        let y = make.node("ReduceSum", &[("keepdims", Attr::Int(0))], vec![In::Of(x), shape(&[1])]);
        (y, DType::I32, vec![2, 2])
    });
}

#[test]
fn tables() {
    operator("Requantize", &[2, 3], |make, random, x| {
        let x = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[3, 5]))]);
        (small(make, x, random.multipliers(5), 13), DType::I8, vec![2, 5])
    });
    operator("Requantize to uint8", &[2, 3], |make, random, x| {
        let x = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[3, 5]))]);
        (requantise(make, x, random.multipliers(5), 14, true, 1), DType::U8, vec![2, 5])
    });
    operator("Table", &[2, 3], |make, _, x| {
        let values: Vec<i64> = (-128..128).map(|v| v * v / 130 - 3).collect();
        let attrs = [("table", ints(&values)), ("to", Attr::Int(3))];
        (make.node("Table", &attrs, vec![In::Of(x)]), DType::I8, vec![2, 3])
    });
}

#[test]
fn maxima() {
    operator("MaxPool", &[1, 2, 3, 5], |make, _, x| {
        let attrs = [
            ("kernel_shape", ints(&[2, 3])),
            ("strides", ints(&[1, 2])),
            ("pads", ints(&[0, 1, 0, 1])),
            ("ceil_mode", Attr::Int(1)),
        ];
        (make.node("MaxPool", &attrs, vec![In::Of(x)]), DType::I8, vec![1, 2, 2, 3])
    });
    operator("MaxPool over everything", &[1, 2, 3, 1], |make, _, x| {
        let attrs = [("kernel_shape", ints(&[3, 1]))];
        (make.node("MaxPool", &attrs, vec![In::Of(x)]), DType::I8, vec![1, 2, 1, 1])
    });
}

#[test]
fn movements() {
    let move_ = |name: &'static str,
                 dims: &[usize],
                 attrs: &'static [(&'static str, i64)],
                 others: Vec<Vec<i64>>,
                 out: &'static [usize]| {
        operator(name, dims, |make, _, x| {
            let attrs: Vec<(&str, Attr)> = attrs.iter().map(|(k, v)| (*k, Attr::Int(*v))).collect();
            let mut inputs = vec![In::Of(x)];
            inputs.extend(others.iter().map(|v| shape(v)));
            (make.node(name, &attrs, inputs), DType::I8, out.to_vec())
        });
    };
    move_("Reshape", &[2, 3], &[], vec![vec![3, 2]], &[3, 2]);
    move_("Flatten", &[2, 3, 2], &[("axis", 1)], vec![], &[2, 6]);
    move_("Transpose", &[2, 3], &[], vec![], &[3, 2]);
    move_("Squeeze", &[2, 1, 3], &[], vec![vec![1]], &[2, 3]);
    move_("Unsqueeze", &[2, 3], &[], vec![vec![1]], &[2, 1, 3]);
    move_("Slice", &[3, 4], &[], vec![vec![3], vec![-9], vec![1], vec![-2]], &[3, 2]);
    move_("Expand", &[1, 3], &[], vec![vec![2, 3]], &[2, 3]);
    move_("Tile", &[1, 3], &[], vec![vec![2, 2]], &[2, 6]);
    move_("Pad", &[2, 3], &[], vec![vec![0, 1, 1, -1]], &[3, 3]);
    move_("Gather", &[3, 2], &[], vec![vec![2, 0, 2, -1]], &[4, 2]);
    move_("Identity", &[2, 3], &[], vec![], &[2, 3]);
    move_("DepthToSpace", &[1, 4, 1, 2], &[("blocksize", 2)], vec![], &[1, 1, 2, 4]);
    move_("SpaceToDepth", &[1, 1, 2, 4], &[("blocksize", 2)], vec![], &[1, 4, 1, 2]);
    move_("ReverseSequence", &[3, 2], &[("time_axis", 0), ("batch_axis", 1)], vec![vec![3, 1]], &[3, 2]);
    let indices = |dims: &[usize], v: &[i64]| In::Is(Tensor::from_vec(dims.to_vec(), v.to_vec()).unwrap());
    operator("GatherND", &[3, 2], |make, _, x| {
        let y = make.node("GatherND", &[], vec![In::Of(x), indices(&[2, 1], &[2, 0])]);
        (y, DType::I8, vec![2, 2])
    });
    operator("GatherElements", &[3, 2], |make, _, x| {
        let y = make.node("GatherElements", &[], vec![In::Of(x), indices(&[1, 2], &[2, 0])]);
        (y, DType::I8, vec![1, 2])
    });
    operator("Split", &[2, 5], |make, _, x| {
        let parts = make.nodes("Split", &[("axis", Attr::Int(1))], vec![In::Of(x), shape(&[2, 3])], 2);
        (parts[1], DType::I8, vec![2, 3])
    });
    operator("Concat", &[2, 3], |make, _, x| {
        let y = make.node("Concat", &[("axis", Attr::Int(-1))], vec![In::Of(x), In::Of(x)]);
        (y, DType::I8, vec![2, 6])
    });
}

#[test]
fn softmax() {
    let exponentials: Vec<i64> = (0..256).map(|i| 4095 >> (i / 8)).collect();
    operator("IntegerSoftmax", &[2, 3], |make, _, x| {
        let attrs = [("axis", Attr::Int(-1)), ("table", ints(&exponentials))];
        (make.node("IntegerSoftmax", &attrs, vec![In::Of(x)]), DType::U8, vec![2, 3])
    });
}

#[test]
fn norms() {
    for (center, shift) in [(1, 2), (0, 0)] {
        operator("IntegerNormalize", &[2, 3], |make, _, x| {
            let attrs = [
                ("axis", Attr::Int(-1)),
                ("center", Attr::Int(center)),
                ("shift", Attr::Int(shift)),
                ("epsilon", Attr::Int(3)),
                ("gain", Attr::Int(1448)),
            ];
            (make.node("IntegerNormalize", &attrs, vec![In::Of(x)]), DType::I16, vec![2, 3])
        });
    }
}

/// Rows of a weight of 300 x 3, which three requests of two ids each name.
fn embedding(last: bool) -> Case {
    let (make, ids) = Make::input(DType::I64, &[1, 2]);
    let graph = around(make, ids, last, |make, random, ids| {
        let y = make.node("Gather", &[], vec![In::Is(random.int8(&[300, 3])), In::Of(ids)]);
        (y, DType::I8, vec![1, 2, 3])
    });
    let request = |ids: [i64; 2]| vec![Tensor::from_vec(vec![1, 2], ids.to_vec()).unwrap()];
    Case::of(Direct, graph, [[0, 299], [17, 17], [256, 43]].map(request).to_vec())
}

/// The table that rows are read from, by index, and the column of what was read.
fn reading(case: &Case) -> (usize, ColumnId) {
    let is = |step: &&Step| match step {
        Step::Apply { table, .. } => matches!(case.circuit.tables[table.0].outputs, Outputs::Column { .. }),
        _ => false,
    };
    let step = case.circuit.steps.iter().find(is).expect("an embedding");
    let Step::Apply { column, table, .. } = step else { panic!("another step") };
    (table.0, *column)
}

#[test]
fn embeddings() {
    for last in [true, false] {
        let case = embedding(last);
        refuse_every_lie("Gather of a weight", &case);
        // Every element of every row, by 1, by a power of two, and to the same integer of another sign.
        let (_, column) = reading(&case);
        let honest = case.honest();
        let shape = &case.circuit.column(column).shape;
        let count: usize = shape.0.iter().product();
        for (i, at) in (0..count).map(|i| (i, spread_index(i, shape))) {
            let value = i64::from(honest.columns[column.0][at]);
            let rows = [Rows::Input, Rows::Output][i % 2];
            for by in [1, -1, 1 << (i % 24), -2 * value].into_iter().filter(|by| *by != 0) {
                let witness = tell(&case, Lie::Element(column, at, by), rows);
                let error = case.judge(&witness, &case.prove(&witness)).expect_err("another element");
                assert_eq!(error, ProofError::Fractions("inputs or outputs"), "{at} by {by}");
            }
        }
    }
}

#[test]
fn embeddings_read_whole_rows_of_the_ids_that_were_asked_for() {
    let case = embedding(true);
    let honest = case.honest();
    let (table, column) = reading(&case);
    let Outputs::Column { column: weight, .. } = case.circuit.tables[table].outputs else {
        panic!("a table")
    };
    let refused = |witness: &Witness| {
        let error = case.judge(witness, &case.prove(witness)).expect_err("another row");
        assert_eq!(error, ProofError::Fractions("inputs or outputs"));
        let forged =
            case.judge(witness, &forge(&case, witness, &Tricks::default())).expect_err("another row");
        let ends = matches!(
            forged,
            ProofError::Witness(PcsError::False(_))
                | ProofError::Model(PcsError::False(_))
                | ProofError::Row { .. }
        );
        assert!(ends, "{forged}");
    };
    // The first id's row is another's; rows of 3 elements lie 4 apart.
    for other in [1, 17, 298] {
        let mut columns = honest.columns.clone();
        for j in 0..3 {
            columns[column.0][j] = columns[weight.0][4 * other + j];
        }
        for rows in [Rows::Input, Rows::Output] {
            refused(&finish(&case.circuit, columns.clone(), rows));
        }
    }
    // The id is the one before the first, the one after the last, and one that is an element further on: `1/4` of the field. Everything
    // that is read with the last is in the table.
    let quarter = to_i64(from_i64(4).inverse());
    for (at, by) in [(0, -1), (1, 1), (2, quarter), (3, -quarter), (0, P / 2)] {
        let witness = tell(&case, Lie::Element(case.circuit.inputs[0], at, by), Rows::Input);
        assert_ne!(witness.columns, honest.columns);
        refused(&witness);
    }
    // Two rows of the weight have changed places, in the witness and in what it is opened with.
    let mut other = embedding(true);
    for j in 0..3 {
        other.model.integers[weight.0].swap(j, 4 * 17 + j);
        other.model.elements[weight.0].swap(j, 4 * 17 + j);
    }
    let columns = case.circuit.part(true).map(|id| other.model.elements[id.0].clone()).collect();
    other.model.data = Direct.commit(columns).unwrap().1;
    let witness = other.honest();
    assert_ne!(witness.columns[column.0], honest.columns[column.0]);
    let error = case.judge(&witness, &other.prove(&witness)).expect_err("another weight");
    assert_eq!(error, ProofError::Model(PcsError::Root));
}
