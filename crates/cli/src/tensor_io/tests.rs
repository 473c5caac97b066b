use half::{bf16, f16};
use hallmark_gateway::tensors;
use hallmark_model::graph::Dim;
use hallmark_receipt::{DType, Data};
use proptest::prelude::*;

use super::*;

fn spec(name: &str, dtype: DType, shape: &[Dim]) -> InputSpec {
    InputSpec { name: name.to_owned(), dtype: Some(dtype), shape: Some(shape.to_vec()) }
}

fn open(dtype: DType) -> [InputSpec; 1] {
    [InputSpec { name: "x".to_owned(), dtype: Some(dtype), shape: None }]
}

fn json(text: &str, specs: &[InputSpec]) -> Result<Vec<(String, Tensor)>, InputError> {
    tensors::read(text.as_bytes(), specs, Limits::default().json)
}

fn json_error(text: &str, dtype: DType) -> JsonError {
    match json(text, &open(dtype)) {
        Err(InputError::Json(error) | InputError::Value { source: error, .. }) => error,
        other => panic!("expected a JSON error, got {other:?}"),
    }
}

/// Tensors of every element type with any bits, canonical NaN.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(0_usize..4, 0..4);
    (shape, 0..DType::ALL.len(), any::<u64>()).prop_map(|(shape, kind, seed)| {
        let n: usize = shape.iter().product();
        let mut state = seed | 1;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Special values often enough: zeros, infinities, NaN, extremes.
            let bits = state.rotate_left(29);
            match bits % 7 {
                0 => [0, u64::MAX, 1 << 63, 0x7ff0_0000_7f80_7c00, 0xfff0_0000_ff80_fc00]
                    [(bits >> 8) as usize % 5],
                _ => bits,
            }
        };
        let mut bits: Vec<u64> = Vec::new();
        bits.resize_with(n, &mut next);
        let b = bits.iter();
        let data = match DType::ALL[kind] {
            DType::F32 => Data::F32(b.map(|b| f32::from_bits(*b as u32)).collect()),
            DType::F64 => Data::F64(b.map(|b| f64::from_bits(*b)).collect()),
            DType::F16 => Data::F16(b.map(|b| f16::from_bits(*b as u16)).collect()),
            DType::BF16 => Data::BF16(b.map(|b| bf16::from_bits(*b as u16)).collect()),
            DType::I8 => Data::I8(b.map(|b| *b as i8).collect()),
            DType::I16 => Data::I16(b.map(|b| *b as i16).collect()),
            DType::I32 => Data::I32(b.map(|b| *b as i32).collect()),
            DType::I64 => Data::I64(b.map(|b| *b as i64).collect()),
            DType::U8 => Data::U8(b.map(|b| *b as u8).collect()),
            DType::U16 => Data::U16(b.map(|b| *b as u16).collect()),
            DType::U32 => Data::U32(b.map(|b| *b as u32).collect()),
            DType::U64 => Data::U64(b.copied().collect()),
            DType::Bool => Data::Bool(b.map(|b| b & 1 == 1).collect()),
            DType::Str => Data::Str(b.map(|b| format!("é{b:x}\"\\\n🦀")).collect()),
        };
        let mut tensor = Tensor::new(shape, data).unwrap();
        tensor.canonicalize_nan();
        tensor
    })
}

