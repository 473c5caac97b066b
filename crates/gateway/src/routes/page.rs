//! `/`: a page for people, over the same addresses that programs use. Its files are in `assets/`.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// The page's own files and addresses, nothing else; no inline script, no form that leaves, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub async fn html() -> Response {
    asset("text/html; charset=utf-8", include_str!("../../assets/page.html"))
}

pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/page.js"))
}

pub async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("../../assets/page.css"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of the node has another page.
        (CACHE_CONTROL, "no-cache"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
