//! The gateway's three routes: who may ask is judged here, and what `reply` planned is played here.
//!
//! It decides nothing about the content of an answer.

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::log::{Ledger, RequestLog};
use super::reply::{self, Part, Reply};
use super::request::ChatRequest;
use super::script::Script;
use super::wire::{self, Envelope};

/// A long conversation is a few megabytes; more than this is a mistake.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What the routes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) script: Script,
    pub(super) token: RwLock<SecretString>,
    pub(super) models: Vec<String>,
    pub(super) ledger: Ledger,
}

/// Every route of the gateway.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
        .route("/api/openrouter/models", web::get().to(models))
        .route("/api/defaults", web::get().to(defaults))
        .route("/api/openrouter/chat/completions", web::post().to(chat))
        .default_service(web::to(unknown));
}

/// Whether a request carries the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearer {
    Right,
    Wrong,
    Missing,
}

impl Shared {
    fn bearer(&self, headers: &HeaderMap) -> Bearer {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Bearer::Missing;
        };
        let Some(sent) = header.as_bytes().strip_prefix(b"Bearer ") else {
            return Bearer::Wrong;
        };
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        // An attacker on the same machine must not learn the token from the time it takes.
        let right = bool::from(token.expose_secret().as_bytes().ct_eq(sent));
        if right { Bearer::Right } else { Bearer::Wrong }
    }

    /// Chooses the reply to a chat request and writes the request down.
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Reply {
        let (task_id, mode) = (
            text(headers, "x-kilocode-taskid"),
            text(headers, "x-kilocode-mode"),
        );
        let request = ChatRequest::parse(task_id.to_owned(), mode.to_owned(), body);
        let model = request
            .as_ref()
            .map_or("", |request| request.model.as_str());
        let mut log = RequestLog::new(task_id, mode, model, "refused");
        log.authorized = self.bearer(headers) == Bearer::Right;
        let reply = match (&request, log.authorized) {
            (_, false) => unauthorized(),
            (Err(error), true) => reply::refuse(400, &format!("not a chat request: {error}")),
            (Ok(request), true) => self.scripted(request, &mut log),
        };
        self.ledger.record(log);
        reply
    }

    fn scripted(&self, request: &ChatRequest, log: &mut RequestLog) -> Reply {
        if !request.stream {
            return reply::refuse(
                400,
                "the scripted gateway only streams; send \"stream\": true",
            );
        }
        let envelope = Envelope {
            id: format!("gen_{}", uuid::Uuid::new_v4().simple()),
            model: request.model.clone(),
            created_s: log.at_ms / 1_000,
        };
        if request.mode == "title" {
            log.behaviour = "title";
            return reply::title(request, &envelope);
        }
        match self.script.choose(request) {
            Ok(behaviour) => {
                log.behaviour = behaviour.name();
                reply::plan(&behaviour, request, &envelope)
            }
            Err(error) => reply::refuse(400, &error.to_string()),
        }
    }
}

fn unauthorized() -> Reply {
    reply::refuse(401, "No auth credentials found or the token is wrong")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The list is public, as the real one is; a wrong token is refused all the same.
async fn models(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    shared.ledger.count_models();
    match shared.bearer(request.headers()) {
        Bearer::Wrong => play(shared.into_inner(), unauthorized()).await,
        Bearer::Right | Bearer::Missing => HttpResponse::Ok().json(wire::models(&shared.models)),
    }
}

async fn defaults() -> HttpResponse {
    HttpResponse::Ok().json(wire::defaults())
}

async fn chat(shared: web::Data<Shared>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let reply = shared.answer(request.headers(), &body);
    play(shared.into_inner(), reply).await
}

async fn unknown(request: HttpRequest) -> HttpResponse {
    let message = format!("the scripted gateway has no route {}", request.path());
    HttpResponse::NotFound().json(wire::error(404, &message))
}

/// Counts an answer as long as it lasts; dropped when the client leaves.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: Arc<Shared>) -> Self {
        shared.ledger.begin_answer();
        Self(shared)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ledger.end_answer();
    }
}

async fn play(shared: Arc<Shared>, reply: Reply) -> HttpResponse {
    let in_flight = InFlight::new(shared);
    match reply {
        Reply::Silence => std::future::pending().await,
        Reply::Error {
            status,
            retry_after_s,
            body,
        } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = HttpResponse::build(status);
            if let Some(seconds) = retry_after_s {
                response.insert_header((RETRY_AFTER, seconds));
            }
            response.json(body)
        }
        Reply::Stream(parts) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/event-stream"))
            .insert_header(("cache-control", "no-cache"))
            .streaming(events(parts, in_flight)),
    }
}

fn events(
    parts: Vec<Part>,
    in_flight: InFlight,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    async_stream::stream! {
        let _in_flight = in_flight;
        for part in parts {
            match part {
                Part::Send(text) => yield Ok(Bytes::from(text)),
                Part::Pause(pause) => tokio::time::sleep(pause).await,
                Part::Cut => {
                    yield Err(std::io::ErrorKind::ConnectionReset.into());
                    return;
                }
                // Dropped with the connection, when the client leaves or the gateway stops.
                Part::Silence => std::future::pending::<()>().await,
            }
        }
    }
}
