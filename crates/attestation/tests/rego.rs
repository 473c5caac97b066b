//! Policies in Rego over evidence of every form, made by the development provider and by hardware: what they see is what was verified,
//! and nothing but a clear yes passes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

#[allow(dead_code)]
mod vectors;

use hallmark_attestation::rego::{Fault, MAX_POLICY, MAX_REFERENCE, Policy as Rego, PolicyError};
use hallmark_attestation::simulated::{DEFAULT_SEED, Flaw, Form, Provider, roots};
use hallmark_attestation::{
    CheckId, Context, Decision, Evidence, Input, Kind, Measurements, Outcome, Policy, Producer as _, Reason,
    Register, Report, Request, Why, show, verify,
};
use hallmark_receipt::check::Cause as _;
use hallmark_receipt::wire::to_hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};

const AT: u64 = 1_770_000_000;
const EAR: &str = include_str!("rego/ear.rego");
const FLAT: &str = include_str!("rego/flat.rego");

fn request(form: Form) -> Request {
    let (report_data, nonce) = match form.kind() {
        Kind::Nitro => (vec![0xd1; 48], vec![0x5e; 32]),
        Kind::Nvidia => (Vec::new(), vec![0x5e; 32]),
        _ => (vec![0xd1; 64], Vec::new()),
    };
    Request { report_data, nonce, at: AT }
}

fn evidence(form: Form) -> Evidence {
    Provider::new(form).produce(&request(form)).unwrap()
}

/// Judges by `genuine`, under the development roots, and by a policy in Rego.
fn judge(kind: Kind, evidence: &Evidence, rego: Option<&Rego>) -> Report {
    judge_by(kind, evidence, rego, &Policy::genuine(), false)
}

fn judge_by(kind: Kind, evidence: &Evidence, rego: Option<&Rego>, policy: &Policy, debug: bool) -> Report {
    let roots = roots(DEFAULT_SEED).unwrap();
    let mut context = Context { rego, ..Context::new(AT, policy) };
    context.dangers.accept_simulated = &roots;
    context.dangers.accept_debug = debug;
    evidence.judge(kind, &context)
}

fn policy(text: &str, reference: &Value) -> Rego {
    Rego::parse(text, Some(reference.to_string().as_bytes())).unwrap()
}

/// Whether `expression` holds for the evidence.
fn holds(kind: Kind, evidence: &Evidence, expression: &str) -> bool {
    let text = format!("package policy\ndefault allow := false\nallow if {{ {expression} }}");
    let report = judge(kind, evidence, Some(&policy(&text, &json!({}))));
    match fault(&report) {
        None => true,
        Some(Fault::Denied) => false,
        other => panic!("{expression}: {other:?}"),
    }
}

/// Why the row `rego` failed.
fn fault(report: &Report) -> Option<Fault> {
    match &report.check(CheckId::Rego)?.outcome {
        Outcome::Failed(Reason::Rego(fault)) => Some(fault.clone()),
        Outcome::Failed(other) => panic!("{other}"),
        _ => None,
    }
}

