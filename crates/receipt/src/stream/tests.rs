use super::*;
use crate::keys::{SecretKey, Signer as _};

const NOW: u64 = 1000;
const REQUEST_TEXT: &str = r#"{"messages":[],"model":"m"}"#;
const CLAIM: Digest = Digest([9; 32]);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(Alg::Ed25519, &[seed; 32]).unwrap()
}

fn certificate(by: u8, key_of: u8, purpose: Purpose) -> Envelope {
    let (identity, key) = (key(by).public_key(), key(key_of).public_key());
    Certificate { identity, key, purpose, not_before: 0, not_after: 2000 }.sign(&self::key(by)).unwrap()
}

fn preamble(salt: u8) -> Preamble {
    Preamble {
        receipt: certificate(1, 2, Purpose::Receipt),
        session: certificate(2, 3, Purpose::Stream),
        request_salt: Salt([salt; 32]),
        salt: Salt([salt.wrapping_add(1); 32]),
    }
}

fn node() -> KeyId {
    key(1).public_key().id()
}

/// The blocks of a stream of four events: the preamble, then one block an event.
fn blocks(request_text: &str, salt: u8) -> Vec<String> {
    let preamble = preamble(salt);
    let commitment = request(request_text, preamble.request_salt).unwrap().commitment();
    let mut signer = Signer::new(commitment, &preamble.salt, key(3));
    let mut out = vec![preamble.to_line()];
    for text in ["a", "b", "c"] {
        let line = signer.event(DEFAULT_NAME, text).unwrap();
        out.push(format!("{line}data: {text}\n\n"));
    }
    let line = signer.seal("end", "[DONE]", &CLAIM).unwrap();
    out.push(format!("{line}event: end\ndata: [DONE]\n\n"));
    out
}

/// How many events held, and how it ended.
fn read(blocks: &[String]) -> (usize, Result<Digest, StreamError>) {
    let mut reader = Reader::new(node(), REQUEST_TEXT, NOW);
    let mut held = Vec::new();
    // In one piece: what is wrong takes nothing from what came before it.
    let fed = reader.feed(blocks.concat().as_bytes(), &mut held);
    (held.len(), fed.and_then(|()| reader.finish()))
}

/// What a reader makes of these bytes alone.
fn feed(bytes: &[u8]) -> Result<Vec<Event>, StreamError> {
    let mut events = Vec::new();
    Reader::new(node(), REQUEST_TEXT, NOW).feed(bytes, &mut events).map(|()| events)
}

#[test]
fn an_honest_stream_is_read_in_any_cut() {
    let blocks = blocks(REQUEST_TEXT, 5);
    assert_eq!(read(&blocks), (4, Ok(CLAIM)));
    let mut reader = Reader::new(node(), REQUEST_TEXT, NOW);
    let mut events = Vec::new();
    for byte in blocks.concat().bytes() {
        assert!(reader.sealed().is_none());
        reader.feed(&[byte], &mut events).unwrap();
    }
    assert_eq!(events.iter().map(|e| e.data.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "[DONE]"]);
    assert_eq!(events[3].name, "end");
    assert_eq!(reader.signer().map(|signer| signer.key), Some(key(2).public_key()));
    assert_eq!(reader.sealed(), Some(CLAIM));
    assert_eq!(reader.finish(), Ok(CLAIM));
}

/// Each attack: how many events held before it was caught, and how.
#[test]
fn attacks_are_caught_at_their_event() {
    let honest = blocks(REQUEST_TEXT, 5);
    let other = blocks(REQUEST_TEXT, 6);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut blocks = honest.clone();
        change(&mut blocks);
        read(&blocks)
    };
    let index = |expected, got| Err(StreamError::Index { expected, got });
    let signature = |index| Err(StreamError::Signature { index, source: SignatureError::Mismatch });
    assert_eq!(with(&|b| drop(b.remove(2))), (1, index(1, 2)), "drop");
    assert_eq!(with(&|b| b.swap(2, 3)), (1, index(1, 2)), "swap");
    assert_eq!(with(&|b| b.insert(3, b[2].clone())), (2, index(2, 1)), "repeat");
    assert_eq!(with(&|b| b[2] = b[2].replace("data: b", "data: x")), (1, signature(1)), "edit");
    assert_eq!(with(&|b| b[2] = b[2].replace("data: b", "event: x\ndata: b")), (1, signature(1)), "rename");
    assert_eq!(with(&|b| b[3] = other[3].clone()), (2, signature(2)), "splice");
    assert_eq!(with(&|b| drop(b.pop())), (3, Err(StreamError::Cut { events: 3 })), "cut tail");
    let renumbered = |b: &mut Vec<String>| {
        b.remove(2);
        b[2] = b[2].replace("hallmark-event 2", "hallmark-event 1");
    };
    assert_eq!(with(&renumbered), (1, signature(1)), "drop and renumber");
    let claim = |b: &mut Vec<String>| b[4] = b[4].replace(&CLAIM.to_string(), &Digest([8; 32]).to_string());
    assert_eq!(with(&claim), (3, signature(3)), "another claim");
    // A signature for an event is none for a seal.
    let early = |b: &mut Vec<String>| {
        b[3] = b[3].replace("hallmark-event 2", &format!("hallmark-seal 2 {CLAIM}"));
    };
    assert_eq!(with(&early), (2, signature(2)), "an early seal");
    assert_eq!(with(&|b| b.push(b[4].clone())), (4, Err(StreamError::AfterSeal)), "after the seal");
    let unsigned = |b: &mut Vec<String>| b[2] = "data: b\n\n".to_owned();
    assert_eq!(with(&unsigned), (1, Err(StreamError::Signatures { index: 1, got: 0 })), "unsigned");
    let twice = |b: &mut Vec<String>| b[2] = format!("{}{}", b[3].lines().next().unwrap(), "\n") + &b[2];
    assert_eq!(with(&twice), (1, Err(StreamError::Signatures { index: 1, got: 2 })), "signed twice");
    let lines = |b: &mut Vec<String>| b[2] = b[2].replace("data: b", "data: b\ndata: c");
    assert_eq!(with(&lines), (1, Err(StreamError::DataLines { index: 1, got: 2 })), "two lines");
    // The answer to another request, word for word.
    assert_eq!(read(&blocks("{}", 5)), (0, signature(0)), "another request");
}

