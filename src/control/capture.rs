//! Captures of frames over the control socket: what may be asked, and the answer that lasts as long as the capture.
//!
//! The control thread takes the records from the workers' rings only as fast as the client reads. A client that does
//! not read makes the capture lose frames; it takes no memory and no worker's time.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body, Bytes, Frame};
use pcap_file::PcapError;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

use super::api::{CAPTURE, Handle};
use super::error::ApiError;
use super::extract::Query;
use super::flows::{EXPECTED_ADDRESS, EXPECTED_SERVICE, FilterError, read};
use super::openapi::about;
use crate::capture::pcapng::{Blocks, wall_clock_offset};
use crate::capture::{Capture, Filter, MAX_SNAPSHOT_BYTES, Record, Switch, VerdictFilter};
use crate::service::ServiceKey;
use crate::table::{ForwardingTable, Published};

/// The header that tells a capture's number.
pub const CAPTURE_ID: &str = "capture-id";

/// How often the workers' records are looked at when there were none.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Most records of each worker in one piece of the answer.
const RECORDS_AT_ONCE: usize = 64;
/// How often a stopped capture waits for the workers' last bursts.
const LAST_LOOKS: u32 = 100;

/// What is asked of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureQuestion {
    /// Which frames.
    pub filter: Filter,
    /// How many bytes of each; [`MAX_SNAPSHOT_BYTES`] at most.
    pub snapshot_bytes: usize,
    /// Ends after so many frames.
    pub count: Option<u64>,
    /// Ends after so long.
    pub duration: Option<Duration>,
}

impl Default for CaptureQuestion {
    fn default() -> Self {
        Self { filter: Filter::default(), snapshot_bytes: MAX_SNAPSHOT_BYTES, count: None, duration: None }
    }
}

