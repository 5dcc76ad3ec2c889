//! The gate in front of every route: who may call, from where, and for which rig and agent.
//!
//! Owns the order of the first checks: 401, 405, foreign pages, then 403 for the route's town, rig
//! and agent, then 403 for the role, then the end of the token's dispatch. Whether a body names
//! another identity is the handler's check, after the body's form.

use std::sync::Arc;

use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
    web::Data,
};
use rig::{AgentId, RigId};

use super::{Caller, Claims, hosts::check_origin};
use crate::http::{
    failure::Failure,
    state::State,
    table::{self, Access, Entry},
};

/// The code of a request that comes after its token's dispatch.
const DISPATCH_ENDED: &str = "dispatch_ended";

/// The gate as a middleware of the resource at `path`.
pub(crate) async fn admit<B: MessageBody + 'static>(
    path: &'static str,
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check(path, &req).await {
        Ok(()) => next
            .call(req)
            .await
            .map(ServiceResponse::map_into_boxed_body),
        // Not `into_response`: that would lose which failure it was.
        Err(failure) => Ok(ServiceResponse::new(
            req.into_parts().0,
            HttpResponse::from_error(failure),
        )),
    }
}

async fn check(path: &'static str, req: &ServiceRequest) -> Result<(), Failure> {
    let state = req
        .app_data::<Data<State>>()
        .map(|data| Arc::clone(data))
        .ok_or_else(Failure::internal)?;
    let caller = req
        .extensions()
        .get::<Caller>()
        .cloned()
        .unwrap_or(Caller::Nobody);
    let entry = table::entry(req.method().as_str(), path);
    let is_open = entry.is_some_and(|entry| entry.access == Access::Open);
    if matches!(caller, Caller::Nobody) && !is_open {
        return Err(Failure::unauthenticated());
    }
    let Some(entry) = entry else {
        return Err(Failure::method(table::methods(path)));
    };
    check_page(&state, &caller, entry, req)?;
    if let Caller::Agent(claims) = &caller {
        check_route(claims, req)?;
    }
    check_role(&caller, entry)?;
    match caller {
        Caller::Agent(claims) if entry.access != Access::Open => {
            check_dispatch(&state, &claims, entry.access).await
        }
        _ => Ok(()),
    }
}

/// Foreign pages may neither change anything nor hold a stream.
fn check_page(
    state: &State,
    caller: &Caller,
    entry: &Entry,
    req: &ServiceRequest,
) -> Result<(), Failure> {
    let changes = !matches!(*req.method(), Method::GET | Method::HEAD);
    let in_browser = matches!(caller, Caller::Admin { in_browser: true });
    if changes || entry.is_stream || in_browser {
        return check_origin(&state.hosts, req.headers(), changes && in_browser);
    }
    Ok(())
}

/// What an agent's token names against what the route names.
fn check_route(claims: &Claims, req: &ServiceRequest) -> Result<(), Failure> {
    for (param, own, sentence) in [
        ("town", &claims.town_id, "Token townId does not match route"),
        ("rig", &claims.rig_id, "Token rigId does not match route"),
        (
            "agent",
            &claims.agent_id,
            "Token agentId does not match route",
        ),
    ] {
        if req
            .match_info()
            .get(param)
            .is_some_and(|named| named != own)
        {
            return Err(Failure::forbidden("wrong_scope", sentence));
        }
    }
    Ok(())
}

fn check_role(caller: &Caller, entry: &Entry) -> Result<(), Failure> {
    let may = match caller {
        Caller::Nobody => entry.access == Access::Open,
        Caller::Admin { .. } => true,
        Caller::Viewer => entry.access.is_for_viewers(),
        Caller::Agent(_) => entry.access.is_for_agents(),
    };
    if may {
        return Ok(());
    }
    let sentence = match caller {
        Caller::Viewer => "The viewer token may only read",
        _ => "An agent's token may not call this route",
    };
    Err(Failure::forbidden("forbidden", sentence))
}

/// A configured rig belongs to one town of one user, and a token ends with its dispatch.
async fn check_dispatch(state: &State, claims: &Claims, access: Access) -> Result<(), Failure> {
    let Ok(rig) = RigId::new(claims.rig_id.as_str()) else {
        return Err(Failure::forbidden(
            "wrong_scope",
            "Token rigId does not match route",
        ));
    };
    let agent = AgentId::new(claims.agent_id.as_str()).ok();
    let (town, live) = state
        .runtime
        .rig(&rig)?
        .look(move |rig, _| {
            let town = rig
                .record()
                .config
                .as_ref()
                .map(|config| config.town_id.clone());
            let hooked = agent.as_ref().and_then(|agent| rig.hook_of(agent));
            (town, hooked.and_then(rig::Bead::dispatch_id))
        })
        .await?;
    if let Some(town) = town {
        check_owner(state, claims, &town).await?;
    }
    let ended = match &claims.dispatch_id {
        Some(named) => live.is_none_or(|live| live.to_string() != *named),
        None => false,
    };
    // Reports are fenced by the rig itself: the same one again gets the same answer.
    if ended && access != Access::AgentReport {
        let sentence = "The dispatch of this token has ended";
        return Err(Failure::forbidden(DISPATCH_ENDED, sentence));
    }
    Ok(())
}

async fn check_owner(state: &State, claims: &Claims, town: &rig::TownId) -> Result<(), Failure> {
    if town.as_str() != claims.town_id {
        return Err(Failure::forbidden(
            "wrong_scope",
            "Token townId does not match route",
        ));
    }
    let towns = state.runtime.directory().all_towns().await?;
    // A rig that an embedder configured by itself has no owner here.
    let owner = towns
        .iter()
        .find(|known| known.id == *town)
        .map(|known| &known.owner_user_id);
    if owner.is_some_and(|owner| *owner != claims.user_id) {
        return Err(Failure::forbidden(
            "wrong_scope",
            "Token userId does not match route",
        ));
    }
    Ok(())
}
