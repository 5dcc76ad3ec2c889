//! Which repository addresses and branch names are let through to git.
//!
//! Pure. Owns the allow-lists; everything else is refused with a word on what would be right.

use std::path::Path;

use url::{Host, Url};

/// The longest address and branch; longer ones are mistakes.
const URL_BYTES_MAX: usize = 2_048;
const BRANCH_BYTES_MAX: usize = 200;

/// An address that git may be given: https, ssh, or a path of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitUrl {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Ssh,
    Local,
}

/// Why an address was refused; each text names the fix. No text repeats the address: it may hold
/// a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GitUrlError {
    #[error("the git URL is empty; set one such as https://github.com/owner/project.git")]
    Empty,
    #[error("the git URL is longer than 2048 bytes; set the plain address of the repository")]
    TooLong,
    #[error(
        "the git URL holds spaces at its ends, control characters or line breaks; type it again"
    )]
    Characters,
    #[error("the git URL begins with a dash, which git would take for an option; set an address")]
    Dash,
    #[error(
        "the git URL holds a password; take it out and let a git credential helper or an ssh key \
         answer for it"
    )]
    Password,
    #[error("plain http is refused for other machines; use https:// or ssh://")]
    PlainHttp,
    #[error(
        "this kind of git URL is refused; use https://, ssh://, user@host:path, file:/// or an \
         absolute path"
    )]
    Scheme,
    #[error("the git URL names no host; set one such as https://github.com/owner/project.git")]
    NoHost,
    #[error("a relative path is refused; give the absolute path of the repository")]
    Relative,
}

impl GitUrl {
    /// Lets `text` through if it is of an allowed kind.
    pub(crate) fn parse(text: &str) -> Result<Self, GitUrlError> {
        if text.is_empty() {
            return Err(GitUrlError::Empty);
        }
        if text.len() > URL_BYTES_MAX {
            return Err(GitUrlError::TooLong);
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(GitUrlError::Characters);
        }
        if text.starts_with('-') {
            return Err(GitUrlError::Dash);
        }
        Ok(Self {
            kind: kind_of(text)?,
            text: text.to_owned(),
        })
    }

    /// The address as git gets it. It holds no password.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_ssh(&self) -> bool {
        self.kind == Kind::Ssh
    }

    /// The path, where it lies on this machine.
    pub(crate) fn local_path(&self) -> Option<&Path> {
        let path = match self.text.strip_prefix("file://") {
            // Only git knows what its escapes stand for.
            Some(path) if path.contains('%') => return None,
            Some(path) => path,
            None => &self.text,
        };
        (self.kind == Kind::Local).then(|| Path::new(path))
    }
}

fn kind_of(text: &str) -> Result<Kind, GitUrlError> {
    if text.starts_with('/') {
        return Ok(Kind::Local);
    }
    let scheme_of = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
    if let Some(scheme) = scheme_of(text).filter(|scheme| !scheme.contains(':')) {
        return of_scheme(&scheme.to_ascii_lowercase(), text);
    }
    // `transport::address` runs the program git-remote-<transport>.
    if text.contains("::") {
        return Err(GitUrlError::Scheme);
    }
    scp_like(text)
}