impl CaptureQuestion {
    /// The question as parts of a query string, not yet encoded.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let Filter { service, real_server, verdict, sample } = self.filter;
        let given = [
            ("service", service.map(|service| service.to_string())),
            ("real_server", real_server.map(|address| address.to_string())),
            ("verdict", verdict.map(|verdict| verdict.to_string())),
            ("sample", Some(sample.to_string())),
            ("snapshot_bytes", Some(self.snapshot_bytes.to_string())),
            ("count", self.count.map(|count| count.to_string())),
            ("duration_ms", self.duration.map(|duration| duration.as_millis().to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A [`CaptureQuestion`] as it is written in a query string.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CaptureQuery {
    /// Only frames of this virtual service, as `tcp 192.0.2.1:80`.
    service: Option<String>,
    /// Only frames for this real server's address.
    real_server: Option<String>,
    /// Only frames with this verdict: `tx`, `drop` or a drop cause.
    verdict: Option<String>,
    /// Of the frames that fit, the first of so many of each queue; 1 if not given.
    sample: Option<String>,
    /// Bytes that are kept of each frame, from 1 to 4096; 4096 if not given.
    snapshot_bytes: Option<String>,
    /// Ends after so many frames.
    count: Option<String>,
    /// Ends after so many milliseconds.
    duration_ms: Option<String>,
}

impl CaptureQuery {
    fn question(self) -> Result<CaptureQuestion, FilterError> {
        let verdict = "use tx, drop or the name of a drop cause";
        let positive = "write a number from 1 on";
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let filter = Filter {
            service: read(self.service, "service", EXPECTED_SERVICE, |text| text.parse().ok())?,
            real_server: read(self.real_server, "real_server", EXPECTED_ADDRESS, |text| text.parse().ok())?,
            verdict: read(self.verdict, "verdict", verdict, |text| text.parse::<VerdictFilter>().ok())?,
            sample: read(self.sample, "sample", positive, number)?.unwrap_or(1),
        };
        let bytes = read(self.snapshot_bytes, "snapshot_bytes", "write a number from 1 to 4096", |text| {
            text.parse().ok().filter(|bytes| (1..=MAX_SNAPSHOT_BYTES).contains(bytes))
        })?;
        Ok(CaptureQuestion {
            filter,
            snapshot_bytes: bytes.unwrap_or(MAX_SNAPSHOT_BYTES),
            count: read(self.count, "count", positive, number)?,
            duration: read(self.duration_ms, "duration_ms", positive, number)?.map(Duration::from_millis),
        })
    }
}

/// By what captures begin and end.
#[derive(Clone)]
pub struct Captures {
    switch: Arc<Switch>,
    /// Names of the interfaces, by their positions.
    interfaces: Arc<[String]>,
    tables: Arc<Published<ForwardingTable>>,
    /// The number of the newest capture.
    newest: Arc<AtomicU64>,
    /// The newest one that is to end.
    ended: Arc<AtomicU64>,
}

impl Captures {
    /// Captures by `switch` of the frames of these interfaces; `tables` knows what can be asked for.
    pub fn new(
        switch: Arc<Switch>,
        interfaces: impl IntoIterator<Item = String>,
        tables: Arc<Published<ForwardingTable>>,
    ) -> Self {
        let interfaces = interfaces.into_iter().collect();
        Self { switch, interfaces, tables, newest: Arc::default(), ended: Arc::default() }
    }

    fn check(&self, filter: &Filter) -> Result<(), FilterError> {
        let reader = self.tables.reader();
        let table = reader.pin();
        let known = |wanted: &ServiceKey| table.services().iter().any(|service| service.key == *wanted);
        if let Some(service) = filter.service.filter(|wanted| !known(wanted)) {
            return Err(FilterError::NoService(service));
        }
        let known = |wanted: &IpAddr| table.real_servers().iter().any(|server| server.address == *wanted);
        match filter.real_server.filter(|wanted| !known(wanted)) {
            Some(address) => Err(FilterError::NoRealServer(address)),
            None => Ok(()),
        }
    }

    fn begin(&self, question: CaptureQuestion, hold: Hold) -> Result<(u64, CaptureStream), ApiError> {
        self.check(&question.filter)?;
        let Some(capture) = self.switch.start(question.filter, question.snapshot_bytes) else {
            let message = "another capture runs, and there is one at a time; end it, or wait until it has ended";
            return Err(ApiError::new(StatusCode::CONFLICT, message));
        };
        let blocks = Blocks::new(&self.interfaces, question.snapshot_bytes)?;
        let id = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(id, ?question, "a capture of frames begins");
        let stream = CaptureStream {
            id,
            ended: Arc::clone(&self.ended),
            capture,
            blocks,
            records: Vec::new(),
            delivered: vec![0; self.interfaces.len()],
            left: question.count.unwrap_or(u64::MAX),
            ends_at: question.duration.map(|duration| Instant::now() + duration),
            step: Step::Listen,
            timer: Box::pin(sleep(LOOK_AGAIN)),
            rest: false,
            hold,
        };
        Ok((id, stream))
    }
}

/// The routes with what describes them.
pub(super) fn routes() -> ApiRouter<Handle> {
    let about = |summary| about("observation", summary);
    ApiRouter::new().api_route(
        CAPTURE,
        get_with(begin, about("Capture frames, as a pcapng file that ends with the capture"))
            .delete_with(end, about("End a capture")),
    )
}

/// Answers a question for a capture.
async fn begin(
    State(handle): State<Handle>,
    Extension(presence): Extension<Presence>,
    Query(query): Query<CaptureQuery>,
) -> Result<Response, ApiError> {
    let (id, stream) = handle.captures.begin(query.question()?, presence.hold())?;
    let head = [(CONTENT_TYPE.as_str(), "application/octet-stream"), (CAPTURE_ID, &id.to_string())];
    Ok((head, axum::body::Body::new(stream)).into_response())
}

/// Which capture is to end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndQuery {
    /// The number that the capture's header `capture-id` told.
    id: u64,
}

/// Ends a capture. One that has ended already stays so.
async fn end(State(handle): State<Handle>, Query(EndQuery { id }): Query<EndQuery>) -> Result<Response, ApiError> {
    if id == 0 || id > handle.captures.newest.load(Ordering::Relaxed) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there was no capture {id}")).at("id"));
    }
    handle.captures.ended.fetch_max(id, Ordering::Relaxed);
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl From<PcapError> for ApiError {
    fn from(error: PcapError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the capture: {error}"))
    }
}

/// Tells a connection that a capture runs on it, and the capture that the server is about to stop.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    busy: Arc<Semaphore>,
    closing: watch::Receiver<()>,
}

impl Presence {
    /// Of a connection that is told to close by the end of `closing`.
    pub(super) fn new(closing: watch::Receiver<()>) -> Self {
        Self { busy: Arc::new(Semaphore::new(1)), closing }
    }

    /// Waits until no capture runs on the connection.
    pub(super) async fn idle(&self) {
        // Nobody closes it.
        let _ = self.busy.acquire().await;
    }

    /// Whether no capture runs on the connection.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.available_permits() > 0
    }

    fn hold(self) -> Hold {
        Hold { _busy: self.busy.try_acquire_owned().ok(), closing: self.closing }
    }
}

/// Keeps a connection's server from closing it after its usual time.
#[derive(Debug)]
struct Hold {
    _busy: Option<OwnedSemaphorePermit>,
    closing: watch::Receiver<()>,
}

/// A capture on its way to whoever asked.
struct CaptureStream {
    id: u64,
    ended: Arc<AtomicU64>,
    capture: Capture,
    blocks: Blocks,
    #[expect(clippy::vec_box, reason = "the boxes go back to the rings that they come from")]
    records: Vec<Box<Record>>,
    /// Frames in the answer, by interface.
    delivered: Vec<u64>,
    left: u64,
    ends_at: Option<Instant>,
    step: Step,
    timer: Pin<Box<Sleep>>,
    /// Let others have the thread before the next piece.
    rest: bool,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Listen,
    /// It is stopped; what is still in the rings is taken. So many looks are left for workers to end their bursts.
    Finish(u32),
    Done,
}

impl CaptureStream {
    fn is_to_end(&self) -> bool {
        self.left == 0
            || self.ended.load(Ordering::Relaxed) >= self.id
            || self.ends_at.is_some_and(|end| Instant::now() >= end)
            || self.hold.closing.has_changed().is_err()
    }

