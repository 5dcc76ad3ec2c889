//! What works and what does not: credentials, gateways, models, the program, repositories.
//!
//! Owns the conditions under which sessions and checks meet. They come and go by scope. Knows no
//! rig's state.

use std::collections::BTreeSet;

use rig::{Class, CredentialSource, Failure, RigConfig, RigId, Scope, Scopes, Stage, TownId};

use crate::{plan::Plan, rng::Rng};

pub(crate) const GATEWAYS: [&str; 2] = ["https://one.example", "https://two.example"];
pub(crate) const CREDENTIALS: [&str; 3] = ["alpha", "beta", "gamma"];
pub(crate) const MODELS: [&str; 2] = ["some/model", "other/model"];
pub(crate) const DEFAULT_MODEL: &str = "default/model";

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) missing: BTreeSet<String>,
    pub(crate) unpaid: BTreeSet<String>,
    pub(crate) limited: BTreeSet<String>,
    pub(crate) down: BTreeSet<String>,
    pub(crate) unknown_models: BTreeSet<String>,
    pub(crate) no_program: BTreeSet<TownId>,
    pub(crate) no_git: BTreeSet<RigId>,
    /// The environment's credential: a new process may have another one.
    pub(crate) environment: u64,
    /// Sessions that go as they should, of a thousand.
    pub(crate) good: u64,
    /// Of a thousand sessions so many crash with their process.
    pub(crate) crashes: u64,
    /// Of a thousand checks so many are never answered.
    pub(crate) mute_checks: u64,
    /// What every session does, where chance does not decide it.
    pub(crate) script: Option<fn(&mut Rng) -> Plan>,
}

