//! Starting, failing to start, and ending a server, with real processes.

mod support;

use kilo::{Identity, Server, StartErrorKind};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use support::{Bench, DEADLINE, GRACE, TOKEN, plain, within};

#[tokio::test]
async fn a_server_starts_and_ends_without_a_trace() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    assert_eq!(server.version(), "7.7.7");
    assert_eq!(
        kilo::identify(server.pid()).unwrap().start_time,
        server.start_time()
    );
    assert!(server.check_model("fake/ok").await.is_ok());
    let ended = server.end(GRACE).await;
    assert_eq!(
        (ended.exit.code, ended.forced),
        (Some(0), false),
        "{ended:?}"
    );
    assert!(ended.survivors.is_empty());
    assert_eq!(within("the exit", server.exited()).await.code, Some(0));
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn stored_credentials_are_removed_and_directories_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(&plain());
    let auth = bench.dir.path().join("private/data/kilo/auth.json");
    std::fs::create_dir_all(auth.parent().unwrap()).unwrap();
    std::fs::write(&auth, "{}").unwrap();
    let server = bench.start().await;
    assert!(!auth.exists());
    for dir in ["private", "private/home", "private/config", "private/tmp"] {
        let mode = bench
            .dir
            .path()
            .join(dir)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    server.end(GRACE).await;
}