    /// The next piece, empty if there is nothing now, or `None` behind the end.
    fn piece(&mut self) -> Result<Option<Vec<u8>>, PcapError> {
        if self.step == Step::Done {
            return Ok(None);
        }
        if self.step == Step::Listen && self.is_to_end() {
            self.capture.stop();
            self.step = Step::Finish(LAST_LOOKS);
        }
        // Before the look at the rings: what is complete then has nothing more behind it.
        let complete = self.step != Step::Listen && self.capture.is_complete();
        self.take_records()?;
        let piece = self.blocks.take();
        if let (true, Step::Finish(looks)) = (piece.is_empty(), self.step) {
            if !complete && looks > 0 {
                self.step = Step::Finish(looks - 1);
                return Ok(Some(piece));
            }
            self.step = Step::Done;
            for (interface, delivered) in self.delivered.iter().enumerate() {
                self.blocks.statistics(interface, self.capture.counts(interface), *delivered)?;
            }
            return Ok(Some(self.blocks.take()));
        }
        Ok(Some(piece))
    }

    fn take_records(&mut self) -> Result<(), PcapError> {
        self.capture.take(&mut self.records, RECORDS_AT_ONCE);
        if self.records.is_empty() {
            return Ok(());
        }
        // Workers are not in step with each other; so their frames are in order at least within a piece.
        self.records.sort_by_key(|record| record.time_ns);
        let offset = wall_clock_offset();
        for record in self.records.drain(..) {
            if self.left > 0 {
                self.left -= 1;
                self.blocks.frame(&record, offset)?;
                if let Some(delivered) = self.delivered.get_mut(record.place.interface) {
                    *delivered += 1;
                }
            }
            self.capture.give_back(record);
        }
        Ok(())
    }
}

impl Body for CaptureStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if std::mem::take(&mut stream.rest) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match stream.piece() {
                Ok(Some(piece)) if !piece.is_empty() => {
                    stream.rest = true;
                    return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Poll::Ready(None),
                Err(error) => {
                    tracing::error!(%error, "cannot write a capture");
                    return Poll::Ready(None);
                }
            }
            if stream.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            stream.timer.as_mut().reset(tokio::time::Instant::now() + LOOK_AGAIN);
        }
    }
}

impl Drop for CaptureStream {
    fn drop(&mut self) {
        let delivered: u64 = self.delivered.iter().sum();
        let lost: u64 = (0..self.delivered.len()).map(|interface| self.capture.counts(interface).lost).sum();
        tracing::info!(id = self.id, frames = delivered, lost, "the capture has ended");
    }
}
