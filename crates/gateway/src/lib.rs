//! The inference node: OpenAI's and Anthropic's wire formats over any [`Backend`], and a receipt with every answer.
//!
//! ```text
//! POST /v1/chat/completions  ->  x-hallmark-receipt: 7f3a..   x-hallmark-capability: uC4..
//! GET  /v1/receipts/7f3a..       x-hallmark-capability: uC4..  ->  the bundle with its openings, once
//! ```
//!
//! A receipt's claim commits, with salts, to two string tensors: `request` (the request's body in RFC 8785's form) and `response`
//! (the assistant's message in the same form). An answer from a provider is for a model that is only *claimed*: nobody outside can
//! hash its bytes. A stream's events are signed one by one (`spec/stream.md`).
//!
//! Nothing that a requester says is logged. Time and randomness come from a [`Host`].
//!
//! ```no_run
//! # async fn f(identity: hallmark_receipt::SecretKey) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use hallmark_gateway::providers::{Client, Patience, Providers, Secret};
//! use hallmark_gateway::{Gateway, NativeKey};
//! use hallmark_receipt::{Certificate, Purpose, Signer};
//!
//! let key = NativeKey::from_seed(&[2; 32])?; // 32 random bytes in earnest
//! let certificate = Certificate {
//!     identity: identity.public_key(),
//!     key: key.public_key(),
//!     purpose: Purpose::Receipt,
//!     not_before: 1_795_000_000_000,
//!     not_after: 1_797_000_000_000,
//! }
//! .sign(&identity)?;
//! let mut builder = Gateway::builder("local", certificate, Arc::new(key));
//! let table = Providers::parse(&std::fs::read_to_string("providers.toml")?)?;
//! let client = Arc::new(Client::new(Patience::default())?);
//! for provider in table.connect(&client, &|name| std::env::var(name).ok().map(Secret::new))? {
//!     builder = builder.backend(Arc::new(provider));
//! }
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! builder.build()?.serve(listener, std::future::pending()).await?;
//! # Ok(()) }
//! ```
//!
//! **What this crate does not do**: end TLS (a proxy or the caller's listener does), or take payment.

pub mod backend;
pub mod chat;
pub mod dialect;
pub mod error;
pub mod graph;
pub mod host;
pub mod json;
pub mod judge;
pub mod keyfile;
pub mod limits;
pub mod local;
pub mod metrics;
pub mod notary;
pub mod providers;
pub mod proxy;
mod routes;
mod server;
pub mod signing;
pub mod site;
mod sse;
pub mod store;
pub mod tee;
pub mod tensors;

pub use backend::{Answer, Backend, BackendError, ModelCard, Origin, Price, Replay};
pub use chat::{ChatRequest, Delta};
pub use error::ApiError;
pub use graph::GraphModel;
pub use host::{Host, System};
pub use judge::Judge;
pub use limits::{ApiKey, Limits, Quota};
pub use proxy::Proxy;
pub use server::{BuildError, Builder, Gateway};
pub use signing::{Key, NativeKey};
pub use store::{Capability, Filed, Folder, Keep, Memory, ReceiptStore};
pub use tee::TeeKey;
