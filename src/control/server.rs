//! Serves the control socket from one thread.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::api::{self, Handle};
use super::capture::Presence;
use super::places::{Place, Places};
use super::socket::ControlSocket;

/// How much the server takes from its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are served at the same time. For another one that has waited longest for a request gives way.
    pub connections: usize,
    /// Time in which the head of a request must arrive, from the connection's start or the answer before.
    pub header_read: Duration,
    /// Time after which a connection takes no further request. A capture may go on for longer.
    pub lifetime: Duration,
    /// Time that an answer has to be read, after `lifetime` is over or the server is to stop.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            header_read: Duration::from_secs(5),
            lifetime: Duration::from_secs(60),
            farewell: Duration::from_secs(1),
        }
    }
}

/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Pause after a connection that could not be taken, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The thread that serves the control socket, until this is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: ControlSocket,
}

impl Server {
    /// Serves `socket`, asking `handle`.
    ///
    /// # Errors
    /// The system's, if it gives no thread or event queue.
    pub fn start(socket: ControlSocket, handle: Handle) -> io::Result<Self> {
        Self::start_with(socket, handle, Limits::default())
    }

    /// As [`Self::start`], with limits of one's own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(socket: ControlSocket, handle: Handle, limits: Limits) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _context = runtime.enter();
            UnixListener::from_std(socket.listener()?)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || runtime.block_on(serve(listener, api::router(handle), limits, stopped)))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), socket })
    }

    /// The socket that is served.
    pub fn socket(&self) -> &ControlSocket {
        &self.socket
    }

    /// Lets answers under way be read, for a second at most, and removes the socket.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the control thread has panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Where connections come from.
pub(super) trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves `router` until told to stop.
pub(super) async fn serve(listener: impl Listener, router: Router, limits: Limits, mut stopped: oneshot::Receiver<()>) {
    let places = Places::new(limits.connections);
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut accept_fails = false;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = &mut stopped => break,
        };
        match accepted {
            Ok((stream, place)) => {
                accept_fails = false;
                connections.spawn(serve_one(stream, place, router.clone(), limits, closed.clone()));
            }
            Err(error) => {
                if !accept_fails {
                    tracing::warn!("cannot take a connection: {error}");
                }
                accept_fails = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
        // Those that are here have their turn before the next comes.
        yield_now().await;
    }
    drop(listener);
    drop(closing);
    // Each connection has the same time to say farewell; the margin is for the last of them.
    let _ = timeout(limits.farewell * 2, async { while connections.join_next().await.is_some() {} }).await;
}

async fn accept<L: Listener>(listener: &L, places: &Places) -> io::Result<(L::Stream, Place)> {
    let stream = listener.next().await?;
    Ok((stream, places.take().await))
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: Place,
    router: Router,
    limits: Limits,
    mut closed: watch::Receiver<()>,
) {
    let presence = Presence::new(closed.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        place.answers();
        request.extensions_mut().insert(presence.clone());
        request.extensions_mut().insert(place.clone());
        let answer = TowerToHyperService::new(router.clone()).call(request);
        let (place, presence) = (place.clone(), presence.clone());
        async move {
            let answer = answer.await;
            // A capture's answer goes on until the connection ends.
            if presence.is_idle() {
                place.waits_for_a_head();
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // An error here is the client's: it sent no HTTP, was too slow or went away.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = place.told_to_leave() => return,
        () = async { sleep(limits.lifetime).await; presence.idle().await } => {}
        // Nothing is ever sent; that it is gone tells to close.
        _ = closed.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.farewell, connection).await;
}
