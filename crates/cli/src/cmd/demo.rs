//! `hallmark demo`: the whole story, told for somebody who hears it for the first time.
//!
//! A node with a home of its own answers and writes bundles. Every check is made by a *separate process* of this program,
//! whose home is a fresh folder that holds nothing but the model's file. Whatever goes other than told makes the demo fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hallmark_model::manifest::MODEL_FILE;
use hallmark_receipt::{Bundle, Data, Tensor};
use serde_json::{Value, json};

use super::verify::paint;
use super::{App, infer};
use crate::args::Demo;
#[cfg(feature = "simulated")]
use crate::args::EvidenceArg;
use crate::console::{self, BOLD, DIM, GREEN, RED, styled};
use crate::disk::{Access, Disk};
use crate::fault::Exit;
use crate::model::{self, Copy};
use crate::shipped::{SHIPPED, Shipped};
use crate::store::Home;

mod forge;

/// Runs `demo`.
pub fn run(app: &App, args: &Demo) -> Result<Exit> {
    let start = Instant::now();
    let mut story = Story { json: app.json, failures: Vec::new(), records: Vec::new() };
    Disk::default().create_folder(&args.dir, Access::Public)?;
    let node = App { home: Home::new(args.dir.join("node"), Duration::from_secs(10)), ..app.clone() };

    story.say(&styled(BOLD, "Hallmark: run a model, get a receipt, check it anywhere."));
    story.say("");
    story.title("1. A node answers, and signs a receipt for every answer");
    let mut answers = Vec::new();
    for shipped in SHIPPED {
        answers.push(answer(&node, &mut story, shipped, &args.dir)?);
    }

    story.title("2. A stranger checks them");
    story.say(
        "Each check is a process of its own. Its home is a new folder that holds one file: the model. It",
    );
    story.say("knows neither the node nor its keys, so it runs the model again and compares every bit.");
    for (index, answer) in answers.iter().enumerate() {
        accept(&mut story, answer, index == 0)?;
    }

    story.title("3. A forger tries");
    attack(&node, &mut story, &answers, &args.dir)?;

    #[cfg(feature = "simulated")]
    environment(&node, &mut story, &answers, &args.dir)?;

    story.title(if cfg!(feature = "simulated") { "5. Now you" } else { "4. Now you" });
    let dir = args.dir.display();
    for line in [
        format!("hallmark verify {dir}/{}.receipt.json", SHIPPED[0].name),
        format!("hallmark verify {dir}/forged-resigned.receipt.json"),
        format!("hallmark infer {} --sample 3 --receipt mine.receipt.json", SHIPPED[0].name),
        "hallmark verify mine.receipt.json".to_owned(),
        "hallmark receipt redact mine.receipt.json --output public.receipt.json".to_owned(),
        "hallmark model add YOUR.onnx --name yours && hallmark model show yours".to_owned(),
    ] {
        story.say(&format!("  {line}"));
    }
    story.say("");
    let seconds = start.elapsed().as_secs_f64();
    let ok = story.failures.is_empty();
    if ok {
        story.say(&format!(
            "{} in {seconds:.1} s: {} answers accepted, {} forgeries refused.",
            styled(GREEN, "Everything went as told"),
            answers.len(),
            forge::ATTACKS.len()
        ));
    } else {
        story.say(&format!("{}: {}.", styled(RED, "Not everything went as told"), story.failures.join("; ")));
    }
    if app.json {
        console::json(
            &json!({ "ok": ok, "seconds": seconds, "failures": story.failures, "checks": story.records }),
        );
    }
    Ok(if ok { Exit::Accepted } else { Exit::Rejected })
}

/// Tells the story, and keeps what went other than told.
struct Story {
    json: bool,
    failures: Vec<String>,
    records: Vec<Value>,
}

impl Story {
    fn say(&self, line: &str) {
        // With --json, standard output is the one result.
        if self.json { console::note(line) } else { console::out(line) }
    }

    fn title(&self, line: &str) {
        self.say("");
        self.say(&styled(BOLD, line));
    }
}

/// An answer of the node.
struct Answer {
    shipped: &'static Shipped,
    copy: Copy,
    bundle: Bundle,
    inputs: infer::Named,
    outputs: infer::Named,
    path: PathBuf,
}

