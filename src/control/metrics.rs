//! `/metrics`, as Prometheus asks for it: at the control socket, and at an address of its own if it is to have one.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::api::Handle;
use super::error::ApiError;
use super::server::{Limits, serve};
use crate::stats::collect::CollectError;
use crate::stats::prometheus::{CONTENT_TYPE as TEXT, RenderError, render};
use crate::stats::report::Report;

/// `GET`: the statistics in Prometheus' text format.
pub const METRICS: &str = "/metrics";

/// For so long the same text is given to all who ask, whoever they may be.
const SAME_FOR: Duration = Duration::from_millis(200);

/// What the address takes from scrapers, who may be anybody that can reach it.
pub const LIMITS: Limits = Limits {
    connections: 8,
    header_read: Duration::from_secs(5),
    lifetime: Duration::from_secs(10),
    farewell: Duration::from_secs(1),
};

/// Makes the statistics.
pub type Stats = Arc<dyn Fn() -> Result<Report, CollectError> + Send + Sync>;

/// At the control socket.
pub(super) async fn metrics(State(handle): State<Handle>) -> Result<Response, ApiError> {
    Ok(answer(render(&(handle.stats)()?)?.into()))
}

fn answer(text: Bytes) -> Response {
    ([(CONTENT_TYPE, TEXT)], text).into_response()
}

impl From<RenderError> for ApiError {
    fn from(error: RenderError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// The last text, and when it was made.
#[derive(Clone)]
struct Scraped {
    stats: Stats,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Scraped {
    fn text(&self) -> Result<Bytes, ApiError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*last
            && made.elapsed() < SAME_FOR
        {
            return Ok(text.clone());
        }
        let text = Bytes::from(render(&(self.stats)()?)?);
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

async fn scraped(State(scraped): State<Scraped>) -> Result<Response, ApiError> {
    Ok(answer(scraped.text()?))
}

/// The thread that serves [`METRICS`], and nothing else, at an address, until this is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl MetricsServer {
    /// Serves at `address`. Who asks again soon gets the same text again.
    ///
    /// # Errors
    /// The system's: the address is taken or not this machine's, or there is no thread or event queue.
    pub fn start(address: SocketAddr, stats: Stats, limits: Limits) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let scraped_from = Scraped { stats, last: Arc::default() };
        let router = Router::new().route(METRICS, get(scraped)).with_state(scraped_from);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || runtime.block_on(serve(listener, router, limits, stopped)))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), address })
    }

    /// Where it serves, with the port that it got if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread for Prometheus has panicked");
        }
    }
}
