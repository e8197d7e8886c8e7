//! Asks a running director, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::http::request;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::announce::{ANNOUNCE, AnnounceRequest, AnnounceStatus};
use super::api::{EXPLAIN, FLOWS, HEALTH, Health, STATS};
use super::change::{CHANGES, CONFIG, NEXT_HOPS};
use super::command::{ChangeReport, NextHopReport};
use super::error::{ErrorBody, ErrorDetail};
use super::explain::{FlowQuestion, LiveExplanation};
use super::flows::{FlowFilter, FlowList};
use super::schema::{ConfigDocument, ServiceDocument};
use super::services::SERVICES;
use super::zero::{ZEROED, ZeroRequest, Zeroed};
use crate::config::edit::Change;
use crate::stats::report::{Report, SCHEMA_VERSION};

/// How long an answer is waited for.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// Pause before connecting again to a director that has too many clients.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Pause before asking again a director that has no room for one more change.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Why a director gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket there, or nobody behind it.
    #[error("no director answers at {}: is `pointsman run` running? use --socket if its control socket is elsewhere",
        .0.display())]
    NoDirector(PathBuf),
    /// The socket is there, for others.
    #[error("may not use the control socket {}: be root or a member of the socket's group", .0.display())]
    PermissionDenied(PathBuf),
    /// An answer that no pointsman gives.
    #[error("what answers at {} is not a pointsman director: {reason}", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No answer in time.
    #[error("the director at {} has not answered within {} s; it may be stuck or overloaded", path.display(),
        patience.as_secs_f32())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// How long the answer was waited for.
        patience: Duration,
    },
    /// The statistics are of another form.
    #[error("the director at {} gives statistics of version {found}, this program reads version {SCHEMA_VERSION}; \
        use the pointsman that it was started from, or --json", path.display())]
    Version {
        /// The socket.
        path: PathBuf,
        /// The version of the document.
        found: u32,
    },
    /// The director says no.
    #[error("the director at {} refuses ({status}): {}", path.display(), detail.sentence())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The HTTP status.
        status: u16,
        /// What it says.
        detail: Box<ErrorDetail>,
    },
    /// The system refused.
    #[error("cannot talk to the director at {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// How changes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Only told, not made.
    pub dry_run: bool,
    /// Written to the configuration file, too.
    pub persist: bool,
}

impl How {
    fn route(self, path: &str) -> String {
        let given = [("dry_run", self.dry_run), ("persist", self.persist)];
        let given: Vec<_> = given.iter().filter(|(_, set)| *set).map(|(name, _)| (*name, "true".to_owned())).collect();
        with_query(path, &given)
    }
}

/// A control socket to be asked. Each question is a connection of its own; the calls block.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    patience: Duration,
}

