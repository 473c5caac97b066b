//! Evidence from hardware, as auditors judge it.

use std::path::PathBuf;

use super::Place;

/// Where evidence from hardware lies, beside the repository; none is part of it.
fn vectors() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not present", folder.display());
    None
}

/// The policy file behind the words of the table.
fn policy(words: &str) -> Option<&'static str> {
    match words {
        "genuine" | "-" => None,
        "genuine + allow service TD" => Some("name = 'a'\n[tdx]\nallow_service_td = true"),
        "genuine + allow ConfigurationAndSWHardeningNeeded" => Some(
            "name = 'a'\n[sgx.tcb]\nallow = ['UpToDate', 'SWHardeningNeeded', 'ConfigurationAndSWHardeningNeeded']",
        ),
        "genuine + allow VMPL 1" => Some("name = 'a'\n[sev-snp]\nvmpl = [0, 1]"),
        "genuine + require revocation" => Some("name = 'a'\n[nvidia]\nrequire = ['revocation']"),
        other => panic!("unknown policy `{other}`"),
    }
}

/// Every row of the table that came with the evidence, as the command line is used.
#[test]
fn every_case_gets_its_verdict() {
    let Some(folder) = vectors() else { return };
    let place = Place::new();
    let path = |name: &str| folder.join(name).display().to_string();
    let mut wrong = Vec::new();
    for line in std::fs::read_to_string(folder.join("cases.tsv")).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let &[kind, evidence, with, at, words, verdict, _] = cells.as_slice() else { panic!("{line}") };
        let (evidence, with_path) = (path(evidence), path(with));
        let mut arguments = vec!["attest", "verify"];
        if kind == "tdx-eventlog" {
            // The log comes with its own quote, which has no collateral: nothing can be decided, but the replay is a row.
            let run = place.run(&["attest", "verify", &with_path, "--kind", "tdx", "--event-log", &evidence]);
            if run.code != 3 || !run.out.contains("  ok  event-log") {
                wrong.push(format!("{line}\nexit {}\n{}{}", run.code, run.out, run.err));
            }
            continue;
        }
        let supplied = if matches!(kind, "tdx" | "sgx") { "--collateral" } else { "--cert" };
        arguments.extend([evidence.as_str(), "--kind", kind]);
        if !with.is_empty() {
            arguments.extend([supplied, with_path.as_str()]);
        }
        if !at.is_empty() {
            arguments.extend(["--at", at]);
        }
        let file = policy(words).map(|text| place.file("policy.toml", text));
        if let Some(file) = &file {
            arguments.extend(["--policy", file]);
        }
        let run = place.run(&arguments);
        let want = match verdict {
            "accept" => 0,
            "reject" => 1,
            _ => 3,
        };
        if run.code != want {
            wrong.push(format!("{line}\nexit {} instead of {want}\n{}{}", run.code, run.out, run.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn evidence_is_shown_and_judged_by_a_policy_of_ones_own() {
    let Some(folder) = vectors() else { return };
    let place = Place::new();
    let document = folder.join("nitro/og-evm-attestation_doc.bin").display().to_string();
    let shown: serde_json::Value =
        serde_json::from_str(&place.ok(&["attest", "show", &document, "--kind", "nitro"])).unwrap();
    let pcr0 = shown["pcrs"]["pcr0"].as_str().unwrap();
    let user_data = shown["user_data"].as_str().unwrap();
    let signing_key = shown["user_data_nitriding"]["signing_key_sha256"].as_str().unwrap();
    assert_eq!(user_data.len(), 136);
    assert!(user_data.ends_with(signing_key), "{shown}");
    let policy = |pcr0: &str| {
        format!(
            "name = 'mine'\n[nitro]\nrequire = ['measurements', 'binding']\n[[nitro.measurements]]\nname = '1.0'\npcr0 = '{pcr0}'"
        )
    };
    let (good, bad) =
        (place.file("good.toml", policy(pcr0)), place.file("bad.toml", policy(&"ab".repeat(48))));
    let at = ["attest", "verify", &document, "--kind", "nitro", "--at", "2026-02-12T17:56:02Z", "--policy"];
    let judged = |more: &[&str]| place.run(&[&at[..], more].concat());
    let accepted = judged(&[&good, "--report-data", user_data, "--json"]);
    assert_eq!(accepted.code, 0, "{}{}", accepted.out, accepted.err);
    let report: serde_json::Value = serde_json::from_str(&accepted.out).unwrap();
    assert_eq!(report["measurements"]["pcr0"], pcr0);
    assert_eq!(report["data"], user_data);
    // A required row that was not made leaves it undecided; a measurement of another release rejects.
    assert_eq!(judged(&[&good]).code, 3);
    assert_eq!(judged(&[&bad, "--report-data", user_data]).code, 1);
    assert_eq!(judged(&[&good, "--report-data", "00"]).code, 1);
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let place = Place::new();
    let file = place.file("evidence", "x");
    let verify = |more: &[&str], code, words: &[&str]| {
        let arguments = [&["attest", "verify", &file, "--kind", "nitro"][..], more].concat();
        place.refuse(&arguments, code, words);
    };
    verify(&["--at", "yesterday"], 2, &["`yesterday` is no time", "2026-11-21T08:12:44Z"]);
    verify(&["--nonce", "abc"], 2, &["--nonce takes pairs of hexadecimal digits"]);
    verify(&["--policy", "nowhere.toml"], 2, &["there is no policy `nowhere.toml`", "attest policy init"]);
    let policy = place.file("policy.toml", "name = 'a'\n[nitro]\nrequire = ['tea']");
    verify(&["--policy", &policy], 2, &["is not understood", "`tea` is no check"]);
    verify(&["--collateral", "nowhere"], 4, &["nowhere cannot be read"]);
    place.refuse(&["attest", "show", &file, "--kind", "nitro"], 1, &["is no evidence of kind nitro"]);
    // The template is a policy.
    let template = place.file("template.toml", place.ok(&["attest", "policy", "init"]));
    let run = place.run(&["attest", "verify", &file, "--kind", "nitro", "--policy", &template]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("rejected by policy `mine`: format failed"), "{}", run.out);
}

/// What `attest produce` prints judges what it wrote: accepted by who says so, in lines that say SIMULATED, and else by nobody.
#[test]
fn development_evidence_is_accepted_by_who_says_so() {
    let (place, nonce) = (Place::new(), "0a".repeat(32));
    for kind in ["nitro", "tdx", "sgx", "sev-snp", "nvidia"] {
        for (flaw, codes) in [(None, [0, 1]), (Some("leaf-expired"), [1, 1])] {
            let mut arguments = vec![
                "attest",
                "produce",
                "--kind",
                kind,
                "--nonce",
                &nonce,
                "--at",
                "1770000000",
                "--output",
                "made",
            ];
            arguments.extend(flaw.iter().flat_map(|flaw| ["--flaw", flaw]));
            let run = place.run(&arguments);
            assert_eq!(run.code, 0, "{}{}", run.out, run.err);
            let mut command: Vec<&str> = run.out.split_whitespace().skip(1).collect();
            for code in codes {
                let run = place.run(&command);
                assert_eq!(run.code, code, "{command:?}\n{}{}", run.out, run.err);
                let marked = command.contains(&"--dangerously-accept-simulated");
                assert!(run.out.lines().all(|line| line.starts_with("SIMULATED ") == marked), "{}", run.out);
                command.pop();
            }
        }
    }
    for (arguments, word) in [
        (["--kind", "nitro", "--flaw", "no-such-flaw"], "leaf-expired"),
        (["--kind", "sgx", "--form", "tdx-v5"], "sgx-v3"),
    ] {
        let run = place.run(&[&["attest", "produce", "--output", "made"][..], &arguments].concat());
        assert_eq!(run.code, 2, "{}{}", run.out, run.err);
        assert!(run.err.contains(word), "{}", run.err);
    }
}

/// A device answers the nonce that its CPU's evidence binds, or another one.
#[test]
fn a_device_is_paired_with_its_cpu() {
    let place = Place::new();
    let nonce = "5a".repeat(32);
    place.ok(&["attest", "produce", "--kind", "nvidia", "--nonce", &nonce, "--output", "made"]);
    let verify = |nonce: &str| {
        let base =
            ["attest", "verify", "made/evidence.bin", "--kind", "nvidia", "--dangerously-accept-simulated"];
        place.run(&[&base[..], &["--cert", "made/certificates", "--cpu-nonce", nonce]].concat())
    };
    let run = verify(&nonce);
    assert!(run.code == 0 && run.out.contains("ok  pairing"), "{}{}", run.out, run.err);
    let run = verify(&"5b".repeat(32));
    assert!(run.code == 1 && run.out.contains("no  pairing"), "{}{}", run.out, run.err);
}

/// The makers are out of reach: what is missing is said, what there is is written, and nothing is asked for evidence that is rejected.
#[test]
fn collateral_that_nobody_gives_is_named() {
    let place = Place::new();
    place.ok(&["attest", "produce", "--kind", "tdx", "--output", "made"]);
    let collect = |more: &[&str]| {
        let base = ["attest", "collect", "made/evidence.bin", "--kind", "tdx", "--output", "c.json"];
        // Nobody listens at port 1.
        place.run(&[&base[..], &["--pccs", "http://127.0.0.1:1"], more].concat())
    };
    let run = collect(&[]);
    assert!(run.code == 1 && run.err.contains("the evidence is rejected as it is: root"), "{}", run.err);
    assert!(!place.path("c.json").exists());
    let run = collect(&["--dangerously-accept-simulated"]);
    assert!(
        run.code == 4 && run.err.contains("c.json lacks") && run.err.contains("127.0.0.1:1"),
        "{}",
        run.err
    );
    let text = std::fs::read_to_string(place.path("c.json")).unwrap();
    assert_eq!(text, r#"{"format":"hallmark-collateral/1","items":[]}"#);
    // What lacks everything shows nothing.
    let run = place.run(&[
        "attest",
        "verify",
        "made/evidence.bin",
        "--kind",
        "tdx",
        "--collateral",
        "c.json",
        "--dangerously-accept-simulated",
    ]);
    assert!(run.code == 3 && run.out.contains("--  collateral"), "{}{}", run.out, run.err);
}

/// A policy in Rego comes on top: it is asked once all else accepts, and is refused before anything is judged if it cannot be read.
#[test]
fn a_policy_in_rego_comes_on_top() {
    let place = Place::new();
    let made = place.ok(&["attest", "produce", "--kind", "tdx", "--at", "1770000000", "--output", "made"]);
    let command: Vec<&str> = made.split_whitespace().skip(1).collect();
    let ear = concat!(
        "package policy\nimport rego.v1\ndefault executables := 33\nhardware := 2 if input.tdx.tcb_status == \"UpToDate\"\n",
        "executables := 3 if input.tdx.quote.body.mr_td in query_reference_value(\"mr_td\")\n",
    );
    let shown = place.run(&[&command[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let mrtd = report["measurements"]["mrtd"].as_str().unwrap();
    let policy = place.file("policy.rego", ear);
    let good = place.file("good.json", format!("{{\"mr_td\": [\"{mrtd}\"]}}"));
    let bad = place.file("bad.json", "{\"mr_td\": [\"00\"]}");
    let judged = |more: &[&str]| place.run(&[&command[..], &["--rego", &policy], more].concat());
    let run = judged(&["--reference", &good]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("  ok  rego"), "{}", run.out);
    for more in [&["--reference", bad.as_str()][..], &[]] {
        let run = judged(more);
        assert_eq!(run.code, 1, "{}{}", run.out, run.err);
        assert!(run.out.contains("`executables` is 33: warning"), "{}", run.out);
    }
    // What is not believed is not put before it.
    let run =
        place.run(&[&command[..command.len() - 1], &["--rego", &policy, "--reference", &good]].concat());
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("not checked: a policy in Rego sees only evidence"), "{}", run.out);
    for (text, words) in [
        ("package policy\nallow := (", "line 2, column"),
        ("package mine\nallow := true", "`package mine`"),
        ("package policy\nf(x) := f(x)\nallow := f(1)", "in a circle"),
    ] {
        let file = place.file("bad.rego", text);
        let arguments = [&command[..], &["--rego", &file]].concat();
        place.refuse(&arguments, 2, &["bad.rego is not understood", words, "docs/attestation.md"]);
    }
    place.refuse(&[&command[..], &["--rego", "nowhere.rego"]].concat(), 2, &["nowhere.rego cannot be read"]);
    place.refuse(&[&command[..], &["--reference", &good]].concat(), 2, &["--rego"]);
    place.refuse(
        &[&command[..], &["--rego", &policy, "--reference", &policy]].concat(),
        2,
        &["no JSON object"],
    );
}