#[test]
fn preambles_are_judged_first() {
    let honest = blocks(REQUEST_TEXT, 5);
    let read = |preamble: Preamble, now| {
        Reader::new(node(), REQUEST_TEXT, now).feed(preamble.to_line().as_bytes(), &mut Vec::new())
    };
    assert_eq!(read(preamble(5), NOW), Ok(()));
    let validity = Err(StreamError::Validity { not_before: 0, not_after: 2000, now: 2001 });
    assert_eq!(read(preamble(5), 2001), validity);
    let stranger = Preamble { receipt: certificate(7, 2, Purpose::Receipt), ..preamble(5) };
    let (expected, got) = (node(), key(7).public_key().id());
    assert_eq!(read(stranger, NOW), Err(StreamError::Node { expected, got }));
    let wrong = Preamble { session: certificate(2, 3, Purpose::Receipt), ..preamble(5) };
    let (expected, got) = (Purpose::Stream, Purpose::Receipt);
    assert_eq!(read(wrong, NOW), Err(StreamError::Purpose { expected, got }));
    let wrong = Preamble { session: certificate(7, 3, Purpose::Stream), ..preamble(5) };
    assert!(matches!(read(wrong, NOW), Err(StreamError::Issuer { .. })));
    // Events without a preamble, a preamble twice, one after an event.
    for blocks in [vec![honest[1].clone()], vec![honest[0].clone(), honest[0].clone()]] {
        assert_eq!(feed(blocks.concat().as_bytes()), Err(StreamError::Preamble));
    }
    assert_eq!(super::tests::read(&[]), (0, Err(StreamError::Cut { events: 0 })));
}

#[test]
fn hostile_lines_are_refused() {
    let (mut reader, mut none) = (Reader::new(node(), REQUEST_TEXT, NOW), Vec::new());
    assert_eq!(reader.feed(&vec![b'x'; MAX_LINE + 1], &mut none), Err(StreamError::Line));
    assert_eq!(reader.feed(b"\n", &mut none), Err(StreamError::Line), "nothing after an error");
    for line in [
        ": hallmark-event\n",
        ": hallmark-event 01 AA==\n",
        ": hallmark-event +1 AA==\n",
        ": hallmark-event 1 A\n",
        ": hallmark-event 1 AA== x\n",
        ": hallmark-seal 1 AA==\n",
        ": hallmark-seal 1 zz AA==\n",
        ": hallmark-stream {}\n",
        ": hallmark-stream x\n",
    ] {
        assert!(matches!(feed(line.as_bytes()), Err(StreamError::Format(_))), "{line}");
    }
    for bytes in [b"\xff\n".as_slice(), b"data: x\r\n"] {
        assert_eq!(feed(bytes), Err(StreamError::Line));
    }
    // Comments and fields that mean nothing here.
    assert_eq!(feed(b": ping\n\nretry: 5\n\n\n"), Ok(Vec::new()));
}

