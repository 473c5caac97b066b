//! Bad input: each kind with its own error and exit code, and nothing written.

use std::io::Write;

use super::Place;
use super::onnx::{Model, external, ints, node};

fn relu() -> Model {
    Model::new(vec![node("Relu", &["x"], &["y"])])
}

#[test]
fn onnx_files_are_refused_by_cause() {
    let place = Place::new();
    let good = relu().bytes();
    let add = |name: &str, bytes: &[u8], code: i32, words: &[&str]| {
        let file = place.file(name, bytes);
        place.refuse(&["model", "add", &file, "--name", "bad"], code, words);
        place.refuse(&["infer", &file, "--input", &place.file("in.json", "[1, 2]")], code, words);
    };
    add("truncated.onnx", &good[..good.len() - 9], 1, &["truncated.onnx is refused", "caused by"]);
    add("empty.onnx", &[], 1, &["is refused"]);
    add("noise.onnx", b"this is no model at all", 1, &["is refused"]);
    let cycle = Model::new(vec![
        node("Relu", &["a"], &["b"]),
        node("Neg", &["b"], &["a"]),
        node("Relu", &["x"], &["y"]),
    ]);
    add("cycle.onnx", &cycle.bytes(), 1, &["cycle"]);
    let unknown = Model::new(vec![node("Frobnicate", &["x"], &["y"])]);
    add("unknown.onnx", &unknown.bytes(), 1, &["`the_frobnicate`", "`Frobnicate`", "opset 17"]);
    let mut huge = Model::new(vec![node("Reshape", &["x", "s"], &["y"])]);
    huge.initializers.push(ints("s", &[1 << 40]));
    huge.output = vec![1 << 40];
    add("reshape.onnx", &huge.bytes(), 1, &["`the_reshape`", "Reshape"]);
    huge.nodes = vec![node("Expand", &["x", "s"], &["y"])];
    huge.input = vec![1];
    add("expand.onnx", &huge.bytes(), 1, &["1099511627776"]);
    // A hole of 2 GiB and a byte: no disk is used, and no memory taken.
    let oversized = place.path("oversized.onnx");
    std::fs::File::create(&oversized).unwrap().set_len((1 << 31) + 1).unwrap();
    place.refuse(&["model", "add", "oversized.onnx"], 1, &["larger than 2147483648 bytes"]);
    place.refuse(&["model", "add", "absent.onnx"], 4, &["absent.onnx does not exist"]);
    place.refuse(&["model", "show", "nobody"], 2, &["there is no model `nobody`", "digits-cnn"]);
}

