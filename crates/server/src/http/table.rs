//! Every route on one page: method, path, who may call, handler.
//!
//! Owns the rule that nothing is served without a row here (default-deny), and how rows become
//! resources. The tests walk this table.

use actix_web::{
    FromRequest as _, Resource, Route,
    middleware::from_fn,
    web::{self, ServiceConfig},
};

use super::{
    access::{Caller, admit},
    api::{
        agents, beads, breakers, budgets, container, control, escalations, events, health, letters,
        mail, policies, reports, reviews, session, snapshot, towns, users, work,
    },
    failure::Failure,
};
use crate::web as site;

/// Who may call a route. The admin may call every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a credential.
    Open,
    /// The viewer too; no agent.
    Read,
    /// The admin alone.
    Admin,
    /// The viewer and agents of the route's rig: reading its beads.
    RigRead,
    /// Agents of the route's rig: changing it in their own name.
    RigWrite,
    /// The viewer and the route's agent.
    AgentRead,
    /// The route's agent.
    AgentWrite,
    /// The route's agent, also after its dispatch: the rig fences these itself.
    AgentReport,
}

impl Access {
    pub(crate) fn is_for_viewers(self) -> bool {
        matches!(
            self,
            Self::Open | Self::Read | Self::RigRead | Self::AgentRead
        )
    }

    pub(crate) fn is_for_agents(self) -> bool {
        !matches!(self, Self::Read | Self::Admin)
    }
}

/// One route as documentation and tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

/// One row.
pub(crate) struct Entry {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// Whether an answer may stay open: foreign pages are refused like for a change.
    pub(crate) is_stream: bool,
    route: fn() -> Route,
}

const fn row(
    method: &'static str,
    path: &'static str,
    access: Access,
    route: fn() -> Route,
) -> Entry {
    Entry {
        method,
        path,
        access,
        is_stream: false,
        route,
    }
}

const fn get(path: &'static str, access: Access, route: fn() -> Route) -> Entry {
    row("GET", path, access, route)
}

const fn post(path: &'static str, access: Access, route: fn() -> Route) -> Entry {
    row("POST", path, access, route)
}

const fn stream(path: &'static str, access: Access, route: fn() -> Route) -> Entry {
    Entry {
        is_stream: true,
        ..get(path, access, route)
    }
}

const AGENT: &str = "/api/rigs/{rig}/agents/{agent}";
const REVIEWS: &str = "/api/rigs/{rig}/review-queue";
const HOOK: &str = "/api/rigs/{rig}/agents/{agent}/hook";
const BEAD: &str = "/api/rigs/{rig}/beads/{bead}";
const TOWN: &str = "/api/users/{user}/towns/{town}";
const USER_RIG: &str = "/api/users/{user}/rigs/{rig}";

