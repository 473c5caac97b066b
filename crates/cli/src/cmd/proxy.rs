//! `hallmark proxy`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use hallmark_gateway::Proxy;
use hallmark_gateway::providers::Secret;
use hallmark_gateway::proxy::{Behind, Keeper, OwnCopy, Sample, Share};
use hallmark_receipt::KeyId;

use super::App;
use super::chat::runtime;
use super::receipts::SUFFIX;
use super::up::stopped;
use super::verify;
use crate::args;
use crate::console;
use crate::fault::{Exit, Note};
use crate::language::Ready;
use crate::model;
use crate::store::{Area, Home};

/// `--sample` where it is not given.
const SHARE: f64 = 0.1;

/// Runs `proxy`: until it is told to stop.
pub fn run(app: &App, args: &args::Proxy) -> Result<Exit> {
    if !args.listen.ip().is_loopback() {
        return Err(Note::usage(format!("{} can be reached from other machines", args.listen.ip()))
            .hint("the proxy lets in whoever reaches it; give a loopback address")
            .error());
    }
    let gateways = gateways(args)?;
    let context = verify::context(app, &[], None, &args.hardware)?;
    let sample = sample(app, args)?;
    let copies: Vec<String> =
        sample.copies.iter().map(|(name, copy)| format!("{name} answered by model {}", copy.id)).collect();
    let proxy = Proxy::new(&gateways, context, keeper(app.home.clone()), sample);
    let proxy = proxy.context(Note::usage("the gateways cannot be asked"))?;
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("{} cannot be listened on", args.listen))?;
        console::note(&format!("listening on http://{}/v1", listener.local_addr()?));
        for gateway in &gateways {
            console::note(&format!("  {} signed by {}", console::plain(&gateway.url), gateway.node));
        }
        for line in copies {
            console::note(&format!("  {}", console::plain(&line)));
        }
        proxy.serve(listener, stopped()).await.context("the proxy ended")
    })?;
    Ok(Exit::Accepted)
}

/// The gateways, each with its key.
fn gateways(args: &args::Proxy) -> Result<Vec<Behind>> {
    let keys = args.key_env.iter().map(|name| key(name)).collect::<Result<Vec<_>>>()?;
    if keys.len() > 1 && keys.len() != args.gateway.len() {
        return Err(Note::usage(format!("{} keys for {} gateways", keys.len(), args.gateway.len()))
            .hint("give --key-env once for all, or once for each --gateway in their order")
            .error());
    }
    let gateways = args.gateway.iter().enumerate().map(|(index, text)| {
        let (url, node) = gateway(text)?;
        Ok(Behind { url, node, key: keys.get(index).or(keys.first()).cloned() })
    });
    gateways.collect()
}

/// Reads `URL=IDENTITY`; a URL may hold an equals sign, an identity none.
fn gateway(text: &str) -> Result<(String, KeyId)> {
    let note = || {
        Note::usage("--gateway takes URL=IDENTITY").hint(
            "the identity is a public key or its id; the gateway's owner gets it from `hallmark keys export`",
        )
    };
    let (url, identity) = text.rsplit_once('=').ok_or_else(|| note().error())?;
    Ok((url.to_owned(), verify::identity(identity).with_context(note)?))
}

/// The copies that `--copy` names, and the share of `--sample`.
fn sample(app: &App, args: &args::Proxy) -> Result<Sample> {
    let share = Share::new(args.sample.unwrap_or(SHARE)).ok_or_else(|| {
        Note::usage("--sample takes a number from 0 to 1").hint("0.1 is every tenth answer").error()
    })?;
    let mut copies = BTreeMap::new();
    for text in &args.copy {
        let (name, model) = text.split_once('=').unwrap_or((text, text));
        let copy = model::resolve(&app.home, model)?;
        let own = OwnCopy { id: copy.id(), replayer: Box::new(Ready::new(app, &copy)?) };
        if copies.insert(name.to_owned(), own).is_some() {
            return Err(Note::usage(format!("--copy names `{name}` twice"))
                .hint("one model answers to a name")
                .error());
        }
    }
    Ok(Sample { copies, share })
}

fn key(name: &str) -> Result<Secret> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    let missing = || {
        Note::usage(format!("the environment variable {name} of --key-env holds no key"))
            .hint(format!("export {name}=... before the start"))
            .error()
    };
    value.map(Secret::new).ok_or_else(missing)
}

/// Keeps bundles where `hallmark receipts list` finds them.
fn keeper(home: Home) -> Keeper {
    Box::new(move |id, bundle| {
        let put = || home.write()?.put(Area::Receipts, &format!("{id}{SUFFIX}"), bundle.as_bytes());
        put().map_err(|error| error.to_string())
    })
}
