//! A host program on plain tokio with a route of its own and a town inside.
//!
//! The host decides what the world sees; the town keeps its state below a directory of the host's.
//! Run it: `cargo run --example embed`. It ends by itself.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::Duration;

use rig::NewBead;
use runtime::{Runtime, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let dir = tempfile::tempdir()?;
    let town = Runtime::start(Settings::new(dir.path().join("town"))).await?;

    // The host's own server; each request makes a bead in the rig `orders`.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener, town.clone()));
    let answer = ask(address).await?;
    println!("the host answered: {answer}");

    // The bead is durable: the answer left after it was on disk.
    let beads = town.rig(&"orders".to_owned().try_into()?)?.beads().await?;
    println!("the town holds {} bead: {}", beads.len(), beads[0].title);
    server.abort();
    town.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn serve(listener: TcpListener, town: Runtime) -> Result<(), Trouble> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let mut request = [0; 1_024];
        let length = client.read(&mut request).await?;
        let line = String::from_utf8_lossy(&request[..length]);
        let title = line
            .split_whitespace()
            .nth(1)
            .unwrap_or("/")
            .trim_start_matches('/');
        let rig = town.rig(&"orders".to_owned().try_into()?)?;
        let (bead, agent) = rig.sling(NewBead::issue(title)).await?;
        let body = format!("{} is on the hook of {}", bead.title, agent.name);
        let head = format!(
            "HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write_all((head + &body).as_bytes()).await?;
    }
}

async fn ask(address: std::net::SocketAddr) -> Result<String, Trouble> {
    let mut host = TcpStream::connect(address).await?;
    host.write_all(b"POST /write-a-changelog HTTP/1.1\r\nhost: me\r\n\r\n")
        .await?;
    let mut answer = [0; 1_024];
    let length = host.read(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(text.lines().last().unwrap_or_default().to_owned())
}