fn answer(node: &App, story: &mut Story, shipped: &'static Shipped, dir: &Path) -> Result<Answer> {
    let meta = shipped.meta()?;
    let copy = model::shipped_copy(shipped)?;
    let inputs = infer::sample(shipped, 0)?;
    let start = Instant::now();
    let rows = infer::compute(node, &copy, std::slice::from_ref(&inputs))?;
    let run_time = start.elapsed();
    let outputs = rows.into_iter().next().unwrap_or_default();
    let (bundle, _) = infer::receipt(node, &copy, inputs.clone(), outputs.clone(), &infer::Asked::default())?;
    let path = dir.join(format!("{}.receipt.json", shipped.name));
    Disk::default().write(&path, bundle.to_json().as_bytes(), Access::Private)?;
    story.say("");
    story.say(&format!("{} ({}): {}.", styled(BOLD, &meta.title), shipped.name, meta.task));
    match (meta.texts.first(), inputs.first()) {
        (Some(text), _) => story.say(&format!("  \"{text}\"")),
        (None, Some((_, tensor))) => picture(tensor).iter().for_each(|line| story.say(&format!("  {line}"))),
        _ => {}
    }
    let said = infer::answer(shipped, &outputs, 0).unwrap_or_default();
    let truth = meta.expected.first().and_then(|class| meta.classes.get(*class));
    let truth = truth.map_or("unknown", String::as_str);
    story.say(&format!("  answer: {said}; in truth: {truth}"));
    if !said.starts_with(truth) {
        story.say("  (Wrong, and the receipt holds all the same: it says what the model answers, not that it is right.)");
    }
    story.say(&format!("  score: {}", meta.score));
    let note = format!("  {:.1} ms; receipt in {}", run_time.as_secs_f64() * 1e3, path.display());
    story.say(&styled(DIM, &note));
    Ok(Answer { shipped, copy, bundle, inputs, outputs, path })
}

/// A small grey image as text; nothing for other inputs.
fn picture(tensor: &Tensor) -> Vec<String> {
    const INK: &[u8] = b" .:-=+*#%@";
    let (&[.., height, width], Data::F32(pixels)) = (tensor.shape(), tensor.data()) else {
        return Vec::new();
    };
    if height * width != pixels.len() || height > 32 || width > 32 || height < 2 {
        return Vec::new();
    }
    let greatest = pixels.iter().copied().fold(1.0_f32, f32::max);
    let ink = |pixel: &f32| {
        let level = (pixel / greatest * (INK.len() - 1) as f32).round();
        let level = INK.get(level as usize).copied().unwrap_or(b'?');
        // Twice, because letters are taller than wide.
        [char::from(level); 2]
    };
    pixels.chunks(width).map(|row| row.iter().flat_map(ink).collect::<String>()).collect()
}

