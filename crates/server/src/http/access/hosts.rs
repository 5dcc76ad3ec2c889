//! From which names and pages requests may come.
//!
//! Owns the host allow-list (against DNS rebinding) and the same-origin rule (against pages of
//! others). Pure: headers in, verdict out.

use std::net::SocketAddr;

use actix_web::http::{
    StatusCode, Uri,
    header::{HOST, HeaderMap, HeaderName, ORIGIN},
};

use crate::http::failure::Failure;

/// The names under which the facade answers.
pub(crate) struct Hosts {
    own: Vec<String>,
    extra: Vec<String>,
}

impl Hosts {
    /// The bound address, the loopback names with its port, and what was configured on top. An
    /// extra name without a port stands for itself and for itself with the bound port.
    pub(crate) fn new(bound: SocketAddr, extra: &[String]) -> Self {
        let port = bound.port();
        let mut own = vec![
            bound.to_string(),
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
        ];
        if port == 80 {
            own.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        let mut names = Vec::new();
        for name in extra {
            let name = name.trim().to_ascii_lowercase();
            names.push(format!("{name}:{port}"));
            names.push(name);
        }
        Self { own, extra: names }
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.own.iter().chain(&self.extra).any(|own| own == host)
    }

    /// Whether a page of this origin is one of ours, reached by the same name as the request. Only
    /// a configured name may be behind TLS.
    fn is_same_origin(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let named = match origin.split_once("://") {
            Some(("http", named)) => named,
            Some(("https", named)) if self.extra.iter().any(|extra| extra == named) => named,
            _ => return false,
        };
        named == host
    }
}

/// 421 unless the request names us, once.
pub(crate) fn check_host(hosts: &Hosts, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let named = single(headers, &HOST).map(str::to_ascii_lowercase);
    let in_target = uri
        .authority()
        .map(|authority| authority.as_str().to_ascii_lowercase());
    let good = named.is_some_and(|host| hosts.is_allowed(&host))
        && in_target.is_none_or(|host| hosts.is_allowed(&host));
    if good {
        return Ok(());
    }
    let sentence = "This server does not answer under that Host; start it with --allow-host NAME \
                    to add a name";
    Err(Failure::new(
        StatusCode::MISDIRECTED_REQUEST,
        "wrong_host",
        sentence,
    ))
}

/// 403 for a request that a page of somebody else sent. `needs_origin` asks for the proof that it
/// was one of our own pages: a browser's cookie alone proves nothing.
pub(crate) fn check_origin(
    hosts: &Hosts,
    headers: &HeaderMap,
    needs_origin: bool,
) -> Result<(), Failure> {
    let refused = || Failure::forbidden("cross_origin", "Cross-origin requests are not accepted");
    let host = single(headers, &HOST)
        .map(str::to_ascii_lowercase)
        .unwrap_or_default();
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    if headers.contains_key(&fetch_site) {
        let site = single(headers, &fetch_site);
        if !matches!(site, Some("same-origin" | "none")) {
            return Err(refused());
        }
    }
    if !headers.contains_key(ORIGIN) {
        return if needs_origin { Err(refused()) } else { Ok(()) };
    }
    match single(headers, &ORIGIN) {
        Some(origin) if hosts.is_same_origin(origin, &host) => Ok(()),
        _ => Err(refused()),
    }
}

/// A header that is there exactly once, as text.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn hosts() -> Hosts {
        Hosts::new(
            "127.0.0.1:4180".parse().unwrap(),
            &["Wells.example".to_owned()],
        )
    }

    fn host_ok(pairs: &[(&'static str, &'static str)], target: &'static str) -> bool {
        check_host(&hosts(), &Uri::from_static(target), &headers(pairs)).is_ok()
    }

    #[test]
    fn only_our_own_names_are_answered() {
        for good in [
            "127.0.0.1:4180",
            "localhost:4180",
            "LOCALHOST:4180",
            "[::1]:4180",
            "wells.example",
            "wells.example:4180",
        ] {
            assert!(host_ok(&[("host", good)], "/health"), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:80",
            "evil.example",
            "evil:4180",
            "localhost:4180.evil",
            "x@localhost:4180",
        ] {
            assert!(!host_ok(&[("host", bad)], "/health"), "{bad}");
        }
        assert!(!host_ok(&[], "/health"));
        assert!(!host_ok(
            &[("host", "localhost:4180"), ("host", "localhost:4180")],
            "/health"
        ));
        assert!(!host_ok(
            &[("host", "localhost:4180")],
            "http://evil.example/health"
        ));
    }

    fn origin_ok(pairs: &[(&'static str, &'static str)], needs: bool) -> bool {
        check_origin(&hosts(), &headers(pairs), needs).is_ok()
    }

    #[test]
    fn only_our_own_pages_may_send() {
        let host = ("host", "localhost:4180");
        let own = ("origin", "http://localhost:4180");
        assert!(origin_ok(&[host], false), "a client that is no browser");
        assert!(!origin_ok(&[host], true));
        assert!(origin_ok(&[host, own], true));
        assert!(origin_ok(
            &[host, own, ("sec-fetch-site", "same-origin")],
            true
        ));
        assert!(
            origin_ok(&[host, ("sec-fetch-mode", "cors")], false),
            "node's fetch"
        );
        for bad in [
            "null",
            "",
            "http://evil.example",
            "https://localhost:4180",
            "http://127.0.0.1:4180",
            "http://localhost:4181",
            "file://localhost:4180",
        ] {
            assert!(!origin_ok(&[host, ("origin", bad)], false), "{bad}");
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN "] {
            assert!(
                !origin_ok(&[host, own, ("sec-fetch-site", site)], false),
                "{site}"
            );
        }
        assert!(!origin_ok(&[host, own, own], false), "two origins");
        let behind_tls = [
            ("host", "wells.example"),
            ("origin", "https://wells.example"),
        ];
        assert!(origin_ok(&behind_tls, true));
    }
}
