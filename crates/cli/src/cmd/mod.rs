//! The commands, one module each.

use std::time::Duration;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Cli, Command};
use crate::config::Config;
use crate::console;
use crate::fault::Exit;
use crate::store::Home;

mod attest;
mod chat;
mod demo;
pub mod infer;
mod keys;
mod model;
mod prove;
mod proxy;
mod receipts;
mod settings;
mod up;
mod verify;

/// What commands work with.
#[derive(Clone, Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// The home.
    pub home: Home,
    /// Whether results are JSON.
    pub json: bool,
}

/// Runs the command of `cli`.
pub fn run(cli: Cli) -> Result<Exit> {
    let env = |name: &str| std::env::var(name).ok();
    if let Command::Completions { shell } = cli.command {
        // Needs neither a home nor settings.
        clap_complete::generate(shell, &mut Cli::command(), "hallmark", &mut std::io::stdout());
        return Ok(Exit::Accepted);
    }
    let config = Config::load(&cli.global.flags(), &env)?;
    let home = Home::new(config.home.value.clone(), Duration::from_secs(config.lock_wait.value));
    let app = App { config, home, json: cli.global.json };
    match cli.command {
        Command::Demo(args) => demo::run(&app, &args),
        Command::Model { command } => model::run(&app, command),
        Command::Infer(args) => infer::run(&app, &args),
        Command::Prove(args) => prove::run(&app, &args),
        Command::Verify(args) => verify::run(&app, &args),
        Command::Attest { command } => attest::run(&app, command),
        Command::Chat(args) => chat::run(&app, &args),
        Command::Up(args) => up::run(&app, &args),
        Command::Proxy(args) => proxy::run(&app, &args),
        Command::Receipts { command } => receipts::run(&app, command),
        Command::Keys { command } => keys::run(&app, command),
        Command::Config => settings::run(&app),
        Command::Completions { .. } => Ok(Exit::Accepted),
    }
}

impl App {
    /// The result as JSON, or as lines.
    pub fn show(&self, json: impl FnOnce() -> serde_json::Value, lines: impl FnOnce() -> Vec<String>) {
        if self.json {
            console::json(&json());
        } else {
            lines().iter().for_each(|line| console::out(line));
        }
    }
}
