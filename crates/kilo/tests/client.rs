//! Calls that a session does not make: tools of a directory, and errors without secrets.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use kilo::ClientErrorKind;
use std::sync::{Arc, Mutex};
use support::{Bench, GRACE, plain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BEARER: &str = "canary-bearer-987654";

/// An MCP server that answers everything with an empty result, and notes what it was sent.
async fn tools() -> (url::Url, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 16 * 1024];
            let read = socket.read(&mut request).await.unwrap_or(0);
            notes
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&request[..read]));
            let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
            let status = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, heard)
}

#[tokio::test]
async fn tools_are_registered_with_their_bearer() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let (url, heard) = tools().await;
    let bearer = BEARER.to_owned().into();
    server
        .client()
        .register_mcp(&bench.work(), "wellhead", &url, &bearer)
        .await
        .unwrap();
    assert!(heard.lock().unwrap().contains(&format!("Bearer {BEARER}")));
    server.end(GRACE).await;
}

#[tokio::test]
async fn tools_that_cannot_be_reached_are_an_error_without_the_bearer() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let url = "http://127.0.0.1:9/mcp".parse().unwrap();
    let bearer = BEARER.to_owned().into();
    let error = server
        .client()
        .register_mcp(&bench.work(), "wellhead", &url, &bearer)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Answer);
    assert!(
        error.text.contains("failed") && !format!("{error:?}").contains(BEARER),
        "{error}"
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_call_to_a_server_that_is_gone_fails_at_once() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let client = server.client();
    server.end(GRACE).await;
    let error = client.status(&bench.work()).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Connect);
    assert!(!error.text.contains("work"), "a directory in {error}");
}

#[tokio::test]
async fn unknown_routes_and_sessions_are_statuses() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let client = server.client();
    let error = client
        .messages("ses_nope", &bench.work(), 1)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Status(404));
    // An id is a path's part and nothing more.
    let error = client
        .messages("../../global/health?x=", &bench.work(), 1)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Status(404));
    assert!(
        !client
            .session_exists("ses_nope", &bench.work())
            .await
            .unwrap()
    );
    client.abort("ses_nope", &bench.work()).await.unwrap();
    server.end(GRACE).await;
}
