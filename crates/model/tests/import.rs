//! Golden models (`models/`, written by `make_models.py`): import, identity, weights, manifest.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use hallmark_model::manifest::{MODEL_FILE, Manifest, Model, ModelError, ProofEntry};
use hallmark_model::onnx::{self, ExternalDataError, ImportError, Limits, NoExternalData};
use hallmark_model::reference;
use hallmark_model::skeleton::{Constant, Skeleton, SkeletonError};
use hallmark_receipt::{Data, Tensor};

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)).unwrap()
}

fn files() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("weights.bin".to_owned(), bytes("weights.bin"))])
}

fn load(name: &str) -> Model {
    Model::load(&bytes(&format!("{name}.onnx")), &files(), &Limits::default()).unwrap()
}

fn input(rows: usize) -> Tensor {
    let values = (0..rows * 128).map(|i| (i % 37) as f32 * 0.25 - 4.0).collect();
    Tensor::from_vec(vec![rows, 2, 8, 8], values).unwrap()
}

const SAME: [&str; 3] = ["convnet-again", "convnet-external", "convnet-function"];

#[test]
fn one_model_in_four_files_has_one_graph_digest_one_weight_root_and_one_answer() {
    let first = load("convnet");
    let x = input(2);
    let answer = reference::run(first.graph(), &[&x], 1 << 24).unwrap();
    for name in SAME {
        let other = load(name);
        assert_eq!(first.skeleton(), other.skeleton(), "{name}");
        assert_eq!(first.manifest().graph, other.manifest().graph, "{name}");
        assert_eq!(first.manifest().weights, other.manifest().weights, "{name}");
        assert_ne!(first.id(), other.id(), "{name}: other bytes are another file");
        let got = reference::run(other.graph(), &[&x], 1 << 24).unwrap();
        assert!(got[0].same_bits(&answer[0]), "{name}");
    }
}

#[test]
fn weights_and_output_names_each_change_their_own_digest() {
    let first = load("convnet");
    let weights = load("convnet-other-weights");
    assert_eq!(first.manifest().graph, weights.manifest().graph);
    assert_ne!(first.manifest().weights, weights.manifest().weights);
    let renamed = load("convnet-output-name");
    assert_ne!(first.manifest().graph, renamed.manifest().graph);
    assert_eq!(first.manifest().weights, renamed.manifest().weights);
}

#[test]
fn every_leaf_opens_to_the_root_and_is_one_outputs_block() {
    // Version, no inputs, outputs or constants, then nodes without a name, of seven bytes each.
    let nodes = |count: &[u8], n: usize| [&[1, 0, 0, 0, 0, 0], count, &vec![0; 7 * n]].concat();
    let few = Skeleton::decode(&nodes(&[0xe8, 0x07], 1000));
    assert!(!matches!(few, Err(SkeletonError::TooMuch { .. })), "{few:?}");
    let many = Skeleton::decode(&nodes(&[0xc0, 0x8d, 0xb7, 0x01], 3_000_000));
    assert!(matches!(many, Err(SkeletonError::TooMuch { .. })));
    let model = load("convnet");
    let (weights, root) = (model.weights(), model.manifest().weights);
    let forms = model.skeleton().weights();
    assert_eq!(weights.len(), forms.len());
    for (w, form) in forms.iter().enumerate() {
        let layout = weights.layout(w).unwrap();
        assert_eq!(*layout, form.layout);
        for leaf in 0..layout.leaves().unwrap() {
            let mut opening = weights.open(w, leaf).unwrap();
            assert_eq!(opening.root(), Some(root));
            opening.bytes[0] ^= 1;
            assert_ne!(opening.root(), Some(root));
        }
        assert_eq!(weights.open(w, layout.leaves().unwrap()), None);
    }
    // conv2: 24 outputs of 16 channels of 2x2: one block of 64 elements each.
    let conv2 = forms.iter().position(|form| form.shape == [24, 16, 2, 2]).unwrap();
    let layout = weights.layout(conv2).unwrap();
    assert_eq!((layout.outer, layout.k, layout.inner, layout.block), (24, 64, 1, 512));
    let leaf = layout.leaf(5, 0, 63).unwrap();
    let all = model.graph().constants.values().find(|tensor| tensor.shape() == [24, 16, 2, 2]).unwrap();
    let Data::F32(values) = all.data() else { panic!("float32") };
    let expected: Vec<u8> = values[5 * 64..6 * 64].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(weights.open(conv2, leaf).unwrap().bytes, expected);
}

