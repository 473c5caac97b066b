//! `model quantize`: shipped models made of integers, and what is refused.

use super::onnx::{Model, ints, node};
use super::{Place, npy};

/// A shipped model's samples and the classes that they are of.
fn shipped(place: &Place, name: &str) -> (String, String) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name);
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let labels: Vec<i64> =
        meta["expected"].as_array().unwrap().iter().map(|class| class.as_i64().unwrap()).collect();
    (folder.join("samples.npz").display().to_string(), place.file(&format!("{name}.npy"), npy(&labels)))
}

#[test]
fn shipped_models_keep_their_answers() {
    for (name, most) in [("digits-cnn", 0.02), ("tumour-mlp", 0.02), ("phrase-language", 0.25)] {
        let place = Place::new();
        let (samples, labels) = shipped(&place, name);
        let arguments = ["model", "quantize", name, "--calibrate", &samples, "--labels", &labels];
        let report = place.json(&arguments);
        assert_eq!(report["name"], format!("{name}-int8"));
        let rms = report["outputs"][0]["rms_relative"].as_f64().unwrap();
        assert!(rms < most, "{name}: {report}");
        let [before, after] = ["before", "after"].map(|when| report["accuracy"][when].as_f64().unwrap());
        assert!((before - after).abs() < 0.07, "{name}: {report}");
        // The same again gives the same model; it runs, and its receipt is accepted by a re-run.
        assert_eq!(place.json(&arguments)["id"], report["id"]);
        let first = ["infer", &format!("{name}-int8"), "--input", &first_row(&place, &samples)];
        let receipt = place.path("bundle.json").display().to_string();
        place.ok(&[&first[..], &["--receipt", &receipt]].concat());
        let verdict = place.ok(&["verify", &receipt, "--policy", "replay"]);
        assert!(verdict.contains("accepted"), "{verdict}");
    }
}

/// The first row of every array, as JSON.
fn first_row(place: &Place, samples: &str) -> String {
    let arrays =
        hallmark_cli::tensor_io::npz::read(&std::fs::read(samples).unwrap(), &Default::default()).unwrap();
    let rows: Vec<_> = arrays
        .into_iter()
        .map(|(name, tensor)| (name, hallmark_cli::tensor_io::convert::rows(&tensor, 0, 1).unwrap()))
        .collect();
    let bytes = hallmark_cli::tensor_io::npz::write(&rows).unwrap();
    place.file("first.npz", bytes)
}

#[test]
fn what_cannot_be_is_refused_with_nothing_written() {
    let place = Place::new();
    let (samples, labels) = shipped(&place, "tumour-mlp");
    let quantize = |model: &str, more: &[&str], code: i32, words: &[&str]| {
        place.refuse(&[&["model", "quantize", model][..], more].concat(), code, words);
    };
    let mut sums = Model::new(vec![node("CumSum", &["x", "axis"], &["y"])]);
    sums.initializers.push(ints("axis", &[0]));
    let sums = place.file("sums.onnx", sums.bytes());
    let two = place.file("two.npy", npy(&[1, 2]));
    quantize(
        &sums,
        &["--calibrate", &two],
        1,
        &["`the_cumsum` (CumSum, version 14)", "§3.1 lists the operators"],
    );
    quantize("tumour-mlp", &["--calibrate", &two], 1, &["does not fit the model"]);
    quantize("tumour-mlp", &["--calibrate", "absent.npz"], 4, &["absent.npz does not exist"]);
    quantize("tumour-mlp", &["--calibrate", &samples, "--labels", &two], 1, &["2 labels for 16 rows"]);
    quantize("tumour-mlp", &["--calibrate", &samples, "--labels", &samples], 1, &["is no .npy file"]);
    quantize(
        "tumour-mlp",
        &["--calibrate", &samples, "--name", "digits-cnn"],
        2,
        &["name of a shipped model"],
    );
    quantize("tiny-chat", &["--calibrate", &samples, "--labels", &labels], 2, &["language model"]);
}