/// What each form's evidence says, told by the typed report and by `show`.
fn reference(form: Form, evidence: &Evidence) -> Value {
    let report = judge(form.kind(), evidence, None);
    let Decision::Accepted(attested) = report.decision else { panic!("{report:#?}") };
    let register = |name: &str| to_hex(&attested.measurements()[&Register::from_name(name).unwrap()]);
    let shown = hallmark_receipt::json::Value::Object(show(form.kind(), &evidence.evidence).unwrap());
    let shown: Value = serde_json::from_str(&shown.canonical()).unwrap();
    match form.kind() {
        Kind::Nitro => json!({ "pcr0": [register("pcr0")], "module": "SIMULATED" }),
        Kind::Tdx => {
            let xfam = u64::from_str_radix(&shown["body"]["xfam"].as_str().unwrap()[2..], 16).unwrap();
            json!({
                "rtmr_1": ["00", register("rtmr1")],
                "mr_td": [register("mrtd")],
                "xfam": [to_hex(&xfam.to_le_bytes())],
                "min_tcb_date": "2020-01-01T00:00:00Z",
            })
        }
        Kind::Sgx => json!({
            "mr_enclave": [register("mrenclave")],
            "mr_signer": [register("mrsigner")],
            "flags": [&shown["body"]["attributes"].as_str().unwrap()[..16]],
        }),
        Kind::SevSnp => {
            let names = |name: &str| shown[name].as_array().unwrap().clone();
            // Version 2 does not say which processor it is: Milan, whose versions lie in bytes 0, 1, 6 and 7.
            let tcb = |part: &str, byte: usize| match shown["reported_tcb"].as_str() {
                None => shown["reported_tcb"][part].clone(),
                Some(hex) => json!(u8::from_str_radix(&hex[2 * byte..2 * byte + 2], 16).unwrap()),
            };
            let abi =
                shown["minimum_abi"].as_str().unwrap().split_once('.').unwrap().0.parse::<u8>().unwrap();
            json!({
                "snp_launch_measurement": [register("measurement")],
                "snp_bootloader": [tcb("bootloader", 0)],
                "snp_tee_svn": [tcb("tee", 1)],
                "snp_snp_svn": [tcb("snp", 6)],
                "snp_microcode": [tcb("microcode", 7)],
                "snp_smt_enabled": names("platform_info").contains(&json!("smt")),
                "snp_guest_abi_major": abi,
            })
        }
        _ => {
            let opaque = &shown["devices"][0]["opaque"];
            json!({
                "block_1": [register("block.1")],
                "vbios": [opaque["vbios_version"]],
                "driver": [opaque["driver_version"]],
            })
        }
    }
}

/// Something else of the same type.
fn changed(value: &Value) -> Value {
    match value {
        Value::Array(_) => json!(["changed"]),
        Value::Bool(value) => json!(!value),
        Value::Number(_) => json!(99),
        _ => json!("2199-01-01T00:00:00Z"),
    }
}

#[test]
fn each_form_is_taken_with_its_reference_values_and_with_no_others() {
    for form in Form::ALL {
        let (kind, evidence) = (form.kind(), evidence(form));
        let reference = reference(form, &evidence);
        let report = judge(kind, &evidence, Some(&policy(EAR, &reference)));
        assert!(report.is_accepted(), "{form:?}: {report:#?}");
        let row = report.check(CheckId::Rego).unwrap();
        assert!(row.got.as_ref().unwrap().contains("configuration 2, executables 3, hardware 2"), "{row:?}");
        for (name, value) in reference.as_object().unwrap() {
            let mut other = reference.clone();
            other[name] = changed(value);
            let report = judge(kind, &evidence, Some(&policy(EAR, &other)));
            // The policy falls back on `else := 3` where it may.
            let lenient = ["snp_smt_enabled", "snp_guest_abi_major"].contains(&name.as_str());
            assert_eq!(report.is_accepted(), lenient, "{form:?} {name}: {report:#?}");
            assert!(lenient || matches!(fault(&report), Some(Fault::Claim { value: 33 | 36 | 97, .. })));
        }
        let report = judge(kind, &evidence, Some(&policy(EAR, &json!({}))));
        assert_eq!(report.exit_code(), 1, "without reference values");
    }
}

