//! A gateway as a whole: put together by [`Builder`], run by [`Gateway::serve`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use hallmark_environment::Attester;
use hallmark_receipt::claim::MAX_NAME;
use hallmark_receipt::{Envelope, Model};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::{Backend, ModelCard};
use crate::error::ApiError;
use crate::graph::GraphModel;
use crate::host::{Host, System};
use crate::judge::Judge;
use crate::limits::{ApiKey, Door, Limits, Turns};
use crate::metrics::Metrics;
use crate::notary::{Notary, NotaryError};
use crate::routes;
use crate::signing::Key;
use crate::site::Site;
use crate::store::{Again, Memory, ReceiptStore};
use crate::tee::TeeKey;

mod lanes;
mod stall;

/// Why a gateway cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The receipt key or its certificate is not fit.
    #[error(transparent)]
    Notary(#[from] NotaryError),
    /// Two backends have a model of this name.
    #[error("two models are named `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name that a receipt cannot hold.
    #[error("a model's name must have 1 to {MAX_NAME} bytes and no control characters: `{name}`")]
    Name {
        /// The name.
        name: String,
    },
}

/// Puts a gateway together. Only the network and the receipt key have no default.
pub struct Builder {
    network: String,
    certificate: Envelope,
    key: Key,
    host: Arc<dyn Host>,
    store: Arc<dyn ReceiptStore>,
    backends: Vec<Arc<dyn Backend>>,
    keys: Vec<ApiKey>,
    limits: Limits,
    tee: Option<TeeKey>,
    graphs: Vec<GraphModel>,
    judge: Judge,
    names: Vec<String>,
    attester: Option<Arc<Attester>>,
}

impl Builder {
    /// Where time and randomness come from; the system by default.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// Where receipts are kept; by default the newest 4,096 in memory, of at most 256 MiB.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn ReceiptStore>) -> Self {
        self.store = store;
        self
    }

    /// Adds what answers for some models.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Adds an ONNX model, at `/v1/infer`.
    #[must_use]
    pub fn graph(mut self, model: GraphModel) -> Self {
        self.graphs.push(model);
        self
    }

    /// What `/v1/verdicts` judges by; the default policy, and nobody trusted.
    #[must_use]
    pub fn judge(mut self, judge: Judge) -> Self {
        self.judge = judge;
        self
    }

    /// Evidence of the environment for every receipt; by default none. It must bind the receipt key.
    #[must_use]
    pub fn environment(mut self, attester: Arc<Attester>) -> Self {
        self.attester = Some(attester);
        self
    }

    /// Host names that the node answers to beyond the loopback ones and the address that it listens on; without ports.
    #[must_use]
    pub fn hosts(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Lets in only requests with one of these keys; by default everyone.
    #[must_use]
    pub fn keys(mut self, keys: Vec<ApiKey>) -> Self {
        self.keys = keys;
        self
    }

    /// Bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Signs answers for OpenGradient's clients too: one RSA signature each, about half a millisecond.
    #[must_use]
    pub fn opengradient(mut self, key: TeeKey) -> Self {
        self.tee = Some(key);
        self
    }

    /// The gateway.
    pub fn build(self) -> Result<Gateway, BuildError> {
        let mut catalog = BTreeMap::new();
        for backend in &self.backends {
            for card in backend.models() {
                let name = card.name.clone();
                if !names_fit(&card) {
                    return Err(BuildError::Name { name });
                }
                if catalog.insert(name.clone(), (Arc::new(card), backend.clone())).is_some() {
                    return Err(BuildError::Twice { name });
                }
            }
        }
        let mut graphs = BTreeMap::new();
        for graph in self.graphs {
            let name = graph.name().to_owned();
            if !name_fits(&name) {
                return Err(BuildError::Name { name });
            }
            if catalog.contains_key(&name) || graphs.insert(name.clone(), Arc::new(graph)).is_some() {
                return Err(BuildError::Twice { name });
            }
        }
        let notary = Notary::new(self.network, self.certificate, self.key, self.host.clone(), self.store)?
            .with_environment(self.attester);
        let state = State {
            catalog,
            notary: Arc::new(notary),
            door: Door::new(self.keys),
            turns: Turns::new(self.limits.answers, &self.limits),
            runs: Turns::new(self.limits.runs, &self.limits),
            graphs,
            judge: self.judge,
            names: self.names,
            again: Again::default(),
            limits: self.limits,
            tee: self.tee.map(Arc::new),
            metrics: Arc::new(Metrics::default()),
            host: self.host,
        };
        Ok(Gateway { state: Arc::new(state) })
    }
}

