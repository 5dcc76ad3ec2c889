//! What the example stands on: a town, a scripted gateway, a repository. Knows no breaker.

use rig::{CredentialSource, ReviewMode, RigConfig, RigId, TownId};
use runtime::{Runtime, Settings};
use wellhead::{
    demo::sample::create_sample_repo,
    gateway::{Gateway, GatewaySettings, Script},
};

const KILO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake-kilo.mjs");

pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Stage {
    pub(crate) town: Runtime,
    pub(crate) town_id: TownId,
    gateway: Gateway,
    dir: tempfile::TempDir,
}

impl Stage {
    /// A town, and a gateway that takes this token alone.
    pub(crate) async fn build(token: &str) -> Result<Self, Trouble> {
        let dir = tempfile::tempdir()?;
        let mut settings = Settings::new(dir.path().join("town"));
        settings.kilo_program = Some(KILO.into());
        let town = Runtime::start(settings).await?;
        let settings = GatewaySettings::new(token.to_owned().into());
        let gateway = Gateway::start(Script::default(), settings).await?;
        let town_id = town.directory().create_town("me", "Home").await?.id;
        Ok(Self {
            town,
            town_id,
            gateway,
            dir,
        })
    }

    /// Credentials with that token.
    pub(crate) async fn credentials(&self, token: &str) -> Result<CredentialSource, Trouble> {
        let url = Some(self.gateway.url());
        let id = self.town.store_token(url, token.to_owned().into()).await?;
        Ok(CredentialSource::Stored { id })
    }

    /// A rig that uses that token.
    pub(crate) async fn rig(&self, token: &str) -> Result<RigId, Trouble> {
        let origin = create_sample_repo(self.dir.path().join("origin")).await?;
        let config = RigConfig {
            town_id: self.town_id.clone(),
            name: "amber".to_owned(),
            git_url: origin.display().to_string(),
            default_branch: "main".to_owned(),
            model: Some("scripted/text".to_owned()),
            review: ReviewMode::Off,
            credentials: self.credentials(token).await?,
        };
        Ok(self.town.directory().create_rig("me", config).await?.id)
    }

    pub(crate) async fn stop(self) {
        self.town.stop(std::time::Duration::from_secs(5)).await;
        self.gateway.stop().await;
    }
}