#[test]
fn the_older_form_reads_the_flat_claims() {
    for form in [Form::SnpV2, Form::SnpV3, Form::SnpV5, Form::SnpVlek] {
        let evidence = evidence(form);
        let new = reference(form, &evidence);
        let text = |name: &str| json!([new[name][0].to_string()]);
        let say =
            |path: &str| [false, true].map(|value| (value, format!("input.snp.evidence.{path} == {value}")));
        let flag = |path: &str| {
            let said =
                say(path).into_iter().find(|(_, expression)| holds(Kind::SevSnp, &evidence, expression));
            json!([said.unwrap().0.to_string()])
        };
        let measurement =
            hallmark_receipt::wire::from_hex(new["snp_launch_measurement"][0].as_str().unwrap());
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, measurement.unwrap());
        let minor = (0..=255).find(|minor| {
            holds(Kind::SevSnp, &evidence, &format!("input.snp.evidence.policy.abi_minor == {minor}"))
        });
        let reference = json!({
            "measurement": [base64],
            "tcb_bootloader": text("snp_bootloader"),
            "tcb_microcode": text("snp_microcode"),
            "tcb_snp": text("snp_snp_svn"),
            "tcb_tee": text("snp_tee_svn"),
            "smt_enabled": flag("plat_info.smt_enabled"),
            "tsme_enabled": flag("plat_info.tsme_enabled"),
            "abi_major": [new["snp_guest_abi_major"].to_string()],
            "abi_minor": [minor.unwrap().to_string()],
            "single_socket": flag("policy.single_socket_required"),
            "smt_allowed": flag("policy.smt_allowed"),
        });
        let report = judge(Kind::SevSnp, &evidence, Some(&policy(FLAT, &reference)));
        assert!(report.is_accepted(), "{form:?}: {report:#?}");
        for name in reference.as_object().unwrap().keys() {
            let mut other = reference.clone();
            other[name] = json!(["changed"]);
            let report = judge(Kind::SevSnp, &evidence, Some(&policy(FLAT, &other)));
            assert_eq!(report.exit_code(), 1, "{form:?} {name}");
            assert!(fault(&report).is_some(), "{report:#?}");
        }
    }
}

#[test]
fn a_policy_sees_nothing_that_the_typed_checks_refuse() {
    let yes = policy("package policy\nallow := true", &json!({}));
    for form in Form::ALL {
        let kind = form.kind();
        // Forged, and without the caller's word for development roots.
        let forged = Provider::new(form).with_flaw(Flaw::Signature).produce(&request(form)).unwrap();
        let report = judge(kind, &forged, Some(&yes));
        assert_eq!(report.exit_code(), 1, "{form:?}");
        assert_eq!(report.check(CheckId::Rego).unwrap().outcome, Outcome::NotChecked(Why::NotBelieved));
        let genuine = Policy::genuine();
        let report = evidence(form).judge(kind, &Context { rego: Some(&yes), ..Context::new(AT, &genuine) });
        assert_eq!(report.reasons().map(|(id, _)| id).collect::<Vec<_>>(), [CheckId::Root]);
        // What is undecided stays so.
        let text = format!("name = 'more'\n[{}]\nrequire = ['log']", kind.name());
        let report = judge_by(kind, &evidence(form), Some(&yes), &Policy::parse(&text).unwrap(), false);
        assert_eq!(report.decision, Decision::Undecided(vec![CheckId::Log, CheckId::Rego]));
        // Asked for by the typed policy, and not given.
        let text = format!("name = 'more'\n[{}]\nrequire = ['rego']", kind.name());
        let report = judge_by(kind, &evidence(form), None, &Policy::parse(&text).unwrap(), false);
        assert_eq!(report.decision, Decision::Undecided(vec![CheckId::Rego]));
        assert_eq!(report.check(CheckId::Rego).unwrap().outcome, Outcome::NotChecked(Why::NoRego));
        // Not asked for: no row.
        assert_eq!(judge(kind, &evidence(form), None).check(CheckId::Rego), None);
    }
}

#[test]
fn debug_evidence_fails_first_by_the_typed_check_and_then_by_the_policy() {
    for form in [Form::TdxV4, Form::TdxV5, Form::SnpV3] {
        let kind = form.kind();
        let reference = policy(EAR, &reference(form, &evidence(form)));
        let debugged = Provider::new(form).with_flaw(Flaw::Debug).produce(&request(form)).unwrap();
        let report = judge(kind, &debugged, Some(&reference));
        assert_eq!(report.reasons().map(|(id, _)| id).collect::<Vec<_>>(), [CheckId::Debug], "{form:?}");
        let text = format!("name = 'debug'\n[{}]\ndangerously_accept_debug = true", kind.name());
        let report = judge_by(kind, &debugged, Some(&reference), &Policy::parse(&text).unwrap(), true);
        assert_eq!(fault(&report), Some(Fault::Claim { claim: "configuration", value: 36 }), "{form:?}");
    }
}

