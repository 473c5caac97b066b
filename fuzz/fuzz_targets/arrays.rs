//! The readers of `.npy`, `.npz` and JSON inputs on any bytes: no panic, bounded memory, and what is read is written and read
//! back with the same bits.
#![no_main]

use hallmark_cli::tensor_io::{InputSpec, Limits, json, npy, npz, read_inputs};
use hallmark_receipt::DType;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { file: 1 << 20, json: 1 << 20, unpacked: 1 << 24, entries: 16, ratio: 200 };
    // The first byte chooses the declared type, so that conversions are met too.
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let dtype = DType::ALL.get(usize::from(*choice)).copied();
    let spec = |name: &str| InputSpec { name: name.to_owned(), dtype, shape: None };
    for specs in [&[spec("x")][..], &[spec("x"), spec("y")]] {
        match read_inputs(bytes, specs, &limits) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(tensors) => {
                assert_eq!(tensors.len(), specs.len());
                let text = json::write_all(&tensors).to_string();
                let typed: Vec<InputSpec> = tensors
                    .iter()
                    .map(|(name, t)| InputSpec { dtype: Some(t.dtype()), ..spec(name) })
                    .collect();
                let back = read_inputs(text.as_bytes(), &typed, &Limits::default());
                assert!(back.is_ok_and(|back| back.iter().zip(&tensors).all(|(a, b)| a.1.same_bits(&b.1))));
                // Text that ends with NUL is the one thing that .npy cannot hold.
                if let Ok(file) = npz::write(&tensors) {
                    let back = npz::read(&file, &Limits::default());
                    assert!(
                        back.is_ok_and(|back| back.iter().zip(&tensors).all(|(a, b)| a.1.same_bits(&b.1)))
                    );
                }
            }
        }
    }
    let _ = npy::read(bytes);
});
