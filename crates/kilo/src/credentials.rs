//! The gateway a server talks to and the token it uses there, checked once when they are made.
//!
//! It must not know where credentials are stored or how they are rotated.

use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use url::{Host, Url};

/// A gateway, its token and the organization that pays. `Debug` shows no token.
#[derive(Clone)]
pub struct Credentials {
    gateway_url: Url,
    token: Option<SecretString>,
    organization: Option<String>,
}

/// Why credentials were refused. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Plain http to another machine, or another scheme.
    #[error(
        "the gateway URL must be https (http only for this machine), not {scheme}://{host}; set an https URL"
    )]
    Scheme {
        /// The scheme as given.
        scheme: String,
        /// The host as given.
        host: String,
    },
    /// `https://user:password@host`.
    #[error(
        "the gateway URL must hold no user name or password; put the token into its own setting"
    )]
    Userinfo,
    /// `https:///path` and the like.
    #[error("the gateway URL names no host; set one such as https://api.kilo.ai")]
    NoHost,
    /// Kilo reads a token of the form `http://host:port:secret` as another gateway.
    #[error(
        "the token begins with \"http\": kilo would send requests to that address; set the bare token"
    )]
    TokenIsUrl,
    /// An empty token, or one that no HTTP header can hold.
    #[error("the token is empty or holds spaces or control characters; set it again")]
    TokenMalformed,
}

impl Credentials {
    /// Checks and keeps them. Without a token kilo asks the gateway as `anonymous`.
    pub fn new(
        gateway_url: Url,
        token: Option<SecretString>,
        organization: Option<String>,
    ) -> Result<Self, CredentialsError> {
        check_url(&gateway_url)?;
        if let Some(token) = &token {
            check_token(token.expose_secret())?;
        }
        Ok(Self {
            gateway_url,
            token,
            organization,
        })
    }

    /// Base of the gateway.
    pub fn gateway_url(&self) -> &Url {
        &self.gateway_url
    }

    /// The token, if there is one.
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// The organization's id, if one is set.
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("gateway_url", &self.gateway_url.as_str())
            .field("token", &self.token.as_ref().map(|_| crate::redact::MASK))
            .field("organization", &self.organization)
            .finish()
    }
}

fn check_url(url: &Url) -> Result<(), CredentialsError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(CredentialsError::Userinfo);
    }
    let host = url.host().ok_or(CredentialsError::NoHost)?;
    let local = match &host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if local => Ok(()),
        scheme => Err(CredentialsError::Scheme {
            scheme: scheme.into(),
            host: host.to_string(),
        }),
    }
}

fn check_token(token: &str) -> Result<(), CredentialsError> {
    if token
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("http"))
    {
        return Err(CredentialsError::TokenIsUrl);
    }
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CredentialsError::TokenMalformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(url: &str, token: &str) -> Result<Credentials, CredentialsError> {
        Credentials::new(
            Url::parse(url).unwrap(),
            Some(SecretString::from(token)),
            None,
        )
    }

    #[test]
    fn https_anywhere_and_http_at_home_are_accepted() {
        for url in [
            "https://api.kilo.ai",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost:9",
        ] {
            assert!(make(url, "tok").is_ok(), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "http://api.kilo.ai",
            "http://169.254.169.254",
            "ftp://127.0.0.1",
            "http://localhost.evil.org",
        ] {
            assert!(
                matches!(make(url, "tok"), Err(CredentialsError::Scheme { .. })),
                "{url}"
            );
        }
        assert_eq!(
            make("https://u:p@api.kilo.ai", "tok").unwrap_err(),
            CredentialsError::Userinfo
        );
    }

    #[test]
    fn a_token_that_is_an_address_is_refused() {
        for token in ["http://evil:1:secret", "HTTPS://x", "httpfoo"] {
            assert_eq!(
                make("https://a.b", token).unwrap_err(),
                CredentialsError::TokenIsUrl
            );
        }
        for token in ["", "a b", "a\nb", "ä"] {
            assert_eq!(
                make("https://a.b", token).unwrap_err(),
                CredentialsError::TokenMalformed
            );
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", make("https://a.b", "canary-token").unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
