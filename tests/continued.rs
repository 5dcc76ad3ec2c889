//! A session that is cut right after its commit: whoever goes on is told of the commit, so that an
//! agent that looks at nothing by itself does not make it twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use rig::{Class, CredentialSource, Outcome, Status};
use secrecy::SecretString;
use support::{CANARY, Town, git, quick, scripted};
use wellhead::gateway::{Behaviour, ChatRequest, Gateway, GatewaySettings, Script};

/// Commits, and never comes to its end; once it is gone on with, it believes what it is told.
fn behaviour(request: &ChatRequest) -> Behaviour {
    let first_life = request.user_texts().count() == 1;
    let told = |text: &str| text.contains("note: meet") || text.contains("commits of an earlier");
    match (first_life, request.tool_has_answered()) {
        (true, true) => Behaviour::Hang,
        (false, true) => Behaviour::Text,
        _ if request.user_texts().last().is_some_and(told) => Behaviour::Text,
        _ => Behaviour::Commit,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_cut_after_its_commit_does_not_repeat_it() {
    let town = Town::start().await;
    let settings = GatewaySettings::new(SecretString::from(CANARY));
    let gateway = Gateway::start(Script::new(behaviour), settings)
        .await
        .unwrap();
    let token = SecretString::from(CANARY);
    let stored = town.runtime.store_token(Some(gateway.url()), token).await;
    let id = stored.unwrap();
    let config = town.config(CredentialSource::Stored { id });
    let rig = town.rig(config, quick()).await;
    let (bead, _) = rig.rig.sling(scripted("text")).await.unwrap();
    town.until_commit(&rig, &format!("gt/amber/{}", bead.id))
        .await;
    town.runtime.stop(Duration::ZERO).await;

    let mut settings = runtime::Settings::new(town.runtime.data_dir());
    settings.kilo_install = Some(support::kilo_install().await);
    let next = runtime::Runtime::start(settings).await.unwrap();
    let bead = town.until_terminal_of(&next, &rig.id, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:#?}");
    let uncharged = |outcome: &Outcome| {
        matches!(outcome, Outcome::Failed { failure, .. }
            if matches!(failure.class, Class::Lost | Class::Interrupted))
    };
    assert!(uncharged(&bead.attempts[0].outcome), "{bead:#?}");
    assert_eq!((bead.attempts.len(), bead.numbers.failures), (2, 0));
    let range = format!("origin/main..gt/amber/{}", bead.id);
    let commits = git(&rig.clone, &["rev-list", &range]);
    assert_eq!(commits.lines().count(), 1, "{commits}");
    next.stop(Duration::from_secs(20)).await;
    gateway.stop().await;
    town.gateway.stop().await;
}
