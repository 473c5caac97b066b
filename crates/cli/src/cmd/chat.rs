//! `hallmark chat`.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use hallmark_gateway::backend::{Backend as _, Origin};
use hallmark_gateway::chat::{Completed, Delta};
use hallmark_gateway::dialect::Kind;
use hallmark_gateway::host::{Host as _, System};
use hallmark_gateway::local::Serving;
use hallmark_gateway::notary::{Notary, response_text};
use hallmark_gateway::store::Memory;
use hallmark_gateway::{Capability, json as canonical};
use hallmark_receipt::Bundle;
use hallmark_verdict::{Context, Policy, Verdict, judge, render};
use serde_json::{Value, json};

use super::App;
use super::infer::NETWORK;
use super::receipts::SUFFIX;
use super::verify::paint;
use crate::args::Chat;
use crate::console;
use crate::disk::{Access, Disk};
use crate::fault::Exit;
use crate::language::{self, Copies};
use crate::store::Area;
use crate::{keys, model, time};

/// Runs `chat`.
pub fn run(app: &App, args: &Chat) -> Result<Exit> {
    let copy = model::resolve(&app.home, &args.model)?;
    let local = language::open(app, &copy)?;
    let (key, _) = keys::ready(&app.home, &time::now).context("the receipt cannot be signed")?;
    let store = Arc::new(Memory::new(1, usize::MAX));
    let notary =
        Notary::new(NETWORK.to_owned(), key.certificate, Arc::new(key.secret), Arc::new(System), store)?;
    let copies = Copies::new(app, Some(&copy)).opened(copy.id(), local.clone());
    let serving = local.serve(&args.model, &language::options(app))?;
    let session = Session { app, args, notary, serving, runtime: runtime()?, copies };
    let mut messages = Vec::new();
    if let Some(text) = &args.system {
        messages.push(json!({"role": "system", "content": text}));
    }
    if let Some(text) = &args.once {
        messages.push(json!({"role": "user", "content": text}));
        return session.turn(&messages).map(|(_, exit)| exit);
    }
    console::note("Write, and get an answer with its verdict. An empty line ends the chat.");
    let mut worst = Exit::Accepted;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("the chat cannot be read")?;
        if line.trim().is_empty() {
            break;
        }
        messages.push(json!({"role": "user", "content": line}));
        let (answer, exit) = session.turn(&messages)?;
        messages.push(answer);
        worst = worst.worst(exit);
    }
    Ok(worst)
}

/// A runtime for one command.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("the system gives no threads")
}

/// Lets this process have as many open files as the system allows it: each connection takes one, and many systems start with 1,024.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Without it there are fewer connections; nothing else changes.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

struct Session<'a> {
    app: &'a App,
    args: &'a Chat,
    notary: Notary,
    serving: Serving,
    runtime: tokio::runtime::Runtime,
    copies: Copies<'a>,
}

impl Session<'_> {
    /// One answer: shown as it comes, then its verdict. Gives the assistant's message.
    fn turn(&self, messages: &[Value]) -> Result<(Value, Exit)> {
        let mut body = json!({"model": self.args.model, "messages": messages});
        let options = [
            ("temperature", self.args.temperature.map(Value::from)),
            ("max_tokens", self.args.max_tokens.map(Value::from)),
            ("seed", self.args.seed.map(Value::from)),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        let Value::Object(members) = &body else { anyhow::bail!("a request is an object") };
        let request = Kind::Chat.parse(members).context("the chat is not a request")?;
        let ticket = self.notary.ticket(&canonical::canonical(&body), None)?;
        let origin = Origin {
            request: ticket.commitment(),
            nonce: None,
            drawn: keys::random()?,
            dialect: Kind::Chat.name(),
        };
        let mut done = Completed::default();
        self.runtime.block_on(async {
            let mut answer = self.serving.chat(Arc::new(request), origin).await?;
            while let Some(delta) = answer.deltas.next().await {
                let delta = delta?;
                if let (Delta::Text { text, .. }, false) = (&delta, self.app.json) {
                    let mut out = std::io::stdout().lock();
                    let _ = write!(out, "{}", console::plain(text)).and_then(|()| out.flush());
                }
                done.push(&delta)?;
            }
            anyhow::Ok(())
        })?;
        if !self.app.json {
            console::out("");
        }
        let message = done.message();
        let capability = Capability::parse(&ticket.capability().to_text());
        let (replay, usage) = (done.replay.take().map(|replay| *replay), done.usage);
        let card = self.serving.models().into_iter().next().context("no model")?;
        let id = self.notary.settle(ticket, &card, response_text(&done), replay, usage)?;
        let bundle = self.notary.store().fetch(&id, capability.as_ref())?.context("the receipt is gone")?;
        let verdict = self.keep(&bundle, &format!("{id}{SUFFIX}"))?;
        let exit = super::verify::exit_of(&verdict);
        self.app.show(
            || json!({"message": message, "receipt": id.to_string(), "accepted": verdict.is_accepted()}),
            || {
                render::text(&verdict)
                    .lines()
                    .filter(|line| !line.starts_with("  ") && !line.ends_with('?'))
                    .map(paint)
                    .collect()
            },
        );
        Ok((message, exit))
    }

    /// Keeps the receipt in the home, writes it where the command line says, and judges it as anyone would.
    fn keep(&self, bundle: &Bundle, name: &str) -> Result<Verdict> {
        let text = bundle.to_json();
        if let Some(path) = &self.args.receipt {
            Disk::default().stage(path, text.as_bytes(), Access::Private)?.commit()?;
        }
        self.app.home.write()?.put(Area::Receipts, name, text.as_bytes())?;
        let context = Context::at(System.now());
        Ok(judge(text.as_bytes(), &Policy::default_policy(), &context, Some(&self.copies)))
    }
}
