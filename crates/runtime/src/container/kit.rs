//! What every agent of a container needs: program, credentials, model, servers, repositories.
//!
//! Owns turning a rig's configuration into a server's settings. Shared by all agents; holds no
//! state of any one of them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rig::{CredentialSource, DispatchOrder, Failure, RigConfig, RigId, Scopes, TownId};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::servers::{ServerSpec, Servers, private_dir};
use crate::{
    data_dir::DataDir,
    preflight::{self, Checks, Price},
    settings::Settings,
    vault::Vault,
    workspace::{Repositories, Repository},
};

/// Name and address in the commits of agents. The domain is reserved, so nobody owns it.
const GIT_IDENTITY: (&str, &str) = ("Wellhead agent", "agents@wellhead.invalid");

/// What the agents of one container share.
pub(crate) struct Kit {
    pub(crate) town: TownId,
    pub(crate) data: Arc<DataDir>,
    pub(crate) settings: Settings,
    pub(crate) vault: Arc<Vault>,
    pub(crate) servers: Servers,
    pub(crate) repositories: Repositories,
    pub(crate) http: reqwest::Client,
    pub(crate) program: Arc<OnceCell<kilo::Found>>,
    pub(crate) search: kilo::Search,
    /// Which boot of the machine this is, where the system tells.
    pub(crate) boot_id: Option<String>,
    /// What gateways told of their models' costs when they were last asked.
    pub(crate) prices: Mutex<BTreeMap<String, Price>>,
}

impl Kit {
    /// Checks what a dispatch of that rig would need, without a session.
    pub(crate) async fn check(&self, config: &RigConfig) -> Result<(), Failure> {
        let found = preflight::check(&self.checks(), config).await?;
        self.note_price(&found.model, found.price);
        Ok(())
    }

    /// Whether the program is there.
    pub(crate) async fn check_program(&self) -> Result<(), Failure> {
        let found = preflight::find_program(&self.program, &self.search).await;
        found.map(drop)
    }

    /// Whether the gateway answers and takes the credentials.
    pub(crate) async fn check_gateway(&self, config: &RigConfig) -> Result<(), Failure> {
        let resolved = self.vault.resolve(&config.credentials).await?;
        preflight::ask_gateway(&self.http, &resolved.credentials).await
    }

    /// Whether the gateway offers the model.
    pub(crate) async fn check_model(&self, config: &RigConfig) -> Result<(), Failure> {
        let found = preflight::check_models(&self.checks(), config).await?;
        self.note_price(&found.model, found.price);
        Ok(())
    }

    fn note_price(&self, model: &str, price: Price) {
        let mut prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        prices.insert(model.to_owned(), price);
    }

    /// What is known of a model's costs; of one that nobody asked about nothing is.
    pub(crate) fn price(&self, model: &str) -> Price {
        let prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        prices.get(model).copied().unwrap_or_default()
    }

    /// What dispatches of that configuration share with others. Credentials that are not there have
    /// a name as well, so that their absence is known once for all.
    pub(crate) async fn scopes(&self, config: &RigConfig) -> Scopes {
        scopes_of(&self.vault, &self.settings, config).await
    }

    fn checks(&self) -> Checks<'_> {
        Checks {
            vault: &self.vault,
            program: &self.program,
            search: &self.search,
            default_model: self.settings.default_model.as_deref(),
            http: &self.http,
        }
    }

    /// The server that runs that rig's sessions, and the model for them.
    pub(crate) async fn server_spec(
        &self,
        order: &DispatchOrder,
    ) -> Result<(ServerSpec, String), Failure> {
        let resolved = self.vault.resolve(&order.config.credentials).await?;
        let found = preflight::find_program(&self.program, &self.search).await?;
        let wanted = order.config.model.as_deref();
        let default = self.settings.default_model.as_deref();
        let model =
            preflight::resolve_model(&self.http, &resolved.credentials, wanted, default).await?;
        let gateway = resolved.credentials.gateway_url().to_string();
        let key = server_key(&[&gateway, &resolved.id, &model]);
        let settings = kilo::ServerSettings {
            program: found.program.clone(),
            private_dir: private_dir(&self.data.servers(&self.town), &key),
            credentials: resolved.credentials,
            model: model.clone(),
            small_model: Some(model.clone()),
            marker: self.marker(),
            git_identity: (GIT_IDENTITY.0.to_owned(), GIT_IDENTITY.1.to_owned()),
            start_deadline: Duration::from_millis(millis(order.start_deadline_ms)),
            extra_config: serde_json::Value::Null,
        };
        Ok((ServerSpec { key, settings }, model))
    }

    /// By this every process of ours is known, and no other Wellhead's.
    pub(crate) fn marker(&self) -> Vec<(String, String)> {
        marker(&self.data)
    }

    /// The rig's clone.
    pub(crate) fn repository(
        &self,
        rig: &RigId,
        config: &RigConfig,
    ) -> Result<Repository, Failure> {
        let url = preflight::git_url(config)?;
        let dir: PathBuf = self.data.rig(&self.town, rig);
        Ok(self
            .repositories
            .open(dir, url, config.default_branch.clone()))
    }
}

/// What dispatches of that configuration share with others; no container is needed to know it.
pub(crate) async fn scopes_of(vault: &Vault, settings: &Settings, config: &RigConfig) -> Scopes {
    let model = config.model.clone();
    let model = model.or_else(|| settings.default_model.clone());
    let (credential, gateway) = if let Ok(found) = vault.resolve(&config.credentials).await {
        (found.id, found.credentials.gateway_url().to_string())
    } else {
        let named = match &config.credentials {
            CredentialSource::None => "none".to_owned(),
            CredentialSource::Environment => "environment".to_owned(),
            CredentialSource::Stored { id } => id.clone(),
        };
        (named, "unknown".to_owned())
    };
    Scopes {
        credential,
        gateway,
        model,
    }
}

/// The marker of a data directory's processes.
pub(crate) fn marker(data: &DataDir) -> Vec<(String, String)> {
    marker_of(data.instance())
}

/// The same, by the directory's id alone.
pub(crate) fn marker_of(instance: &str) -> Vec<(String, String)> {
    vec![("WELLHEAD_INSTANCE".to_owned(), instance.to_owned())]
}

pub(crate) fn millis(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

fn server_key(parts: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut key = String::new();
    for byte in hash.finalize().iter().take(8) {
        // Writing to a String never fails.
        let _ = write!(key, "{byte:02x}");
    }
    key
}