proptest! {
    #[test]
    fn every_value_round_trips(tensor in any_tensor()) {
        let specs = open(tensor.dtype());
        let back = npy::read(&npy::write(&tensor).unwrap()).unwrap();
        prop_assert!(back.same_bits(&tensor), "npy: {back:?} != {tensor:?}");
        let named = vec![("x".to_owned(), tensor.clone())];
        let back = read_inputs(&npz::write(&named).unwrap(), &specs, &Limits::default()).unwrap();
        prop_assert!(back[0].1.same_bits(&tensor));
        let text = json::write(&tensor).to_string();
        let back = json(&text, &specs).unwrap();
        prop_assert!(back[0].1.same_bits(&tensor), "json: {text}");
        let text = json::write_all(&named).to_string();
        prop_assert!(json(&text, &specs).unwrap()[0].1.same_bits(&tensor));
    }

    #[test]
    fn damaged_files_never_panic(tensor in any_tensor(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        for mut file in [
            npy::write(&tensor).unwrap(),
            npz::write(&[("x".to_owned(), tensor.clone())]).unwrap(),
            json::write(&tensor).to_string().into_bytes(),
        ] {
            let at = at.index(file.len());
            if cut { file.truncate(at) } else { file[at] = byte }
            let _ = read_inputs(&file, &open(tensor.dtype()), &Limits::default());
        }
    }
}

#[test]
fn json_forms() {
    let want = Tensor::from_vec(vec![2, 2], vec![1_f32, 2.0, -0.0, 0.1]).unwrap();
    let one = [spec("x", DType::F32, &[Dim::Symbol("n".to_owned()), Dim::Known(2)])];
    for text in [
        "[[1, 2], [-0, 0.1]]",
        r#"{"x": [[1, 2.0], [-0.0, 1e-1]]}"#,
        r#"{"x": {"dtype": "float32", "shape": [2, 2], "data": [1, 2, -0.0, 0.1]}}"#,
        r#" {"data": [1, 2, -0.0, 0.1], "dtype": "float32", "shape": [2, 2]} "#,
    ] {
        let read = json(text, &one).unwrap();
        assert!(read[0].1.same_bits(&want), "{text}: {read:?}");
    }
    let read = json(r#"["NaN", "Infinity", "-Infinity"]"#, &open(DType::F32)).unwrap();
    let bits: Vec<u32> = read[0].1.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, [0x7fc0_0000, 0x7f80_0000, 0xff80_0000]);
    assert_eq!(json("7", &open(DType::I8)).unwrap()[0].1, Tensor::scalar(7_i8));
    assert_eq!(json("[3.0, 2e0]", &open(DType::I64)).unwrap()[0].1, Tensor::vector(vec![3_i64, 2]));
    assert_eq!(json(r#"["NaN"]"#, &open(DType::Str)).unwrap()[0].1, Tensor::vector(vec!["NaN".to_owned()]));
}

#[test]
fn json_errors_have_their_own_name() {
    use JsonError as E;
    let f32_ = DType::F32;
    assert!(matches!(json_error("[1, NaN]", f32_), E::BareNonFinite { word: "NaN", line: 1, .. }));
    assert!(matches!(
        json_error("[1,\n -Infinity]", f32_),
        E::BareNonFinite { word: "-Infinity", line: 2, .. }
    ));
    assert!(matches!(json_error("[Infinity]", f32_), E::BareNonFinite { word: "Infinity", .. }));
    assert!(matches!(json_error("[1, 2", f32_), E::Syntax { .. }));
    assert!(matches!(json_error("[1, 2] 3", f32_), E::Syntax { .. }));
    assert_eq!(json_error("[[1], [2, 3]]", f32_), E::Ragged { depth: 1, expected: 1, got: 2 });
    assert_eq!(json_error("[[], [2]]", f32_), E::Ragged { depth: 1, expected: 0, got: 1 });
    assert_eq!(json_error("[[1], 2]", f32_), E::Mixed { depth: 1 });
    assert_eq!(json_error("[1, [2]]", f32_), E::Mixed { depth: 1 });
    assert_eq!(json_error("[[], [[]]]", f32_), E::Mixed { depth: 2 });
    assert_eq!(json_error(&"[".repeat(40).add_close(40), f32_), E::Deep);
    assert_eq!(json_error("[null]", f32_), E::Element { index: 0, got: "null", expected: f32_ });
    assert_eq!(json_error("[1, \"2\"]", f32_), E::Element { index: 1, got: "text", expected: f32_ });
    assert_eq!(json_error("[1e39]", f32_), E::OutOfRange { index: 0, expected: f32_ });
    assert_eq!(json_error("[16777217]", f32_), E::OutOfRange { index: 0, expected: f32_ });
    assert_eq!(json_error("[1.5]", DType::I32), E::OutOfRange { index: 0, expected: DType::I32 });
    assert_eq!(json_error("[256]", DType::U8), E::OutOfRange { index: 0, expected: DType::U8 });
    assert_eq!(
        json_error("[1]", DType::Bool),
        E::Element { index: 0, got: "a number", expected: DType::Bool }
    );
    let object = |fields: &str| json_error(&format!("{{\"data\": [1], {fields}}}"), f32_);
    assert_eq!(object(r#""shape": [1]"#), E::Keys { key: "dtype".to_owned(), wrong: "missing" });
    assert_eq!(
        object(r#""shape": [1], "dtype": "float32", "order": 1"#),
        E::Keys { key: "order".to_owned(), wrong: "unknown" }
    );
    assert_eq!(object(r#""shape": [1], "shape": [1]"#), E::DuplicateKey { key: "shape".to_owned() });
    assert_eq!(object(r#""shape": [1], "dtype": "float8""#), E::DType { name: "float8".to_owned() });
    assert_eq!(object(r#""shape": [-1], "dtype": "float32""#), E::Shape);
    let huge = object(r#""shape": [1099511627776], "dtype": "float32""#);
    assert_eq!(huge, E::Length { shape: vec![1 << 40], got: 1 });
    let small = tensors::read(b"[1, 2]", &open(f32_), 4);
    assert_eq!(small, Err(InputError::Json(E::TooLarge { got: 6, limit: 4 })));
}

trait AddClose {
    fn add_close(self, n: usize) -> String;
}

impl AddClose for String {
    fn add_close(self, n: usize) -> String {
        self + &"]".repeat(n)
    }
}

#[test]
fn messages_hold_no_value() {
    for (text, dtype) in
        [("[16777217]", DType::F32), ("[\"secret\"]", DType::F32), ("[1, 16777217 x]", DType::F32)]
    {
        let error = json(text, &open(dtype)).unwrap_err();
        let shown = format!("{error} {:?}", error);
        assert!(!shown.contains("16777217") && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn binding_checks_names_types_and_shapes() {
    let n = || Dim::Symbol("n".to_owned());
    let specs = [spec("a", DType::F32, &[n(), Dim::Known(2)]), spec("b", DType::I64, &[n()])];
    let ok = json(r#"{"b": [1], "a": [[1, 2]]}"#, &specs).unwrap();
    assert_eq!(ok.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(
        matches!(json(r#"{"a": [[1, 2]]}"#, &specs), Err(InputError::Missing { name, .. }) if name == "b")
    );
    assert!(matches!(json(r#"{"c": 1}"#, &specs), Err(InputError::Unknown { name, .. }) if name == "c"));
    assert!(matches!(json("[1]", &specs), Err(InputError::Unnamed { .. })));
    let shape = json(r#"{"b": [1], "a": [[1, 2, 3]]}"#, &specs);
    assert!(matches!(shape, Err(InputError::Shape { got, .. }) if got == [1, 3]));
    let symbol = json(r#"{"b": [1, 2], "a": [[1, 2]]}"#, &specs);
    assert!(matches!(symbol, Err(InputError::Symbol { first: 1, second: 2, .. })));

    let npz = |tensor: Tensor| {
        let file = npz::write(&[("x".to_owned(), tensor)]).unwrap();
        match read_inputs(&file, &open(DType::F32), &Limits::default()) {
            Err(FileError::Input(error)) => Err(error),
            other => Ok(other.unwrap()),
        }
    };
    assert_eq!(npz(Tensor::vector(vec![1_i64 << 24])).unwrap()[0].1, Tensor::vector(vec![16_777_216_f32]));
    assert_eq!(npz(Tensor::vector(vec![0.5_f64])).unwrap()[0].1, Tensor::vector(vec![0.5_f32]));
    let lossy = npz(Tensor::vector(vec![0.5, 0.1_f64])).unwrap_err();
    let source = ConvertError::Lossy { index: 1, from: DType::F64, to: DType::F32 };
    assert_eq!(lossy, InputError::Convert { name: "x".to_owned(), expected: DType::F32, source });
    let kind = npz(Tensor::vector(vec![true])).unwrap_err();
    assert!(matches!(kind, InputError::Convert { source: ConvertError::Kind { .. }, .. }));
}

fn npy_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

#[test]
fn npy_layouts() {
    let big = npy_file("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }\n", &[1, 2, 0xff, 0xfe]);
    assert_eq!(npy::read(&big), Ok(Tensor::vector(vec![0x0102_i16, -2])));
    let fortran = npy_file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", &[0, 3, 1, 4, 2, 5]);
    assert_eq!(npy::read(&fortran), Ok(Tensor::from_vec(vec![2, 3], (0..6).collect::<Vec<u8>>()).unwrap()));
    let bytes = npy_file("{'descr': '|S3', 'fortran_order': False, 'shape': (2,), }", b"ab\0abc");
    assert_eq!(npy::read(&bytes), Ok(Tensor::vector(vec!["ab".to_owned(), "abc".to_owned()])));
}

#[test]
fn npy_errors_have_their_own_name() {
    let read = |header: &str, data: &[u8]| npy::read(&npy_file(header, data)).unwrap_err();
    assert_eq!(npy::read(b"hello"), Err(NpyError::Magic));
    assert_eq!(npy::read(b"\x93NUMPY\x09\x00\0\0"), Err(NpyError::Version { major: 9, minor: 0 }));
    assert_eq!(npy::read(b"\x93NUMPY\x01\x00\xff\xff{"), Err(NpyError::HeaderTruncated));
    let long = b"\x93NUMPY\x02\x00\xff\xff\xff\x7f";
    assert_eq!(npy::read(long), Err(NpyError::HeaderTooLong { got: 0x7fff_ffff }));
    assert!(matches!(read("{'descr': '<f4'}", &[]), NpyError::Header { .. }));
    assert!(matches!(read("__import__('os')", &[]), NpyError::Header { at: 0, .. }));
    let rest = ", 'fortran_order': False, 'shape': (1099511627776,)}";
    assert_eq!(read(&format!("{{'descr': '|O'{rest}"), &[]), NpyError::Pickled);
    assert_eq!(read(&format!("{{'descr': '<c8'{rest}"), &[]), NpyError::DType { descr: "<c8".to_owned() });
    assert!(matches!(
        read(&format!("{{'descr': '<f4'{rest}"), &[0; 4]),
        NpyError::Length { expected, got: 4, .. } if expected == "4398046511104"
    ));
    assert!(matches!(read(&format!("{{'descr': '<U0'{rest}"), &[]), NpyError::Length { .. }));
    let wrap = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}";
    assert!(matches!(read(wrap, &[]), NpyError::Length { .. }));
    let one = ", 'fortran_order': False, 'shape': (1,)}";
    assert_eq!(read(&format!("{{'descr': '|b1'{one}"), &[2]), NpyError::Bool { index: 0 });
    assert_eq!(read(&format!("{{'descr': '<U1'{one}"), &[0, 0xd8, 0, 0]), NpyError::Text { index: 0 });
    let nul = Tensor::vector(vec!["a\0".to_owned()]);
    assert_eq!(npy::write(&nul), Err(NpyError::TrailingNul { index: 0 }));
}

#[test]
fn npz_bombs_are_refused() {
    let zeros = |n: usize| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file("x.npy", options).unwrap();
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({n},), }}\n");
        std::io::Write::write_all(&mut zip, &npy_file(&header, &vec![0; n])).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let specs = open(DType::U8);
    let read = |bytes: &[u8], limits: &Limits| match read_inputs(bytes, &specs, limits) {
        Err(FileError::Npz(error)) => Some(error),
        Err(other) => panic!("{other:?}"),
        Ok(_) => None,
    };
    let limits = Limits::default();
    assert_eq!(read(&zeros(1 << 20), &limits), None);
    assert!(matches!(read(&zeros(32 << 20), &limits), Some(NpzError::Ratio { limit: 200, .. })));
    let tight = Limits { unpacked: 1 << 10, ..limits };
    assert!(matches!(read(&zeros(1 << 20), &tight), Some(NpzError::TooLarge { limit: 1024, .. })));
    let few = Limits { entries: 0, ..limits };
    assert_eq!(read(&zeros(1), &few), Some(NpzError::Entries { got: 1, limit: 0 }));
    assert!(matches!(read(b"PK\x03\x04 not really", &limits), Some(NpzError::Zip { .. })));
    // An entry that claims fewer bytes than it unpacks to: the central directory's size is 4 bytes from offset 24.
    let mut liar = zeros(1 << 16);
    let at = liar.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    liar[at + 24..at + 28].copy_from_slice(&100_u32.to_le_bytes());
    assert!(matches!(
        read(&liar, &limits),
        Some(NpzError::Damaged { expected: 100, .. } | NpzError::Zip { .. })
    ));
}
