//! What a device's report says, by the names of Confidential Containers' local verifier (`attestation.md` §12.3). What that verifier
//! takes from beside the report (`arch`, `uuid`) nobody signed, and is left out.

use hallmark_receipt::json::Value as Strict;
use hallmark_receipt::wire::to_hex;
use serde_json::{Map, Value, json};

use super::DeviceReport;
use crate::rego::Claims;

/// Under `nvidia`.
pub(super) fn of(report: &DeviceReport<'_>) -> Claims {
    let measurements: Claims =
        report.blocks.iter().map(|block| (block.index.to_string(), json!(to_hex(block.value)))).collect();
    let config = Strict::Object(report.opaque.fields()).canonical();
    let config: Value = serde_json::from_str(&config).unwrap_or_default();
    let claims = json!({
        "verifier": "local",
        "driver_version": report.opaque.driver_version(),
        "vbios_version": report.opaque.vbios_version(),
        "measurements": measurements,
        "config": config,
        "nonce": to_hex(report.nonce),
    });
    Map::from_iter([("nvidia".to_owned(), claims)])
}
