//! Receipts whose key lives in an environment, which development evidence stands in for.

use super::Place;

const ACCEPT: &str = "--dangerously-accept-simulated";

fn infer(place: &Place, form: &str) -> String {
    let receipt = place.path("r.json").display().to_string();
    place.ok(&[
        "infer",
        "tumour-mlp",
        "--sample",
        "--evidence",
        "tee",
        "--environment",
        form,
        "--receipt",
        &receipt,
    ]);
    receipt
}

/// A verdict that rejects, and says so in these words.
fn refuse(place: &Place, arguments: &[&str], words: &[&str]) {
    let run = place.run(arguments);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    for word in words {
        assert!(run.out.contains(word), "no `{word}` in\n{}", run.out);
    }
}

/// A policy that counts nothing but hardware that runs this code.
fn policy(kind: &str, register: &str, value: &str) -> String {
    format!(
        "name = 'pinned'\nrequire = ['hardware', 'attested-key', 'hardware-now']\n[hardware.{kind}]\nmeasurements = [{{ name = '1.0', {register} = '{value}' }}]"
    )
}

#[test]
fn code_that_was_seen_once_can_be_pinned() {
    for (form, kind, register) in [
        ("nitro", "nitro", "pcr0"),
        ("tdx-v5", "tdx", "mrtd"),
        ("sgx-v3", "sgx", "mrenclave"),
        ("sev-snp-vlek", "sev-snp", "measurement"),
    ] {
        let place = Place::new();
        let receipt = infer(&place, form);
        // Nobody takes it who did not ask for it.
        refuse(
            &place,
            &["verify", &receipt],
            &["SIMULATED", "rejected by policy `default`: hardware failed"],
        );
        let verdict = place.json(&["verify", &receipt, ACCEPT]);
        assert_eq!((&verdict["simulated"], &verdict["hardware"]["kind"]), (&true.into(), &kind.into()));
        let value = verdict["hardware"]["measurements"][register].as_str().unwrap();
        let pinned = place.file("policy.toml", policy(kind, register, value));
        let out = place.ok(&["verify", &receipt, ACCEPT, "--policy", &pinned]);
        assert!(out.lines().all(|line| line.starts_with("SIMULATED ")), "{out}");
        assert!(out.contains("release `1.0`") && out.contains("evidence pins the code"), "{out}");
        let other = value.replace(|c: char| c.is_ascii_digit(), "e");
        let other = place.file("other.toml", policy(kind, register, &other));
        refuse(&place, &["verify", &receipt, ACCEPT, "--policy", &other], &["no  measurements"]);
        // What is redacted keeps its environment.
        let redacted = place.path("redacted.json").display().to_string();
        place.ok(&["receipt", "redact", &receipt, "--output", &redacted]);
        place.ok(&["verify", &redacted, ACCEPT, "--policy", &pinned]);
    }
}

#[test]
fn environments_that_there_are_not_are_refused_by_name() {
    let place = Place::new();
    let infer = |name: &'static str| {
        ["infer", "tumour-mlp", "--sample", "--evidence", "tee", "--environment", name].map(String::from)
    };
    let refuse = |name, code, words: &[&str]| {
        let arguments = infer(name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.refuse(&arguments, code, words);
    };
    refuse("abacus", 2, &["there is no environment `abacus`", "hardware, nitro, tdx-v4"]);
    // Devices bind no keys.
    refuse("nvidia", 2, &["there is no environment `nvidia`"]);
}

#[test]
fn todays_collateral_can_be_given() {
    let place = Place::new();
    let receipt = infer(&place, "tdx-v4");
    let folder = place.path("evidence").display().to_string();
    let produce = |flaw: &[&str]| {
        let arguments = [&["attest", "produce", "--kind", "tdx", "--output", &folder], flaw].concat();
        place.ok(&arguments);
        place.path("evidence").join("collateral").display().to_string()
    };
    let today = produce(&[]);
    let out = place.ok(&["verify", &receipt, ACCEPT, "--collateral", &today]);
    assert!(out.contains("by the collateral that you gave"), "{out}");
    let today = produce(&["--flaw", "revoked"]);
    refuse(
        &place,
        &["verify", &receipt, ACCEPT, "--collateral", &today],
        &["no  hardware-now", "was revoked"],
    );
}
