//! The table of models and prices: a TOML file.
//!
//! ```toml
//! [[provider]]
//! name = "openai"                  # as receipts will say
//! kind = "openai"                  # openai, anthropic, google or xai
//! key_env = "OPENAI_API_KEY"       # where the key is found at run time; leave out where none is needed
//! # base_url = "http://127.0.0.1:8000/v1"
//!
//! [[provider.model]]
//! name = "gpt-4.1"                 # what requests say
//! # upstream = "gpt-4.1-2025-04-14"  # what the provider says; the same by default
//! price = { asset = "USDC", input = 2000000, output = 8000000 }   # smallest units for a million tokens
//! ```

use std::sync::Arc;

use serde::Deserialize;

use super::{Client, Offer, PROVIDERS, Provider, ProviderError, Secret};
use crate::backend::Price;

/// The most bytes of the file.
pub const MAX_CONFIG: usize = 1 << 20;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Providers {
    #[serde(default)]
    provider: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    base_url: Option<String>,
    key_env: Option<String>,
    #[serde(default)]
    model: Vec<ModelEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    name: String,
    upstream: Option<String>,
    price: Option<Price>,
}

/// Why the table is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Longer than [`MAX_CONFIG`].
    #[error("the table of models has {got} bytes, expected at most {MAX_CONFIG}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not TOML, or with a key that does not exist.
    #[error("the table of models is not understood: {why}")]
    Toml {
        /// The parser's word.
        why: String,
    },
    /// A kind that is not in [`PROVIDERS`].
    #[error("provider `{name}`: unknown kind `{kind}`")]
    Kind {
        /// The provider.
        name: String,
        /// The kind.
        kind: String,
    },
    /// A key that is not there.
    #[error("provider `{name}`: no key in {variable}")]
    NoKey {
        /// The provider.
        name: String,
        /// Where it should be.
        variable: String,
    },
    /// A base URL or key that cannot be one.
    #[error("provider `{name}`: {source}")]
    Provider {
        /// The provider.
        name: String,
        /// Why.
        source: ProviderError,
    },
}

impl Providers {
    /// Reads the table.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_CONFIG {
            return Err(ConfigError::TooLong { got: text.len() });
        }
        toml::from_str(text).map_err(|error| ConfigError::Toml { why: error.message().to_owned() })
    }

    /// The backends of the table. `key` finds a key by the name under which the table says it is kept.
    pub fn connect(
        &self,
        client: &Arc<Client>,
        key: &dyn Fn(&str) -> Option<Secret>,
    ) -> Result<Vec<Provider>, ConfigError> {
        self.provider.iter().map(|entry| entry.connect(client, key)).collect()
    }
}

impl Entry {
    fn connect(
        &self,
        client: &Arc<Client>,
        key: &dyn Fn(&str) -> Option<Secret>,
    ) -> Result<Provider, ConfigError> {
        let name = || self.name.clone();
        let spec = PROVIDERS.iter().find(|spec| spec.kind == self.kind);
        let spec = spec.ok_or_else(|| ConfigError::Kind { name: name(), kind: self.kind.clone() })?;
        let find = |variable: &String| {
            key(variable).ok_or_else(|| ConfigError::NoKey { name: name(), variable: variable.clone() })
        };
        let secret = self.key_env.as_ref().map(find).transpose()?;
        let offer = |model: &ModelEntry| Offer {
            name: model.name.clone(),
            upstream: model.upstream.clone().unwrap_or_else(|| model.name.clone()),
            price: model.price.clone(),
        };
        let offers = self.model.iter().map(offer).collect();
        Provider::new(name(), spec, self.base_url.as_deref(), secret.as_ref(), offers, client.clone())
            .map_err(|source| ConfigError::Provider { name: name(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend as _;

    #[test]
    fn the_table_makes_backends() {
        let client = Arc::new(Client::new(Default::default()).unwrap());
        let connect = |text: &str| {
            let key = |name: &str| (name == "K").then(|| Secret::new("s"));
            Providers::parse(text).and_then(|table| table.connect(&client, &key))
        };
        let text = "[[provider]]\nname = 'a'\nkind = 'google'\nkey_env = 'K'\n[[provider.model]]\nname = 'm'\n\
                    upstream = 'n'\nprice = { asset = 'USDC', input = 1, output = 2 }\n";
        let cards = connect(text).unwrap().first().unwrap().models();
        let price = Price { asset: "USDC".into(), input: 1, output: 2 };
        assert_eq!((cards[0].name.as_str(), cards[0].price.as_ref()), ("m", Some(&price)));
        let usage = crate::chat::Usage { input: 1_000_000, output: 1, ..Default::default() };
        assert_eq!(price.of(usage).amount, "2", "1.000002 rounds up");
        assert!(matches!(connect(&text.replace("google", "x")), Err(ConfigError::Kind { .. })));
        assert!(matches!(connect(&text.replace("'K'", "'L'")), Err(ConfigError::NoKey { .. })));
        assert!(matches!(connect(&text.replace("name", "nam")), Err(ConfigError::Toml { .. })));
        let wrong = text.replace("kind", "base_url = 'ftp://x'\nkind");
        assert!(matches!(connect(&wrong), Err(ConfigError::Provider { .. })));
    }
}