fn accept(story: &mut Story, answer: &Answer, whole: bool) -> Result<()> {
    let start = Instant::now();
    let checked = Checked::from(&verify(&answer.path, &answer.copy, &["--json"])?);
    let name = answer.shipped.name;
    story.say("");
    if whole {
        story.say(&styled(
            DIM,
            &format!("  $ hallmark verify {} --model {MODEL_FILE}", answer.path.display()),
        ));
        let rows = verify(&answer.path, &answer.copy, &[])?.stdout;
        String::from_utf8_lossy(&rows).lines().for_each(|line| story.say(&format!("  {}", paint(line))));
    } else {
        let time = format!("{:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        story.say(&format!("  {name}: {} ({time})", checked.decision()));
    }
    let as_told = checked.exit == Some(0) && checked.decision() == "accepted";
    story.record(&format!("verify {name}"), &checked, as_told, "to be accepted");
    Ok(())
}

fn attack(node: &App, story: &mut Story, answers: &[Answer], dir: &Path) -> Result<()> {
    let (Some(victim), Some(other)) = (answers.first(), answers.get(1)) else { return Ok(()) };
    story.say(&format!("It starts from {}, and leaves each forgery in the folder.", victim.path.display()));
    let material = forge::Material::new(node, victim, other, dir)?;
    for attack in forge::ATTACKS {
        let path = dir.join(format!("forged-{}.receipt.json", attack.name));
        let bytes = (attack.forge)(&material).with_context(|| format!("forgery `{}`", attack.name))?;
        Disk::default().write(&path, &bytes, Access::Private)?;
        let checked = Checked::from(&verify(&path, &victim.copy, &["--json"])?);
        let reason = checked.failed(attack.caught_by);
        story.say("");
        story.say(&format!("  {}: {}", styled(BOLD, attack.name), attack.story));
        match &reason {
            Some(reason) => {
                story.say(&format!("    {} by `{}`: {reason}", styled(RED, "refused"), attack.caught_by));
            }
            None => story.say(&format!("    {}: {}", styled(RED, "not refused as told"), checked.decision())),
        }
        let as_told = checked.exit == Some(1) && reason.is_some();
        story.record(&format!("forgery {}", attack.name), &checked, as_told, "to be refused");
    }
    Ok(())
}

/// A node whose key lives in an environment, which development evidence stands in for.
#[cfg(feature = "simulated")]
fn environment(node: &App, story: &mut Story, answers: &[Answer], dir: &Path) -> Result<()> {
    const ACCEPT: &str = "--dangerously-accept-simulated";
    let Some(answer) = answers.first() else { return Ok(()) };
    story.title("4. In which environment? Hardware can vouch for the key that signs");
    story.say(
        "This machine may have no such hardware, so development evidence stands in: an Intel TDX quote in",
    );
    story.say("every byte but its root, whose key everybody has. What is signed says SIMULATED.");
    let asked = infer::Asked {
        evidence: &[EvidenceArg::Replay, EvidenceArg::Tee],
        environment: Some("tdx-v4"),
        ..infer::Asked::default()
    };
    let (bundle, _) =
        infer::receipt(node, &answer.copy, answer.inputs.clone(), answer.outputs.clone(), &asked)?;
    let path = dir.join("simulated.receipt.json");
    Disk::default().write(&path, bundle.to_json().as_bytes(), Access::Private)?;
    let checked = Checked::from(&verify(&path, &answer.copy, &["--json"])?);
    let reason = checked.failed("hardware").unwrap_or_default();
    story.say("");
    story.say(&styled(DIM, &format!("  $ hallmark verify {}", path.display())));
    story.say(&format!("    {} by `hardware`: {reason}", styled(RED, checked.decision())));
    let as_told = checked.exit == Some(1) && reason.contains("SIMULATED");
    story.record("simulated hardware", &checked, as_told, "to be refused");
    let checked = Checked::from(&verify(&path, &answer.copy, &["--json", ACCEPT])?);
    let rows = verify(&path, &answer.copy, &[ACCEPT])?.stdout;
    story.say("");
    story.say(&styled(DIM, &format!("  $ hallmark verify {} {ACCEPT}", path.display())));
    let rows = String::from_utf8_lossy(&rows);
    let shown = rows.lines().skip_while(|line| !line.ends_with("environment?"));
    let shown = shown.take_while(|line| !line.ends_with("right way?"));
    shown.for_each(|line| story.say(&format!("  {}", paint(line))));
    let marked = rows.lines().all(|line| line.starts_with("SIMULATED"));
    let as_told = checked.exit == Some(0) && marked;
    story.record(
        "simulated hardware, asked for",
        &checked,
        as_told,
        "to be accepted, and marked in every line",
    );
    Ok(())
}

/// What a verifying process said.
struct Checked {
    exit: Option<i32>,
    answer: Value,
}

/// Runs `hallmark verify` in a process of its own, with a home that holds nothing but the model's file.
fn verify(bundle: &Path, copy: &Copy, flags: &[&str]) -> Result<Output> {
    let home = tempfile::tempdir().context("no folder for the verifier")?;
    let file = home.path().join(MODEL_FILE);
    let onnx = copy.files.get(MODEL_FILE).map(Vec::as_slice).unwrap_or_default();
    Disk::default().write(&file, onnx, Access::Public)?;
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALLMARK_")) {
        command.env_remove(name);
    }
    command.env("HALLMARK_CONFIG", home.path().join("none.toml")).env("NO_COLOR", "1");
    command.arg("verify").arg(bundle).arg("--model").arg(&file).arg("--home").arg(home.path());
    command.args(flags);
    command.output().context("the verifying process did not start")
}

impl From<&Output> for Checked {
    fn from(output: &Output) -> Self {
        Self {
            exit: output.status.code(),
            answer: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        }
    }
}

impl Checked {
    fn decision(&self) -> &str {
        self.answer["decision"].as_str().unwrap_or("no verdict")
    }

    /// Why the check `id` failed, if it did.
    fn failed(&self, id: &str) -> Option<String> {
        let checks = self.answer["checks"].as_array()?;
        let check = checks.iter().find(|check| check["id"] == id && check["outcome"] == "failed")?;
        Some(console::plain(check["reason"].as_str()?))
    }
}

impl Story {
    fn record(&mut self, what: &str, checked: &Checked, as_told: bool, told: &str) {
        if !as_told {
            self.failures.push(format!("{what} was told {told} and was: {}", checked.decision()));
        }
        self.records.push(json!({
            "what": what,
            "as_told": as_told,
            "exit": checked.exit,
            "decision": checked.decision(),
            "verdict": checked.answer,
        }));
    }
}
