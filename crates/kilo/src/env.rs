//! The environment of a server: one pure function from an allow-list.
//!
//! It must not read the environment of this process; the caller hands it in. What is not listed
//! here does not reach the child.

use crate::settings::ServerSettings;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::hash::BuildHasher;

/// Tools that wait for a person or for later, which nobody serves in a headless run.
pub const TOOLS_OFF: [&str; 4] = [
    "question",
    "suggest",
    "schedule_wakeup",
    "background_process",
];

/// Taken from the host as they are.
const FROM_HOST: [&str; 13] = [
    "PATH",
    "LANG",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ALL_PROXY",
];

/// Always set, always to this.
const FIXED: [(&str, &str); 12] = [
    // One retry takes 3 s; our own breaker is the better judge after two.
    ("KILO_SESSION_RETRY_LIMIT", "2"),
    // A repository's own MCP servers and plugins would run at the first request otherwise.
    ("KILO_DISABLE_PROJECT_CONFIG", "1"),
    ("KILO_DISABLE_MODELS_FETCH", "1"),
    ("KILO_DISABLE_AUTOUPDATE", "1"),
    ("KILO_DISABLE_LSP_DOWNLOAD", "1"),
    ("KILO_DISABLE_SHARE", "1"),
    ("KILO_DISABLE_SESSION_INGEST", "1"),
    ("KILO_DISABLE_DEFAULT_PLUGINS", "1"),
    ("KILO_TELEMETRY_LEVEL", "off"),
    ("KILOCODE_FEATURE", "wellhead"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_PAGER", "cat"),
];

/// A variable's value; `Debug` shows only the plain ones.
#[derive(Clone)]
pub enum EnvValue {
    /// Anyone may see it.
    Plain(OsString),
    /// Nobody may see it.
    Secret(SecretString),
}

impl EnvValue {
    /// The value itself, for the one place that hands it to the child.
    pub fn expose(&self) -> OsString {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Secret(value) => value.expose_secret().into(),
        }
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => value.fmt(f),
            Self::Secret(_) => f.write_str(crate::redact::MASK),
        }
    }
}

/// The whole environment of one server; the child gets this and nothing else.
pub fn child_env<S: BuildHasher>(
    settings: &ServerSettings,
    password: &SecretString,
    parent_pid: u32,
    host_env: &HashMap<OsString, OsString, S>,
) -> BTreeMap<OsString, EnvValue> {
    let mut env = from_host(host_env);
    let mut plain = |name: &str, value: OsString| {
        env.insert(name.into(), EnvValue::Plain(value));
    };
    for (name, value) in FIXED {
        plain(name, value.into());
    }
    for (name, dir) in settings.places().by_variable() {
        plain(name, dir.into());
    }
    let (name, mail) = &settings.git_identity;
    for role in ["AUTHOR", "COMMITTER"] {
        plain(&format!("GIT_{role}_NAME"), name.into());
        plain(&format!("GIT_{role}_EMAIL"), mail.into());
    }
    plain(
        "KILO_API_URL",
        settings
            .credentials
            .gateway_url()
            .as_str()
            .trim_end_matches('/')
            .into(),
    );
    plain("KILO_PARENT_PID", parent_pid.to_string().into());
    if let Some(organization) = settings.credentials.organization() {
        plain("KILO_ORG_ID", organization.into());
    }
    for (name, value) in &settings.marker {
        plain(name, value.into());
    }
    env.insert(
        "KILO_SERVER_PASSWORD".into(),
        EnvValue::Secret(password.clone()),
    );
    let config = SecretString::from(config(settings).to_string());
    env.insert("KILO_CONFIG_CONTENT".into(), EnvValue::Secret(config));
    env
}

/// The listed variables of the host. A proxy's address may hold a password.
fn from_host<S: BuildHasher>(
    host_env: &HashMap<OsString, OsString, S>,
) -> BTreeMap<OsString, EnvValue> {
    let mut env = BTreeMap::new();
    for (name, value) in host_env {
        let Some(text) = name.to_str() else { continue };
        if !FROM_HOST.contains(&text) && !text.starts_with("LC_") {
            continue;
        }
        let secret = text.to_ascii_lowercase().ends_with("_proxy");
        let value = match value.to_str() {
            Some(value) if secret => EnvValue::Secret(SecretString::from(value)),
            _ => EnvValue::Plain(value.clone()),
        };
        env.insert(name.clone(), value);
    }
    env
}

/// The configuration for `KILO_CONFIG_CONTENT`.
fn config(settings: &ServerSettings) -> Value {
    // By pattern, so that the tools which wait for somebody are off while all others are allowed.
    let mut permission = Map::from_iter([("*".to_owned(), json!("allow"))]);
    permission.extend(TOOLS_OFF.map(|tool| (tool.to_owned(), json!("deny"))));
    let mut config = json!({
        "permission": permission,
        // Its snapshots take seconds per turn and may ask a question that blocks the session.
        "snapshot": false,
        "model": format!("kilo/{}", settings.model),
    });
    if let Some(small) = &settings.small_model {
        merge(
            &mut config,
            &json!({ "small_model": format!("kilo/{small}") }),
        );
    }
    if let Some(token) = settings.credentials.token() {
        let token = token.expose_secret();
        let options = json!({ "apiKey": token, "kilocodeToken": token });
        merge(
            &mut config,
            &json!({ "provider": { "kilo": { "options": options } } }),
        );
    }
    merge(&mut config, &settings.extra_config);
    config
}

