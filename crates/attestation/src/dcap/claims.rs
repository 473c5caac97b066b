//! What a quote says, by the names of Confidential Containers (`attestation.md` §12.3).

use hallmark_receipt::time::when;
use hallmark_receipt::wire::to_hex;
use serde_json::{Map, Value, json};

use super::body::{EnclaveReport, TdAttribute, TdReport};
use super::eventlog::{EV_NO_ACTION, EventLog, name};
use super::pck::Platform;
use super::quote::{Body, ECDSA_P256, INTEL, Quote, TEE_SGX, TEE_TDX};
use super::tcb::Reached;
use crate::encoding;
use crate::rego::Claims;

/// Under `tdx` or `sgx`. `worth` is what platform and quoting enclave are worth together.
pub(super) fn of(
    quote: &Quote<'_>,
    worth: &Reached,
    evaluation: u64,
    platform: &Platform<'_>,
    event_log: Option<&[u8]>,
) -> Claims {
    let mut claims = appraisal(worth, evaluation, platform);
    claims.insert("report_data".to_owned(), hex(quote.report_data()));
    let (kind, more) = match &quote.body {
        Body::Td(report) => {
            let events = event_log.and_then(events);
            claims.extend(events.map(|events| ("uefi_event_logs".to_owned(), events)));
            let quote = json!({ "header": td_header(quote), "body": td(report) });
            let more = json!({
                "quote": quote, "td_attributes": attributes(report), "init_data": to_hex(report.mr_config_id),
            });
            ("tdx", more)
        }
        Body::Enclave(report) => {
            let header = enclave_header(quote);
            (
                "sgx",
                json!({ "header": header, "body": enclave(report), "init_data": to_hex(report.config_id) }),
            )
        }
    };
    if let Value::Object(more) = more {
        claims.extend(more);
    }
    Map::from_iter([(kind.to_owned(), Value::Object(claims))])
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(to_hex(bytes))
}