#[test]
fn skeletons_carry_no_weights_and_only_their_own_bytes_are_read() {
    for name in ["convnet", "branch", "zipmap"] {
        let model = load(name);
        let bytes = model.skeleton().encode();
        assert_eq!(Skeleton::decode(&bytes).as_ref(), Ok(model.skeleton()));
        for cut in 0..bytes.len() {
            assert!(Skeleton::decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Skeleton::decode(&longer), Err(SkeletonError::Trailing { got: 1 }));
        // Whatever is read is read back the same: no two encodings of one skeleton.
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            if let Ok(read) = Skeleton::decode(&other) {
                assert_eq!(read.encode(), other);
                assert_ne!(read.digest(), model.skeleton().digest());
            }
        }
    }
    let model = load("convnet");
    let inline = model.skeleton().body.constants.values().filter(|c| matches!(c, Constant::Inline(_)));
    assert_eq!(inline.count(), 1, "the scalar stays, four weights and biases leave");
    assert!(model.skeleton().encode().len() < 700);
}

#[test]
fn branches_capture_values_once_and_constants_never() {
    let model = load("branch");
    let node = model.graph().nodes.last().unwrap();
    assert_eq!((node.op.name, node.declared_inputs), ("If", 1));
    let captures = |name| node.attrs.graph(name).unwrap().captures.len();
    assert_eq!((captures("else_branch"), captures("then_branch")), (2, 1));
    assert_eq!(node.inputs.len(), 4);
    assert_eq!(node.attrs.graph("then_branch").unwrap().constants.len(), 1);
    let x = Tensor::from_vec(vec![1, 4], vec![1_f32, -2.0, 3.0, -4.0]).unwrap();
    let run = |c| reference::run(model.graph(), &[&Tensor::scalar(c), &x], 1 << 20).unwrap();
    assert_eq!(run(false)[0].as_slice::<f32>(), Some(&[0.0, 0.0, 0.0, 0.0][..]));
    let k = node.attrs.graph("then_branch").unwrap().constants.values().next().unwrap().clone();
    let k = k.as_slice::<f32>().unwrap();
    assert_eq!(run(true)[0].as_slice::<f32>(), Some(&[k[0], 0.0 * k[1], 3.0 * k[2], 0.0 * k[3]][..]));
}

#[test]
fn zip_maps_become_their_values_and_keys() {
    let model = load("zipmap");
    let graph = model.graph();
    assert_eq!(graph.nodes.len(), 1);
    let keys = &graph.output_keys[&graph.outputs[0]];
    assert_eq!(keys.as_slice::<String>(), Some(&["no".to_owned(), "yes".to_owned()][..]));
    assert_eq!(graph.values[graph.outputs[0].0].name, "maps");
}