impl Weather {
    pub(crate) fn fair() -> Self {
        Self {
            good: 1_000,
            ..Self::default()
        }
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            good: rng.pick(&[100, 300, 600, 900]).unwrap_or(300),
            crashes: rng.pick(&[0, 0, 50, 500]).unwrap_or(0),
            mute_checks: rng.pick(&[0, 0, 100]).unwrap_or(0),
            ..Self::default()
        }
    }

    /// One thing breaks, or one is mended.
    pub(crate) fn turn(&mut self, rng: &mut Rng, rigs: &[RigId], towns: &[TownId]) -> String {
        let toggled = |set: &mut BTreeSet<String>, name: String| {
            let is_there = !set.insert(name.clone());
            if is_there {
                set.remove(&name);
            }
            format!("{name} is fine: {is_there}")
        };
        let mut credential = || {
            let own = format!("environment-{}", self.environment);
            let known = CREDENTIALS.map(str::to_owned);
            rng.pick(&[known[0].clone(), known[1].clone(), own])
                .unwrap_or_default()
        };
        let credential = credential();
        match rng.below(9) {
            0 => format!("credential: {}", toggled(&mut self.missing, credential)),
            1 => format!("billing: {}", toggled(&mut self.unpaid, credential)),
            2 => format!("rate limit: {}", toggled(&mut self.limited, credential)),
            3 | 4 => {
                let gateway = rng.pick(&GATEWAYS).unwrap_or_default().to_owned();
                format!("gateway: {}", toggled(&mut self.down, gateway))
            }
            5 => {
                let models = [MODELS[0], DEFAULT_MODEL];
                let model = rng.pick(&models).unwrap_or_default().to_owned();
                format!("model: {}", toggled(&mut self.unknown_models, model))
            }
            6 => toggle(&mut self.no_program, rng.pick(towns), "program"),
            7 => toggle(&mut self.no_git, rng.pick(rigs), "git"),
            _ => {
                let drawn = Self::draw(rng);
                (self.good, self.crashes) = (drawn.good, drawn.crashes);
                self.mute_checks = drawn.mute_checks;
                format!("good: {}, crashes: {}", self.good, self.crashes)
            }
        }
    }

    /// What dispatches of that configuration share with others.
    pub(crate) fn scopes(&self, config: &RigConfig) -> Scopes {
        let credential = self.credential(config);
        let is_there = !self.missing.contains(&credential) && credential != "none";
        let gateway = if !is_there {
            "unknown"
        } else if credential == "beta" {
            GATEWAYS[1]
        } else {
            GATEWAYS[0]
        };
        Scopes {
            credential,
            gateway: gateway.to_owned(),
            model: Some(model_of(config)),
        }
    }

    fn credential(&self, config: &RigConfig) -> String {
        match &config.credentials {
            CredentialSource::None => "none".to_owned(),
            CredentialSource::Environment => format!("environment-{}", self.environment),
            CredentialSource::Stored { id } => id.clone(),
        }
    }

    /// Everything that a dispatch needs, in the order in which it is looked for.
    pub(crate) fn check(
        &self,
        rng: &mut Rng,
        town: &TownId,
        rig: &RigId,
        config: &RigConfig,
    ) -> Result<(), Failure> {
        self.program(town, Stage::Preflight)?;
        self.gateway(rng, config, Stage::Preflight)?;
        self.model(config)?;
        self.git(rig, Stage::Preflight)
    }

    pub(crate) fn check_scope(
        &self,
        rng: &mut Rng,
        town: &TownId,
        scope: &Scope,
        config: &RigConfig,
    ) -> Result<(), Failure> {
        match scope {
            Scope::Container => self.program(town, Stage::Preflight),
            Scope::Credential { .. } | Scope::Gateway { .. } => {
                self.gateway(rng, config, Stage::Preflight)
            }
            Scope::Model { .. } => {
                self.gateway(rng, config, Stage::Preflight)?;
                self.model(config)
            }
        }
    }

    pub(crate) fn program(&self, town: &TownId, stage: Stage) -> Result<(), Failure> {
        let text = "the program is missing";
        fails(
            self.no_program.contains(town),
            Class::KiloMissing,
            stage,
            text,
        )
    }

    pub(crate) fn git(&self, rig: &RigId, stage: Stage) -> Result<(), Failure> {
        let text = "the repository can not be reached";
        fails(self.no_git.contains(rig), Class::Git, stage, text)
    }

    fn model(&self, config: &RigConfig) -> Result<(), Failure> {
        let is_gone = self.unknown_models.contains(&model_of(config));
        fails(
            is_gone,
            Class::ModelNotFound,
            Stage::Preflight,
            "no such model",
        )
    }

    /// What a request to the gateway gets.
    pub(crate) fn gateway(
        &self,
        rng: &mut Rng,
        config: &RigConfig,
        stage: Stage,
    ) -> Result<(), Failure> {
        let scopes = self.scopes(config);
        let missing = scopes.gateway == "unknown";
        fails(
            missing,
            Class::Credentials,
            stage,
            "there are no credentials",
        )?;
        let down = self.down.contains(&scopes.gateway);
        fails(down, Class::Gateway, stage, "the gateway is down")?;
        let unpaid = self.unpaid.contains(&scopes.credential);
        // Most gateways tell it with the first request that costs.
        if stage != Stage::Preflight || rng.chance(300) {
            fails(unpaid, Class::Billing, stage, "no credit is left")?;
        }
        if stage != Stage::Preflight && self.limited.contains(&scopes.credential) {
            let retry_after_ms = rng.chance(500).then(|| rng.between(0, 400_000));
            let failure = Failure::new(Class::RateLimited, stage, "too many requests");
            return Err(Failure {
                retry_after_ms,
                ..failure
            });
        }
        Ok(())
    }

    /// What a turn finds of its model.
    pub(crate) fn turn_begins(&self, rng: &mut Rng, config: &RigConfig) -> Result<(), Failure> {
        self.gateway(rng, config, Stage::Turn)?;
        self.model(config).map_err(|failure| Failure {
            stage: Stage::Turn,
            ..failure
        })
    }
}

fn model_of(config: &RigConfig) -> String {
    config
        .model
        .clone()
        .unwrap_or_else(|| DEFAULT_MODEL.to_owned())
}

fn fails(is_so: bool, class: Class, stage: Stage, text: &str) -> Result<(), Failure> {
    if is_so {
        Err(Failure::new(class, stage, text))
    } else {
        Ok(())
    }
}

fn toggle<T: Ord + Clone + std::fmt::Display>(
    set: &mut BTreeSet<T>,
    one: Option<T>,
    what: &str,
) -> String {
    let Some(one) = one else {
        return String::new();
    };
    let is_there = set.remove(&one) || !set.insert(one.clone());
    format!("{what} of {one} is fine: {is_there}")
}
