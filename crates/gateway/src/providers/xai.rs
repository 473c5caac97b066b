//! xAI: OpenAI's format, with its own way to ask for a search.

use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::openai::{OpenAi, body};
use super::{Outgoing, Reader, Spec, Wire};
use crate::backend::BackendError;
use crate::chat::{ChatRequest, Delta};

/// xAI.
pub static SPEC: Spec =
    Spec { kind: "xai", base_url: "https://api.x.ai/v1", auth: (AUTHORIZATION, "Bearer "), wire: &Xai };

#[derive(Debug)]
struct Xai;

impl Wire for Xai {
    fn request(&self, model: &str, request: &ChatRequest) -> Result<Outgoing, BackendError> {
        let mut body = body(model, request);
        if body.remove("web_search").is_some_and(|wanted| wanted == true) {
            body.insert("search_parameters".to_owned(), json!({"mode": "auto"}));
        }
        let path = "/chat/completions".to_owned();
        Ok(Outgoing { path, headers: Vec::new(), body: Value::Object(body) })
    }

    fn single(&self, answer: &Value) -> Result<Vec<Delta>, BackendError> {
        OpenAi.single(answer)
    }

    fn reader(&self) -> Box<dyn Reader> {
        OpenAi.reader()
    }
}
