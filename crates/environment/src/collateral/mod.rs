//! Collateral of hardware evidence: fetched ahead, kept on disk, and frozen into a snapshot (`attestation.md` §12).
//!
//! Verifying fetches nothing: [`hallmark_attestation::verify`] takes bytes. A [`Collector`] asks a piece of evidence what it needs, looks
//! into its cache, asks the makers for the rest, and gives a [`Snapshot`]; what of it belongs to the evidence is
//! [`Snapshot::for_evidence`]. Whoever made the evidence decides what is asked for: evidence that is rejected as it is, for another reason
//! than that an issuer is missing, should not be collected for.
//!
//! ```no_run
//! use hallmark_attestation::{Input, Kind};
//! use hallmark_environment::collateral::{Cache, Collector, Config};
//!
//! # async fn run(quote: &[u8], now: u64) -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::new("/var/cache/hallmark/collateral");
//! let collector = Collector::new(Config { cache: Some(cache), ..Config::default() })?;
//! let collected = collector.collect(Kind::Tdx, &Input::of(quote), now).await?;
//! std::fs::write("quote.collateral.json", collected.snapshot.to_json())?;
//! # Ok(()) }
//! ```

mod cache;
mod client;
mod collecting;
mod source;

use futures_util::StreamExt as _;
use futures_util::stream;
use hallmark_attestation::collateral::{Item, Need, NeedError, Snapshot, Wanted, needs};
use hallmark_attestation::{Input, Kind};
use tokio::time::Instant;

pub use cache::{Cache, CacheError};
pub use client::{FetchCause, FetchError, NoRoots, Patience};
pub use collecting::Collecting;
pub use source::{Amd, Intel, Lists, Nvidia, Sources};

use client::Client;

/// How many things are asked for at once.
const AT_ONCE: usize = 4;

/// How collateral is collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where it is to be had.
    pub sources: Sources,
    /// How long that may take.
    pub patience: Patience,
    /// Where it is kept; without, every collection asks for everything.
    pub cache: Option<Cache>,
    /// What evidence leaves open.
    pub wanted: Wanted,
}

/// Collects collateral.
pub struct Collector {
    config: Config,
    client: Client,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collector({:?})", self.config)
    }
}

/// What was collected for a piece of evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// The collateral.
    pub snapshot: Snapshot,
    /// Where each item comes from, in the order of needs.
    pub origins: Vec<(Need, Origin)>,
    /// What is needed and was not asked for, because nothing brings it yet: reference manifests.
    pub left_out: Vec<Need>,
    /// What could not be kept.
    pub unkept: Vec<CacheError>,
}

/// Where an item comes from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// From its source, now.
    Source,
    /// From the cache, which is fresh enough.
    Cache,
    /// From the cache, where it has grown old but still holds: its source failed.
    Kept(Box<FetchError>),
}

/// Why there is no collateral.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// It cannot be said what the evidence needs.
    #[error("{0}")]
    Needs(#[from] NeedError),
    /// Some of it is neither to be had nor kept. With the rest a verifier can say more than without, and will not accept.
    #[error("collateral is missing: {}", listed(.failed))]
    Incomplete {
        /// What was collected.
        collected: Box<Collected>,
        /// What was not, and why; at least one.
        failed: Vec<FetchError>,
    },
}

fn listed(failed: &[FetchError]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What became of the cache's items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refreshed {
    /// What was brought anew.
    pub renewed: Vec<Need>,
    /// What could not be, and stays as it was until it expires.
    pub failed: Vec<FetchError>,
    /// What had expired for so long that nobody seems to need it.
    pub dropped: Vec<Need>,
    /// What could not be kept.
    pub unkept: Vec<CacheError>,
}

impl Collector {
    /// A collector that trusts the system's root certificates for `https:` sources.
    pub fn new(config: Config) -> Result<Self, NoRoots> {
        Ok(Self { client: Client::new(config.patience.clone())?, config })
    }

    /// Collects what evidence of `kind` needs at `at` (seconds since 1970); what is in `input` beside the evidence (certificates) is not
    /// asked for.
    pub async fn collect(&self, kind: Kind, input: &Input<'_>, at: u64) -> Result<Collected, CollectError> {
        let (left_out, needs): (Vec<_>, Vec<_>) = needs(kind, input, &self.config.wanted)?
            .into_iter()
            .partition(|need| matches!(need, Need::Rim(_)));
        let deadline = self.client.deadline();
        let mut brought = stream::iter(needs).map(|need| self.bring(need, at, deadline)).buffered(AT_ONCE);
        let mut collected =
            Collected { snapshot: Snapshot::default(), origins: Vec::new(), left_out, unkept: Vec::new() };
        let mut failed = Vec::new();
        while let Some(brought) = brought.next().await {
            match brought {
                Ok((item, origin, unkept)) => {
                    collected.origins.push((item.need().clone(), origin));
                    collected.snapshot.insert(item);
                    collected.unkept.extend(unkept);
                }
                Err(error) => failed.push(*error),
            }
        }
        match failed.is_empty() {
            true => Ok(collected),
            false => Err(CollectError::Incomplete { collected: Box::new(collected), failed }),
        }
    }

