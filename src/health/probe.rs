//! A check, ready to be made again and again.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::direct::DirectStream;
use super::failure::{Answer, Failure, Good};
use super::http::HttpProbe;
use super::segments::{AllSegments, Segments};
use super::source::OwnAddress;
use super::target::{DirectPath, Target};
use super::tls::TlsProbe;
use super::{command, icmp, udp};
use crate::config::{CheckKind, CommandCheck, HealthCheckConfig, UdpCheck, Via};

/// What is asked, with all that can be prepared once.
enum Question {
    Tcp,
    Http(HttpProbe),
    Https(Box<TlsProbe>, HttpProbe),
    Udp(UdpCheck),
    Icmp,
    Command(CommandCheck),
}

/// What a question depends on besides its check, as it is at the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Circumstances {
    /// How the real server is reached.
    pub(super) path: Option<DirectPath>,
    /// Its weight.
    pub(super) weight: u32,
    /// All VIPs, none of which a question may come from.
    pub(super) vips: Arc<BTreeSet<IpAddr>>,
}

/// One check of one real server.
pub(super) struct Probe {
    target: Target,
    check: HealthCheckConfig,
    question: Question,
    all_segments: Arc<AllSegments>,
    /// Those that it used last: kept, so that their socket stays open from question to question.
    segments: Option<Arc<Segments>>,
}

impl Probe {
    pub(super) fn new(target: Target, check: &HealthCheckConfig, all_segments: Arc<AllSegments>) -> Self {
        let question = match &check.kind {
            CheckKind::Tcp => Question::Tcp,
            CheckKind::Http(http) => Question::Http(HttpProbe::new(http)),
            CheckKind::Https(https) => Question::Https(Box::new(TlsProbe::new(https)), HttpProbe::new(&https.http)),
            CheckKind::Udp(udp) => Question::Udp(udp.clone()),
            CheckKind::Icmp => Question::Icmp,
            CheckKind::Command(command) => Question::Command(command.clone()),
        };
        Self { target, check: check.clone(), question, all_segments, segments: None }
    }

    /// Asks once, and waits no longer than the check allows.
    pub(super) async fn ask(&mut self, circumstances: Circumstances) -> Answer {
        let patience = self.check.timeout;
        if let Question::Udp(check) = &self.question {
            let own = OwnAddress::towards(self.target.real_server, &circumstances.vips)?;
            return udp::ask(check, own, self.server(), patience).await;
        }
        let began = Instant::now();
        match timeout(patience, self.ask_without_limit(&circumstances)).await {
            // What is there when the timer is looked at counts as in time: it may not have been.
            Ok(Ok(_)) if began.elapsed() > patience => Err(Failure::Timeout(patience)),
            Ok(answer) => answer,
            Err(_) => Err(Failure::Timeout(patience)),
        }
    }

    async fn ask_without_limit(&mut self, circumstances: &Circumstances) -> Answer {
        let Circumstances { path, weight, vips } = circumstances;
        if let Question::Command(check) = &self.question {
            return command::ask(check, &self.target, self.check.port, *weight).await;
        }
        let own = OwnAddress::towards(self.target.real_server, vips)?;
        match (&self.question, self.check.via) {
            (Question::Icmp, _) => icmp::ask(own, self.target.real_server).await,
            (_, Via::Address) => {
                let stream = connect(own, self.server()).await.map_err(Failure::system("connect"))?;
                self.ask_over(stream).await
            }
            (_, Via::Direct) => {
                let path = path.ok_or(Failure::NoNextHop(self.target.real_server))?;
                let server = self.server();
                let segments = self.all_segments.of(path.device_index, server.is_ipv4(), vips);
                let segments = self.segments.insert(segments.map_err(Failure::system("open a packet socket"))?);
                let stream = DirectStream::connect(own.address, server, &path, segments).await?;
                self.ask_over(stream).await
            }
        }
    }

    async fn ask_over(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        match &self.question {
            Question::Http(http) => http.ask(stream, self.server()).await,
            Question::Https(tls, http) => http.ask(tls.secure(stream, self.server().ip()).await?, self.server()).await,
            _ => Ok(Good("connected".to_owned())),
        }
    }

    fn server(&self) -> SocketAddr {
        self.target.asked(self.check.via, self.check.port)
    }
}

async fn connect(own: OwnAddress, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Closed by RST, it leaves no TIME-WAIT behind: there would be thousands of them.
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    if let Some(own) = own.to_bind() {
        socket.bind(own)?;
    }
    socket.connect(server).await
}
