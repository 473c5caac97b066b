//! `hallmark up`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hallmark_gateway::providers::{Client, Patience, Providers, Secret};
use hallmark_gateway::tensors::json as tensor_json;
use hallmark_gateway::{ApiKey, Builder, Folder, Gateway, GraphModel, Judge, Keep, Limits, keyfile};
use hallmark_receipt::Signer as _;
use serde_json::{Map, Value, json};

use super::App;
use super::chat::runtime;
use super::infer::{self, NETWORK, sample};
use super::verify;
use crate::args::Up;
use crate::console;
use crate::disk::{self, Access, Disk};
use crate::fault::{Exit, Note};
use crate::language::Text;
use crate::model::{self, Kind};
use crate::shipped::{LANGUAGES, SHIPPED, Shipped};
use crate::{environment, keys, language, time};

/// The most bytes of a table of providers.
const MAX_TABLE: u64 = 1 << 20;

/// Runs `up`: until it is told to stop.
pub fn run(app: &App, args: &Up) -> Result<Exit> {
    if let (Some(name), Some(path)) = (&args.new_key, &args.keys) {
        return make_key(app, name, path);
    }
    let clients = args.keys.as_deref().map(read_keys).transpose()?.unwrap_or_default();
    if clients.is_empty() && !args.listen.ip().is_loopback() {
        return Err(Note::usage(format!(
            "{} can be reached from other machines, and no keys are set",
            args.listen.ip()
        ))
        .hint("make one: hallmark up --keys keys.toml --new-key NAME; then start with --keys keys.toml")
        .error());
    }
    let producer =
        args.environment.as_deref().map(|name| environment::producer(app, Some(name))).transpose()?;
    let (key, _) = keys::ready(&app.home, &time::now).context("receipts cannot be signed")?;
    let public = key.secret.public_key();
    let store = Folder::open(app.home.root().join("gateway"), Keep::default());
    let judge = Judge {
        policy: verify::policy(&app.config.policy.value)?,
        context: verify::context(app, &[], None, &args.hardware)?,
    };
    let builder = Gateway::builder(NETWORK, key.certificate, Arc::new(key.secret))
        .store(Arc::new(store.context("receipts cannot be kept")?))
        .judge(judge)
        .hosts(args.host.clone());
    let builder = match producer {
        Some(producer) => builder.environment(Arc::new(environment::attester(producer, &public)?)),
        None => builder,
    };
    let has_keys = !clients.is_empty();
    let (builder, names) = models(app, args, builder.keys(clients))?;
    let gateway = providers(args, builder)?.build()?;
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("{} cannot be listened on", args.listen))?;
        banner(listener.local_addr()?, &names, has_keys);
        gateway.serve(listener, stopped()).await.context("the gateway ended")
    })?;
    Ok(Exit::Accepted)
}

/// The first model of each kind, for the banner.
#[derive(Default)]
struct Names {
    chats: Option<String>,
    embeds: Option<String>,
}

/// Adds the models of one's own.
fn models(app: &App, args: &Up, mut builder: Builder) -> Result<(Builder, Names)> {
    let language_options = language::options(app);
    let mut graph_options = infer::options(app);
    // What runs at once shares the memory of a run.
    graph_options.memory_limit /= Limits::default().runs.max(1);
    let mut names = Names::default();
    for (name, copy) in chosen(app, args)? {
        let refused = || format!("model {name} cannot be served; --model names those that shall be");
        if let Kind::Graph(model) = &copy.kind {
            let graph = GraphModel::new(&name, model.clone(), graph_options.clone());
            let about = copy.shipped.map_or_else(|| Ok(Map::new()), about).with_context(refused)?;
            builder = builder.graph(graph.with_context(refused)?.about(about));
            continue;
        }
        builder = match language::text_model(app, &copy).with_context(refused)? {
            Text::Chat(local) => {
                names.chats.get_or_insert_with(|| name.clone());
                builder.backend(Arc::new(local.serve(&name, &language_options)?))
            }
            Text::Embedding(embedder) => {
                names.embeds.get_or_insert_with(|| name.clone());
                builder.backend(Arc::new(embedder.serve(&name)))
            }
        };
    }
    Ok((builder, names))
}

/// The models to serve: those named, or all, shipped and in the home.
fn chosen(app: &App, args: &Up) -> Result<Vec<(String, model::Copy)>> {
    if !args.model.is_empty() {
        return args.model.iter().map(|name| Ok((name.clone(), model::resolve(&app.home, name)?))).collect();
    }
    let mut chosen = Vec::new();
    for shipped in LANGUAGES {
        chosen.push((shipped.name.to_owned(), model::shipped_language(shipped)?));
    }
    for shipped in SHIPPED {
        chosen.push((shipped.name.to_owned(), model::shipped_copy(shipped)?));
    }
    for (name, id) in app.home.names()? {
        chosen.push((name, model::Copy::from_home(&app.home, &id)?));
    }
    Ok(chosen)
}

