//! Real web servers and a real client, small enough to serve ten thousand requests in a second or two.
//!
//! They speak HTTP/1.1 with keep-alive over the kernel's TCP. A page is one line: the server's name and the client's
//! address as the server sees it; `/N` adds N bytes of filling, and a request's own body is read and forgotten. The
//! same servers answer UDP datagrams on the same port from the VIP.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::{Host, Lab, vip4, vip6};

const PATIENCE: Duration = Duration::from_secs(5);
const CONTENT_LENGTH: &str = "Content-Length: ";

/// A web server on all addresses of a host.
pub struct WebServer {
    listener: Arc<TcpListener>,
    datagrams: Vec<UdpSocket>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl WebServer {
    pub fn start(lab: &Lab, host: Host, port: u16) -> WebServer {
        lab.on(host, || {
            let listener = Arc::new(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
            let stopping = Arc::new(AtomicBool::new(false));
            let accepting = Arc::clone(&listener);
            let mut threads = vec![thread::spawn(move || {
                while let Ok((connection, client)) = accepting.accept() {
                    thread::spawn(move || {
                        let _ = serve(host.name(), connection, client);
                    });
                }
            })];
            let mut datagrams = Vec::new();
            for vip in [vip4(), vip6()] {
                let socket = UdpSocket::bind((vip, port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                datagrams.push(socket.try_clone().unwrap());
                let stopping = Arc::clone(&stopping);
                threads.push(thread::spawn(move || {
                    let mut buffer = [0; 2048];
                    while !stopping.load(Ordering::Relaxed) {
                        if let Ok((_, client)) = socket.recv_from(&mut buffer) {
                            let _ = socket.send_to(host.name().as_bytes(), client);
                        }
                    }
                }));
            }
            WebServer { listener, datagrams, stopping, threads }
        })
    }

    /// Both web servers of the laboratory.
    pub fn pair(lab: &Lab, port: u16) -> [WebServer; 2] {
        [WebServer::start(lab, Host::Web1, port), WebServer::start(lab, Host::Web2, port)]
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Ends the blocked accept().
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(name: &str, connection: TcpStream, client: SocketAddr) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    let page = format!("{name} {}\n", client.ip().to_canonical());
    let (mut line, mut filling, mut body) = (String::new(), 0, 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(path) = line.strip_prefix("GET /") {
            filling = path.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        }
        if let Some(length) = line.strip_prefix(CONTENT_LENGTH) {
            body = length.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            io::copy(&mut (&mut reader).take(std::mem::take(&mut body)), &mut io::sink())?;
            let head = format!("HTTP/1.1 200 OK\r\n{CONTENT_LENGTH}{}\r\n\r\n{page}", page.len() + filling);
            writer.write_all(head.as_bytes())?;
            writer.write_all(&vec![b' '; filling])?;
        }
    }
}

/// A client's connection that is kept alive between requests.
pub struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub fn open(server: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { reader: BufReader::new(stream), host: server.to_string() })
    }

    pub fn local_address(&self) -> SocketAddr {
        self.reader.get_ref().local_addr().unwrap()
    }

    /// Fetches the page: name of the server that answered, and our address as it sees it.
    pub fn get(&mut self) -> io::Result<(String, String)> {
        self.get_with(0, 0)
    }

    /// The same with that many bytes of filling in the answer, and that many bytes of body in the request.
    pub fn get_with(&mut self, filling: usize, body: usize) -> io::Result<(String, String)> {
        let mut request =
            format!("GET /{filling} HTTP/1.1\r\nHost: {}\r\n{CONTENT_LENGTH}{body}\r\n\r\n", self.host).into_bytes();
        request.resize(request.len() + body, b' ');
        self.reader.get_mut().write_all(&request)?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix(CONTENT_LENGTH) {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut page = vec![0; length];
        self.reader.read_exact(&mut page)?;
        let page = String::from_utf8(page).map_err(io::Error::other)?;
        let (server, client) = page.trim().split_once(' ').ok_or_else(|| io::Error::other("not the page"))?;
        Ok((server.to_owned(), client.to_owned()))
    }
}

/// One page over a connection of its own.
pub fn fetch(lab: &Lab, from: Host, server: SocketAddr) -> io::Result<(String, String)> {
    lab.on(from, || Connection::open(server)?.get())
}

/// Requests by several clients at once, each over one connection after the other.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: u64,
    pub requests_per_connection: u64,
    pub at_once: u64,
    /// Pause after each request of a client.
    pub pause: Duration,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answered requests by the name of the server.
    pub answers: BTreeMap<String, u64>,
    /// The first few failures in words; `failed` counts them all.
    pub failures: Vec<String>,
    pub failed: u64,
    pub connections: u64,
    /// Connections whose requests were answered by more than one server: a flow must not wander.
    pub wandered: u64,
    pub took: Duration,
}

impl Outcome {
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Percentage of the answers that a server gave.
    pub fn share_percent(&self, server: Host) -> f64 {
        let own = self.answers.get(server.name()).copied().unwrap_or(0);
        100.0 * own as f64 / self.answered() as f64
    }

    fn fail(&mut self, what: impl Debug) {
        self.failed += 1;
        if self.failures.len() < 5 {
            self.failures.push(format!("{what:?}"));
        }
    }

    fn add(&mut self, other: Outcome) {
        for (server, count) in other.answers {
            *self.answers.entry(server).or_default() += count;
        }
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(5);
        self.connections += other.connections;
        self.wandered += other.wandered;
    }
}

impl Load {
    /// Runs the load from a host to its end, or until `enough` is set once the given number of connections is through
    /// (then it goes on beyond that number as long as `enough` is not set).
    pub fn run(self, lab: &Lab, from: Host, server: SocketAddr, enough: Option<&AtomicBool>) -> Outcome {
        let started = Instant::now();
        let total = Mutex::new(Outcome::default());
        let begun = AtomicU64::new(0);
        lab.on(from, || {
            thread::scope(|scope| {
                for _ in 0..self.at_once {
                    scope.spawn(|| {
                        let mut own = Outcome::default();
                        loop {
                            let more_wanted = enough.is_some_and(|enough| !enough.load(Ordering::Relaxed));
                            if begun.fetch_add(1, Ordering::Relaxed) >= self.connections && !more_wanted {
                                break;
                            }
                            self.one_connection(server, &mut own);
                        }
                        total.lock().unwrap().add(own);
                    });
                }
            });
        });
        let mut outcome = total.into_inner().unwrap();
        outcome.took = started.elapsed();
        outcome
    }

    fn one_connection(self, server: SocketAddr, outcome: &mut Outcome) {
        outcome.connections += 1;
        let mut connection = match Connection::open(server) {
            Ok(connection) => connection,
            Err(error) => return outcome.fail(error),
        };
        let mut first: Option<String> = None;
        for _ in 0..self.requests_per_connection {
            match connection.get() {
                Ok((name, _)) => {
                    if *first.get_or_insert_with(|| name.clone()) != name {
                        outcome.wandered += 1;
                    }
                    *outcome.answers.entry(name).or_default() += 1;
                }
                Err(error) => return outcome.fail(error),
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
    }
}

/// Sends one datagram to each of `ports` sources and tells who answered. Unanswered ones are tried three times.
pub fn ask_by_udp(lab: &Lab, from: Host, server: SocketAddr, flows: u32) -> BTreeMap<String, u32> {
    let any = if server.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    lab.on(from, || {
        let mut answers = BTreeMap::new();
        for flow in 0..flows {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut buffer = [0; 64];
            let length = (0..3)
                .find_map(|_| {
                    socket.send(b"who are you?").unwrap();
                    socket.recv(&mut buffer).ok()
                })
                .unwrap_or_else(|| panic!("flow {flow} to {server} got no answer"));
            *answers.entry(String::from_utf8_lossy(&buffer[..length]).into_owned()).or_default() += 1;
        }
        answers
    })
}
