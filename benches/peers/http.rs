//! As much of HTTP/1.1 as a load generator needs: a request in bytes, an answer's status and body.
//!
//! It reads lengths and chunks, since the peers use both. It is no client for anything else.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// A POST of that JSON, kept alive.
pub(crate) fn post(host: &str, path: &str, bearer: Option<&str>, body: &str) -> Vec<u8> {
    let bearer = bearer.map_or(String::new(), |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         {bearer}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One connection and what has been read from it beyond the last answer.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Where an answer's parts lie in what was read.
struct Head {
    status: u16,
    body_at: usize,
    length: Option<usize>,
}

impl Connection {
    pub(crate) async fn open(host: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends and gives the status; the body is dropped.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Outcome<u16> {
        let (status, end) = self.round(request).await?;
        self.read.drain(..end);
        Ok(status)
    }

    /// Sends and gives status and body, as it came.
    pub(crate) async fn ask_all(&mut self, request: &[u8]) -> Outcome<(u16, String)> {
        let (status, end) = self.round(request).await?;
        let whole: Vec<u8> = self.read.drain(..end).collect();
        let body_at = find(&whole, b"\r\n\r\n").map_or(0, |at| at + 4);
        Ok((
            status,
            String::from_utf8_lossy(&whole[body_at..]).into_owned(),
        ))
    }

    async fn round(&mut self, request: &[u8]) -> Outcome<(u16, usize)> {
        self.stream.write_all(request).await?;
        loop {
            if let Some(found) = answer_end(&self.read)? {
                return Ok(found);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}

/// Status and end of the first answer, once it is complete.
fn answer_end(read: &[u8]) -> Outcome<Option<(u16, usize)>> {
    let Some(head) = head(read)? else {
        return Ok(None);
    };
    let end = match head.length {
        Some(length) => Some(head.body_at + length).filter(|end| *end <= read.len()),
        None => chunks_end(read, head.body_at)?,
    };
    Ok(end.map(|end| (head.status, end)))
}

fn head(read: &[u8]) -> Outcome<Option<Head>> {
    let Some(end) = find(read, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&read[..end])?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.ok_or("an answer without a status")?.parse()?;
    let mut length = None;
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
    }
    Ok(Some(Head {
        status,
        body_at: end + 4,
        length,
    }))
}

fn chunks_end(read: &[u8], mut at: usize) -> Outcome<Option<usize>> {
    loop {
        let rest = read.get(at..).unwrap_or_default();
        let Some(line) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        at += line + 2 + size + 2;
        if size == 0 {
            return Ok(Some(at).filter(|end| *end <= read.len()));
        }
    }
}

fn find(read: &[u8], what: &[u8]) -> Option<usize> {
    read.windows(what.len()).position(|window| window == what)
}
