//! One call on a connection of its own, and the messages of its answer.

use crate::dialect::{Dialect, Grpc, Heard};
use crate::line::{self, Target};
use anyhow::{Context, Result};
use prost::Message;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// A call under way.
pub struct Call {
    stream: TlsStream<TcpStream>,
    grpc: Grpc,
    out: Vec<u8>,
    inbox: Vec<u8>,
    heard: Vec<Heard>,
}

impl Call {
    /// Sends the request of host number `index`.
    ///
    /// # Errors
    /// No connection.
    pub async fn open(
        target: Target,
        index: usize,
        tls: Arc<ClientConfig>,
        method: &str,
        request: &impl Message,
    ) -> Result<Self> {
        let mut call = Self {
            stream: line::open(target, index, tls).await?,
            grpc: Grpc::unary(method, request),
            out: Vec::new(),
            inbox: Vec::new(),
            heard: Vec::new(),
        };
        call.grpc.greeting(&mut call.out);
        Ok(call)
    }

    /// The next message of the answer; none at its end, whole or not.
    ///
    /// # Errors
    /// The connection breaks, or the server's frames cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.grpc.answers.pop_front() {
                return Ok(Some(message));
            }
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await?;
            self.out.clear();
            if self.heard.contains(&Heard::Ended)
                || self.stream.read_buf(&mut self.inbox).await? == 0
            {
                return Ok(None);
            }
            self.grpc
                .take(&mut self.inbox, &mut self.out, &mut self.heard)?;
        }
    }
}

/// A call whose answer is one message.
///
/// # Errors
/// No connection, or a refusal.
pub async fn ask(
    target: Target,
    index: usize,
    tls: Arc<ClientConfig>,
    method: &str,
    request: &impl Message,
) -> Result<Vec<u8>> {
    let mut call = Call::open(target, index, tls, method, request).await?;
    let answer = call.next().await?;
    answer.context("the call ended without an answer")
}
