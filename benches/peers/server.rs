//! Our entry in the race: the rig transition as a durable object of this crate's host, behind
//! actix-web.
//!
//! Nothing in here is faster than what any program can do with the host: one message per request,
//! one turn with three records, the reply when they are durable.

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, http::StatusCode, web};
use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, Message, Namespace, NoEffects, Object, ObjectId,
    Records, Settings, Store, Turn,
};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(clap::Args)]
pub(crate) struct ServerArgs {
    /// Where the store lies
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    listen: String,
    /// Threads for HTTP
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Threads for objects
    #[arg(long, default_value_t = 1)]
    arbiters: usize,
}

#[derive(Deserialize)]
struct Work {
    title: String,
    body: String,
}

#[derive(Serialize)]
struct Bead {
    id: u64,
    title: String,
    body: String,
    status: &'static str,
    agent: u64,
    created_at: i64,
}

#[derive(Serialize)]
struct Agent {
    id: u64,
    name: String,
    hook: u64,
    since: i64,
}

#[derive(Serialize)]
struct Answer {
    bead: Bead,
    agent: Agent,
}

impl Message for Work {
    type Reply = Answer;
}

/// The number of its transitions.
struct Rig(u64);

impl Object for Rig {
    const NAMESPACE: &'static str = "rig";
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self(records.get("count")?.unwrap_or(0)))
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Work> for Rig {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Work { title, body }: Work) -> Answer {
        self.0 += 1;
        let (id, now) = (self.0, turn.now());
        let agent = Agent {
            id: id % 8,
            name: format!("agent-{}", id % 8),
            hook: id,
            since: now,
        };
        let bead = Bead {
            id,
            title,
            body,
            status: "in_progress",
            agent: agent.id,
            created_at: now,
        };
        turn.put(&format!("bead/{id:012}"), &bead);
        turn.put(&format!("agent/{}", agent.id), &agent);
        turn.put("count", &self.0);
        Answer { bead, agent }
    }
}

async fn transition(
    rigs: web::Data<Namespace<Rig>>,
    rig: web::Path<String>,
    work: web::Json<Work>,
) -> HttpResponse {
    let Ok(id) = ObjectId::from_name(&rig) else {
        return HttpResponse::BadRequest().finish();
    };
    match rigs.stub(&id).send(work.into_inner()).await {
        Ok(answer) => HttpResponse::build(StatusCode::CREATED).json(answer),
        Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
    }
}

pub(crate) fn main(args: &ServerArgs) -> Outcome<()> {
    let settings = Settings {
        arbiters: args.arbiters,
        ..Settings::default()
    };
    let host = Host::start(Store::open(&args.dir)?, settings)?;
    let rigs = web::Data::new(host.namespace::<Rig>((), Arc::new(NoEffects)));
    actix_web::rt::System::new().block_on(async {
        let app = move || {
            App::new()
                .app_data(web::Data::clone(&rigs))
                .route("/rig/{rig}/transition", web::post().to(transition))
        };
        let server = HttpServer::new(app)
            .workers(args.workers)
            .bind(&args.listen)?;
        server.run().await?;
        host.stop().await;
        Ok(())
    })
}