#[tokio::test]
async fn the_password_and_the_token_are_not_in_the_arguments() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let argv = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let argv = String::from_utf8_lossy(&argv).replace('\0', " ");
    assert!(
        argv.contains("serve --hostname 127.0.0.1 --port 0"),
        "{argv}"
    );
    let environ = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let password = environ
        .split('\0')
        .find_map(|pair| pair.strip_prefix("KILO_SERVER_PASSWORD="));
    assert!(!environ.contains("CARGO_"), "the host's environment");
    let shown = format!("{server:?} {argv}");
    assert!(
        !shown.contains(password.unwrap()) && !shown.contains(TOKEN),
        "{shown}"
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_spawn_error() {
    let bench = Bench::new(&plain());
    let mut settings = bench.settings();
    settings.program.path = "/nonexistent/kilo".into();
    let error = Server::start(settings).await.unwrap_err();
    assert_eq!(error.kind, StartErrorKind::Spawn);
    assert!(error.text.contains("setting"), "{error}");
}

#[tokio::test]
async fn an_early_exit_tells_its_last_words_without_secrets() {
    let bench = Bench::new(&json!({ "start": "exit1", "leak": true }));
    let error = bench.try_start().await.unwrap_err();
    let StartErrorKind::Exited(info) = &error.kind else {
        panic!("{error:?}")
    };
    assert_eq!(info.code, Some(1));
    assert!(error.text.contains("ServeError"), "{error}");
    assert!(!format!("{error:?}").contains(TOKEN), "{error:?}");
    assert!(
        format!("{error:?}").contains("[redacted] [redacted]"),
        "{error:?}"
    );
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn a_server_that_never_gets_ready_is_ended_at_the_deadline() {
    let bench = Bench::new(&json!({ "start": "never", "ignoreSigterm": true }));
    let mut settings = bench.settings();
    settings.start_deadline = Duration::from_millis(500);
    let error = Server::start(settings).await.unwrap_err();
    assert_eq!(error.kind, StartErrorKind::Timeout);
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn a_slow_start_is_no_failure() {
    let bench = Bench::new(&json!({ "readyDelayMs": 400, "badOutput": true }));
    bench.start().await.end(GRACE).await;
}

#[tokio::test]
async fn another_version_is_refused_and_ended() {
    let bench = Bench::new(&json!({ "version": "7.0.33" }));
    let error = bench.try_start().await.unwrap_err();
    assert_eq!(error.kind, StartErrorKind::UnsupportedVersion);
    assert!(
        error.text.contains("7.0.33") && error.text.contains("install"),
        "{error}"
    );
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn a_rejected_configuration_is_an_error() {
    let bench = Bench::new(&json!({ "configWarning": format!("bad near {TOKEN}") }));
    let error = bench.try_start().await.unwrap_err();
    assert_eq!(error.kind, StartErrorKind::ConfigRejected);
    assert!(
        error.text.contains("bad near") && !error.text.contains(TOKEN),
        "{error}"
    );
}

#[tokio::test]
async fn a_flood_without_newlines_does_not_block_the_server() {
    let bench = Bench::new(&json!({ "floodMiB": 64 }));
    bench.start().await.end(GRACE).await;
}

#[tokio::test]
async fn a_private_directory_that_cannot_be_made_is_named() {
    let bench = Bench::new(&plain());
    let mut settings = bench.settings();
    settings.private_dir = Path::new("/proc/nothing").to_owned();
    let error = Server::start(settings).await.unwrap_err();
    assert_eq!(error.kind, StartErrorKind::PrivateDir);
    assert!(error.text.contains("/proc/nothing"), "{error}");
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_with_its_grandchild() {
    let bench = Bench::new(&json!({ "ignoreSigterm": true, "grandchild": true }));
    let server = bench.start().await;
    assert_eq!(bench.left().len(), 2);
    let ended = within("the end", server.end(Duration::from_millis(200))).await;
    assert!(ended.forced && ended.exit.signal == Some(9), "{ended:?}");
    assert_eq!(
        (ended.descendants, ended.survivors.len()),
        (1, 0),
        "{ended:?}"
    );
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn a_grandchild_without_our_marker_is_found_by_its_ancestry() {
    let bench = Bench::new(&json!({ "grandchild": true }));
    let mut settings = bench.settings();
    settings.marker = Vec::new();
    let server = Server::start(settings).await.unwrap();
    let child = within("the grandchild", async {
        loop {
            let pid = server.pid();
            let all = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            if let Some(pid) = all.split_whitespace().next() {
                break kilo::identify(pid.parse().unwrap()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let ended = server.end(GRACE).await;
    assert_eq!(ended.descendants, 1, "{ended:?}");
    assert!(!kilo::is_alive(child));
}

#[tokio::test]
async fn a_crash_is_noticed_and_its_grandchildren_are_ended() {
    let bench = Bench::new(&json!({ "grandchild": true }));
    let server = bench.start().await;
    std::process::Command::new("kill")
        .args(["-9", &server.pid().to_string()])
        .status()
        .unwrap();
    assert_eq!(within("the exit", server.exited()).await.signal, Some(9));
    bench.nothing_left().await;
    assert!(server.end(GRACE).await.survivors.is_empty());
}

#[tokio::test]
async fn dropping_the_handle_ends_everything() {
    let bench = Bench::new(&json!({ "grandchild": true }));
    drop(bench.start().await);
    bench.nothing_left().await;
}

#[test]
fn a_runtime_that_goes_away_takes_its_servers_along() {
    let bench = Bench::new(&json!({ "grandchild": true, "ignoreSigterm": true }));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(bench.start());
    assert_eq!(bench.left().len(), 2);
    drop(runtime);
    let watch = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    watch.block_on(bench.nothing_left());
    drop(server);
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing() {
    let bench = Bench::new(&json!({ "start": "never" }));
    let started = tokio::spawn(Server::start(bench.settings()));
    within("the process", async {
        while bench.left().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    started.abort();
    bench.nothing_left().await;
}

/// Where the process below is told to start a server; without it, that test has nothing to do.
const HELPER: &str = "KILO_TEST_PRIVATE_DIR";

#[tokio::test]
async fn helper_that_starts_a_server_and_waits_to_be_killed() {
    let Some(dir) = std::env::var_os(HELPER) else {
        return;
    };
    let bench = Bench::new(&plain());
    let mut settings = bench.settings();
    settings.private_dir = dir.into();
    settings.marker = vec![(
        "WELLHEAD_SERVER".to_owned(),
        std::env::var("HELPER_MARKER").unwrap(),
    )];
    let server = Server::start(settings).await.unwrap();
    server.exited().await;
}

#[tokio::test]
async fn a_server_does_not_outlive_a_killed_owner() {
    let bench = Bench::new(&json!({ "ignoreParent": true }));
    let settings = bench.settings();
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "helper_that_starts_a_server_and_waits_to_be_killed",
        ])
        .env(HELPER, &settings.private_dir)
        .env("HELPER_MARKER", &bench.marker[0].1)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Running, and past the moment between fork and exec.
    within("the server", async {
        while !settings.private_dir.join("tmp").exists() || bench.left().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    bench.nothing_left().await;
}

#[tokio::test]
async fn leftovers_are_found_by_the_whole_marker_only() {
    let bench = Bench::new(&json!({ "grandchild": true }));
    let server = bench.start().await;
    let mut other = bench.marker.clone();
    other.push(("WELLHEAD_INSTANCE".to_owned(), "another".to_owned()));
    assert_eq!(kilo::end_marked(&other, GRACE).await.ended, 0);
    // A user's own server, or another data directory's: the same program and the same name.
    let (name, value) = &bench.marker[0];
    let foreign = [(name.clone(), format!("{value}-of-another"))];
    assert_eq!(kilo::end_marked(&foreign, GRACE).await.ended, 0);
    let swept = kilo::end_marked(&bench.marker, GRACE).await;
    assert_eq!((swept.ended, swept.survivors.len()), (2, 0));
    tokio::time::timeout(DEADLINE, server.exited())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_recorded_leftover_is_ended_without_its_marker_and_a_stranger_with_its_number_is_not() {
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .env_clear()
        .spawn()
        .unwrap();
    let recorded = kilo::identify(child.id()).unwrap();
    let reused = Identity {
        start_time: recorded.start_time - 1,
        ..recorded
    };
    assert_eq!(kilo::end_recorded(vec![reused], GRACE).await.ended, 0);
    assert!(kilo::is_alive(recorded));
    let swept = kilo::end_recorded(vec![recorded], GRACE).await;
    assert_eq!((swept.ended, swept.survivors.len()), (1, 0));
    child.wait().unwrap();
}

#[tokio::test]
async fn a_leftover_that_ignores_sigterm_is_killed() {
    let bench = Bench::new(&json!({ "ignoreSigterm": true }));
    let server = bench.start().await;
    let sweep = kilo::end_marked(&bench.marker, Duration::from_millis(200));
    let swept = within("the sweep", sweep).await;
    assert_eq!((swept.ended, swept.survivors.len()), (1, 0), "{swept:?}");
    assert_eq!(within("the exit", server.exited()).await.signal, Some(9));
}

#[tokio::test]
async fn the_end_of_a_server_leaves_others_with_its_marker_alone() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut other = Bench::new(&plain());
    other.marker.clone_from(&bench.marker);
    other.start().await.end(GRACE).await;
    assert_eq!(server.exit_info(), None, "after the end of another");
    let mut failing = Bench::new(&json!({ "start": "never" }));
    failing.marker.clone_from(&bench.marker);
    let mut settings = failing.settings();
    settings.start_deadline = Duration::from_millis(300);
    Server::start(settings).await.unwrap_err();
    assert_eq!(server.exit_info(), None, "after a start that failed");
    assert_eq!(bench.left(), [server.pid()]);
    server.end(GRACE).await;
    assert!(bench.left().is_empty());
}