/// Objects are merged key by key, anything else is replaced; `Null` changes nothing.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;
    use crate::program::Program;
    use crate::version::Version;
    use std::path::PathBuf;
    use std::time::Duration;

    const TOKEN: &str = "canary-token";
    const PASSWORD: &str = "canary-password";

    fn settings() -> ServerSettings {
        let gateway = "https://gw.example/".parse().unwrap();
        let token = Some(TOKEN.to_owned().into());
        ServerSettings {
            program: Program {
                path: "/kilo".into(),
                version: Version::new(7, 7, 7),
            },
            private_dir: PathBuf::from("/private"),
            credentials: Credentials::new(gateway, token, Some("org".to_owned())).unwrap(),
            model: "maker/model".to_owned(),
            small_model: Some("maker/small".to_owned()),
            marker: vec![("WELLHEAD_SERVER".to_owned(), "s1".to_owned())],
            git_identity: ("Agent".to_owned(), "agent@example.org".to_owned()),
            start_deadline: Duration::from_secs(1),
            extra_config: json!({ "provider": { "other": { "name": "x" } }, "model": "other/y" }),
        }
    }

    fn env_of(host: &[(&str, &str)]) -> BTreeMap<OsString, EnvValue> {
        let host: HashMap<OsString, OsString> = host
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        child_env(&settings(), &PASSWORD.to_owned().into(), 42, &host)
    }

    fn get(env: &BTreeMap<OsString, EnvValue>, name: &str) -> Option<String> {
        env.get(&OsString::from(name))
            .map(|value| value.expose().into_string().unwrap())
    }

    #[test]
    fn nothing_of_the_host_but_the_list_gets_through() {
        let secrets = [
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "KILO_API_KEY",
            "KILOCODE_TOKEN",
            "KILO_CONFIG",
            "KILO_AUTH_CONTENT",
            "OPENAI_API_KEY",
            "LD_PRELOAD",
            "NODE_OPTIONS",
            "BUN_OPTIONS",
            "path",
            "GIT_DIR",
            "GIT_SSH_COMMAND",
            "SSH_AUTH_SOCK",
            "LCX",
            "XLC_ALL",
            "HOME",
            "XDG_DATA_HOME",
            "TMPDIR",
            "KILO_SERVER_USERNAME",
            "KILO_CONFIG_CONTENT",
            "GIT_AUTHOR_NAME",
            "TERM",
            "",
        ];
        let host: Vec<(&str, &str)> = secrets.iter().map(|name| (*name, "host-secret")).collect();
        let env = env_of(&host);
        for (name, value) in &env {
            assert_ne!(value.expose(), "host-secret", "{}", name.display());
        }
    }

    #[test]
    fn the_listed_ones_do() {
        let env = env_of(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("https_proxy", "http://u:pw@p:1"),
        ]);
        assert_eq!(get(&env, "PATH").as_deref(), Some("/bin"));
        assert_eq!(get(&env, "LC_ALL").as_deref(), Some("C"));
        assert_eq!(get(&env, "https_proxy").as_deref(), Some("http://u:pw@p:1"));
        assert!(!format!("{env:?}").contains("pw"), "a proxy's password");
    }

    #[test]
    fn the_secrets_are_in_one_variable_each_and_never_shown() {
        let env = env_of(&[]);
        let holding = |secret: &str| -> Vec<String> {
            let holds = |value: &EnvValue| value.expose().to_string_lossy().contains(secret);
            let names = env
                .iter()
                .filter(|(_, value)| holds(value))
                .map(|(name, _)| name);
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(holding(TOKEN), ["KILO_CONFIG_CONTENT"]);
        assert_eq!(holding(PASSWORD), ["KILO_SERVER_PASSWORD"]);
        let shown = format!("{env:?} {:?}", settings());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn the_configuration_is_merged() {
        let env = env_of(&[]);
        let config: Value =
            serde_json::from_str(&get(&env, "KILO_CONFIG_CONTENT").unwrap()).unwrap();
        assert_eq!(
            config["provider"]["kilo"]["options"]["kilocodeToken"],
            TOKEN
        );
        assert_eq!(config["provider"]["other"]["name"], "x");
        assert_eq!(config["model"], "other/y");
        assert_eq!(config["small_model"], "kilo/maker/small");
        assert_eq!(config["snapshot"], false);
        assert_eq!(config["permission"]["*"], "allow");
        assert_eq!(config["permission"]["question"], "deny");
    }

    #[test]
    fn the_contract_is_kept() {
        let env = env_of(&[]);
        for (name, value) in [
            ("KILO_API_URL", "https://gw.example"),
            ("KILO_PARENT_PID", "42"),
            ("KILO_ORG_ID", "org"),
            ("KILO_SESSION_RETRY_LIMIT", "2"),
            ("KILO_DISABLE_PROJECT_CONFIG", "1"),
            ("KILO_DISABLE_AUTOUPDATE", "1"),
            ("KILO_TELEMETRY_LEVEL", "off"),
            ("HOME", "/private/home"),
            ("XDG_DATA_HOME", "/private/data"),
            ("TMPDIR", "/private/tmp"),
            ("GIT_COMMITTER_EMAIL", "agent@example.org"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("WELLHEAD_SERVER", "s1"),
        ] {
            assert_eq!(get(&env, name).as_deref(), Some(value), "{name}");
        }
    }
}