#[test]
fn manifests_round_trip_and_open_only_their_own_model() {
    let model = load("convnet-external");
    let manifest = model.manifest();
    let json = manifest.to_json();
    assert_eq!(Manifest::parse(json.as_bytes()).as_ref(), Ok(manifest));
    assert_eq!(manifest.id(), model.id());
    let names: Vec<_> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, [MODEL_FILE, "weights.bin"]);
    for (at, _) in json.char_indices() {
        let cut = &json[..at];
        assert!(Manifest::parse(cut.as_bytes()).is_err());
    }
    assert!(Manifest::parse(format!(" {json}").as_bytes()).is_err());
    // A commitment for proofs makes another manifest, whose files are the same.
    let proof = Some(ProofEntry { commitment: [7; 32], version: 1 });
    let committed = model.clone().with_proof(proof);
    assert_ne!(committed.id(), model.id());
    let text = committed.manifest().to_json();
    let entry = format!("\"proof\":{{\"commitment\":\"{}\",\"version\":1}}", "07".repeat(32));
    assert!(text.contains(&entry), "{text}");
    assert_eq!(Manifest::parse(text.as_bytes()).as_ref(), Ok(committed.manifest()));
    assert!(Manifest::parse(text.replace(",\"version\":1}", "}").as_bytes()).is_err());
    assert_eq!(committed.with_proof(None).id(), model.id());

    let onnx = bytes("convnet-external.onnx");
    let limits = Limits::default();
    assert_eq!(Model::open(manifest, &onnx, &files(), &limits).unwrap().id(), model.id());
    let mut bad = files();
    bad.get_mut("weights.bin").unwrap()[7] ^= 1;
    let error = Model::open(manifest, &onnx, &bad, &limits).unwrap_err();
    assert!(
        matches!(error, ModelError::FileDigest { ref name, kind: "SHA-256", .. } if name == "weights.bin")
    );
    bad.get_mut("weights.bin").unwrap().push(0);
    let error = Model::open(manifest, &onnx, &bad, &limits).unwrap_err();
    assert!(matches!(error, ModelError::FileSize { .. }), "{error}");
    let error = Model::open(manifest, &onnx, &NoExternalData, &limits).unwrap_err();
    let missing = ModelError::File { name: "weights.bin".into(), source: ExternalDataError::Missing };
    assert_eq!(error, missing);
    let mut other = manifest.clone();
    other.graph = load("convnet-output-name").manifest().graph;
    let error = Model::open(&other, &onnx, &files(), &limits).unwrap_err();
    assert!(matches!(error, ModelError::GraphDigest { .. }), "{error}");
    let mut other = manifest.clone();
    other.weights = load("convnet-other-weights").manifest().weights;
    let error = Model::open(&other, &onnx, &files(), &limits).unwrap_err();
    assert!(matches!(error, ModelError::WeightRoot { .. }), "{error}");
    let other = Manifest { numeric: 2, ..manifest.clone() };
    let error = Model::open(&other, &onnx, &files(), &limits).unwrap_err();
    assert_eq!(error, ModelError::Numeric { supported: 1, got: 2 });
}

#[test]
fn external_data_must_be_there() {
    let onnx = bytes("convnet-external.onnx");
    let error = onnx::import(&onnx, &NoExternalData, &Limits::default()).unwrap_err();
    assert!(matches!(error, ImportError::External { ref path, source: ExternalDataError::Missing, .. }
        if path == "weights.bin"));
    let mut short = files();
    short.get_mut("weights.bin").unwrap().pop();
    let error = onnx::import(&onnx, &short, &Limits::default()).unwrap_err();
    assert!(matches!(error, ImportError::External { source: ExternalDataError::TooShort { .. }, .. }));
}

#[test]
fn cut_or_damaged_files_are_refused_or_read_but_never_panic() {
    for name in ["convnet", "branch", "zipmap", "convnet-function"] {
        let onnx = bytes(&format!("{name}.onnx"));
        for cut in (0..onnx.len()).step_by(7) {
            assert!(
                onnx::import(&onnx[..cut], &NoExternalData, &Limits::default()).is_err(),
                "{name} at {cut}"
            );
        }
        for at in (0..onnx.len()).step_by(3) {
            let mut other = onnx.clone();
            other[at] ^= 1 << (at % 8);
            let _ = onnx::import(&other, &NoExternalData, &Limits::default());
        }
    }
}

#[test]
fn shipped_models_import_with_types_and_skeletons() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let mut found = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path().join("model.onnx");
        let Ok(onnx) = std::fs::read(&path) else { continue };
        let model = Model::load(&onnx, &NoExternalData, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let graph = model.graph();
        for id in &graph.outputs {
            let info = &graph.values[id.0].info;
            assert!(info.dtype.is_some() && info.shape.is_some(), "{}: {info:?}", path.display());
        }
        assert_eq!(Skeleton::decode(&model.skeleton().encode()).as_ref(), Ok(model.skeleton()));
        found += 1;
    }
    assert!(found >= 4, "{found}");
}
