//! HTTP over any stream: one GET, and whether status and body are as wanted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::failure::{Answer, Failure, Good};
use crate::config::HttpCheck;

/// As much of a body is looked at.
const MOST_BODY_BYTES: usize = 256 << 10;

/// A request that is made again and again.
pub(super) struct HttpProbe {
    check: HttpCheck,
    body_matches: Option<Regex>,
}

impl HttpProbe {
    /// The expression was found good when the configuration was read.
    pub(super) fn new(check: &HttpCheck) -> Self {
        let body_matches = check.body_matches.as_ref().and_then(|pattern| Regex::new(pattern).ok());
        Self { check: check.clone(), body_matches }
    }

    /// Makes the request over `stream`, which leads to `server`.
    pub(super) async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Unpin, server: SocketAddr) -> Answer {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(Unclosed(stream))).await.map_err(Failure::Http)?;
        let exchange = async {
            let response = sender.send_request(self.request(server)?).await.map_err(Failure::Http)?;
            let status = response.status().as_u16();
            if !self.check.status.contains(status) {
                return Err(Failure::Status { status, wanted: self.check.status.clone() });
            }
            self.judge_body(status, response.into_body()).await?;
            Ok(Good(format!("HTTP status {status}")))
        };
        tokio::pin!(exchange);
        // A connection that ends leaves its last answer behind, or an error for the exchange to find.
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn request(&self, server: SocketAddr) -> Result<Request<Empty<Bytes>>, Failure> {
        let host = self.check.host.clone().unwrap_or_else(|| server.to_string());
        let agent = concat!("pointsman-health/", env!("CARGO_PKG_VERSION"));
        Request::get(&self.check.path)
            .header(HOST, host)
            .header(USER_AGENT, agent)
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| Failure::System { step: "make the request", source: std::io::Error::other(error) })
    }

    async fn judge_body(&self, status: u16, mut body: Incoming) -> Result<(), Failure> {
        if self.check.body_contains.is_none() && self.body_matches.is_none() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        while bytes.len() < MOST_BODY_BYTES
            && let Some(frame) = body.frame().await
        {
            if let Ok(data) = frame.map_err(Failure::Http)?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        bytes.truncate(MOST_BODY_BYTES);
        let wrong = |what| Err(Failure::Body { status, what });
        if let Some(text) = &self.check.body_contains
            && !contains(&bytes, text.as_bytes())
        {
            return wrong(format!("the body does not contain {text:?}"));
        }
        if let Some(pattern) = &self.body_matches
            && !pattern.is_match(&bytes)
        {
            return wrong(format!("the body does not match {:?}", pattern.as_str()));
        }
        Ok(())
    }
}

/// A stream that is not shut down by FIN, which would leave TIME-WAIT behind; dropping it ends the connection by RST.
struct Unclosed<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Unclosed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unclosed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether `bytes` has `part` in it.
pub(super) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}