#[test]
fn nothing_but_a_clear_yes_passes() {
    let evidence = evidence(Form::Nitro);
    let claim = |claim, value| Some(Fault::Claim { claim, value });
    let form = |rule, expected| Some(Fault::Form { rule, expected });
    let cases = [
        ("allow := true", None),
        ("executables := 2\nhardware := 31", None),
        ("executables := 2\nhardware := 2\nstorage_opaque := 0", None),
        ("executables := 2\nhardware := 2\nallow := true", None),
        ("executables := 2\nhardware := 2\nallow := false", Some(Fault::Denied)),
        ("allow := false", Some(Fault::Denied)),
        ("allow if input.tdx", Some(Fault::Undefined("allow"))),
        ("allow := \"true\"", form("allow", "true or false")),
        ("allow := 1", form("allow", "true or false")),
        ("allow contains \"true\"", form("allow", "true or false")),
        ("hardware := 2", Some(Fault::Undefined("executables"))),
        ("executables := 2", Some(Fault::Undefined("hardware"))),
        ("executables := 0\nhardware := 2", claim("executables", 0)),
        ("executables := 2\nhardware := 0", claim("hardware", 0)),
        ("executables := 2\nhardware := 1", claim("hardware", 1)),
        ("executables := 2\nhardware := 32", claim("hardware", 32)),
        ("executables := 2\nhardware := 95", claim("hardware", 95)),
        ("executables := 2\nhardware := 96", claim("hardware", 96)),
        ("executables := 2\nhardware := 128", claim("hardware", 128)),
        ("executables := 2\nhardware := -2", claim("hardware", -2)),
        ("executables := 2\nhardware := 2\nsourced_data := 99", claim("sourced_data", 99)),
        ("executables := 2\nhardware := 2.5", form("hardware", "a whole number")),
        ("executables := 2\nhardware := \"2\"", form("hardware", "a whole number")),
        (
            "executables := 2\nhardware := 2\nconfiguration := 2 if input.tdx",
            Some(Fault::Undefined("configuration")),
        ),
        ("trust_claims := {\"executables\": 2, \"hardware\": 2}", None),
        (
            "trust_claims := {\"executables\": 2, \"hardware\": 2, \"file-system\": 36}",
            claim("file_system", 36),
        ),
        ("trust_claims := {\"executables\": 2}", Some(Fault::Undefined("hardware"))),
        ("trust_claims := {}", Some(Fault::Undefined("executables"))),
        ("trust_claims := [2, 2]", form("trust_claims", "an object")),
        ("trust_claims if input.tdx", Some(Fault::Undefined("trust_claims"))),
        (
            "trust_claims := {\"executables\": 2, \"hardware\": 2, \"mood\": 2}",
            Some(Fault::UnknownClaim("mood".to_owned())),
        ),
    ];
    for (text, expected) in cases {
        let report =
            judge(Kind::Nitro, &evidence, Some(&policy(&format!("package policy\n{text}"), &json!({}))));
        assert_eq!(fault(&report), expected, "{text}");
        assert_eq!(report.is_accepted(), expected.is_none(), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_within_bounds_fails() {
    let evidence = evidence(Form::Nitro);
    let cases = [
        // A product of twelve lists of ten.
        (
            "l := [0,1,2,3,4,5,6,7,8,9]\nallow if count([1 | l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]]) > 0",
            "rego-time",
        ),
        ("allow if count(numbers.range(1, 1000000000000)) > 0", "rego-evaluation"),
        ("allow if numbers[\"range\"](1, 1000000000000)[0] == 1", "rego-evaluation"),
        ("allow if bits.lsh(1, 4000000000) > 0", "rego-evaluation"),
        ("allow if rand.intn(\"a\", 2) < 2", "rego-evaluation"),
        (
            "allow if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200",
            "rego-evaluation",
        ),
        ("allow if opa.runtime().env.HOME == \"/\"", "rego-evaluation"),
        ("allow if to_number(\"x\") == 1", "rego-evaluation"),
        ("allow := true if input.nitro\nallow := false if input.nitro", "rego-evaluation"),
        ("allow if allow", "rego-evaluation"),
    ];
    for (text, code) in cases {
        let rego = Rego::parse(&format!("package policy\n{text}"), None).unwrap();
        let report = judge(Kind::Nitro, &evidence, Some(&rego));
        let fault = fault(&report).unwrap_or_else(|| panic!("{text}: {report:#?}"));
        assert_eq!(fault.code(), code, "{text}: {fault}");
        assert_eq!(fault.to_string().lines().count(), 1, "{fault}");
    }
    // The time is the one that evidence is judged at.
    assert!(holds(Kind::Nitro, &evidence, &format!("time.now_ns() == {AT} * 1000000000")));
    // The deepest policy within bounds, of the deepest expressions, is evaluated.
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(8), "]".repeat(8));
    let mut text = "package policy\nf0(x) := x\n".to_owned();
    for level in 1..31 {
        let inner = nested(&format!("f{}(x)", level - 1));
        text.push_str(&format!("f{level}(x) := y if {{ z := {inner}; y := x; z }}\n"));
    }
    text.push_str("allow := f30(true)");
    let report = judge(Kind::Nitro, &evidence, Some(&policy(&text, &json!({}))));
    assert!(report.is_accepted(), "{:?}", fault(&report));
}

#[test]
fn files_that_are_no_policies_are_refused() {
    let parse = |text: &str| Rego::parse(text, None).unwrap_err();
    let package = |text: &str| match parse(text) {
        PolicyError::Package { got } => got,
        other => panic!("{other}"),
    };
    assert_eq!(package("package other\nallow := true"), "other");
    assert_eq!(package("package policy.mine\nallow := true"), "policy.mine");
    assert_eq!(parse("package policy\nx := 1"), PolicyError::NoRule);
    assert_eq!(
        parse("package policy\nimport data.lib.f\nallow := f(1)"),
        PolicyError::Import("data.lib.f".to_owned())
    );
    for text in ["", "package policy\nallow := ", "allow := true", "package policy\nallow if {", "\u{0}"] {
        let error = parse(text);
        assert!(matches!(error, PolicyError::Syntax { .. }), "{text:?}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    assert!(parse("package policy\n\nallow := (").to_string().starts_with("line 3, column"));
    assert!(matches!(parse(&" ".repeat(MAX_POLICY + 1)), PolicyError::TooLong { .. }));
    let nested = format!("# {0}\nx := \"{0}\\\"\"\nallow := {0}1{1}", "[".repeat(11), "]".repeat(11));
    assert_eq!(parse(&format!("package policy\n{nested}")), PolicyError::Nesting { line: 4, most: 10 });
    // Functions that call themselves, directly, around, by another name, and rules that stand on each other too deep.
    let chain: String = (1..40).map(|n| format!("r{n} := r{}\n", n - 1)).collect();
    for text in [
        "f(x) := f(x)\nallow := f(1)",
        "f(x) := g(x)\ng(x) := f(x)\nallow := f(1)",
        "f(x) := data.policy.f(x)\nallow := f(1)",
        "f(x) := data[\"policy\"].f(x)\nallow := f(1)",
        "f(x) := y if { y := count(x) with count as f }\nallow := f(1)",
        &format!("r0 := true\n{chain}allow := r39"),
    ] {
        let error = parse(&format!("package policy\n{text}"));
        assert!(matches!(error, PolicyError::Depth { .. }), "{text}: {error}");
    }
    let reference = |bytes: &[u8]| Rego::parse("package policy\nallow := true", Some(bytes)).unwrap_err();
    for bytes in [&b"[1]"[..], b"", b"{", b"\xff", &[b"{\"a\":".repeat(200), b"1".to_vec()].concat()] {
        assert!(matches!(reference(bytes), PolicyError::Reference { .. }));
    }
    assert!(matches!(reference(&vec![b' '; MAX_REFERENCE + 1]), PolicyError::TooLong { .. }));
}

#[test]
fn every_kind_has_the_same_claims_of_ours() {
    for form in Form::ALL {
        let (kind, evidence) = (form.kind(), evidence(form));
        for expression in [
            format!("input.hallmark.kind == \"{}\"", kind.name()),
            "input.hallmark.simulated == true".to_owned(),
            format!("input.hallmark.at == {AT}"),
            "input.hallmark.rows.signature == \"passed\"".to_owned(),
            "input.hallmark.rows.log == \"not checked\"".to_owned(),
            "not input.hallmark.rows.rego".to_owned(),
            "count(input) == 2".to_owned(),
            "count(input.hallmark.measurements) > 0".to_owned(),
        ] {
            assert!(holds(kind, &evidence, &expression), "{form:?}: {expression}");
        }
    }
}

#[test]
fn every_device_must_be_taken() {
    let one = evidence(Form::Nvidia);
    let other = Provider::new(Form::Nvidia)
        .with_measurements(Measurements::from([(Register::Block(1), vec![0xab; 48])]))
        .produce(&request(Form::Nvidia))
        .unwrap();
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let entry = |evidence: &Evidence| {
        let certificates: String = evidence
            .certificates
            .iter()
            .map(|der| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encode(der)))
            .collect();
        json!({ "evidence": encode(&evidence.evidence), "certificate": encode(certificates.as_bytes()) })
    };
    let list = |entries: Value| Evidence {
        evidence: entries.to_string().into_bytes(),
        certificates: Vec::new(),
        ..one.clone()
    };
    let rego = policy(EAR, &reference(Form::Nvidia, &one));
    let report = judge(Kind::Nvidia, &list(json!([entry(&one), entry(&one)])), Some(&rego));
    assert!(report.is_accepted(), "{report:#?}");
    let report = judge(Kind::Nvidia, &list(json!([entry(&one), entry(&other)])), Some(&rego));
    let reasons: Vec<_> =
        report.reasons().map(|(id, reason)| (id, reason.code(), reason.to_string())).collect();
    let words = "device 2: `executables` is 33: warning".to_owned();
    assert_eq!(reasons, [(CheckId::Rego, "rego-claim", words)]);
}

/// An event log whose one event of RTMR1 is of this type and digest, and one that is measured nowhere.
fn event_log(kind: u32, digest: &[u8; 48]) -> Vec<u8> {
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    let mut log = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    log.extend([0; 20]);
    log.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    log.extend(header);
    for (kind, digest) in [(kind, digest), (3, &[9; 48])] {
        log.extend([2_u32, kind, 1].map(u32::to_le_bytes).concat());
        log.extend([0x0c, 0]);
        log.extend(digest);
        log.extend([0; 4]);
    }
    log
}

#[test]
fn events_are_those_that_were_measured() {
    let digest = [7; 48];
    let rtmr = Sha384::new().chain_update([0; 48]).chain_update(digest).finalize().to_vec();
    let mut evidence = Provider::new(Form::TdxV4)
        .with_measurements(Measurements::from([(Register::Rtmr(1), rtmr)]))
        .produce(&request(Form::TdxV4))
        .unwrap();
    assert!(holds(Kind::Tdx, &evidence, "not input.tdx.uefi_event_logs"));
    evidence.event_log = Some(event_log(0x8000_0003, &digest));
    let expected = json!([{
        "index": 2,
        "type": "0x80000003",
        "type_name": "EV_EFI_BOOT_SERVICES_APPLICATION",
        "digests": [{ "alg": "SHA-384", "digest": to_hex(&digest) }],
    }]);
    assert!(holds(Kind::Tdx, &evidence, &format!("input.tdx.uefi_event_logs == {expected}")));
    evidence.event_log = Some(event_log(0x8000_0003, &[8; 48]));
    let yes = policy("package policy\nallow := true", &json!({}));
    let report = judge(Kind::Tdx, &evidence, Some(&yes));
    assert_eq!(report.reasons().map(|(id, _)| id).collect::<Vec<_>>(), [CheckId::EventLog]);
}

/// Hardware's own: every claim is the field of the quote where it lies, and as `show` has it.
#[test]
fn the_claims_of_a_real_quote_are_its_fields() {
    let Some(folder) = vectors::folder() else { return };
    let read = |name: &str| std::fs::read(folder.join("tdx/dcap-qvl").join(name)).unwrap();
    let (quote, collateral) = (read("tdx_quote"), read("tdx_quote_collateral.json"));
    let collateral = [collateral.as_slice()];
    let input = Input { collateral: &collateral, ..Input::of(&quote) };
    let genuine = Policy::genuine();
    let judge = |rego: &Rego| {
        verify(Kind::Tdx, &input, &Context { rego: Some(rego), ..Context::new(1_750_329_200, &genuine) })
    };
    let at = |from: usize, length: usize| to_hex(&quote[from..from + length]);
    let names = [
        ("tcb_svn", 16),
        ("mr_seam", 48),
        ("mrsigner_seam", 48),
        ("seam_attributes", 8),
        ("td_attributes", 8),
        ("xfam", 8),
        ("mr_td", 48),
        ("mr_config_id", 48),
        ("mr_owner", 48),
        ("mr_owner_config", 48),
        ("rtmr_0", 48),
        ("rtmr_1", 48),
        ("rtmr_2", 48),
        ("rtmr_3", 48),
        ("report_data", 64),
    ];
    let mut place = 48;
    let mut body = json!({});
    for (name, length) in names {
        body[name] = at(place, length).into();
        place += length;
    }
    let header = json!({
        "version": at(0, 2), "att_key_type": at(2, 2), "tee_type": at(4, 4), "reserved": at(8, 4),
        "vendor_id": at(12, 16), "user_data": at(28, 20),
    });
    let shown = hallmark_receipt::json::Value::Object(show(Kind::Tdx, &quote).unwrap()).canonical();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (ours, theirs) in [
        ("mr_td", "mr_td"),
        ("mr_seam", "mr_seam"),
        ("rtmr0", "rtmr_0"),
        ("rtmr3", "rtmr_3"),
        ("report_data", "report_data"),
    ] {
        assert_eq!(shown["body"][ours], body[theirs]);
    }
    let flags = shown["body"]["td_flags"].as_array().unwrap().clone();
    let flag = |name: &str| flags.contains(&json!(name));
    let attributes = json!({
        "debug": flag("debug"), "septve_disable": flag("sept-ve-disable"), "protection_keys": flag("pks"),
        "key_locker": flag("key-locker"), "perfmon": flag("perfmon"),
    });
    let expected = json!({
        "quote": { "header": header, "body": body },
        "td_attributes": attributes,
        "report_data": body["report_data"],
        "init_data": body["mr_config_id"],
        "tcb_status": "UpToDate",
        "collateral_expiration_status": "0",
        "advisory_ids": [],
        "platform_provider_id": shown["platform"]["ppid"],
    });
    let text = "package policy\ndefault allow := false\nallow if input.tdx[data.reference.name] == data.reference.value";
    for (name, value) in expected.as_object().unwrap() {
        let report = judge(&policy(text, &json!({ "name": name, "value": value })));
        assert_eq!(fault(&report), None, "{name} is not {value}");
        assert!(report.is_accepted());
    }
    let reference = json!({
        "rtmr_1": [body["rtmr_1"]], "mr_td": [body["mr_td"]], "xfam": [body["xfam"]], "min_tcb_date": "2024-03-13T00:00:00Z",
    });
    assert!(judge(&policy(EAR, &reference)).is_accepted());
    for (name, value) in reference.as_object().unwrap() {
        let mut other = reference.clone();
        other[name] = changed(value);
        assert_eq!(judge(&policy(EAR, &other)).exit_code(), 1, "{name}");
    }
}
