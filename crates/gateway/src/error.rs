//! What goes wrong, as the wire formats show it.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::backend::BackendError;
use crate::tensors::InputError;

/// A refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The request is not of its format.
    #[error("{message}")]
    Invalid {
        /// The member at fault, as in `messages[0].role`.
        param: Option<String>,
        /// What was expected there. Never repeats the value.
        message: String,
    },
    /// The body is longer than allowed.
    #[error("the request has more than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not come in time.
    #[error("the request's body did not arrive in time")]
    BodyTimeOut,
    /// No key, or not one of ours.
    #[error("a valid API key is needed")]
    Unauthorized,
    /// The key's quota is used up for now.
    #[error("the API key's quota is used up for now")]
    Quota {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too much work at once.
    #[error("the node is busy")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// No such model.
    #[error("the model `{name}` does not exist here")]
    NoModel {
        /// The name, cut at 128 characters.
        name: String,
    },
    /// The model of this name takes something else.
    #[error("this model takes {takes}: ask at {route}")]
    OtherRoute {
        /// What it takes.
        takes: &'static str,
        /// Where.
        route: &'static str,
    },
    /// The model does not run on these inputs, or not within this node's bounds.
    #[error("{}: {why}", if *local { "the run needs more than this node gives one" } else { "the model does not run on this input" })]
    Run {
        /// The engine's word.
        why: String,
        /// Whether a bound of this node's stopped it.
        local: bool,
    },
    /// Not a name of this node.
    #[error(
        "this node does not answer as `{host}`; ask by its address, or start it with `--host NAME` if that name is its own"
    )]
    Host {
        /// The name, cut at 128 characters.
        host: String,
    },
    /// A page of another site's asked for something that may change something.
    #[error("pages of other sites may not ask this node; programs send no Origin header")]
    Origin,
    /// The judgement broke off.
    #[error("the bundle could not be judged")]
    Judge,
    /// No such thing.
    #[error("there is nothing at this address")]
    NotFound,
    /// The address takes another method.
    #[error("this address takes another method")]
    Method,
    /// The backend did not answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What a gateway answered does not hold: the proxy hands nothing more of it out.
    #[error("the gateway's answer is not verified and is not handed out: {why}")]
    False {
        /// The check that failed.
        why: String,
    },
    /// An answer was picked to be run again, and the proxy's machine cannot.
    #[error(
        "the answer was picked to be run again and is not handed out: {why}; give the proxy more memory, or a smaller --sample"
    )]
    NotRunAgain {
        /// What it lacks.
        why: String,
    },
    /// A gateway stopped in the middle of an answer.
    #[error("the gateway's answer ended before it was verified: {why}")]
    GatewayLost {
        /// What happened.
        why: String,
    },
    /// No gateway has it.
    #[error("the gateway has nothing of this name: {message}")]
    GatewayLacks {
        /// Its word.
        message: String,
    },
    /// The proxy has no gateway that answers.
    #[error("no gateway answers: {reasons}")]
    NoGateway {
        /// What is wrong with each.
        reasons: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The receipt could not be made or kept; without one there is no answer.
    #[error("the receipt could not be issued")]
    Receipt,
}

impl ApiError {
    /// A member at fault.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { param: Some(param.into()), message: message.into() }
    }

    /// A model that does not exist.
    pub fn no_model(name: &str) -> Self {
        Self::NoModel { name: name.chars().take(128).collect() }
    }

    /// Inputs that are not those of `model`.
    pub fn inputs(error: &InputError, model: &str) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        let param = error.input().map_or_else(|| "inputs".to_owned(), |name| format!("inputs.{name}"));
        Self::invalid(param, format!("{message}; GET /v1/models/{model} shows what it takes"))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::OtherRoute { .. } | Self::Run { .. } => StatusCode::BAD_REQUEST,
            Self::Host { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeOut => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Quota { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoModel { .. } | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Backend(error) => match error {
                // The requester's own fault; a provider's 401 or 402 is the node's.
                BackendError::Refused { status: 400 | 404 | 413 | 415 | 422, .. } => StatusCode::BAD_REQUEST,
                BackendError::Unsupported { .. }
                | BackendError::Unfit { .. }
                | BackendError::TooLong { .. } => StatusCode::BAD_REQUEST,
                BackendError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                BackendError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            },
            Self::False { .. } | Self::GatewayLost { .. } => StatusCode::BAD_GATEWAY,
            Self::GatewayLacks { .. } => StatusCode::NOT_FOUND,
            Self::NoGateway { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Receipt | Self::Judge | Self::NotRunAgain { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When to try again, in whole seconds.
    pub fn retry_after(&self) -> Option<u64> {
        let wait = match self {
            Self::Quota { retry_after }
            | Self::Overloaded { retry_after }
            | Self::NoGateway { retry_after, .. } => *retry_after,
            Self::Backend(BackendError::Busy { retry_after }) => {
                retry_after.unwrap_or(Duration::from_secs(1))
            }
            _ => return None,
        };
        Some(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized => Some("invalid_api_key"),
            Self::Quota { .. } => Some("rate_limit_exceeded"),
            Self::Overloaded { .. } => Some("overloaded"),
            Self::NoModel { .. } => Some("model_not_found"),
            Self::BodyTooLarge { .. } => Some("request_too_large"),
            Self::OtherRoute { .. } => Some("other_route"),
            Self::Host { .. } => Some("host_not_allowed"),
            Self::False { .. } => Some("answer_not_verified"),
            Self::NotRunAgain { .. } => Some("not_run_again"),
            Self::GatewayLost { .. } => Some("gateway_lost"),
            Self::NoGateway { .. } => Some("no_gateway"),
            Self::Origin => Some("origin_not_allowed"),
            Self::Backend(BackendError::TooLong { .. }) => Some("context_length_exceeded"),
            _ => None,
        }
    }

    /// What the requester is told. A provider's refusal of the node's own key or credit stays in the node.
    fn public_message(&self) -> String {
        match self {
            Self::Backend(BackendError::Refused { .. }) if self.status() == StatusCode::BAD_GATEWAY => {
                "the model's provider refused the node".to_owned()
            }
            other => other.to_string(),
        }
    }

    /// OpenAI's form.
    pub fn openai(&self) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let param = if let Self::Invalid { param, .. } = self { param.as_deref() } else { None };
        json!({"error": {"message": self.public_message(), "type": kind, "param": param, "code": self.code()}})
    }

    /// Anthropic's form.
    pub fn anthropic(&self) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.public_message()}})
    }
}
