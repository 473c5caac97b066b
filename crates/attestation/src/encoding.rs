//! Evidence as it is handed around: raw, base64, hexadecimal or PEM (`attestation.md` §2).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hallmark_receipt::wire::from_hex;

/// The most bytes of one file of evidence or collateral.
pub const MAX_FILE: usize = 4 << 20;

/// Why a file's encoding is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// Longer than any evidence.
    #[error("{got} bytes are more than the {MAX_FILE} of a file")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// A PEM block without its end, with other characters, or text between the blocks.
    #[error("the PEM block {number} is not in its strict form (RFC 7468)")]
    Pem {
        /// Which, from 1.
        number: usize,
    },
}

/// The bytes behind a file: it is text of base64 (either alphabet), of hexadecimal digits (with or without `0x`), or raw.
pub fn decode(file: &[u8]) -> Result<Vec<u8>, EncodingError> {
    if file.len() > MAX_FILE {
        return Err(EncodingError::TooLong { got: file.len() });
    }
    if file.is_empty() {
        return Err(EncodingError::Empty);
    }
    let Ok(text) = std::str::from_utf8(file) else { return Ok(file.to_vec()) };
    let text: String = text.split_ascii_whitespace().collect();
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    if let Some(bytes) = from_hex(&digits.to_ascii_lowercase()) {
        return Ok(bytes);
    }
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let decoded = engines.into_iter().find_map(|engine| engine.decode(&text).ok());
    Ok(decoded.unwrap_or_else(|| file.to_vec()))
}

/// The DER items (certificates, revocation lists) of some files: see [`der()`].
pub fn items(files: &[&[u8]]) -> Result<Vec<Vec<u8>>, EncodingError> {
    let items: Result<Vec<_>, _> = files.iter().map(|file| der(file)).collect();
    Ok(items?.into_iter().flatten().collect())
}

/// The DER items of a file: one or more PEM blocks, or one item of DER, itself raw, base64 or hexadecimal.
pub fn der(file: &[u8]) -> Result<Vec<Vec<u8>>, EncodingError> {
    if file.len() > MAX_FILE {
        return Err(EncodingError::TooLong { got: file.len() });
    }
    match std::str::from_utf8(file) {
        Ok(text) if text.trim_start().starts_with(BEGIN) => pem(text),
        _ => {
            let bytes = decode(file)?;
            // Base64 of PEM is seen too.
            match std::str::from_utf8(&bytes) {
                Ok(text) if text.trim_start().starts_with(BEGIN) => pem(text),
                _ => Ok(vec![bytes]),
            }
        }
    }
}

const BEGIN: &str = "-----BEGIN ";
/// Line breaks: all that may stand between lines and blocks, so that no other byte goes unseen.
const BREAKS: [char; 2] = ['\r', '\n'];

/// The blocks of a PEM text (RFC 7468): nothing but line breaks between them, one label, lines of base64.
pub fn pem(text: &str) -> Result<Vec<Vec<u8>>, EncodingError> {
    let mut blocks = Vec::new();
    let mut rest = text.trim_matches(BREAKS);
    while !rest.is_empty() {
        let refuse = EncodingError::Pem { number: blocks.len().saturating_add(1) };
        let body = rest.strip_prefix(BEGIN).ok_or(refuse)?;
        let (label, body) = body.split_once("-----").ok_or(refuse)?;
        let end = format!("-----END {label}-----");
        let (body, after) = body.split_once(end.as_str()).ok_or(refuse)?;
        let lines = body.as_bytes().split(|byte| matches!(byte, b'\r' | b'\n'));
        let body = lines.collect::<Vec<_>>().concat();
        if !matches!(label, "CERTIFICATE" | "X509 CRL" | "PUBLIC KEY") || body.is_empty() {
            return Err(refuse);
        }
        blocks.push(STANDARD.decode(&body).map_err(|_| refuse)?);
        rest = after.trim_start_matches(BREAKS);
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrapper_gives_the_same_bytes() {
        let raw = [0x84, 0x44, 0xff, 0x00];
        for file in
            ["hET/AA==", "hET/AA", "hET_AA", "8444ff00", "0x8444FF00", " 8444\nff00\n", "hE\r\nT/AA==\n"]
        {
            assert_eq!(decode(file.as_bytes()).unwrap(), raw, "{file}");
        }
        assert_eq!(decode(&raw).unwrap(), raw);
        assert_eq!(decode(b""), Err(EncodingError::Empty));
    }

    #[test]
    fn pem_is_strict() {
        let good = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        assert_eq!(der(good.as_bytes()).unwrap(), [[1, 2, 3]]);
        assert_eq!(der(good.repeat(2).as_bytes()).unwrap().len(), 2);
        for bad in [
            good.replace("END", "ENC"),
            good.replace("AQID", "AQI*"),
            good.replace("AQID", ""),
            good.replace("CERTIFICATE", "CERTIFICATF"),
            format!("{good}text{good}"),
        ] {
            assert!(pem(&bad).is_err(), "{bad}");
        }
    }
}