    /// Renews the cache's items that expire within `margin` seconds of `at`, or are older than the cache's `max_age`, and forgets those
    /// that expired longer ago than that. For nodes: so no request waits for a maker.
    pub async fn refresh(&self, at: u64, margin: u64) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let Some(cache) = &self.config.cache else { return refreshed };
        let max_age = cache.max_age.as_secs();
        let items = blocking(cache, Cache::items).await.unwrap_or_default();
        let (dead, living): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.expires().saturating_add(max_age) < at);
        for item in dead {
            let need = item.need().clone();
            blocking(cache, move |cache| cache.remove(item.need())).await;
            refreshed.dropped.push(need);
        }
        let is_due = |item: &Item| item.expires() <= at.saturating_add(margin) || !cache.is_fresh(item, at);
        let due = living.into_iter().filter(is_due);
        let deadline = self.client.deadline();
        let renew = |item: Item| async move {
            let need = item.need().clone();
            let kept = Some(item).filter(|item| item.current(at).is_ok());
            self.fetch(need, kept.as_ref(), at, deadline).await
        };
        let mut fetched = stream::iter(due).map(renew).buffered(AT_ONCE);
        while let Some(fetched) = fetched.next().await {
            match fetched {
                Ok(item) => {
                    refreshed.renewed.push(item.need().clone());
                    refreshed.unkept.extend(self.keep(&item).await);
                }
                Err(error) => refreshed.failed.push(*error),
            }
        }
        refreshed
    }

    /// The item for `need`: from the cache while it is fresh, else from its source; if that fails, from the cache while it holds.
    async fn bring(
        &self,
        need: Need,
        at: u64,
        deadline: Instant,
    ) -> Result<(Item, Origin, Option<CacheError>), Box<FetchError>> {
        let cached = match &self.config.cache {
            Some(cache) => {
                let need = need.clone();
                let item = blocking(cache, move |cache| cache.load(&need)).await.flatten();
                match item {
                    Some(item) if cache.is_fresh(&item, at) => return Ok((item, Origin::Cache, None)),
                    item => item.filter(|item| item.current(at).is_ok()),
                }
            }
            None => None,
        };
        match (self.fetch(need, cached.as_ref(), at, deadline).await, cached) {
            (Ok(item), _) => {
                let unkept = self.keep(&item).await;
                Ok((item, Origin::Source, unkept))
            }
            (Err(error), Some(item)) => Ok((item, Origin::Kept(error), None)),
            (Err(error), None) => Err(error),
        }
    }

    /// The item for `need` from its source, if it is not older than the one that is `kept` and holds.
    async fn fetch(
        &self,
        need: Need,
        kept: Option<&Item>,
        at: u64,
        deadline: Instant,
    ) -> Result<Item, Box<FetchError>> {
        let what = need.to_string();
        let failed = |url: &http::Uri, cause, attempts| {
            let host = url.authority().map(ToString::to_string).unwrap_or_default();
            let (what, path) = (what.clone(), url.path().to_owned());
            Box::new(FetchError { what, host, path, attempts, cause })
        };
        let call = self
            .config
            .sources
            .call(&need)
            .map_err(|(cause, url)| failed(&url.parse().unwrap_or_default(), cause, 0))?;
        let (answer, attempts) = self.client.fetch(&call, deadline).await;
        let item = answer.and_then(|answer| source::item(&need, answer, at));
        let item = item.and_then(|item| match kept {
            Some(kept) if kept.issued() > item.issued() => {
                Err(FetchCause::Older { kept: kept.issued(), got: item.issued() })
            }
            _ => Ok(item),
        });
        item.map_err(|cause| failed(&call.url, cause, attempts))
    }

    async fn keep(&self, item: &Item) -> Option<CacheError> {
        let cache = self.config.cache.as_ref()?;
        let item = item.clone();
        blocking(cache, move |cache| cache.store(&item)).await?.err()
    }
}

/// Does something with the disk beside the threads that serve the network. None if the runtime shuts down.
async fn blocking<T: Send + 'static>(
    cache: &Cache,
    work: impl FnOnce(&Cache) -> T + Send + 'static,
) -> Option<T> {
    let cache = cache.clone();
    tokio::task::spawn_blocking(move || work(&cache)).await.ok()
}
