//! What a report says, by the names of Confidential Containers (`attestation.md` §12.3): the nested form of today, and beside it the
//! flat one of before, which had only texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_receipt::wire::to_hex;
use serde_json::{Map, Value, json};

use super::flags::{GuestFlag, PlatformFlag};
use super::report::{AttestationReport, Firmware, SigningKey};
use super::tcb::{Product, Tcb};
use crate::rego::Claims;

/// Under `snp`.
pub(super) fn of(report: &AttestationReport<'_>, product: Product) -> Claims {
    let mut snp = flat(report, product);
    snp.insert("generation".to_owned(), json!(product.name().to_lowercase()));
    snp.insert("evidence".to_owned(), Value::Object(nested(report, product)));
    Map::from_iter([("snp".to_owned(), Value::Object(snp))])
}

/// The security version of a part, by its name.
fn part(tcb: Tcb, product: Product, name: &str) -> Option<u8> {
    tcb.parts(product).find(|part| part.name() == Some(name)).map(|part| part.version)
}

fn nested(report: &AttestationReport<'_>, product: Product) -> Claims {
    let tcb = |tcb: Tcb| {
        let [fmc, bootloader, tee, snp, microcode] =
            ["fmc", "bootloader", "tee", "snp", "microcode"].map(|name| part(tcb, product, name));
        json!({ "fmc": fmc, "bootloader": bootloader, "tee": tee, "snp": snp, "microcode": microcode })
    };
    let firmware =
        |[major, minor, build]: Firmware| json!({ "major": major, "minor": minor, "build": build });
    let platform = |flag: PlatformFlag| report.platform_info & flag.mask() != 0;
    let signing_key = match report.signing_key {
        SigningKey::Vcek => 0,
        SigningKey::Vlek => 1,
        SigningKey::None => 7,
    };
    let policy = report.guest_policy;
    let [abi_major, abi_minor] = policy.abi();
    let (cpuid, since_4) = (report.cpuid, |vector: u64| (report.version >= 4).then_some(vector));
    let members = [
        ("version", json!(report.version)),
        ("guest_svn", json!(report.guest_svn)),
        ("vmpl", json!(report.vmpl)),
        ("sig_algo", json!(1)),
        (
            "policy",
            json!({
                "abi_major": abi_major,
                "abi_minor": abi_minor,
                "smt_allowed": policy.has(GuestFlag::Smt),
                "migrate_ma_allowed": policy.has(GuestFlag::MigrationAgent),
                "debug_allowed": policy.has(GuestFlag::Debug),
                "single_socket_required": policy.has(GuestFlag::SingleSocket),
                "cxl_allowed": policy.has(GuestFlag::Cxl),
                "mem_aes_256_xts": policy.has(GuestFlag::Aes256Xts),
                "rapl_dis": policy.has(GuestFlag::RaplDisabled),
                "ciphertext_hiding": policy.has(GuestFlag::CiphertextHiding),
                "page_swap_disabled": policy.has(GuestFlag::PageSwapDisabled),
            }),
        ),
        (
            "plat_info",
            json!({
                "smt_enabled": platform(PlatformFlag::Smt),
                "tsme_enabled": platform(PlatformFlag::Tsme),
                "ecc_enabled": platform(PlatformFlag::Ecc),
                "rapl_disabled": platform(PlatformFlag::RaplDisabled),
                "ciphertext_hiding_enabled": platform(PlatformFlag::CiphertextHiding),
                "alias_check_complete": platform(PlatformFlag::AliasCheck),
                "tio_enabled": platform(PlatformFlag::Tio),
            }),
        ),
        (
            "key_info",
            json!({
                "author_key_en": report.author_key,
                "mask_chip_key": report.mask_chip_key,
                "signing_key": signing_key,
            }),
        ),
        ("current_tcb", tcb(report.current_tcb)),
        ("reported_tcb", tcb(report.reported_tcb)),
        ("committed_tcb", tcb(report.committed_tcb)),
        ("launch_tcb", tcb(report.launch_tcb)),
        ("current", firmware(report.current_firmware)),
        ("committed", firmware(report.committed_firmware)),
        ("cpu_id_fam_id", json!(cpuid.map(|cpu| cpu.family))),
        ("cpu_id_mod_id", json!(cpuid.map(|cpu| cpu.model))),
        ("cpu_id_step", json!(cpuid.map(|cpu| cpu.stepping))),
        ("launch_mit_vector", json!(since_4(report.launch_mitigations))),
        ("current_mit_vector", json!(since_4(report.current_mitigations))),
        ("family_id", json!(to_hex(report.family_id))),
        ("image_id", json!(to_hex(report.image_id))),
        ("report_data", json!(to_hex(report.report_data))),
        ("measurement", json!(to_hex(report.measurement))),
        ("host_data", json!(to_hex(report.host_data))),
        ("id_key_digest", json!(to_hex(report.id_key_digest))),
        ("author_key_digest", json!(to_hex(report.author_key_digest))),
        ("report_id", json!(to_hex(report.report_id))),
        ("report_id_ma", json!(to_hex(report.report_id_ma))),
        ("chip_id", json!(to_hex(report.chip_id))),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn flat(report: &AttestationReport<'_>, product: Product) -> Claims {
    let policy = report.guest_policy;
    let [abi_major, abi_minor] = policy.abi();
    let reported = |name| part(report.reported_tcb, product, name).unwrap_or(0).to_string();
    let platform = |flag: PlatformFlag| (report.platform_info & flag.mask() != 0).to_string();
    let members = [
        ("policy_abi_major", abi_major.to_string()),
        ("policy_abi_minor", abi_minor.to_string()),
        ("policy_smt_allowed", policy.has(GuestFlag::Smt).to_string()),
        ("policy_migrate_ma", policy.has(GuestFlag::MigrationAgent).to_string()),
        ("policy_debug_allowed", policy.has(GuestFlag::Debug).to_string()),
        ("policy_single_socket", policy.has(GuestFlag::SingleSocket).to_string()),
        ("reported_tcb_bootloader", reported("bootloader")),
        ("reported_tcb_tee", reported("tee")),
        ("reported_tcb_snp", reported("snp")),
        ("reported_tcb_microcode", reported("microcode")),
        ("platform_tsme_enabled", platform(PlatformFlag::Tsme)),
        ("platform_smt_enabled", platform(PlatformFlag::Smt)),
        ("measurement", STANDARD.encode(report.measurement)),
        ("report_data", STANDARD.encode(report.report_data)),
        ("init_data", STANDARD.encode(report.host_data)),
    ];
    members.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect()
}