/// What the page tells of a shipped model, with its held-out samples.
fn about(shipped: &'static Shipped) -> Result<Map<String, Value>> {
    let meta = shipped.meta()?;
    let mut examples = Vec::new();
    for (index, class) in meta.expected.iter().enumerate() {
        let inputs = tensor_json::write_all(&sample(shipped, index)?);
        let mut example = json!({"inputs": inputs, "expected": meta.classes.get(*class)});
        if let Some(text) = meta.texts.get(index) {
            example["text"] = text.as_str().into();
        }
        examples.push(example);
    }
    let members = json!({"title": meta.title, "task": meta.task, "score": meta.score, "view": meta.view,
        "columns": meta.columns, "answer": meta.answer, "classes": meta.classes, "examples": examples});
    let Value::Object(members) = members else { anyhow::bail!("an object is an object") };
    Ok(members)
}

fn providers(args: &Up, mut builder: Builder) -> Result<Builder> {
    let Some(path) = &args.providers else { return Ok(builder) };
    let text =
        String::from_utf8(disk::read(path, MAX_TABLE)?).context("the table of providers is not text")?;
    let table = Providers::parse(&text).context("the table of providers is refused")?;
    let client = Arc::new(Client::new(Patience::default())?);
    for provider in table.connect(&client, &|name| std::env::var(name).ok().map(Secret::new))? {
        builder = builder.backend(Arc::new(provider));
    }
    Ok(builder)
}

/// The keys of a file that nobody else may write, at least one.
fn read_keys(path: &Path) -> Result<Vec<ApiKey>> {
    let (_, keys) = key_file(path)?;
    if keys.is_empty() {
        return Err(Note::usage(format!("{} holds no key", path.display()))
            .hint("make one: hallmark up --keys FILE --new-key NAME")
            .error());
    }
    Ok(keys)
}

fn key_file(path: &Path) -> Result<(String, Vec<ApiKey>)> {
    let bytes = disk::read(path, keyfile::MAX_FILE as u64).context("the keys cannot be read")?;
    #[cfg(unix)]
    {
        let mode =
            std::fs::metadata(path).map(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()));
        if mode.is_ok_and(|mode| mode & 0o022 != 0) {
            return Err(Note::usage(format!(
                "others may write to {}, and so let anybody in",
                path.display()
            ))
            .hint(format!("chmod 600 {}", path.display()))
            .error());
        }
    }
    let text = String::from_utf8(bytes).context("the keys are not text")?;
    let keys = keyfile::parse(&text)
        .with_context(|| Note::usage(format!("the file of keys {} is not understood", path.display())))?;
    Ok((text, keys))
}

/// Adds a new key to the file, and prints its secret, which is nowhere else.
fn make_key(app: &App, name: &str, path: &Path) -> Result<Exit> {
    let (secret, entry) = keyfile::make(name, &keys::random()?).context(Note::usage("no key was made"))?;
    let before = if path.exists() { key_file(path)?.0 } else { String::new() };
    let gap = if before.is_empty() { "" } else { "\n" };
    let text = format!("{before}{gap}{entry}");
    keyfile::parse(&text).context(Note::usage("no key was made"))?;
    Disk::default().write(path, text.as_bytes(), Access::Private)?;
    app.show(|| json!({"name": name, "key": secret}), || vec![secret.clone()]);
    console::note(&format!("key `{name}` is in {}; its secret above is shown this once", path.display()));
    Ok(Exit::Accepted)
}

/// Ends when the process is asked to stop.
pub async fn stopped() {
    let _ = tokio::signal::ctrl_c().await;
    console::note("stopping: running answers may finish");
}

/// What to open, and what to paste.
fn banner(address: SocketAddr, names: &Names, has_keys: bool) {
    // All addresses are no address to ask; this machine's name is.
    let host = if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    };
    let (header, key) = if has_keys {
        (" \\\n    -H \"authorization: Bearer $HALLMARK_KEY\"", "os.environ[\"HALLMARK_KEY\"]")
    } else {
        ("", "\"none\"")
    };
    let import = if has_keys { "import os; " } else { "" };
    let curl = |path: &str, body: String| {
        format!(
            "  curl http://{host}/v1/{path} -H 'content-type: application/json'{header} \\\n    -d '{body}'"
        )
    };
    let mut lines = vec![format!("listening on http://{address}/v1"), format!("page at http://{host}/")];
    if let Some(model) = &names.embeds {
        let body = format!("{{\"model\": \"{model}\", \"input\": \"Hello\"}}");
        lines.extend([String::new(), curl("embeddings", body)]);
    }
    if let Some(model) = names.chats.as_deref().or(names.embeds.is_none().then_some("MODEL")) {
        let messages = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
        lines.extend([
            String::new(),
            curl("chat/completions", format!("{{\"model\": \"{model}\", \"messages\": {messages}}}")),
            String::new(),
            format!("  {import}from openai import OpenAI"),
            format!("  client = OpenAI(base_url=\"http://{host}/v1\", api_key={key})"),
            format!("  client.chat.completions.create(model=\"{model}\", messages={messages})"),
        ]);
    }
    for line in lines {
        console::note(&line);
    }
}
