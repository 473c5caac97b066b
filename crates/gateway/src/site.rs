//! Which names the node answers to, and whose pages may make it do something.
//!
//! A page of anybody's can point a name of its own at this machine (DNS rebinding), and can send requests to it across sites. So a
//! request must name the node by a name that is its own, and one that comes from a page and may change something must come from a
//! page of the node's. Clients that are no browsers send no `Origin` and are not concerned.

use std::net::IpAddr;
use std::str::FromStr as _;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use crate::error::ApiError;

/// The names of a node.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Names beyond the loopback ones, as `--host` gives them: without a port.
    names: Vec<String>,
    /// The address that is listened on.
    address: Option<IpAddr>,
}

impl Site {
    /// The loopback names, `address` and `names`.
    pub fn new(names: Vec<String>, address: Option<IpAddr>) -> Self {
        Self { names, address }
    }

    /// Lets a request pass whose `Host` is the node's, and whose `Origin`, where it may change something, is a page of that host.
    ///
    /// # Errors
    /// [`ApiError::Host`], [`ApiError::Origin`].
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, _) => uri.authority().map(Authority::as_str),
            _ => None,
        };
        let host = host.unwrap_or_default();
        if !self.is_own(host) {
            return Err(ApiError::Host { host: host.chars().take(128).collect() });
        }
        if method == Method::GET || method == Method::HEAD {
            return Ok(());
        }
        let is_ours = |origin: &http::HeaderValue| {
            let page = origin.to_str().ok().and_then(|text| text.split_once("://"));
            page.is_some_and(|(scheme, page)| {
                matches!(scheme, "http" | "https") && page.eq_ignore_ascii_case(host)
            })
        };
        if headers.get_all(ORIGIN).iter().all(is_ours) { Ok(()) } else { Err(ApiError::Origin) }
    }

    fn is_own(&self, host: &str) -> bool {
        let Ok(authority) = Authority::from_str(host) else { return false };
        if host.contains('@') {
            return false;
        }
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            // An address cannot be pointed elsewhere; where all addresses are listened on, each is the node's.
            return ip.is_loopback()
                || self.address.is_some_and(|own| own == ip || own.is_unspecified())
                || self.names.iter().any(|known| known == bare);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(site: &Site, method: Method, host: Option<&str>, origin: Option<&str>) -> Result<(), ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.append(name, value.parse().unwrap());
            }
        }
        site.check(&method, &Uri::from_static("/x"), &headers)
    }

    #[test]
    fn only_the_nodes_own_names_are_answered() {
        let loopback = Site::new(Vec::new(), Some([127, 0, 0, 1].into()));
        let everywhere = Site::new(vec!["node.example".to_owned()], Some([0, 0, 0, 0].into()));
        for (host, here, there) in [
            ("localhost:8080", true, true),
            ("LOCALHOST.", true, true),
            ("127.0.0.1:1", true, true),
            ("[::1]:8080", true, true),
            ("192.168.1.5:8080", false, true),
            ("Node.example:443", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("evil@localhost", false, false),
            ("localhost/../x", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(&loopback, Method::GET, Some(host), None).is_ok(), here, "{host}");
            assert_eq!(check(&everywhere, Method::GET, Some(host), None).is_ok(), there, "{host}");
        }
        assert!(check(&loopback, Method::GET, None, None).is_err());
        let mut two = HeaderMap::new();
        two.append(HOST, "localhost".parse().unwrap());
        two.append(HOST, "localhost".parse().unwrap());
        assert!(loopback.check(&Method::GET, &Uri::from_static("/"), &two).is_err());
    }

    #[test]
    fn other_sites_change_nothing() {
        let site = Site::new(Vec::new(), None);
        let post = |origin| check(&site, Method::POST, Some("localhost:8080"), origin);
        assert_eq!(post(None), Ok(()));
        assert_eq!(post(Some("http://localhost:8080")), Ok(()));
        for origin in [
            "http://localhost:3000",
            "https://evil.example",
            "null",
            "http://127.0.0.1:8080",
            "localhost:8080",
        ] {
            assert_eq!(post(Some(origin)), Err(ApiError::Origin), "{origin}");
            // Reading is left to the browser's own rules: it shows nothing without a header that the node never sends.
            assert_eq!(check(&site, Method::GET, Some("localhost:8080"), Some(origin)), Ok(()));
        }
    }
}
