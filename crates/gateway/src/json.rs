//! Two texts for one JSON value: the canonical form of RFC 8785, to which receipts commit, and Python's
//! `json.dumps(value, sort_keys=True)`, over which OpenGradient's clients hash.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Rfc8785,
    Python,
}

impl Style {
    /// Between members, and between a name and its value.
    fn separators(self) -> (&'static str, &'static str) {
        match self {
            Self::Rfc8785 => (",", ":"),
            Self::Python => (", ", ": "),
        }
    }
}

/// RFC 8785: no white space, members by UTF-16 code units, numbers as ECMAScript prints them.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, Style::Rfc8785);
    out
}

/// The same for an object's members.
pub fn canonical_object(members: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_object(&mut out, members, Style::Rfc8785);
    out
}

/// What CPython prints for `json.dumps(value, sort_keys=True)`. Integers beyond 64 bits come in as floats and print as such.
pub fn python(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, Style::Python);
    out
}

/// JSON without white space, members as they stand.
pub fn text(value: &Value) -> String {
    // A value holds nothing that JSON cannot say. (Its `Display` goes through a formatter, which takes longer.)
    serde_json::to_string(value).unwrap_or_default()
}

fn write(out: &mut String, value: &Value, style: Style) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number, style),
        Value::String(text) => write_text(out, text, style),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(style.separators().0);
                }
                write(out, item, style);
            }
            out.push(']');
        }
        Value::Object(members) => write_object(out, members, style),
    }
}

fn write_object(out: &mut String, members: &Map<String, Value>, style: Style) {
    let (comma, colon) = style.separators();
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    match style {
        // Python compares code points, which is the order of UTF-8.
        Style::Python => sorted.sort_by_key(|(name, _)| *name),
        Style::Rfc8785 => sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16())),
    }
    out.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push_str(comma);
        }
        write_text(out, name, style);
        out.push_str(colon);
        write(out, value, style);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str, style: Style) {
    let is_plain = |c: char| match c {
        '"' | '\\' => false,
        ' '..='~' => true,
        _ => style == Style::Rfc8785 && c > '\u{1f}',
    };
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| !is_plain(c)) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut tail = tail.chars();
        if let Some(c) = tail.next() {
            write_escape(out, c);
        }
        rest = tail.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn write_escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

fn write_number(out: &mut String, number: &Number, style: Style) {
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (exact, style) {
        (Some(value), Style::Python) => _ = write!(out, "{value}"),
        // RFC 8785's numbers are doubles; within 2^53 an integer prints as itself.
        (Some(value), Style::Rfc8785) if value.unsigned_abs() <= 1 << 53 => _ = write!(out, "{value}"),
        _ => write_float(out, number.as_f64().unwrap_or(0.0), style),
    }
}

/// The shortest digits that read back as the same double, laid out as ECMAScript's `Number::toString` or Python's `repr` does.
fn write_float(out: &mut String, value: f64, style: Style) {
    if value == 0.0 {
        let negative = value.is_sign_negative();
        out.push_str(match style {
            Style::Rfc8785 => "0",
            Style::Python if negative => "-0.0",
            Style::Python => "0.0",
        });
        return;
    }
    if value < 0.0 {
        out.push('-');
    }
    // Rust's form is `d.ddde-x` with the shortest digits.
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The value is 0.digits times ten to the power of `point`.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let fixed = match style {
        Style::Rfc8785 => -6 < point && point <= 21,
        Style::Python => -4 < point && point <= 16,
    };
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if !fixed {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let (sign, size) = (if point < 1 { '-' } else { '+' }, (point - 1).unsigned_abs());
        let width = if style == Style::Python { 2 } else { 1 };
        let _ = write!(out, "{first}{dot}{rest}e{sign}{size:0width$}");
    } else if point <= 0 {
        let _ = write!(out, "0.{}{digits}", zeros(-point));
    } else if count <= point {
        let end = if style == Style::Python { ".0" } else { "" };
        let _ = write!(out, "{digits}{}{end}", zeros(point - count));
    } else {
        let (whole, rest) = digits.split_at(usize::try_from(point).unwrap_or(0));
        let _ = write!(out, "{whole}.{rest}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn python_prints_as_cpython_does() {
        // Each right side is what CPython 3.11 prints for json.dumps(json.loads(left), sort_keys=True).
        for (input, expected) in [
            (
                "[0.1, 1.0, 100.0, 1e15, 1e16, 1.5e16, 1e-4, 1e-5, 1.25e-7, 1e22, 1e100, 5e-324]",
                "[0.1, 1.0, 100.0, 1000000000000000.0, 1e+16, 1.5e+16, 0.0001, 1e-05, 1.25e-07, 1e+22, 1e+100, 5e-324]",
            ),
            (
                "[-0.0, 0.0, -2.5, 123456789012345680.0, 1.7976931348623157e308, 18446744073709551615, -9223372036854775808]",
                "[-0.0, 0.0, -2.5, 1.2345678901234568e+17, 1.7976931348623157e+308, 18446744073709551615, -9223372036854775808]",
            ),
            (
                r#"{"b":null,"a":[true,false,{}],"é":"ü€😀\u007f\u0001\b\f\n\r\t\"\\/"}"#,
                r#"{"a": [true, false, {}], "b": null, "\u00e9": "\u00fc\u20ac\ud83d\ude00\u007f\u0001\b\f\n\r\t\"\\/"}"#,
            ),
            ("[]", "[]"),
        ] {
            assert_eq!(python(&value(input)), expected);
        }
    }

    #[test]
    fn canonical_is_rfc_8785() {
        // The document of RFC 8785 §3.2.2, and its form in §3.2.3.
        let input = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        assert_eq!(canonical(&value(input)), expected);
        // Appendix B and the thresholds.
        for (input, expected) in [
            (
                "[-0.0,1e21,1e20,1e-6,1e-7,9007199254740994,295147905179352830000]",
                "[0,1e+21,100000000000000000000,0.000001,1e-7,9007199254740994,295147905179352830000]",
            ),
            (r#"{"\ufb33":1,"\ud83d\ude00":2}"#, "{\"😀\":2,\"\u{fb33}\":1}"),
        ] {
            assert_eq!(canonical(&value(input)), expected);
        }
    }
}