/// What the platform is worth. Collateral that ran out fails a row of its own: the policy never sees it.
fn appraisal(worth: &Reached, evaluation: u64, platform: &Platform<'_>) -> Claims {
    let types = ["Standard", "Scalable", "Scalable with Integrity"];
    let sgx_type = types.get(usize::from(platform.sgx_type)).map(|name| json!(name));
    let members = [
        ("tcb_status", Some(json!(worth.status.to_string()))),
        ("tcb_date", Some(json!(when(worth.date)))),
        ("tcb_eval_num", Some(json!(evaluation))),
        ("advisory_ids", Some(json!(worth.advisories))),
        ("collateral_expiration_status", Some(json!("0"))),
        ("platform_provider_id", Some(hex(platform.ppid))),
        ("platform_instance_id", platform.instance_id.map(hex)),
        ("sgx_type", sgx_type),
        ("is_dynamic_platform", platform.dynamic.map(Value::Bool)),
        ("is_cached_keys", platform.cached_keys.map(Value::Bool)),
        ("is_smt_enabled", platform.smt.map(Value::Bool)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn td_header(quote: &Quote<'_>) -> Value {
    let reserved = [quote.qe_svn.to_le_bytes(), quote.pce_svn.to_le_bytes()].concat();
    json!({
        "version": to_hex(&quote.version.to_le_bytes()),
        "att_key_type": to_hex(&ECDSA_P256.to_le_bytes()),
        "tee_type": to_hex(&TEE_TDX.to_le_bytes()),
        "reserved": to_hex(&reserved),
        "vendor_id": to_hex(&INTEL),
        "user_data": to_hex(quote.user_data),
    })
}

fn enclave_header(quote: &Quote<'_>) -> Value {
    json!({
        "version": to_hex(&quote.version.to_le_bytes()),
        "att_key_type": to_hex(&ECDSA_P256.to_le_bytes()),
        "att_key_data_0": to_hex(&TEE_SGX.to_le_bytes()),
        "qe_svn": to_hex(&quote.qe_svn.to_le_bytes()),
        "pce_svn": to_hex(&quote.pce_svn.to_le_bytes()),
        "vendor_id": to_hex(&INTEL),
        "user_data": to_hex(quote.user_data),
    })
}

/// The body's fields as they lie in the quote.
fn td(report: &TdReport<'_>) -> Claims {
    let [rtmr_0, rtmr_1, rtmr_2, rtmr_3] = report.rtmr;
    let (td_attributes, xfam) = (report.td_attributes.to_le_bytes(), report.xfam.to_le_bytes());
    let mut fields: Vec<(&str, &[u8])> = vec![
        ("tcb_svn", report.tee_tcb_svn),
        ("mr_seam", report.mr_seam),
        ("mrsigner_seam", report.mr_signer_seam),
        ("seam_attributes", report.seam_attributes),
        ("td_attributes", &td_attributes),
        ("xfam", &xfam),
        ("mr_td", report.mr_td),
        ("mr_config_id", report.mr_config_id),
        ("mr_owner", report.mr_owner),
        ("mr_owner_config", report.mr_owner_config),
        ("rtmr_0", rtmr_0),
        ("rtmr_1", rtmr_1),
        ("rtmr_2", rtmr_2),
        ("rtmr_3", rtmr_3),
        ("report_data", report.report_data),
    ];
    if let Some(v15) = &report.v15 {
        fields.push(("tee_tcb_svn2", v15.tee_tcb_svn2));
        fields.push(("mr_servicetd", v15.mr_service_td));
    }
    fields.into_iter().map(|(name, bytes)| (name.to_owned(), hex(bytes))).collect()
}

fn attributes(report: &TdReport<'_>) -> Value {
    json!({
        "debug": report.has(TdAttribute::Debug),
        "septve_disable": report.has(TdAttribute::SeptVeDisable),
        "protection_keys": report.has(TdAttribute::Pks),
        "key_locker": report.has(TdAttribute::KeyLocker),
        "perfmon": report.has(TdAttribute::Perfmon),
    })
}

fn enclave(report: &EnclaveReport<'_>) -> Claims {
    let (flags, xfrm) = report.attributes.split_at(8);
    let (misc_select, config_svn) = (report.misc_select.to_le_bytes(), report.config_svn.to_le_bytes());
    let (isv_prod_id, isv_svn) = (report.isv_prod_id.to_le_bytes(), report.isv_svn.to_le_bytes());
    let fields: [(&str, &[u8]); 13] = [
        ("cpu_svn", report.cpu_svn),
        ("misc_select", &misc_select),
        ("isv_ext_prod_id", report.isv_ext_prod_id),
        ("attributes.flags", flags),
        ("attributes.xfrm", xfrm),
        ("mr_enclave", report.mr_enclave),
        ("mr_signer", report.mr_signer),
        ("config_id", report.config_id),
        ("isv_prod_id", &isv_prod_id),
        ("isv_svn", &isv_svn),
        ("config_svn", &config_svn),
        ("isv_family_id", report.isv_family_id),
        ("report_data", report.report_data),
    ];
    fields.into_iter().map(|(name, bytes)| (name.to_owned(), hex(bytes))).collect()
}

/// The events that were measured into RTMR0 to RTMR3, which the row `event-log` replays; of a log that does not replay the policy sees
/// nothing, as that row fails. What an event says of itself, its type excepted, is left out: only the digest is measured.
fn events(log: &[u8]) -> Option<Value> {
    let bytes = encoding::decode(log).ok()?;
    let log = EventLog::parse(&bytes).ok()?;
    let measured = log.events.iter().filter(|event| event.register > 0 && event.kind != EV_NO_ACTION);
    let events = measured.map(|event| {
        json!({
            "index": event.register,
            "type": format!("0x{:08X}", event.kind),
            "type_name": name(event.kind),
            "digests": [{ "alg": "SHA-384", "digest": to_hex(event.digest) }],
        })
    });
    Some(Value::Array(events.collect()))
}