#[rustfmt::skip]
static ENTRIES: &[Entry] = &[
    // What is open, and the page itself; its data needs a credential.
    get("/", Access::Open, || web::get().to(site::page)),
    get("/assets/app.js", Access::Open, || web::get().to(site::script)),
    get("/assets/app.css", Access::Open, || web::get().to(site::style)),
    get("/health", Access::Open, || web::get().to(health::health)),
    get("/livez", Access::Open, || web::get().to(health::health)),
    get("/readyz", Access::Open, || web::get().to(health::ready)),
    post("/api/session", Access::Open, || web::post().to(session::begin)),

    // What is asked most comes first: a router looks from the top.
    post("/api/rigs/{rig}/sling", Access::Admin, || web::post().to(beads::sling)),

    // Beads.
    post("/api/rigs/{rig}/beads", Access::Admin, || web::post().to(beads::create)),
    get("/api/rigs/{rig}/beads", Access::RigRead, || web::get().to(beads::list)),
    get(BEAD, Access::RigRead, || web::get().to(beads::show)),
    row("DELETE", BEAD, Access::Admin, || web::delete().to(beads::delete)),
    row("PATCH", "/api/rigs/{rig}/beads/{bead}/status", Access::RigWrite, || web::patch().to(beads::set_status)),
    post("/api/rigs/{rig}/beads/{bead}/close", Access::RigWrite, || web::post().to(beads::close)),
    get("/api/rigs/{rig}/beads/{bead}/explain", Access::Read, || web::get().to(beads::explain)),
    get("/api/rigs/{rig}/beads/{bead}/attempts", Access::Read, || web::get().to(beads::attempts)),
    post("/api/rigs/{rig}/beads/{bead}/retry", Access::Admin, || web::post().to(beads::retry)),
    post("/api/rigs/{rig}/beads/{bead}/cancel", Access::Admin, || web::post().to(beads::cancel)),

    // Agents.
    post("/api/rigs/{rig}/agents", Access::Admin, || web::post().to(agents::create)),
    get("/api/rigs/{rig}/agents", Access::Read, || web::get().to(agents::list)),
    // Before the agents by id, which it would be one of.
    post("/api/rigs/{rig}/agents/get-or-create", Access::Admin, || web::post().to(agents::get_or_create)),
    get(AGENT, Access::AgentRead, || web::get().to(agents::show)),
    row("DELETE", AGENT, Access::Admin, || web::delete().to(agents::delete)),
    get("/api/rigs/{rig}/agents/{agent}/prime", Access::AgentRead, || web::get().to(work::prime)),
    post("/api/rigs/{rig}/agents/{agent}/checkpoint", Access::AgentWrite, || web::post().to(work::checkpoint)),
    get("/api/rigs/{rig}/agents/{agent}/mail", Access::AgentRead, || web::get().to(mail::list)),
    post("/api/rigs/{rig}/mail", Access::RigWrite, || web::post().to(mail::send)),
    get("/api/rigs/{rig}/agents/{agent}/events", Access::AgentRead, || web::get().to(mail::events)),
    post("/api/rigs/{rig}/agent-events", Access::RigWrite, || web::post().to(mail::append_event)),
    post(HOOK, Access::AgentWrite, || web::post().to(agents::hook)),
    row("DELETE", HOOK, Access::AgentWrite, || web::delete().to(agents::unhook)),
    post("/api/rigs/{rig}/agents/{agent}/done", Access::AgentReport, || web::post().to(reports::done)),
    post("/api/rigs/{rig}/agents/{agent}/completed", Access::AgentReport, || web::post().to(reports::completed)),
    post("/api/rigs/{rig}/agents/{agent}/heartbeat", Access::AgentReport, || web::post().to(reports::heartbeat)),

    // The review queue.
    post(REVIEWS, Access::RigWrite, || web::post().to(reviews::submit)),
    get(REVIEWS, Access::Read, || web::get().to(reviews::list)),
    post("/api/rigs/{rig}/review-queue/{review}/complete", Access::Admin, || web::post().to(reviews::complete)),

    // The rig.
    post("/api/rigs/{rig}/escalations", Access::RigWrite, || web::post().to(escalations::create)),
    get("/api/rigs/{rig}/events", Access::Read, || web::get().to(events::of_rig)),
    get("/api/rigs/{rig}/breaker", Access::Read, || web::get().to(breakers::of_rig)),
    post("/api/rigs/{rig}/breaker/reset", Access::Admin, || web::post().to(breakers::reset_of_rig)),
    get("/api/rigs/{rig}/policy", Access::Read, || web::get().to(policies::of_rig)),
    row("PUT", "/api/rigs/{rig}/policy", Access::Admin, || web::put().to(policies::set_of_rig)),
    get("/api/rigs/{rig}/budget", Access::Read, || web::get().to(budgets::of_rig)),
    row("PUT", "/api/rigs/{rig}/budget", Access::Admin, || web::put().to(budgets::set_of_rig)),
    post("/api/rigs/{rig}/pause", Access::Admin, || web::post().to(control::pause_rig)),
    post("/api/rigs/{rig}/stop", Access::Admin, || web::post().to(control::stop_rig)),
    post("/api/rigs/{rig}/resume", Access::Admin, || web::post().to(control::resume_rig)),

    // Towns and their rigs.
    post("/api/users/{user}/towns", Access::Admin, || web::post().to(towns::create)),
    get("/api/users/{user}/towns", Access::Read, || web::get().to(towns::list)),
    get(TOWN, Access::Read, || web::get().to(towns::show)),
    row("DELETE", TOWN, Access::Admin, || web::delete().to(towns::delete)),
    get("/api/users/{user}/towns/{town}/rigs", Access::Read, || web::get().to(towns::rigs)),
    get("/api/users/{user}/towns/{town}/events", Access::Read, || web::get().to(events::of_town)),
    post("/api/users/{user}/rigs", Access::Admin, || web::post().to(users::create_rig)),
    get(USER_RIG, Access::Read, || web::get().to(users::show_rig)),
    row("PATCH", USER_RIG, Access::Admin, || web::patch().to(users::update_rig)),
    row("DELETE", USER_RIG, Access::Admin, || web::delete().to(users::delete_rig)),

    // A town's container.
    post("/api/towns/{town}/container/agents/start", Access::Admin, || web::post().to(container::start)),
    post("/api/towns/{town}/container/agents/{agent}/stop", Access::Admin, || web::post().to(container::stop)),
    post("/api/towns/{town}/container/agents/{agent}/message", Access::Admin, || web::post().to(container::message)),
    get("/api/towns/{town}/container/agents/{agent}/status", Access::Read, || web::get().to(container::status)),
    get("/api/towns/{town}/container/health", Access::Read, || web::get().to(container::health)),

    // What the rigs of a town share.
    get("/api/towns/{town}/breakers", Access::Read, || web::get().to(breakers::of_town)),
    post("/api/towns/{town}/breakers/reset", Access::Admin, || web::post().to(breakers::reset_of_town)),
    get("/api/towns/{town}/policy", Access::Read, || web::get().to(policies::of_town)),
    row("PUT", "/api/towns/{town}/policy", Access::Admin, || web::put().to(policies::set_of_town)),
    get("/api/towns/{town}/budget", Access::Read, || web::get().to(budgets::of_town)),
    row("PUT", "/api/towns/{town}/budget", Access::Admin, || web::put().to(budgets::set_of_town)),
    post("/api/towns/{town}/pause", Access::Admin, || web::post().to(control::pause_town)),
    post("/api/towns/{town}/stop", Access::Admin, || web::post().to(control::stop_town)),
    post("/api/towns/{town}/resume", Access::Admin, || web::post().to(control::resume_town)),

    // Everything at once.
    get("/api/escalations", Access::Read, || web::get().to(escalations::list)),
    get("/api/dead-letters", Access::Read, || web::get().to(letters::list)),
    post("/api/dead-letters/{sender}/{id}/{seq}/retry", Access::Admin, || web::post().to(letters::retry)),
    post("/api/dead-letters/{sender}/{id}/{seq}/drop", Access::Admin, || web::post().to(letters::discard)),
    post("/api/escalations/{escalation}/ack", Access::Admin, || web::post().to(escalations::acknowledge)),
    post("/api/escalations/{escalation}/resolve", Access::Admin, || web::post().to(escalations::resolve)),
    stream("/api/snapshot", Access::Read, || web::get().to(snapshot::snapshot)),
];