impl Client {
    /// A client of the director at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: DEFAULT_PATIENCE }
    }

    /// Waits this long for an answer, instead of [`DEFAULT_PATIENCE`].
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The socket that is asked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The statistics.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stats(&self) -> Result<Report, ClientError> {
        let document = self.stats_document()?;
        let Version { schema_version } = self.parse(&document)?;
        if schema_version != SCHEMA_VERSION {
            return Err(ClientError::Version { path: self.path.clone(), found: schema_version });
        }
        self.parse(&document)
    }

    /// The statistics as the director gives them: one JSON document of whatever version, not looked into.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stats_document(&self) -> Result<String, ClientError> {
        let document = self.get(STATS)?;
        self.parse::<Version>(&document)?;
        Ok(document)
    }

    /// That the director answers, and its version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn health(&self) -> Result<Health, ClientError> {
        self.parse(&self.get(HEALTH)?)
    }

    /// The flows that `filter` asks for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flows(&self, filter: &FlowFilter) -> Result<FlowList, ClientError> {
        self.parse(&self.flows_document(filter)?)
    }

    /// The flows that `filter` asks for, as the director gives them: a [`FlowList`] in JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flows_document(&self, filter: &FlowFilter) -> Result<String, ClientError> {
        self.get(&with_query(FLOWS, &filter.parameters()))
    }

    /// What becomes of a flow, and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn explain(&self, question: &FlowQuestion) -> Result<LiveExplanation, ClientError> {
        self.parse(&self.get(&with_query(EXPLAIN, &question.parameters()))?)
    }

    fn parse<'a, T: Deserialize<'a>>(&self, document: &'a str) -> Result<T, ClientError> {
        serde_json::from_str(document).map_err(|error| self.foreign(error))
    }

    fn get(&self, route: &str) -> Result<String, ClientError> {
        self.ask(Request::get(route), Bytes::new())
    }

    /// Asks for a document in JSON, as the director gives it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn document(&self, route: &str) -> Result<String, ClientError> {
        let document = self.get(route)?;
        self.parse::<serde::de::IgnoredAny>(&document)?;
        Ok(document)
    }

    /// How the real servers are reached.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn next_hops(&self) -> Result<Vec<NextHopReport>, ClientError> {
        self.parse(&self.get(NEXT_HOPS)?)
    }

    /// The virtual services with their real servers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn services(&self) -> Result<Vec<ServiceDocument>, ClientError> {
        self.parse(&self.get(SERVICES)?)
    }

    /// Has changes made, all or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn change(&self, changes: &[Change], how: How) -> Result<ChangeReport, ClientError> {
        let body = serde_json::json!({ "changes": changes }).to_string();
        let request = Request::post(how.route(CHANGES)).header(CONTENT_TYPE, "application/json");
        self.parse(&self.ask(request, body.into())?)
    }

    /// Has another configuration, in TOML, put in the place of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn replace(&self, document: String, how: How) -> Result<ChangeReport, ClientError> {
        let request = Request::put(how.route(CONFIG)).header(CONTENT_TYPE, "application/toml");
        self.parse(&self.ask(request, document.into())?)
    }

    /// What the director runs by, with every default filled in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn config(&self) -> Result<ConfigDocument, ClientError> {
        let request = Request::get(CONFIG).header(ACCEPT, "application/json");
        self.parse(&self.ask(request, Bytes::new())?)
    }

    /// What had been counted when counters were zeroed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn zeroed(&self) -> Result<Zeroed, ClientError> {
        self.parse(&self.get(ZEROED)?)
    }

    /// Zeroes counters for all who take off what was counted before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn zero(&self, request: &ZeroRequest) -> Result<Zeroed, ClientError> {
        let body = serde_json::to_string(request).map_err(|error| self.foreign(error))?;
        let request = Request::post(ZEROED).header(CONTENT_TYPE, "application/json");
        self.parse(&self.ask(request, body.into())?)
    }

    /// Who answers for the VIPs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn announcements(&self) -> Result<AnnounceStatus, ClientError> {
        self.parse(&self.get(ANNOUNCE)?)
    }

    /// Has VIPs answered for, or left to another director.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn announce(&self, request: AnnounceRequest) -> Result<AnnounceStatus, ClientError> {
        let body = serde_json::to_string(&request).map_err(|error| self.foreign(error))?;
        let request = Request::post(ANNOUNCE).header(CONTENT_TYPE, "application/json");
        self.parse(&self.ask(request, body.into())?)
    }

    fn ask(&self, request: request::Builder, body: Bytes) -> Result<String, ClientError> {
        let request = request.header(HOST, "localhost").body(Full::new(body));
        let request = request.map_err(|error| self.foreign(error))?;
        let io = |error| ClientError::Io { path: self.path.clone(), error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(io)?;
        let answer = async { timeout(self.patience, self.exchange_when_free(request)).await };
        let (status, body) = match runtime.block_on(answer) {
            Ok(answer) => answer?,
            Err(_) => return Err(ClientError::Timeout { path: self.path.clone(), patience: self.patience }),
        };
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refusal(status, &body))
    }

    /// What an answer says that is none.
    pub(super) fn refusal(&self, status: StatusCode, body: &str) -> ClientError {
        match serde_json::from_str::<ErrorBody>(body) {
            Ok(refusal) => ClientError::Refused {
                path: self.path.clone(),
                status: status.as_u16(),
                detail: Box::new(refusal.error),
            },
            Err(_) => self.foreign(format_args!("HTTP status {status}")),
        }
    }

    /// Asks again as long as too many others do; the last answer counts when that takes nearly all of the patience.
    async fn exchange_when_free(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), ClientError> {
        let begun = Instant::now();
        loop {
            let (status, body) = self.exchange(request.clone()).await?;
            if status != StatusCode::SERVICE_UNAVAILABLE || begun.elapsed() * 2 > self.patience {
                return Ok((status, body));
            }
            sleep(BUSY_PAUSE).await;
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), ClientError> {
        let stream = self.connect().await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.bad_answer(error))?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.bad_answer(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => self.bad_answer(*error),
            Err(too_long) => self.foreign(too_long),
        });
        let body = body?.to_bytes();
        connection.abort();
        let body = String::from_utf8(body.into()).map_err(|_| self.foreign("its answer is not text"))?;
        Ok((status, body))
    }

    pub(super) async fn connect(&self) -> Result<UnixStream, ClientError> {
        let path = || self.path.clone();
        loop {
            let error = match UnixStream::connect(&self.path).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            return Err(match error.kind() {
                // Too many clients wait already; the caller's patience ends this.
                io::ErrorKind::WouldBlock => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDirector(path()),
                io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(path()),
                _ => ClientError::Io { path: path(), error },
            });
        }
    }

    /// A director that stops in the middle of an answer is none the less one.
    pub(super) fn bad_answer(&self, error: hyper::Error) -> ClientError {
        if error.is_parse() {
            return self.foreign(error);
        }
        ClientError::Io { path: self.path.clone(), error: io::Error::other(error) }
    }

    pub(super) fn foreign(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Foreign { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// A path with a query string, encoded as RFC 3986 has it (section 2.1).
pub(super) fn with_query(path: &str, parameters: &[(&str, String)]) -> String {
    let mut route = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        route.push(if at == 0 { '?' } else { '&' });
        route.push_str(name);
        route.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => route.push(char::from(byte)),
                _ => route.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    route
}

/// What every version of the statistics has.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}
