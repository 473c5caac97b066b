//! The second verifier of streams, in Python, beside the reader: over the vectors, and over edits of the honest stream.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::stream::{Reader, StreamError};
use hallmark_receipt::wire::as_digest;
use hallmark_receipt::{KeyId, stream::MAX_LINE};

use crate::vectors::python;

/// What `expected.json` says of all streams.
struct About {
    node: KeyId,
    request: String,
    now: u64,
    streams: Object,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/stream")
}

fn about() -> About {
    let bytes = std::fs::read(folder().join("expected.json")).unwrap();
    let Ok(Value::Object(about)) = Value::parse(&bytes, 1 << 20) else { panic!("no object") };
    let (Some(Value::Str(request)), Some(Value::Int(now)), Some(Value::Object(streams))) =
        (about.get("request"), about.get("now"), about.get("streams"))
    else {
        panic!("another form")
    };
    About {
        node: KeyId(as_digest(&about["node"], "node").unwrap()),
        request: request.clone(),
        now: u64::try_from(*now).unwrap(),
        streams: streams.clone(),
    }
}

fn word(error: &StreamError) -> &'static str {
    match error {
        StreamError::Format(_) => "format",
        StreamError::Certificate(_) => "certificate",
        StreamError::Node { .. } => "node",
        StreamError::Purpose { .. } => "purpose",
        StreamError::Validity { .. } => "validity",
        StreamError::Issuer { .. } => "issuer",
        StreamError::Index { .. } => "index",
        StreamError::Signature { .. } => "signature",
        StreamError::Signatures { .. } => "signatures",
        StreamError::DataLines { .. } => "data-lines",
        StreamError::Preamble => "preamble",
        StreamError::AfterSeal => "after-seal",
        StreamError::Cut { .. } => "cut",
        StreamError::Line => "line",
        other => panic!("{other}"),
    }
}

/// The reader's result, in the second verifier's words.
fn read(about: &About, bytes: &[u8]) -> Value {
    let mut reader = Reader::new(about.node, about.request.clone(), about.now);
    let mut events = Vec::new();
    let fed = reader.feed(bytes, &mut events);
    let mut result = Object::new();
    let end = match fed.and_then(|()| reader.finish()) {
        Ok(claim) => {
            result.insert("claim".to_owned(), claim.to_string().into());
            "sealed"
        }
        Err(error) => word(&error),
    };
    result.insert("end".to_owned(), end.into());
    result.insert("held".to_owned(), Value::Int(i64::try_from(events.len()).unwrap()));
    Value::Object(result)
}

#[test]
fn the_second_verifier_of_streams_agrees() {
    let Some(python) = python() else { return };
    let about = about();
    let mut cases: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in about.streams.keys() {
        cases.insert(format!("{name}.sse"), std::fs::read(folder().join(format!("{name}.sse"))).unwrap());
    }
    let honest = cases["valid.sse"].clone();
    let mut add = |bytes: Vec<u8>| _ = cases.insert(format!("edit-{}", cases.len()), bytes);
    for at in (0..honest.len()).step_by(3) {
        let mut flipped = honest.clone();
        flipped[at] ^= 1 << (at % 8);
        add(flipped);
        add(honest[..at].to_vec());
    }
    let text = String::from_utf8(honest.clone()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (number, line) in lines.iter().enumerate() {
        let with =
            |new: &str| [&lines[..number], &[new], &lines[number + 1..]].concat().concat().into_bytes();
        let long = format!(": {}\n{line}", "x".repeat(MAX_LINE - 3));
        let longer = format!(": {}\n{line}", "x".repeat(MAX_LINE - 2));
        for new in [
            "",
            "\n",
            ": a comment\n",
            "data: x\n",
            "event: x\n",
            "id: 1\n",
            "data\n",
            &format!("{line}{line}"),
            &format!(" {line}"),
            &line.replacen(' ', "  ", 1),
            &line.replacen(' ', "", 1),
            &line.replace('\n', "\r\n"),
            &line.replace("event 0", "event 00"),
            &line.replace("event 1", "event +1"),
            &line.replace("event 2", "event 18446744073709551616"),
            &line.replace("==", ""),
            &line.replace("hallmark-seal 3", "hallmark-seal 3 "),
            &line.replace("\"format\"", "\"extra\":1,\"format\""),
            &line.replace("hallmark-stream/1", "hallmark-stream/2"),
        ] {
            add(with(new));
        }
        if number % 5 == 0 {
            add(with(&long));
            add(with(&longer));
        }
    }
    assert!(cases.len() > 1000, "{}", cases.len());

    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in &cases {
        std::fs::write(place.path().join(name), bytes).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python/verify_stream.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).args(["--json", "--node", &about.node.to_string(), "--request", &about.request]);
    command.args(["--now", &about.now.to_string()]).args(cases.keys()).current_dir(place.path());
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let Ok(Value::Object(results)) = Value::parse(&output.stdout, 1 << 24) else { panic!("no JSON") };
    assert_eq!(results.len(), cases.len());
    for (name, bytes) in &cases {
        let expected = read(&about, bytes);
        assert_eq!(results.get(name), Some(&expected), "{name}: {}", String::from_utf8_lossy(bytes));
        // And both agree with what the vectors promise.
        if let Some(Value::Object(promised)) = about.streams.get(name.trim_end_matches(".sse")) {
            let Value::Object(expected) = expected else { panic!("{name}") };
            assert_eq!(
                (&expected["end"], &expected["held"]),
                (&promised["end"], &promised["held"]),
                "{name}"
            );
        }
    }
}
