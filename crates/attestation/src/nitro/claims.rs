//! What a document says (`attestation.md` §12.3). Confidential Containers has no names for it: these are AWS's.

use hallmark_receipt::wire::to_hex;
use serde_json::{Map, json};

use super::Document;
use crate::rego::Claims;

/// Under `nitro`.
pub(super) fn of(document: &Document<'_>) -> Claims {
    let pcrs: Claims =
        document.pcrs.iter().map(|(number, pcr)| (number.to_string(), json!(to_hex(pcr)))).collect();
    let optional = |bytes: Option<&[u8]>| json!(bytes.map(to_hex));
    let claims = json!({
        "module_id": document.module_id,
        "timestamp": document.timestamp_ms,
        "digest": "SHA384",
        "pcrs": pcrs,
        "public_key": optional(document.public_key),
        "user_data": optional(document.user_data),
        "nonce": optional(document.nonce),
    });
    Map::from_iter([("nitro".to_owned(), claims)])
}
