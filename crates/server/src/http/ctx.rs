//! What a handler has in its hand: state, caller, path and query.
//!
//! Owns the way from a path's text to typed ids and handles, and the check of identities that a
//! body names. Decides nothing about roles: `admit` has, before.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, web::Data};
use rig::{AgentId, BeadId, DispatchId, ReviewId, RigId, TownId, Who};
use runtime::{Directory, RigStub, Runtime, TownStub};

use super::{
    access::{Caller, Claims},
    failure::{Failure, Issue},
    input::{Body, Query},
    once::{self, Ticket},
    state::State,
};

/// One admitted request.
pub(crate) struct Ctx {
    pub(crate) state: Arc<State>,
    pub(crate) caller: Caller,
    params: Vec<(String, String)>,
    query: String,
    /// Method, path with query, and the idempotency key, if one was sent.
    method: String,
    target: String,
    key: Option<Result<String, ()>>,
}

impl FromRequest for Ctx {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(req: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let state = req.app_data::<Data<State>>().map(|data| Arc::clone(data));
        let caller = req.extensions().get::<Caller>().cloned();
        let params = req
            .match_info()
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let query = req.query_string().to_owned();
        ready(match (state, caller) {
            (Some(state), Some(caller)) => Ok(Self {
                state,
                caller,
                params: params.collect(),
                query,
                method: req.method().to_string(),
                target: req.uri().to_string(),
                key: once::key_of(req.headers()),
            }),
            // A route outside of the outer layer would be open to everybody.
            _ => Err(Failure::internal()),
        })
    }
}

impl Ctx {
    /// The runtime.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.state.runtime
    }

    /// Towns and rigs.
    pub(crate) fn directory(&self) -> Directory {
        self.state.runtime.directory()
    }

    /// The query's parameters.
    pub(crate) fn query(&self) -> Query {
        Query::parse(&self.query)
    }

    /// The ticket of a request with an idempotency key: in flight until it is dropped.
    pub(crate) fn once(&self, body: &Body) -> Result<Option<Ticket>, Failure> {
        let key = match &self.key {
            None => return Ok(None),
            Some(Err(())) => return Err(once::bad_key()),
            Some(Ok(key)) => key,
        };
        let request = [self.method.as_bytes(), self.target.as_bytes(), body.bytes()];
        let once = once::once_of(&self.caller, key, request);
        self.state.flights.begin(once).map(Some)
    }

    fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// The route's dead letter: its sender's kind and id, and its number there. Whatever can not
    /// name one is unknown.
    pub(crate) fn letter(&self) -> Option<(&str, &str, u64)> {
        let (sender, id) = (self.param("sender"), self.param("id"));
        RigId::new(id).ok()?;
        Some((sender, id, self.param("seq").parse().ok()?))
    }

    /// The route's rig; the one id whose form is told to be wrong.
    pub(crate) fn rig_id(&self) -> Result<RigId, Failure> {
        RigId::new(self.param("rig")).map_err(|error| {
            Failure::query(
                "Invalid rig id",
                vec![Issue::new("rigId", error.to_string())],
            )
        })
    }

    /// The handle of the route's rig.
    pub(crate) fn rig(&self) -> Result<RigStub, Failure> {
        Ok(self.runtime().rig(&self.rig_id()?)?)
    }

    /// The route's bead. Ids are opaque: one of another form is unknown, not wrong.
    pub(crate) fn bead_id(&self) -> Result<BeadId, Failure> {
        bead_id(self.param("bead"))
    }

    /// The route's escalation; none is named by an id of another form.
    pub(crate) fn escalation_id(&self) -> Option<BeadId> {
        BeadId::new(self.param("escalation")).ok()
    }

    /// The route's agent.
    pub(crate) fn agent_id(&self) -> Result<AgentId, Failure> {
        agent_id(self.param("agent"))
    }

    /// The route's review entry.
    pub(crate) fn review_id(&self) -> Result<ReviewId, Failure> {
        ReviewId::new(self.param("review")).map_err(|_| Failure::not_found("Review not found"))
    }

    /// The route's town.
    pub(crate) fn town_id(&self) -> Result<TownId, Failure> {
        TownId::new(self.param("town")).map_err(|_| Failure::not_found("Town not found"))
    }

    /// The route's town, if there is one of that id.
    pub(crate) async fn known_town(&self) -> Result<TownId, Failure> {
        let id = self.town_id()?;
        let towns = self.directory().all_towns().await?;
        let is_known = towns.iter().any(|town| town.id == id);
        is_known
            .then_some(id)
            .ok_or_else(|| Failure::not_found("Town not found"))
    }

    /// Its handle.
    pub(crate) async fn town(&self) -> Result<TownStub, Failure> {
        Ok(self.runtime().town(&self.known_town().await?)?)
    }

    /// The route's user: any text of 1 to 128 characters.
    pub(crate) fn user(&self) -> Result<&str, Failure> {
        let user = self.param("user");
        let is_good = (1..=128).contains(&user.chars().count()) && !user.contains(char::is_control);
        let issue = || Issue::new("userId", "must be 1 to 128 characters");
        if is_good {
            Ok(user)
        } else {
            Err(Failure::query("Invalid user id", vec![issue()]))
        }
    }

    /// Who gives a command, as it is recorded.
    pub(crate) fn who(&self) -> Who {
        Who::named(match &self.caller {
            Caller::Agent(claims) => claims.agent_id.as_str(),
            Caller::Admin { in_browser: true } => "admin (browser)",
            Caller::Admin { in_browser: false } => "admin",
            Caller::Viewer => "viewer",
            Caller::Nobody => "nobody",
        })
    }

    /// The claims of the calling agent, if one calls.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        match &self.caller {
            Caller::Agent(claims) => Some(claims),
            _ => None,
        }
    }

    /// 403 when an agent's body names another agent than its token.
    pub(crate) fn check_named(&self, field: &str, named: Option<&str>) -> Result<(), Failure> {
        match (self.claims(), named) {
            (Some(claims), Some(named)) if claims.agent_id != named => {
                let sentence = format!("{field} does not match authenticated agent");
                Err(Failure::forbidden("wrong_identity", sentence))
            }
            _ => Ok(()),
        }
    }

    /// The dispatch of a report: the token's own, or the one that the admin names.
    pub(crate) fn dispatch(&self, named: Option<&str>) -> Result<Option<DispatchId>, Failure> {
        let text = match self.claims() {
            Some(claims) => claims.dispatch_id.as_deref(),
            None => named,
        };
        text.map(|text| {
            let stale =
                || Failure::conflict("stale_dispatch", format!("dispatch {text} is not current"));
            text.parse().map_err(|_| stale())
        })
        .transpose()
    }
}

/// An id that a body or a path names; of another form it is unknown.
pub(crate) fn bead_id(text: &str) -> Result<BeadId, Failure> {
    BeadId::new(text).map_err(|_| Failure::not_found("Bead not found"))
}

/// The same for an agent.
pub(crate) fn agent_id(text: &str) -> Result<AgentId, Failure> {
    AgentId::new(text).map_err(|_| Failure::not_found("Agent not found"))
}
