//! The client's side of a capture: an answer that is read piece by piece for as long as it lasts.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::CAPTURE;
use super::capture::{CAPTURE_ID, CaptureQuestion};
use super::client::{Client, ClientError, with_query};

/// A capture that runs. Dropping it ends it, without statistics.
#[derive(Debug)]
pub struct RunningCapture {
    client: Client,
    id: u64,
    body: Incoming,
    connection: JoinHandle<hyper::Result<()>>,
    // The last to go: the others live in it.
    runtime: Runtime,
}

impl Client {
    /// Begins a capture.
    ///
    /// # Errors
    /// [`ClientError`]; status 409 if another one runs.
    pub fn capture(&self, question: &CaptureQuestion) -> Result<RunningCapture, ClientError> {
        let runtime = self.runtime()?;
        let route = with_query(CAPTURE, &question.parameters());
        let (response, connection) = self.converse(&runtime, Method::GET, &route)?;
        let (head, body) = response.into_parts();
        let id = head.headers.get(CAPTURE_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        let id = id.ok_or_else(|| self.foreign("its answer has no capture-id"))?;
        Ok(RunningCapture { client: self.clone(), id, body, connection, runtime })
    }

    /// Ends a capture by its number; what it has still follows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn end_capture(&self, id: u64) -> Result<(), ClientError> {
        let runtime = self.runtime()?;
        self.converse(&runtime, Method::DELETE, &with_query(CAPTURE, &[("id", id.to_string())])).map(drop)
    }

    fn runtime(&self) -> Result<Runtime, ClientError> {
        let io = |error| ClientError::Io { path: self.path().to_owned(), error };
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(io)
    }

    /// The head of an answer that is no refusal, its body still to be read.
    fn converse(
        &self,
        runtime: &Runtime,
        method: Method,
        route: &str,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), ClientError> {
        let talk = async {
            let stream = self.connect().await?;
            let handshake = http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| self.bad_answer(error))?;
            let connection = tokio::spawn(connection);
            let request = Request::builder().method(method).uri(route).header(HOST, "localhost");
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.foreign(error))?;
            let response = sender.send_request(request).await.map_err(|error| self.bad_answer(error))?;
            let status = response.status();
            if status.is_success() {
                return Ok((response, connection));
            }
            let body = response.into_body().collect().await.map_err(|error| self.bad_answer(error))?;
            Err(self.refusal(status, &String::from_utf8_lossy(&body.to_bytes())))
        };
        let patience = self.patience();
        match runtime.block_on(async { timeout(patience, talk).await }) {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { path: self.path().to_owned(), patience }),
        }
    }
}

impl RunningCapture {
    /// The capture's number, by which it is ended.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the next piece of the pcapng file; `None` behind its end.
    ///
    /// # Errors
    /// [`ClientError::Io`] if the director goes away in the middle.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Some(frame) = self.runtime.block_on(self.body.frame()) else { return Ok(None) };
            let frame = frame.map_err(|error| self.client.bad_answer(error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
