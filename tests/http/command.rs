//! The `wellhead up` command: its ready line, its signals, its exit codes.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(40);

fn command(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .args(more)
        .env_remove("WELLHEAD_JWT_SECRET")
        .env_remove("GASTOWN_JWT_SECRET")
        .env_remove("KILO_API_URL")
        .env_remove("KILOCODE_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Output {
    timeout(SOON, command.output())
        .await
        .expect("the command ends")
        .unwrap()
}

struct Up {
    child: Child,
    ready: Value,
    out: Lines<BufReader<ChildStdout>>,
}

async fn up(dir: &Path) -> Up {
    let mut child = command(dir, &["--json"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(SOON, out.next_line())
        .await
        .expect("a ready line")
        .unwrap()
        .unwrap();
    let ready = serde_json::from_str(&line).unwrap();
    Up { child, ready, out }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn up_says_where_it_is_and_ends_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut up = up(&data).await;
    let url = up.ready["url"].as_str().unwrap();
    assert_eq!(up.ready["pid"], Value::from(up.child.id().unwrap()));
    let token = std::fs::read_to_string(up.ready["admin_token_file"].as_str().unwrap()).unwrap();
    let request = reqwest::Client::new().get(format!("{url}/api/snapshot"));
    let answer = request.bearer_auth(token.trim()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);

    let second = output(&mut command(&data, &[])).await;
    assert_eq!(second.status.code(), Some(4), "refused by state");
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        why.contains(&up.child.id().unwrap().to_string()),
        "names the holder: {why}"
    );

    signal(&up.child, rustix::process::Signal::TERM);
    let status = timeout(SOON, up.child.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        up.out.next_line().await.unwrap(),
        None,
        "one line is all of stdout"
    );
    assert!(
        reqwest::get(format!("{url}/health")).await.is_err(),
        "nobody listens any more"
    );

    let again = self::up(&data).await;
    let same = std::fs::read_to_string(again.ready["admin_token_file"].as_str().unwrap()).unwrap();
    assert_eq!(same, token, "the token outlives the process");
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for listen in ["0.0.0.0:0", "192.0.2.1:0", "nonsense"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
        let command = command
            .args(["up", "--listen", listen, "--data-dir"])
            .arg(&data);
        let out = output(command).await;
        assert_eq!(out.status.code(), Some(2), "{listen}");
        assert!(out.stdout.is_empty());
    }
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test]
async fn a_short_signing_secret_ends_the_start_and_is_not_printed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = command(&data, &[]);
    let out = output(command.env("WELLHEAD_JWT_SECRET", "guessable")).await;
    assert_eq!(out.status.code(), Some(1));
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(why.contains("32") && !why.contains("guessable"), "{why}");
}