/// An answer that comes at once is a stream of one event: nothing of it, of its headers or of the request can be another.
#[test]
fn a_whole_answer_is_signed_to_its_last_byte() {
    let preamble = preamble(5);
    let commitment = request(REQUEST_TEXT, preamble.request_salt).unwrap().commitment();
    let body = b"{\"a\":1}\n";
    let seal = Signer::new(commitment, &preamble.salt, key(3)).whole(body, &CLAIM).unwrap();
    let text = preamble.to_text();
    let read = |request: &str, preamble: &str, seal: &str, body: &[u8]| {
        Reader::new(node(), request, NOW)
            .whole(preamble, seal, body)
            .map(|(signer, claim)| (signer.key, claim))
    };
    assert_eq!(read(REQUEST_TEXT, &text, &seal, body), Ok((key(2).public_key(), CLAIM)));
    let mismatch = Err(StreamError::Signature { index: 0, source: SignatureError::Mismatch });
    assert_eq!(read(REQUEST_TEXT, &text, &seal, b"{\"a\":2}\n"), mismatch, "another body");
    assert_eq!(read("{}", &text, &seal, body), mismatch, "another request");
    let other = seal.replace(&CLAIM.to_string(), &Digest([8; 32]).to_string());
    assert_eq!(read(REQUEST_TEXT, &text, &other, body), mismatch, "another claim");
    assert_eq!(read(REQUEST_TEXT, &self::preamble(6).to_text(), &seal, body), mismatch, "other salts");
    let stranger = Preamble { receipt: certificate(7, 2, Purpose::Receipt), ..preamble };
    let (expected, got) = (node(), key(7).public_key().id());
    assert_eq!(
        read(REQUEST_TEXT, &stranger.to_text(), &seal, body),
        Err(StreamError::Node { expected, got })
    );
    // A seal of a stream is none of a whole answer, whatever the body.
    let stream = blocks(REQUEST_TEXT, 5).pop().unwrap();
    let seal = stream.lines().next().unwrap().trim_start_matches(": hallmark-seal ");
    assert_eq!(read(REQUEST_TEXT, &text, seal, b"[DONE]"), Err(StreamError::Index { expected: 0, got: 3 }));
    for seal in ["", "0", "0 zz AA==", "00"] {
        assert!(matches!(read(REQUEST_TEXT, &text, seal, body), Err(StreamError::Format(_))), "{seal}");
    }
}

/// Whatever one byte becomes: what the reader gives is what was sent, from the first event on, and no seal holds for less.
#[test]
fn no_flipped_bit_gives_another_event() {
    let honest = blocks(REQUEST_TEXT, 5).concat();
    let whole = feed(honest.as_bytes()).unwrap();
    for at in (0..honest.len()).step_by(11) {
        let mut bytes = honest.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        let mut reader = Reader::new(node(), REQUEST_TEXT, NOW);
        let mut held = Vec::new();
        let fed = reader.feed(&bytes, &mut held);
        assert!(whole.starts_with(&held), "byte {at}");
        let sealed = reader.finish().is_ok();
        assert_eq!(sealed, fed.is_ok() && held == whole, "byte {at}");
    }
}

/// `vectors/stream`: streams, honest and not, with what a verifier finds. `HALLMARK_REGENERATE=1` writes them.
#[test]
fn vectors() {
    let honest = blocks(REQUEST_TEXT, 5);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut blocks = honest.clone();
        change(&mut blocks);
        blocks
    };
    let cases = [
        ("valid", honest.clone(), "sealed"),
        ("tampered-dropped", with(&|b| drop(b.remove(2))), "index"),
        ("tampered-swapped", with(&|b| b.swap(2, 3)), "index"),
        ("tampered-repeated", with(&|b| b.insert(3, b[2].clone())), "index"),
        ("tampered-edited", with(&|b| b[2] = b[2].replace("data: b", "data: x")), "signature"),
        ("tampered-spliced", with(&|b| b[3] = blocks(REQUEST_TEXT, 6)[3].clone()), "signature"),
        ("tampered-cut", with(&|b| drop(b.pop())), "cut"),
        ("tampered-unsigned", with(&|b| b[2] = "data: b\n\n".to_owned()), "signatures"),
        ("tampered-after-seal", with(&|b| b.push(b[4].clone())), "after-seal"),
        ("forged-other-request", blocks("{}", 5), "signature"),
        (
            "forged-other-node",
            with(&|b| {
                b[0] = Preamble { receipt: certificate(7, 2, Purpose::Receipt), ..preamble(5) }.to_line()
            }),
            "node",
        ),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/stream");
    let mut expected = crate::json::Object::new();
    for (name, blocks, end) in &cases {
        let (held, result) = read(blocks);
        let got = match &result {
            Ok(claim) => {
                assert_eq!(*claim, CLAIM);
                "sealed"
            }
            Err(StreamError::Index { .. }) => "index",
            Err(StreamError::Signature { .. }) => "signature",
            Err(StreamError::Signatures { .. }) => "signatures",
            Err(StreamError::Cut { .. }) => "cut",
            Err(StreamError::AfterSeal) => "after-seal",
            Err(StreamError::Node { .. }) => "node",
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(got, *end, "{name}");
        let held = Value::Int(i64::try_from(held).unwrap());
        expected.insert((*name).to_owned(), Value::Object(object([("end", got.into()), ("held", held)])));
    }
    let about = object([
        ("claim", CLAIM.to_string().into()),
        ("node", node().to_string().into()),
        ("now", Value::Int(i64::try_from(NOW).unwrap())),
        ("request", REQUEST_TEXT.into()),
        ("streams", Value::Object(expected)),
    ]);
    let mut files: Vec<(String, String)> =
        cases.iter().map(|(name, blocks, _)| (format!("{name}.sse"), blocks.concat())).collect();
    files.push(("expected.json".to_owned(), Value::Object(about).pretty()));
    for (name, text) in files {
        let path = folder.join(name);
        if std::env::var_os("HALLMARK_REGENERATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{}", path.display());
    }
}
