//! DER (X.690) as it is written: items, names, times, extensions.

use der::asn1::ObjectIdentifier;

/// One item of DER: tag, length, content.
pub fn item(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    // Nothing that is written here comes near 2^32 bytes.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    match content.len() {
        0..=0x7f => out.push(length[3]),
        0x80..=0xff => out.extend_from_slice(&[0x81, length[3]]),
        0x100..=0xffff => out.extend_from_slice(&[0x82, length[2], length[3]]),
        0x1_0000..=0xff_ffff => out.extend_from_slice(&[0x83, length[1], length[2], length[3]]),
        _ => out.extend_from_slice(&[0x84, length[0], length[1], length[2], length[3]]),
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE of items.
pub fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    item(0x30, &items.concat())
}

/// A number that is not negative, from its big-endian bytes.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(first..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    item(0x02, &[sign, digits].concat())
}

/// An object identifier from its dotted text, a literal.
pub fn oid(text: &'static str) -> Vec<u8> {
    item(0x06, ObjectIdentifier::new_unwrap(text).as_bytes())
}

/// A BIT STRING of whole bytes.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    item(0x03, &[&[0], bytes].concat())
}

/// An OCTET STRING.
pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    item(0x04, bytes)
}

/// A BOOLEAN.
pub fn boolean(value: bool) -> Vec<u8> {
    item(0x01, &[if value { 0xff } else { 0 }])
}

/// A `GeneralizedTime` from seconds since 1970.
pub fn generalized_time(seconds: u64) -> Vec<u8> {
    item(0x18, format!("{}Z", digits(seconds)).as_bytes())
}

/// A `Time` of certificates and lists: in two digits of the year up to 2049 (RFC 5280 §4.1.2.5).
pub fn time(seconds: u64) -> Vec<u8> {
    let digits = digits(seconds);
    match digits.split_at_checked(2) {
        Some(("19", short)) if short.starts_with(['5', '6', '7', '8', '9']) => {
            item(0x17, format!("{short}Z").as_bytes())
        }
        Some(("20", short)) if short.starts_with(['0', '1', '2', '3', '4']) => {
            item(0x17, format!("{short}Z").as_bytes())
        }
        _ => generalized_time(seconds),
    }
}

/// Year to second, 14 digits.
fn digits(seconds: u64) -> String {
    let text = hallmark_receipt::time::when(seconds);
    text.chars().filter(char::is_ascii_digit).take(14).collect()
}

/// The explicit context tag `number` around `content`.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    item(0xa0 | number, content)
}

/// A name of one common name.
pub fn name(common_name: &str) -> Vec<u8> {
    sequence(&[attribute("2.5.4.3", common_name)])
}

/// A name of an organization and a common name.
pub fn name_of(organization: &str, common_name: &str) -> Vec<u8> {
    sequence(&[attribute("2.5.4.10", organization), attribute("2.5.4.3", common_name)])
}

fn attribute(id: &'static str, text: &str) -> Vec<u8> {
    item(0x31, &sequence(&[oid(id), item(0x0c, text.as_bytes())]))
}

/// An extension.
pub fn extension(id: &'static str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { boolean(true) } else { Vec::new() };
    sequence(&[oid(id), critical, octet_string(value)])
}

/// `basicConstraints` of an authority, with at most `path_length` authorities below it.
pub fn authority(path_length: Option<u8>) -> Vec<u8> {
    let length = path_length.map_or_else(Vec::new, |length| integer(&[length]));
    extension("2.5.29.19", true, &sequence(&[boolean(true), length]))
}

/// `keyUsage`: the first byte, digitalSignature its highest bit, keyCertSign 0x04, cRLSign 0x02.
pub fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros().min(7)).unwrap_or(7);
    extension("2.5.29.15", true, &item(0x03, &[unused, bits]))
}

/// The extensions of an authority's certificate: it may sign certificates and lists.
pub fn authority_extensions() -> Vec<Vec<u8>> {
    vec![authority(None), key_usage(0x06)]
}

/// The extensions of a leaf's certificate: it may sign.
pub fn leaf_extensions() -> Vec<Vec<u8>> {
    vec![key_usage(0x80)]
}
