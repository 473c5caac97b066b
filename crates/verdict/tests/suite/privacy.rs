//! From a redacted bundle nothing tells which of the possible inputs it was about.

use hallmark_receipt::commit::{data_bytes, encode};
use hallmark_receipt::wire::{to_base64, to_hex};
use hallmark_receipt::{Bundle, Digest, Opening, Salt, Tensor, domain, merkle};

use crate::fixture::{alice, opening, sign, work};

/// The 1,000 possible inputs and what they give.
fn candidate(number: u16) -> ([f32; 2], [f32; 2]) {
    let age = f32::from(number);
    ([age, -age], [age, 0.0])
}

fn bundle(number: u16, salt: u8) -> Bundle {
    let (input, output) = candidate(number);
    let mut work = work("first", 9);
    work.inputs = vec![opening("a", &input, salt), opening("b", &[], salt ^ 1)];
    work.outputs = vec![opening("y", &output, salt ^ 2), opening("z", &[], salt ^ 3)];
    sign(work, &alice())
}

/// Everything that a reader of the file can see: its text, and the text of the documents inside.
fn visible(bundle: &Bundle) -> String {
    let mut text = bundle.to_json();
    for envelope in bundle.certificates.iter().chain([&bundle.envelope]).chain(&bundle.publications) {
        text.push_str(std::str::from_utf8(&envelope.payload).unwrap());
    }
    text
}

/// Every hash that somebody who knows the data, but not the salt, could try.
fn guesses(name: &str, values: &[f32], salt: Option<Salt>) -> Vec<Digest> {
    let tensor = Tensor::vector(values.to_vec());
    let encodings = [
        encode(name, &tensor),
        encode("", &tensor),
        data_bytes(tensor.data()),
        to_base64(&data_bytes(tensor.data())).into_bytes(),
        to_hex(&data_bytes(tensor.data())).into_bytes(),
        format!("{values:?}").into_bytes(),
    ];
    let mut all = Vec::new();
    for encoding in encodings {
        all.push(Digest::of(&[&encoding]));
        for domain in domain::ALL {
            all.push(domain.hash(&[&encoding]));
            all.push(domain.hash(&[&[0; 32], &encoding]));
            all.push(domain.hash(&[&encoding, &[0; 32]]));
        }
    }
    let salt = salt.unwrap_or(Salt([0; 32]));
    all.push(Opening::new(name, tensor, salt).unwrap().commitment());
    // Roots over one guess, as a list of inputs or outputs would have.
    let roots: Vec<Digest> = all
        .iter()
        .flat_map(|guess| [domain::INPUTS, domain::OUTPUTS].map(|domain| merkle::root(domain, &[guess.0])))
        .collect();
    all.extend(roots);
    all
}

fn matches(text: &str, guesses: &[Digest]) -> bool {
    guesses.iter().any(|guess| text.contains(&guess.to_string()) || text.contains(&to_base64(&guess.0)))
}

#[test]
fn no_hash_of_a_known_input_is_in_a_redacted_bundle() {
    let text = visible(&bundle(417, 0x77).redact());
    for number in 0..1000 {
        let (input, output) = candidate(number);
        assert!(!matches(&text, &guesses("a", &input, None)), "input {number}");
        assert!(!matches(&text, &guesses("y", &output, None)), "output {number}");
    }
    // The same search finds it once the salt is known: it would have seen an unsalted hash.
    let mut work = work("first", 9);
    let (input, output) = candidate(417);
    work.inputs = vec![opening("a", &input, 0x77)];
    work.outputs = vec![opening("y", &output, 0x77)];
    let one = sign(work, &alice()).redact();
    let found: Vec<u16> = (0..1000)
        .filter(|number| {
            matches(&visible(&one), &guesses("a", &candidate(*number).0, Some(Salt([0x77; 32]))))
        })
        .collect();
    assert_eq!(found, [417]);
}

/// `text` with every digest and signature blanked.
fn masked(bundle: &Bundle) -> String {
    let mut text = String::new();
    let mut run = String::new();
    let visible = visible(&Bundle {
        // The payload stands in `visible` in the clear; its base64 form adds nothing.
        envelope: hallmark_receipt::Envelope { signature: vec![0; 64], ..bundle.envelope.clone() },
        ..bundle.clone()
    });
    for c in visible.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=') {
            run.push(c);
            continue;
        }
        if run.len() >= 64 {
            text.push_str(&format!("<{}>", run.len()))
        } else {
            text.push_str(&run)
        }
        run.clear();
        text.push(c);
    }
    text
}

#[test]
fn redacted_bundles_differ_in_nothing_but_salted_commitments_and_what_signs_them() {
    let reference = masked(&bundle(0, 1).redact());
    for number in [1, 9, 10, 417, 999] {
        assert_eq!(masked(&bundle(number, 1).redact()), reference);
    }
    // The shape of the data does not show either.
    let mut longer = work("first", 9);
    longer.inputs = vec![opening("a", &[1.0; 500], 1), opening("b", &[], 2)];
    longer.outputs = vec![opening("y", &[1.0; 500], 3), opening("z", &[], 4)];
    assert_eq!(masked(&sign(longer, &alice()).redact()), reference);
    // The same input under another salt shows another commitment.
    let envelopes = [bundle(5, 1).redact().envelope, bundle(5, 2).redact().envelope];
    assert_ne!(envelopes[0].payload, envelopes[1].payload);
}
