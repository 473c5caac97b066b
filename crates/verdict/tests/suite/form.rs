//! Edits of form alone give the identical verdict: white space, the order of members, the escapes of strings.

use std::fmt::Write as _;

use hallmark_receipt::json::Value;
use hallmark_verdict::render;

use crate::fixture::{VERIFIERS, bundles};

/// Writes a document in another form that means the same.
struct Form {
    space: &'static str,
    reversed: bool,
    escaped: bool,
}

impl Form {
    fn write(&self, out: &mut String, value: &Value) {
        out.push_str(self.space);
        match value {
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(out, item);
                }
                out.push_str(self.space);
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                let mut members: Vec<_> = members.iter().collect();
                if self.reversed {
                    members.reverse();
                }
                for (index, (name, value)) in members.into_iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(out, &name.as_str().into());
                    out.push_str(self.space);
                    out.push(':');
                    self.write(out, value);
                }
                out.push_str(self.space);
                out.push('}');
            }
            Value::Str(text) if self.escaped => {
                out.push('"');
                for unit in text.encode_utf16() {
                    write!(out, "\\u{unit:04X}").unwrap();
                }
                out.push('"');
            }
            other => out.push_str(&other.canonical()),
        }
        out.push_str(self.space);
    }
}

#[test]
fn edits_of_form_give_the_identical_verdict() {
    let forms = [
        Form { space: "", reversed: false, escaped: false },
        Form { space: "\r\n\t ", reversed: false, escaped: false },
        Form { space: "", reversed: true, escaped: false },
        Form { space: "", reversed: false, escaped: true },
        Form { space: " ", reversed: true, escaped: true },
    ];
    for bundle in bundles() {
        let original = bundle.to_json();
        let value = Value::parse(original.as_bytes(), 1 << 20).unwrap();
        for form in &forms {
            let mut text = String::new();
            form.write(&mut text, &value);
            assert_ne!(text, original);
            for verifier in VERIFIERS {
                let verdict = verifier.judge(text.as_bytes());
                assert_eq!(render::json(&verdict), render::json(&verifier.judge(original.as_bytes())));
            }
        }
    }
}
