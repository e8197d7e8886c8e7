//! `pointsman top` beside a director at work: as text, and in a terminal by its keys.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod lab;

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::Value;

use lab::director::{Config, Director, pointsman};
use lab::frame::Envelope;
use lab::raw_socket::RawSocket;
use lab::{AtEnd, Host, Lab, Shape, vip4, wait_for};

/// A terminal of 80 columns and 24 lines, in which a program runs.
struct Screen {
    process: Child,
    keys: File,
    /// The other end, which keeps the terminal's modes.
    terminal: File,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    fn run(mut command: Command) -> Screen {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let (keys, terminal) = (File::from(pair.master), File::from(pair.slave));
        let end = || terminal.try_clone().unwrap();
        let process = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let [rows, columns] = [size.ws_row, size.ws_col].map(|length| NonZeroU16::new(length).unwrap());
        let shown = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut output, parser) = (keys.try_clone().unwrap(), shown.clone());
        // It ends with the terminal.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..length]);
            }
        });
        Screen { process, keys, terminal, shown }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().screen().contents()
    }

    fn wait_for(&self, text: &str) {
        wait_for(&format!("{text:?} on the screen"), 30, || {
            let shown = self.text();
            shown.contains(text).then_some(())
        });
    }

    fn is_canonical(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn has_another_screen(&self) -> bool {
        self.shown.lock().unwrap().screen().alternate_screen()
    }

    /// It ends well, and the terminal is as it was.
    fn assert_left(mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.text());
        assert!(self.is_canonical());
        wait_for("the usual screen", 10, || (!self.has_another_screen()).then_some(()));
        wait_for("the cursor", 10, || (!self.shown.lock().unwrap().screen().hide_cursor()).then_some(()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the screen\n{}\n---", self.text());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn top(lab: &Lab, director: &Director<'_>) -> Command {
    // So that the terminal is the program's own, as under a shell.
    let mut command = lab.command(Host::Director, "setsid");
    command.arg("--ctty").arg(pointsman()).arg("top").arg("--socket").arg(director.control_socket());
    command
}

fn batch(lab: &Lab, director: &Director<'_>, arguments: &[&str]) -> Output {
    let mut command = lab.command(Host::Director, pointsman());
    command.args(["top", "--batch"]).args(arguments).arg("--socket").arg(director.control_socket());
    command.env("COLUMNS", "140").output().unwrap()
}

/// Weights of the real servers of UDP port 80 of the first VIP, by `pointsman service list`.
fn weights(lab: &Lab, director: &Director<'_>) -> Vec<u64> {
    let mut command = lab.command(Host::Director, pointsman());
    command.args(["service", "list", "--json", "--socket"]).arg(director.control_socket());
    let services: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let services = services.as_array().unwrap();
    let udp = |service: &&Value| service["protocol"] == "udp" && service["vip"] == vip4().to_string();
    let service = services.iter().find(udp).unwrap();
    service["real_server"].as_array().unwrap().iter().map(|server| server["weight"].as_u64().unwrap()).collect()
}

/// Datagrams of many flows until it is over.
fn send(lab: &Lab, over: &AtomicBool) {
    let client = RawSocket::open(lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    for port in (2000..2064).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        client.send(&envelope.udp(SocketAddr::new(Host::Client.ipv4(), port), (vip4(), 80).into(), b"one of many"));
        thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn a_frame_of_text_shows_the_load_and_where_it_goes() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        let end = AtEnd(&over);
        scope.spawn(|| send(&lab, &over));
        wait_for("traffic", 20, || (director.stats().tx() > 100).then_some(()));
        let output = batch(&lab, &director, &["--count", "2"]);
        drop(end);
        output
    });
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    let frames: Vec<&str> = text.split("pointsman ").skip(1).collect();
    assert_eq!(frames.len(), 2, "{text}");
    for frame in frames {
        let line = |start: &[&str]| {
            let found = frame.lines().find(|line| start.iter().all(|word| line.contains(word)));
            found.unwrap_or_else(|| panic!("{start:?} in:\n{frame}")).split_whitespace().collect::<Vec<_>>()
        };
        let sent = line(&["sent ", "new flows", "bit/s"]);
        assert!(sent[1] != "0/s" && sent[1] != "-", "{frame}");
        assert!(line(&["latency"]).contains(&"p99.9"), "{frame}");
        for (host, weight) in [(Host::Web1, "1"), (Host::Web2, "2")] {
            let address = host.ipv4().to_string();
            let row = line(&["udp 192.168.88.15:80", &address]);
            assert_eq!(row[3], weight, "{frame}");
            assert!(
                row[6] != "0" && row.contains(&"up") && row.contains(&&*host.mac().to_string()),
                "{row:?}\n{frame}"
            );
        }
    }
}

#[test]
fn a_real_server_is_drained_and_restored_by_keys_and_the_terminal_is_left_as_it_was() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let config = Config::usual();
    let director = Director::start(&lab, &config);
    let mut screen = Screen::run(top(&lab, &director));
    screen.wait_for("real servers");
    assert!(screen.has_another_screen() && !screen.is_canonical());
    screen.press("4/udp 192.168.88.200\r");
    screen.wait_for("filter: udp 192.168.88.200 (Esc)");
    screen.press("d");
    screen.wait_for("weight 2 -> 0");
    assert_eq!(weights(&lab, &director), [1, 2], "nothing is done before the yes");
    screen.press("y");
    screen.wait_for("u gives it weight 2 back");
    assert_eq!(weights(&lab, &director), [1, 0]);
    screen.wait_for("draining");
    screen.press("u");
    screen.wait_for("has weight 2 again");
    assert_eq!(weights(&lab, &director), [1, 2]);

    // The director goes, and comes back.
    director.end(Signal::SIGTERM);
    screen.wait_for("NO ANSWER");
    let director = Director::start(&lab, &config);
    screen.wait_for("was restarted");
    screen.press("q");
    screen.assert_left();

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let screen = Screen::run(top(&lab, &director));
        screen.wait_for("real servers");
        kill(Pid::from_raw(screen.process.id().try_into().unwrap()), signal).unwrap();
        screen.assert_left();
    }
    let mut screen = Screen::run(top(&lab, &director));
    screen.wait_for("real servers");
    screen.press("\x03");
    screen.assert_left();

    let socket = director.control_socket().to_owned();
    director.end(Signal::SIGTERM);
    let mut command = lab.command(Host::Director, pointsman());
    let output = command.args(["top", "--batch", "--socket"]).arg(socket).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no director answers at"), "{said}");
}
