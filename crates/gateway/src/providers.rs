//! Models that others run. Their answers are for models that are only claimed.
//!
//! To add a provider, write a file with its [`Wire`] and [`Spec`], and add a row to [`PROVIDERS`].

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hallmark_receipt::Model;
use http::{HeaderName, HeaderValue, Uri};
use serde_json::Value;

use crate::backend::{Answer, Backend, BackendError, EmbedRequest, Embeddings, ModelCard, Origin, Price};
use crate::chat::{ChatRequest, Delta};

pub mod anthropic;
pub mod config;
pub mod google;
pub(crate) mod http1;
pub mod openai;
pub mod xai;

pub use config::{ConfigError, Providers};
pub use http1::{Client, NoRoots, Patience};

/// Every kind of provider.
pub static PROVIDERS: [&Spec; 4] = [&openai::SPEC, &anthropic::SPEC, &google::SPEC, &xai::SPEC];

/// A kind of provider.
#[derive(Debug)]
pub struct Spec {
    /// Its name in configuration.
    pub kind: &'static str,
    /// Where it is unless configured otherwise, without a final slash.
    pub base_url: &'static str,
    /// The header that carries the key, and what goes before it.
    pub auth: (HeaderName, &'static str),
    /// How it speaks.
    pub wire: &'static dyn Wire,
}

/// A provider's wire format.
pub trait Wire: Send + Sync + std::fmt::Debug {
    /// Path and body of a request. `model` is the provider's name for the model.
    fn request(&self, model: &str, request: &ChatRequest) -> Result<Outgoing, BackendError>;
    /// Reads a whole answer.
    fn single(&self, answer: &Value) -> Result<Vec<Delta>, BackendError>;
    /// Reads a stream.
    fn reader(&self) -> Box<dyn Reader>;
    /// Path and body of a request for embeddings.
    fn embed(&self, model: &str, request: &EmbedRequest) -> Result<Outgoing, BackendError> {
        let _ = (model, request);
        Err(BackendError::Unsupported { what: "embeddings" })
    }
    /// Reads embeddings.
    fn embeddings(&self, answer: &Value) -> Result<Embeddings, BackendError> {
        let _ = answer;
        Err(BackendError::Unsupported { what: "embeddings" })
    }
}

/// Reads a stream's events, in order.
pub trait Reader: Send {
    /// The pieces of one event.
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError>;
}

/// What goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Added to the base URL.
    pub path: String,
    /// Headers beyond the key's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Value,
}

/// A provider's key: in memory only, never shown.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(key.into()))
    }
}

impl Secret {
    /// The header's value: `before` and the key.
    pub(crate) fn header(&self, before: &str) -> Result<HeaderValue, ProviderError> {
        let value = HeaderValue::try_from(format!("{before}{}", *self.0));
        let mut value = value.map_err(|_| ProviderError::Key)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A base URL without its final slash: `http(s)://host[:port][/path]`. A name and password in it would end up in messages.
pub(crate) fn base_of(url: &str) -> Result<String, ProviderError> {
    let url = url.trim_end_matches('/');
    let uri: Uri = url.parse().map_err(|_| ProviderError::BaseUrl)?;
    let plain = uri.query().is_none()
        && uri.host().is_some()
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if plain && matches!(uri.scheme_str(), Some("http" | "https")) {
        Ok(url.to_owned())
    } else {
        Err(ProviderError::BaseUrl)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A model at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The name that requests use.
    pub name: String,
    /// The provider's name for it.
    pub upstream: String,
    /// What it costs.
    pub price: Option<Price>,
}

/// A provider with its models: a backend.
#[derive(Clone, Debug)]
pub struct Provider {
    name: String,
    spec: &'static Spec,
    base_url: String,
    auth: Option<HeaderValue>,
    offers: Vec<Offer>,
    client: Arc<Client>,
}

/// A base URL or key that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Not `http(s)://host[:port][/path]`.
    #[error("not a base URL: expected http(s)://host[:port][/path]")]
    BaseUrl,
    /// A key with characters that no header takes.
    #[error("the key has characters that no header takes")]
    Key,
}

impl Provider {
    /// The provider called `name` (as receipts will say) of this kind. `base_url` and `key` may be left out where the kind has
    /// a default and the server asks for none.
    pub fn new(
        name: impl Into<String>,
        spec: &'static Spec,
        base_url: Option<&str>,
        key: Option<&Secret>,
        offers: Vec<Offer>,
        client: Arc<Client>,
    ) -> Result<Self, ProviderError> {
        let base_url = base_of(base_url.unwrap_or(spec.base_url))?;
        let auth = key.map(|key| key.header(spec.auth.1)).transpose()?;
        Ok(Self { name: name.into(), spec, base_url, auth, offers, client })
    }

    fn upstream(&self, model: &str) -> Result<&str, BackendError> {
        let offer = self.offers.iter().find(|offer| offer.name == model);
        offer.map(|offer| offer.upstream.as_str()).ok_or(BackendError::Unsupported { what: "this model" })
    }

    async fn send(&self, mut outgoing: Outgoing) -> Result<http1::Response, BackendError> {
        if let Some(auth) = &self.auth {
            outgoing.headers.push((self.spec.auth.0.clone(), auth.clone()));
        }
        self.client.post(&self.base_url, outgoing).await
    }
}

impl Backend for Provider {
    fn models(&self) -> Vec<ModelCard> {
        let card = |offer: &Offer| ModelCard {
            name: offer.name.clone(),
            owner: self.name.clone(),
            model: Model::Claimed { provider: self.name.clone(), name: offer.upstream.clone() },
            price: offer.price.clone(),
        };
        self.offers.iter().map(card).collect()
    }

    fn chat(&self, request: Arc<ChatRequest>, _: Origin) -> BoxFuture<'_, Result<Answer, BackendError>> {
        Box::pin(async move {
            let outgoing = self.spec.wire.request(self.upstream(&request.model)?, &request)?;
            let response = self.send(outgoing).await?;
            if !request.stream {
                let deltas = self.spec.wire.single(&response.json().await?)?;
                return Ok(Answer { deltas: stream::iter(deltas.into_iter().map(Ok)).boxed() });
            }
            let state = (response.events(), self.spec.wire.reader());
            let pieces = stream::try_unfold(state, |(mut events, mut reader)| async move {
                let Some(data) = events.next().await? else { return Ok(None) };
                Ok(Some((reader.event(&data)?, (events, reader))))
            });
            let deltas = pieces.map(|pieces| match pieces {
                Ok(deltas) => stream::iter(deltas.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            });
            Ok(Answer { deltas: deltas.flatten().boxed() })
        })
    }

    fn embed(&self, request: Arc<EmbedRequest>) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let outgoing = self.spec.wire.embed(self.upstream(&request.model)?, &request)?;
            let response = self.send(outgoing).await?;
            self.spec.wire.embeddings(&response.json().await?)
        })
    }
}

/// Parses an event's or answer's JSON.
pub(crate) fn parse(text: &str) -> Result<Value, BackendError> {
    serde_json::from_str(text).map_err(|_| BackendError::Malformed { what: "an event that is not JSON" })
}

/// Media type and base64 data of a `data:` URL.
fn data_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}
