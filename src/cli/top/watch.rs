//! The loop of `pointsman top`: keys, answers and signals in, frames out. Nothing in it waits for the director.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event as Input, KeyEventKind};
use serde_json::json;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::screen::Screen;
use crate::config::edit::{Change, Settings};
use crate::control::client::{Client, ClientError, How};
use crate::stats::report::Report;
use crate::top::{Drained, Outcome, RealServerName, Request, Top};

/// What the loop waits for.
enum Event {
    Input(Input),
    Answer(Result<Box<Report>, ClientError>),
    Changed(Outcome),
    /// The process was stopped, and goes on.
    Continued,
    End,
}

/// Shows the director of `client` until the user quits. Real servers are changed by `changes`, which is more patient.
pub(super) fn watch(mut top: Top, client: Client, changes: Client, interval: Duration) -> io::Result<()> {
    let (events, incoming) = mpsc::channel();
    end_by_signals(events.clone())?;
    let mut screen = Screen::enter()?;
    read_input(events.clone());
    let (ask_now, asked) = mpsc::channel();
    ask_again_and_again(client, interval, asked, events.clone());

    let mut answered = Instant::now();
    loop {
        screen.show(&top)?;
        let Ok(first) = incoming.recv() else { return Ok(()) };
        // All that came meanwhile makes one frame.
        for event in std::iter::once(first).chain(incoming.try_iter()) {
            match event {
                Event::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => match top.press(key) {
                    None => {}
                    Some(Request::Quit) => return Ok(()),
                    Some(Request::Redraw) => screen.renew()?,
                    Some(request) => make(request, changes.clone(), events.clone()),
                },
                Event::Input(Input::Paste(text)) => top.paste(&text),
                Event::Input(_) => {}
                Event::Answer(Ok(report)) => {
                    answered = Instant::now();
                    top.answered(*report);
                }
                Event::Answer(Err(error)) => top.unanswered(error.to_string(), answered.elapsed()),
                Event::Changed(outcome) => {
                    top.changed(outcome);
                    let _ = ask_now.send(());
                }
                Event::Continued => screen.renew()?,
                Event::End => return Ok(()),
            }
        }
    }
}

fn end_by_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCONT])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGCONT { Event::Continued } else { Event::End };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn read_input(events: Sender<Event>) {
    thread::spawn(move || {
        loop {
            let event = event::read().map_or(Event::End, Event::Input);
            let last = matches!(event, Event::End);
            if events.send(event).is_err() || last {
                return;
            }
        }
    });
}

fn ask_again_and_again(client: Client, interval: Duration, now: Receiver<()>, events: Sender<Event>) {
    thread::spawn(move || {
        loop {
            if now.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Disconnected) {
                return;
            }
            if events.send(Event::Answer(client.stats().map(Box::new))).is_err() {
                return;
            }
        }
    });
}

/// Makes a change, and tells how it ended.
fn make(request: Request, client: Client, events: Sender<Event>) {
    thread::spawn(move || {
        let outcome = match request {
            Request::Drain(name) => drain(&client, name),
            Request::Restore(drained) => restore(&client, drained),
            Request::Quit | Request::Redraw => return,
        };
        let _ = events.send(Event::Changed(outcome));
    });
}

fn weigh(name: RealServerName, weight: u32) -> [Change; 1] {
    let settings = Settings::from_iter([("weight".to_owned(), json!(weight))]);
    [Change::EditRealServer { service: name.service, address: name.address, settings }]
}

fn drain(client: &Client, name: RealServerName) -> Outcome {
    match client.change(&weigh(name, 0), How::default()) {
        // The weight that it had then, which may be another than that on the screen.
        Ok(report) => match report.real_servers_reweighted.first() {
            Some(change) => Outcome::Drained(Drained { name, weight: change.old }),
            None => Outcome::Failed { what: name.to_string(), error: "it has weight 0 already".to_owned() },
        },
        Err(error) => Outcome::Failed { what: format!("{name} is not drained"), error: error.to_string() },
    }
}

/// Not if somebody else has given it a weight meanwhile.
fn restore(client: &Client, drained: Drained) -> Outcome {
    let Drained { name, weight } = drained;
    let failed =
        |error: ClientError| Outcome::Failed { what: format!("{name} is not undone"), error: error.to_string() };
    let now = match client.stats() {
        Ok(report) => name.find(&report).map(|server| server.weight),
        Err(error) => return failed(error),
    };
    if now != Some(0) {
        return Outcome::Overtaken { drained, now };
    }
    client.change(&weigh(name, weight), How::default()).map_or_else(failed, |_| Outcome::Restored(drained))
}