fn of_scheme(scheme: &str, text: &str) -> Result<Kind, GitUrlError> {
    if scheme == "file" {
        return if text.contains(":///") {
            Ok(Kind::Local)
        } else {
            Err(GitUrlError::Scheme)
        };
    }
    if !matches!(scheme, "https" | "http" | "ssh") {
        return Err(GitUrlError::Scheme);
    }
    let url = Url::parse(text).map_err(|_| GitUrlError::NoHost)?;
    if url.password().is_some() {
        return Err(GitUrlError::Password);
    }
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or(GitUrlError::NoHost)?;
    // ssh would read such a host or user as an option.
    if host.starts_with('-') || url.username().starts_with('-') {
        return Err(GitUrlError::Dash);
    }
    match scheme {
        "ssh" => Ok(Kind::Ssh),
        // A bare user name in https is how tokens are smuggled into addresses.
        _ if !url.username().is_empty() => Err(GitUrlError::Password),
        "http" if !is_loopback(&url) => Err(GitUrlError::PlainHttp),
        _ => Ok(Kind::Http),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// `user@host:path`, the form that git hosts print.
fn scp_like(text: &str) -> Result<Kind, GitUrlError> {
    let Some((login, path)) = text.split_once(':') else {
        return Err(GitUrlError::Relative);
    };
    let Some((user, host)) = login.split_once('@') else {
        return Err(GitUrlError::Scheme);
    };
    let plain = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if user.starts_with('-') || host.starts_with('-') || path.starts_with('-') {
        return Err(GitUrlError::Dash);
    }
    // `user:password@host` splits at the first colon, which leaves an @ in the path.
    if path.contains('@') && !login.contains('@') {
        return Err(GitUrlError::Password);
    }
    if user.is_empty() || host.is_empty() || !plain(user) || !plain(host) {
        return Err(GitUrlError::NoHost);
    }
    if path.is_empty() {
        Err(GitUrlError::Relative)
    } else {
        Ok(Kind::Ssh)
    }
}

/// Git's own rule is about the case as written, whatever the file system thinks.
fn ends_like_a_lock(part: &str) -> bool {
    part.as_bytes().ends_with(b".lock")
}

/// Whether git takes `name` for a branch: the rules of `git check-ref-format --branch`.
pub(super) fn is_branch_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let part_ok =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !ends_like_a_lock(part);
    !name.is_empty()
        && name.len() <= BRANCH_BYTES_MAX
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !matches!(name, "@" | "HEAD")
        && !name.contains(bad)
        && name.split('/').all(part_ok)
}

/// Whether `slug` is a directory's name and a part of a ref, and nothing more.
pub(super) fn is_slug(slug: &str) -> bool {
    let mut bytes = slug.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && slug.len() <= 128
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && is_branch_name(slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_addresses_pass() {
        for good in [
            "https://github.com/o/p.git",
            "HTTPS://host/p",
            "ssh://git@host:22/p.git",
            "git@github.com:o/p.git",
            "/srv/a project.git",
            "file:///srv/p.git",
            "http://127.0.0.1:3000/p",
            "http://[::1]/p",
        ] {
            assert!(
                GitUrl::parse(good).is_ok(),
                "{good}: {:?}",
                GitUrl::parse(good)
            );
        }
    }

    #[test]
    fn hostile_addresses_are_refused_by_name() {
        use GitUrlError as E;
        for (bad, why) in [
            ("", E::Empty),
            (" https://h/p", E::Characters),
            ("https://h/p\n", E::Characters),
            ("https://h/\u{1}p", E::Characters),
            ("--upload-pack=touch /tmp/x", E::Dash),
            ("ssh://-oProxyCommand=x/p", E::Dash),
            ("-x@host:p", E::Dash),
            ("git@-oProxyCommand=x:p", E::Dash),
            ("ext::sh -c id", E::Scheme),
            ("fd::17", E::Scheme),
            ("git://host/p", E::Scheme),
            ("ftp://host/p", E::Scheme),
            ("file://host/p", E::Scheme),
            ("https://u:pw@host/p", E::Password),
            ("https://token@host/p", E::Password),
            ("ssh://u:pw@host/p", E::Password),
            ("http://example.com/p", E::PlainHttp),
            ("http://localhost.evil.org/p", E::PlainHttp),
            ("https://", E::NoHost),
            ("../x", E::Relative),
            ("project", E::Relative),
            ("git@host:", E::Relative),
        ] {
            assert_eq!(GitUrl::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn branch_names_follow_git() {
        for good in ["main", "gt/ada/1234abcd", "a.b", "fix-1", "ü"] {
            assert!(is_branch_name(good), "{good}");
        }
        let long = "a".repeat(201);
        for bad in [
            "", "-x", "../x", "a..b", "a b", "a:b", "a~1", "a^", "a\\b", "a//b", "/a", "a/", ".a",
            "a/.b", "a.lock", "a.", "@", "HEAD", "a@{1}", "a\nb", "a*", &long,
        ] {
            assert!(!is_branch_name(bad), "{bad}");
        }
        for bad in [
            "", ".", "..", "../x", "a/b", "-x", "a.lock", "a..b", "é", ".aside-1",
        ] {
            assert!(!is_slug(bad), "{bad}");
        }
    }
}
