//! Forgeries without a key: flipped bits and edited fields. Everything that is not an edit of form is refused.

use std::collections::BTreeMap;

use hallmark_receipt::json::Value;
use hallmark_verdict::{Cause as _, Decision, Verdict};

use crate::fixture::*;

/// What is done to one value of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// The member or item is taken out.
    Delete,
    /// The member is written twice, or the item is there twice.
    Duplicate,
    /// The value becomes one of another kind.
    Retype,
    /// The value becomes another of its kind.
    Alter,
    /// The value becomes that of the same place in another document.
    Swap,
}

pub const EDITS: [Edit; 5] = [Edit::Delete, Edit::Duplicate, Edit::Retype, Edit::Alter, Edit::Swap];

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Member(String),
    Item(usize),
}

/// The places of all values inside `value`.
pub fn places(value: &Value) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    let children: Vec<(Step, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (Step::Member(name.clone()), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (Step::Item(i), value)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        all.push(vec![step.clone()]);
        all.extend(places(child).into_iter().map(|rest| [vec![step.clone()], rest].concat()));
    }
    all
}

pub fn at<'a>(value: &'a Value, place: &[Step]) -> Option<&'a Value> {
    place.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Object(members), Step::Member(name)) => members.get(name),
        (Value::Array(items), Step::Item(index)) => items.get(*index),
        _ => None,
    })
}

fn at_mut<'a>(value: &'a mut Value, place: &[Step]) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Object(members), Step::Member(name)) => members.get_mut(name),
        (Value::Array(items), Step::Item(index)) => items.get_mut(*index),
        _ => None,
    })
}

pub fn name(place: &[Step]) -> String {
    let steps: Vec<&str> = place
        .iter()
        .filter_map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Item(_) => None,
        })
        .collect();
    steps.join(".")
}

/// The text of `value` with `edit` done at `place`; `None` where the edit changes nothing.
pub fn edited(value: &Value, other: &Value, place: &[Step], edit: Edit) -> Option<String> {
    let mut value = value.clone();
    let (last, parent) = place.split_last().unwrap();
    let old = at(&value, place).unwrap().clone();
    match edit {
        Edit::Delete => match (at_mut(&mut value, parent).unwrap(), last) {
            (Value::Object(members), Step::Member(name)) => {
                members.remove(name);
            }
            (Value::Array(items), Step::Item(index)) => {
                items.remove(*index);
            }
            _ => unreachable!(),
        },
        Edit::Duplicate => match (at_mut(&mut value, parent).unwrap(), last) {
            (Value::Object(members), Step::Member(name)) => {
                // The canonical writer cannot write a member twice, so a mark stands for the second one.
                members.insert(format!("{name}\u{1}"), old);
                return Some(value.canonical().replace("\\u0001", ""));
            }
            (Value::Array(items), Step::Item(index)) => items.insert(*index, old),
            _ => unreachable!(),
        },
        Edit::Retype => {
            *at_mut(&mut value, place).unwrap() = match old {
                Value::Str(text) => text.parse().map(Value::Int).unwrap_or(Value::Array(vec![text.into()])),
                Value::Int(number) => number.to_string().into(),
                Value::Bool(truth) => Value::Int(truth.into()),
                Value::Array(items) => items.into_iter().next().unwrap_or(Value::Bool(false)),
                Value::Object(members) => Value::Array(members.into_values().collect()),
            }
        }
        Edit::Alter => {
            let new = match old.clone() {
                Value::Str(text) => alter_text(&text).into(),
                Value::Int(number) => Value::Int(number + 1),
                Value::Bool(truth) => Value::Bool(!truth),
                Value::Array(mut items) => {
                    items.reverse();
                    if items.len() < 2 {
                        items.push(Value::Bool(true));
                    }
                    Value::Array(items)
                }
                Value::Object(mut members) => {
                    members.insert("more".to_owned(), Value::Bool(true));
                    Value::Object(members)
                }
            };
            *at_mut(&mut value, place).unwrap() = new;
        }
        Edit::Swap => {
            let new = at(other, place).filter(|new| **new != old)?;
            *at_mut(&mut value, place).unwrap() = new.clone();
        }
    }
    Some(value.canonical())
}

