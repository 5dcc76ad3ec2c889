//! Versions of the kilo program and the rule that says which of them are supported.
//!
//! Pure: it runs no program.

use std::fmt;

/// The version that the recorded traces and all tests are from.
pub const TESTED: Version = Version::new(7, 7, 7);

/// A version as `kilo --version` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
    /// What follows a `-`, for a pre-release.
    pub pre: Option<String>,
}

/// What the version rule says about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// The tested version.
    Tested,
    /// The same major and not older: used, with this warning for the log and the health page.
    Untested(String),
    /// Older, or another major.
    No,
}

impl Version {
    /// A release.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
            pre: None,
        }
    }

    /// Reads `7.7.7`, `v7.7.7` or `7.8.0-rc.1`; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre.to_owned())),
            None => (text, None),
        };
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
            pre,
        };
        parts.next().is_none().then_some(version)
    }

    /// The version rule: the tested version, the same major and newer with a warning, or not.
    pub fn support(&self) -> Support {
        let older = (self.minor, self.patch) < (TESTED.minor, TESTED.patch)
            || (self.pre.is_some() && (self.minor, self.patch) == (TESTED.minor, TESTED.patch));
        if *self == TESTED {
            Support::Tested
        } else if self.major != TESTED.major || older {
            Support::No
        } else {
            Support::Untested(format!("kilo {self} is newer than the tested {TESTED}"))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match &self.pre {
            Some(pre) => write!(f, "-{pre}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support(text: &str) -> Option<Support> {
        Version::parse(text).map(|version| version.support())
    }

    #[test]
    fn the_tested_version_is_used_without_a_word() {
        assert_eq!(support("7.7.7\n"), Some(Support::Tested));
        assert_eq!(support("v7.7.7"), Some(Support::Tested));
    }

    #[test]
    fn newer_of_the_same_major_warns() {
        for text in ["7.7.8", "7.8.0", "7.10.0", "7.8.0-rc.1"] {
            assert!(
                matches!(support(text), Some(Support::Untested(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn older_and_other_majors_are_refused() {
        for text in ["7.0.33", "7.7.6", "7.7.7-rc.1", "6.9.9", "8.0.0"] {
            assert_eq!(support(text), Some(Support::No), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_version() {
        for text in ["", "7.7", "7.7.7.7", "kilo", "7.7.x", "-1.0.0"] {
            assert_eq!(support(text), None, "{text}");
        }
    }
}
