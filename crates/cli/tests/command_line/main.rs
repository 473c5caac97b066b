//! The binary, run as people run it: each test has a home of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attest;
mod bad_input;
mod bad_models;
mod chat;
mod clients;
mod demo;
mod docs;
mod environment;
mod gguf;
mod onnx;
mod prove;
mod quantize;
mod receipts;
mod stores;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder with a home in it.
struct Place {
    folder: tempfile::TempDir,
}

/// What a run left behind.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes a file and gives its path as text.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallmark"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HALLMARK_")) {
            command.env_remove(name);
        }
        command.env("HALLMARK_HOME", self.home()).env("HALLMARK_CONFIG", self.path("config.toml"));
        command.env("NO_COLOR", "1").current_dir(self.folder.path()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::from(self.command(arguments).output().unwrap())
    }

    /// A run that must succeed; gives its standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}\n{}{}", run.out, run.err);
        run.out
    }

    /// A run with `--json` that must succeed.
    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// Every file of the home with its bytes.
    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.home(), &mut files);
        files
    }

    /// A run that must fail with `code`, name `words`, and change nothing in the home.
    fn refuse(&self, arguments: &[&str], code: i32, words: &[&str]) -> Run {
        let before = self.snapshot();
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}\n{}{}", run.out, run.err);
        for word in words {
            assert!(run.err.contains(word), "{arguments:?}: no `{word}` in\n{}", run.err);
        }
        assert!(run.err.starts_with("error: "), "{}", run.err);
        assert_eq!(self.snapshot(), before, "{arguments:?} changed the home");
        run
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A vector of int64 as numpy writes it.
fn npy(values: &[i64]) -> Vec<u8> {
    let tensor = hallmark_receipt::Tensor::vector(values.to_vec());
    hallmark_cli::tensor_io::npy::write(&tensor).unwrap()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            collect(&path, files);
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}
