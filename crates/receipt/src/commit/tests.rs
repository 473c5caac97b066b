use proptest::prelude::*;

use super::*;
use crate::domain::{INPUTS, OUTPUTS};

fn samples() -> Vec<Tensor> {
    vec![
        Tensor::vector(vec![1.5_f32, -0.0, f32::NAN, f32::INFINITY]),
        Tensor::vector(vec![1.5_f64, -0.0]),
        Tensor::vector(vec![f16::from_f32(0.1)]),
        Tensor::vector(vec![bf16::from_f32(0.1), bf16::NAN]),
        Tensor::vector(vec![-1_i8]),
        Tensor::vector(vec![-2_i16]),
        Tensor::from_vec(vec![1, 2, 1], vec![-3_i32, 3]).unwrap(),
        Tensor::vector(vec![i64::MIN]),
        Tensor::scalar(7_u8),
        Tensor::vector(vec![7_u16]),
        Tensor::vector(vec![7_u32]),
        Tensor::vector(vec![u64::MAX]),
        Tensor::vector(vec![true, false]),
        Tensor::vector(vec!["".to_owned(), "héllo".to_owned()]),
        Tensor::from_vec(vec![0, 5], Vec::<f32>::new()).unwrap(),
    ]
}

#[test]
fn openings_round_trip_and_commitments_differ() {
    let mut seen = std::collections::BTreeSet::new();
    for tensor in samples() {
        let opening = Opening::new("x", tensor, Salt([7; 32])).unwrap();
        let back = Opening::from_value(opening.to_value(), "o").unwrap();
        assert!(back.tensor().same_bits(opening.tensor()));
        assert_eq!(back.commitment(), opening.commitment());
        assert!(seen.insert(opening.commitment()));
        assert!(seen.insert(Opening::new("y", opening.tensor.clone(), Salt([7; 32])).unwrap().commitment()));
        assert!(seen.insert(Opening::new("x", opening.tensor.clone(), Salt([8; 32])).unwrap().commitment()));
    }
}

#[test]
fn encoding_is_the_documented_one() {
    let tensor = Tensor::from_vec(vec![1, 2], vec![1.0_f32, -2.0]).unwrap();
    assert_eq!(
        to_hex(&encode("ab", &tensor)),
        concat!(
            "02000000",
            "6162",
            "01",
            "02000000",
            "0100000000000000",
            "0200000000000000",
            "0000803f",
            "000000c0"
        )
    );
}

#[test]
fn lists_bind_order_number_and_side() {
    let a = Opening::new("a", Tensor::scalar(1_f32), Salt([1; 32])).unwrap();
    let b = Opening::new("b", Tensor::scalar(2_f32), Salt([2; 32])).unwrap();
    let roots = [
        commitment(INPUTS, &[]),
        commitment(INPUTS, std::slice::from_ref(&a)),
        commitment(INPUTS, &[a.clone(), b.clone()]),
        commitment(INPUTS, &[b.clone(), a.clone()]),
        commitment(OUTPUTS, &[a, b]),
    ];
    assert_eq!(roots.iter().collect::<std::collections::BTreeSet<_>>().len(), roots.len());
}

#[test]
fn hostile_openings_are_refused() {
    let opening = Opening::new("x", Tensor::vector(vec![1.0_f32, 2.0]), Salt([0; 32])).unwrap();
    let with = |name: &str, value: Value| {
        let Value::Object(mut members) = opening.to_value() else { unreachable!() };
        members.insert(name.to_owned(), value);
        Opening::from_value(Value::Object(members), "o")
    };
    let shape = |dims: &[i64]| Value::Array(dims.iter().map(|dim| Value::Int(*dim)).collect());
    assert!(with("shape", shape(&[2])).is_ok());
    for (name, value) in [
        ("shape", shape(&[3])),
        ("shape", shape(&[-2])),
        ("shape", shape(&[1 << 52, 1 << 52])),
        ("shape", shape(&[0])),
        ("shape", shape(&[1; 33])),
        ("dtype", "float".into()),
        ("dtype", "float64".into()),
        ("dtype", "string".into()),
        ("dtype", "bool".into()),
        ("name", "".into()),
        ("name", "n".repeat(MAX_NAME + 1).into()),
        ("data", to_base64(&0x7fc0_0001_0000_0000_u64.to_le_bytes()).into()),
        ("salt", "00".into()),
        ("more", "".into()),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name} {value:?}");
    }
}

#[test]
fn nothing_private_is_printed() {
    let opening = Opening::new("age", Tensor::scalar(41_u8), Salt([0xab; 32])).unwrap();
    assert_eq!(format!("{opening:?} {:?}", Salt([1; 32])), "Opening(..) Salt(..)");
}

proptest! {
    #[test]
    fn hostile_data_never_panics(dtype in 0..14_usize, count in any::<usize>(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let dtype = DType::ALL[dtype];
        if let Ok(data) = decode_data(dtype, count, &bytes) {
            prop_assert_eq!(data.len(), count);
            prop_assert_eq!(data_bytes(&data), bytes);
        }
    }
}