fn name_fits(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn names_fit(card: &ModelCard) -> bool {
    let claimed = match &card.model {
        Model::Claimed { provider, name } => name_fits(provider) && name_fits(name),
        _ => true,
    };
    claimed && name_fits(&card.name)
}

/// What every route works on.
pub(crate) struct State {
    pub catalog: BTreeMap<String, (Arc<ModelCard>, Arc<dyn Backend>)>,
    pub notary: Arc<Notary>,
    pub door: Door,
    /// ONNX models, by name; no name is in both.
    pub graphs: BTreeMap<String, Arc<GraphModel>>,
    pub judge: Judge,
    pub names: Vec<String>,
    pub turns: Turns,
    /// Turns for runs of graphs and for judgements, which hold a core each.
    pub runs: Turns,
    /// Openings that went out a moment ago.
    pub again: Again,
    pub limits: Limits,
    pub tee: Option<Arc<TeeKey>>,
    pub metrics: Arc<Metrics>,
    pub host: Arc<dyn Host>,
}

impl State {
    /// The model of this name and what answers for it.
    pub fn model(&self, name: &str) -> Result<&(Arc<ModelCard>, Arc<dyn Backend>), ApiError> {
        self.catalog.get(name).ok_or_else(|| match self.graphs.get(name) {
            Some(_) => ApiError::OtherRoute { takes: "tensors", route: "/v1/infer" },
            None => ApiError::no_model(name),
        })
    }

    /// The ONNX model of this name.
    pub fn graph(&self, name: &str) -> Result<&Arc<GraphModel>, ApiError> {
        self.graphs.get(name).ok_or_else(|| match self.catalog.get(name) {
            Some(_) => ApiError::OtherRoute { takes: "text", route: "/v1/chat/completions" },
            None => ApiError::no_model(name),
        })
    }
}

/// A node's API, ready to serve.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<State>,
}

impl Gateway {
    /// Starts a gateway for `network` (as claims name it) whose receipts `key` signs, which `certificate` certifies for them.
    pub fn builder(network: impl Into<String>, certificate: Envelope, key: Key) -> Builder {
        Builder {
            network: network.into(),
            certificate,
            key,
            host: Arc::new(System),
            store: Arc::new(Memory::new(4096, 256 << 20)),
            backends: Vec::new(),
            keys: Vec::new(),
            limits: Limits::default(),
            tee: None,
            graphs: Vec::new(),
            judge: Judge::default(),
            names: Vec::new(),
            attester: None,
        }
    }

    /// The routes, to be nested or served otherwise. Serve them through [`Gateway::serve`] to have time-outs and an orderly end.
    /// They answer to the loopback names and to [`Builder::hosts`].
    pub fn router(&self) -> Router {
        self.router_at(None)
    }

    fn router_at(&self, address: Option<IpAddr>) -> Router {
        routes::router(self.state.clone(), Site::new(self.state.names.clone(), address))
    }

    /// Serves connections from `listener` until `shutdown` is ready; then takes no more requests, lets running answers finish
    /// within the limits' drain time, and returns.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let metrics = self.state.metrics.clone();
        let tally = move |opened: bool| count(&metrics.connections, opened);
        let address = listener.local_addr()?.ip();
        serve(self.router_at(Some(address)), listener, &self.state.limits, tally, shutdown).await
    }
}

/// Counts a connection that was opened or ended.
pub(crate) fn count(gauge: &AtomicU64, opened: bool) {
    if opened {
        gauge.fetch_add(1, Relaxed)
    } else {
        gauge.fetch_sub(1, Relaxed)
    };
}

/// Serves `router` within `limits` until `shutdown` is ready. `tally` hears of every connection that opens (true) or ends.
pub(crate) async fn serve(
    router: Router,
    listener: TcpListener,
    limits: &Limits,
    tally: impl Fn(bool) + Clone + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let service = TowerToHyperService::new(router);
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time).max_buf_size(64 << 10);
    let write_time = limits.write_time;
    let lanes = lanes::Lanes::start(move |stream, (place, watcher): (OwnedSemaphorePermit, Watcher)| {
        // Events are small and must not wait for one another.
        let _ = stream.set_nodelay(true);
        let connection = stall::Unstalled::new(TokioIo::new(stream), write_time);
        let connection = watcher.watch(builder.serve_connection(connection, service.clone()));
        let tally = tally.clone();
        tally(true);
        async move {
            // A connection that breaks is the client's affair.
            let _ = connection.await;
            tally(false);
            drop(place);
        }
    })?;
    let mut shutdown = pin!(shutdown);
    loop {
        let place = tokio::select! {
            () = &mut shutdown => break,
            Ok(place) = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let handed = accepted.and_then(|(stream, _)| lanes.serve(stream, (place, graceful.watcher())));
        if let Err(error) = handed {
            // Out of file handles, most likely: those in use will come free.
            tracing::warn!(kind = ?error.kind(), "a connection was not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_time, graceful.shutdown()).await.is_err() {
        tracing::warn!("answers were cut off at the end of the drain time");
    }
    Ok(())
}

/// An error that cannot be.
pub(crate) type Never = Infallible;