/// Every route that is served.
pub fn routes() -> Vec<RouteInfo> {
    let info = |entry: &Entry| RouteInfo {
        method: entry.method,
        path: entry.path,
        access: entry.access,
    };
    ENTRIES.iter().map(info).collect()
}

/// The row of a method and a path.
pub(crate) fn entry(method: &str, path: &str) -> Option<&'static Entry> {
    ENTRIES
        .iter()
        .find(|entry| entry.method == method && entry.path == path)
}

/// The methods of a path, for `Allow`.
pub(crate) fn methods(path: &str) -> String {
    let own = ENTRIES.iter().filter(|entry| entry.path == path);
    own.map(|entry| entry.method).collect::<Vec<_>>().join(", ")
}

/// Mounts every row behind the gate, and the answer for everything else.
pub(crate) fn mount(config: &mut ServiceConfig) {
    for (index, entry) in ENTRIES.iter().enumerate() {
        let is_first = ENTRIES
            .iter()
            .take(index)
            .all(|earlier| earlier.path != entry.path);
        if is_first {
            config.service(resource(entry.path));
        }
    }
    config.default_service(web::to(unknown));
}

fn resource(path: &'static str) -> impl actix_web::dev::HttpServiceFactory + 'static {
    let mut resource = Resource::new(path);
    for entry in ENTRIES.iter().filter(|entry| entry.path == path) {
        resource = resource.route((entry.route)());
    }
    resource.wrap(from_fn(move |req, next| admit(path, req, next)))
}

/// An unknown path is nobody's business without a credential.
async fn unknown(req: actix_web::HttpRequest) -> Result<actix_web::HttpResponse, Failure> {
    let ctx = super::ctx::Ctx::extract(&req).await?;
    match ctx.caller {
        Caller::Nobody => Err(Failure::unauthenticated()),
        _ => Err(Failure::no_route()),
    }
}
