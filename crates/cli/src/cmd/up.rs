//! `hallmark up`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hallmark_gateway::providers::{Client, Patience, Providers, Secret};
use hallmark_gateway::{Folder, Gateway};

use super::App;
use super::chat::runtime;
use super::infer::NETWORK;
use crate::args::Up;
use crate::console;
use crate::disk;
use crate::fault::{Exit, Note};
use crate::language::Text;
use crate::model::{self, Kind};
use crate::shipped::LANGUAGES;
use crate::{keys, language, time};

/// The most bytes of a table of providers.
const MAX_TABLE: u64 = 1 << 20;

/// Runs `up`: until it is told to stop.
pub fn run(app: &App, args: &Up) -> Result<Exit> {
    if !args.listen.ip().is_loopback() {
        return Err(Note::usage(format!(
            "{} can be reached from other machines, and no keys are set",
            args.listen.ip()
        ))
        .hint("listen on 127.0.0.1, and put a proxy with keys in front")
        .error());
    }
    let (key, _) = keys::ready(&app.home, &time::now).context("receipts cannot be signed")?;
    let store = Folder::open(app.home.root().join("gateway")).context("receipts cannot be kept")?;
    let mut builder = Gateway::builder(NETWORK, key.certificate, Arc::new(key.secret)).store(Arc::new(store));
    let options = language::options(app);
    let (mut chats, mut embedders) = (Vec::new(), Vec::new());
    for (name, copy) in chosen(app, args)? {
        builder = match language::text_model(app, &copy)? {
            Text::Chat(local) => {
                chats.push(name.clone());
                builder.backend(Arc::new(local.serve(&name, &options)?))
            }
            Text::Embedding(embedder) => {
                embedders.push(name.clone());
                builder.backend(Arc::new(embedder.serve(&name)))
            }
        };
    }
    if let Some(path) = &args.providers {
        let text =
            String::from_utf8(disk::read(path, MAX_TABLE)?).context("the table of providers is not text")?;
        let table = Providers::parse(&text).context("the table of providers is refused")?;
        let client = Arc::new(Client::new(Patience::default())?);
        for provider in table.connect(&client, &|name| std::env::var(name).ok().map(Secret::new))? {
            builder = builder.backend(Arc::new(provider));
        }
    }
    let gateway = builder.build()?;
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("{} cannot be listened on", args.listen))?;
        let address = listener.local_addr()?.to_string();
        banner(&address, chats.first().map(String::as_str), embedders.first().map(String::as_str));
        gateway.serve(listener, stopped()).await.context("the gateway ended")
    })?;
    Ok(Exit::Accepted)
}

/// The models to serve: those named, or all language models, shipped and in the home.
fn chosen(app: &App, args: &Up) -> Result<Vec<(String, model::Copy)>> {
    if !args.model.is_empty() {
        return args.model.iter().map(|name| Ok((name.clone(), model::resolve(&app.home, name)?))).collect();
    }
    let mut chosen = Vec::new();
    for shipped in LANGUAGES {
        chosen.push((shipped.name.to_owned(), model::shipped_language(shipped)?));
    }
    for (name, id) in app.home.names()? {
        let copy = model::Copy::from_home(&app.home, &id)?;
        if !matches!(copy.kind, Kind::Graph(_)) {
            chosen.push((name, copy));
        }
    }
    Ok(chosen)
}

/// Ends when the process is asked to stop.
async fn stopped() {
    let _ = tokio::signal::ctrl_c().await;
    console::note("stopping: running answers may finish");
}

fn banner(address: &str, chat: Option<&str>, embedder: Option<&str>) {
    let curl = |path: &str, body: String| {
        format!("  curl http://{address}/v1/{path} -H 'content-type: application/json' \\\n    -d '{body}'")
    };
    let mut lines = vec![format!("listening on http://{address}/v1")];
    if let Some(model) = embedder {
        let body = format!("{{\"model\": \"{model}\", \"input\": \"Hello\"}}");
        lines.extend([String::new(), curl("embeddings", body)]);
    }
    if let Some(model) = chat.or(embedder.is_none().then_some("MODEL")) {
        let messages = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
        let body = format!("{{\"model\": \"{model}\", \"messages\": {messages}}}");
        lines.extend([
            String::new(),
            curl("chat/completions", body),
            String::new(),
            "  from openai import OpenAI".to_owned(),
            format!("  client = OpenAI(base_url=\"http://{address}/v1\", api_key=\"none\")"),
            format!("  client.chat.completions.create(model=\"{model}\", messages={messages})"),
        ]);
    }
    for line in lines {
        console::note(&line);
    }
}