#[test]
fn external_data_stays_in_the_models_folder() {
    let place = Place::new();
    let with = |location: &str| {
        let mut model = Model::new(vec![node("Add", &["x", "w"], &["y"])]);
        model.initializers.push(external("w", 2, location));
        place.file("folder/model.onnx", model.bytes())
    };
    place.file("secret.bin", [0; 8]);
    place.refuse(&["model", "add", &with("w.bin")], 1, &["`w.bin`", "missing"]);
    place.refuse(&["model", "add", &with("../secret.bin")], 1, &["`..`"]);
    place.refuse(&["model", "add", &with("/etc/passwd")], 1, &["absolute"]);
    place.file("folder/w.bin", [0; 4]);
    place.refuse(&["model", "add", &with("w.bin")], 1, &["too few"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place.path("secret.bin"), place.path("folder/link.bin")).unwrap();
        place.refuse(&["model", "add", &with("link.bin")], 1, &["leaves the model's folder"]);
    }
    place.file("folder/w.bin", [1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat());
    place.ok(&["model", "add", &with("w.bin"), "--name", "sum"]);
    std::fs::remove_dir_all(place.path("folder")).unwrap();
    let answer = place.json(&["infer", "sum", "--input", &place.file("in.json", "[10, 20]")]);
    assert_eq!(answer["outputs"]["y"]["data"], serde_json::json!([11.0, 22.0]));
}

#[test]
fn inputs_are_refused_by_cause() {
    let place = Place::new();
    let model = place.file("relu.onnx", relu().bytes());
    let json = |text: &str, words: &[&str]| {
        place.refuse(&["infer", &model, "--input", &place.file("in.json", text)], 1, words);
    };
    json("[1, NaN]", &["bare `NaN` at line 1", "JSON has no such number", "hint: write it as a string"]);
    json("[1, 2, 3]", &["`x` has shape [3], the model takes [2]", "hint"]);
    json("[[1, 2]]", &["`x` has shape [1, 2]"]);
    json("[1, \"two\"]", &["element 1 is text, expected float32"]);
    json("[1, 16777217]", &["element 1 is a number that float32 does not hold"]);
    json("{\"z\": [1, 2]}", &["`z` is no input of this model", "`x`"]);
    json("{}", &["input `x` (float32 [2]) is missing"]);
    json("[1, 2", &["not JSON"]);
    let npy = |name: &str, header: &str, data: &[u8]| {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend([header.as_bytes(), data].concat());
        place.file(name, file)
    };
    let doubles = npy("d.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", &[0x11; 16]);
    place.refuse(
        &["infer", &model, "--input", &doubles],
        1,
        &["does not convert to float32", "hint: round it"],
    );
    let bools = npy("b.npy", "{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", &[0, 1]);
    place.refuse(&["infer", &model, "--input", &bools], 1, &["bool does not become float32"]);
    let long = npy("l.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", &[0; 8]);
    place.refuse(&["infer", &model, "--input", &long], 1, &["4398046511104 bytes of data, the file has 8"]);
    let pickle = npy("p.npy", "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", &[0; 8]);
    place.refuse(&["infer", &model, "--input", &pickle], 1, &["pickled"]);
    place.refuse(&["infer", &model, "--input", &bomb(&place)], 1, &["zip bomb", "`x`"]);
    place.refuse(&["infer", &model, "--input", "absent.npz"], 4, &["absent.npz does not exist"]);
    place.refuse(&["infer", &model, "--sample"], 2, &["no samples"]);
    place.refuse(&["infer", "tumour-trees", "--sample", "99"], 2, &["no sample 99", "0 to 15"]);
    let run = place.run(&["infer", &model]);
    assert_eq!((run.code, run.out.as_str()), (2, ""));
}

/// 64 MiB of zeros in 64 kB.
fn bomb(place: &Place) -> String {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("x.npy", options.compression_method(zip::CompressionMethod::Deflated)).unwrap();
    zip.write_all(&vec![0; 64 << 20]).unwrap();
    place.file("bomb.npz", zip.finish().unwrap().into_inner())
}

#[test]
fn budgets_end_runs() {
    let place = Place::new();
    let mut model = Model::new(vec![node("Expand", &["x", "s"], &["e"]), node("Relu", &["e"], &["y"])]);
    model.initializers.push(ints("s", &[4 << 20, 2]));
    model.output = vec![4 << 20, 2];
    let model = place.file("wide.onnx", model.bytes());
    let input = place.file("in.json", "[1, 2]");
    place.refuse(&["infer", &model, "--input", &input, "--memory-mib", "8"], 1, &["does not run"]);
    place.refuse(&["infer", &model, "--input", &input, "--memory-mib", "0"], 2, &["memory_mib"]);
}

#[test]
fn errors_as_json_are_objects_with_the_exit_code() {
    let place = Place::new();
    for (arguments, code) in [
        (&["model", "show", "nobody", "--json"][..], 2),
        (&["verify", "absent.receipt.json", "--json"], 4),
        (&["infer", "--json"], 2),
        (&["infer", "tumour-trees", "--input", "absent.npy", "--json"], 4),
    ] {
        let run = place.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}");
        let value: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert!(value["error"].is_object() || value["error"].is_string(), "{arguments:?}: {value}");
    }
    let run = place.run(&["config"]);
    assert_eq!(run.code, 0);
    let broken = place.file("config.toml", "colour = true");
    place.refuse(&["config"], 2, &[&broken, "unknown field"]);
}
