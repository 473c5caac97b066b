//! Items of DER, written.

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

/// The explicit context tag `number` around `content`.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    item(0xa0 | number, content)
}