/// Another text that still looks like what it was: one digit or letter in the middle is changed.
fn alter_text(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let Some(place) = (bytes.len() / 2..bytes.len()).find(|i| bytes[*i].is_ascii_alphanumeric()) else {
        return format!("{text}x");
    };
    bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
    String::from_utf8(bytes).unwrap()
}

fn is_rejected(verdict: &Verdict) -> bool {
    matches!(verdict.decision, Decision::Rejected) && verdict.reasons().next().is_some()
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut flips = 0_usize;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, bundle) in bundles().into_iter().enumerate() {
        let bytes = bundle.to_json().into_bytes();
        // Every thirteenth bit, which hits every position in a byte, from another offset for each bundle.
        for bit in (number * 3..bytes.len() * 8).step_by(13) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The most lenient verifier: knows the node, and holds the model.
            let verdict = Verifier::Both.judge(&flipped);
            assert!(is_rejected(&verdict), "bundle {number}, bit {bit}: {:?}", verdict.decision);
            for (_, reason) in verdict.reasons() {
                *reasons.entry(reason.code()).or_default() += 1;
            }
            flips += 1;
        }
    }
    assert!(flips >= 10_000, "{flips}");
    for reason in
        ["format", "signature", "certificate", "commitment", "manifest", "graph", "evidence-changed"]
    {
        assert!(reasons.contains_key(reason), "{reason} among {reasons:?}");
    }
}

#[test]
fn every_edited_field_is_refused() {
    // Dropping these is redaction, or drops a supplement that nobody listed: what is left is judged by what is left.
    let droppable = ["openings", "openings.inputs", "openings.outputs", "publications"];
    let documents: Vec<Value> =
        bundles().iter().map(|b| Value::parse(b.to_json().as_bytes(), 1 << 20).unwrap()).collect();
    let mut edits = 0_usize;
    for (number, document) in documents.iter().enumerate() {
        let originals = VERIFIERS.map(|verifier| verifier.judge(document.canonical().as_bytes()));
        let other = &documents[(number + 1) % documents.len()];
        for place in places(document) {
            for edit in EDITS {
                let Some(text) = edited(document, other, &place, edit) else { continue };
                edits += 1;
                let dropped = droppable.contains(&name(&place).as_str())
                    && matches!(edit, Edit::Delete)
                    && matches!(place.last(), Some(Step::Member(_)));
                for (verifier, original) in VERIFIERS.into_iter().zip(&originals) {
                    let verdict = verifier.judge(text.as_bytes());
                    let what = format!("bundle {number}: {edit:?} {place:?}, {verifier:?}");
                    if dropped {
                        // Nothing that was not shown before is shown now, and a re-run needs both sides.
                        assert!(verdict.reasons().next().is_none(), "{what}");
                        let passed = verdict.checks.iter().filter(|check| check.has_passed()).count();
                        let before = original.checks.iter().filter(|check| check.has_passed()).count();
                        assert!(passed <= before, "{what}");
                        if name(&place) != "publications" && verifier == Verifier::Model {
                            assert!(!verdict.is_accepted(), "{what}");
                        }
                    } else {
                        assert!(is_rejected(&verdict), "{what}: {:?}", verdict.decision);
                    }
                }
            }
        }
    }
    assert!(edits > 500, "{edits}");
}

#[test]
fn rubbish_is_refused() {
    let bundle = bundles()[0].to_json();
    for text in ["", "{", "{}", "[]", "\"hallmark-receipt/1\"", "{\"format\":\"hallmark-receipt/2\"}"] {
        assert!(is_rejected(&Verifier::Both.judge(text.as_bytes())), "{text}");
    }
    for length in (0..bundle.len() - 1).step_by(37) {
        assert!(is_rejected(&Verifier::Both.judge(&bundle.as_bytes()[..length])));
    }
    let deep = "[".repeat(1 << 20);
    assert!(is_rejected(&Verifier::Both.judge(deep.as_bytes())));
}
