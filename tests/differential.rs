//! The compiled XDP program against its twin in user space: they must agree on every frame.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod loaded;
mod packets;

use packets::{Expected, Frames, rows};
use pointsman::classify::{Classification, Classifier, PassReason};
use pointsman::xdp::{XdpAction, XdpCounters};

const FRAMES: usize = 100_000;

/// The twin agrees with the tables of packets by itself: needs no privilege.
#[test]
fn the_twin_decides_every_row_as_the_table_says() {
    let services = packets::index();
    let mut classifier = Classifier::new(packets::local_macs());
    for row in rows() {
        let expected = match row.expected {
            Expected::Redirect => "redirect",
            Expected::Pass(reason) => reason.name(),
        };
        let decided = match classifier.classify(&row.frame, &services, 1) {
            Classification::Redirect => "redirect",
            Classification::Pass(reason) => reason.name(),
        };
        assert_eq!(decided, expected, "{}: {:02x?}", row.description, row.frame);
    }
}

#[test]
fn program_and_twin_agree_on_a_hundred_thousand_random_and_mutated_frames() {
    let Some(loaded) = loaded::load_with_socket() else { return };
    let program = &loaded.program;
    let services = packets::index();
    let mut classifier = Classifier::new(packets::local_macs());
    let mut before = program.counters().read().unwrap();
    let (mut redirected, mut passed) = (0, 0);
    for (number, frame) in Frames::new(0x706f_696e_7473).take(FRAMES).enumerate() {
        let run = program.test_run(&frame).unwrap();
        let after = program.counters().read().unwrap();
        let twin = classifier.classify(&frame, &services, 1);
        let expected = match twin {
            Classification::Redirect => XdpAction::Redirect,
            Classification::Pass(_) => XdpAction::Pass,
        };
        assert_eq!(run.action, expected, "frame {number}, twin says {twin:?}: {frame:02x?}");
        assert_eq!(counted(before, after), counter_of(twin), "frame {number}, twin says {twin:?}: {frame:02x?}");
        assert_eq!(run.frame, frame, "frame {number} was changed");
        before = after;
        match twin {
            Classification::Redirect => redirected += 1,
            Classification::Pass(_) => passed += 1,
        }
    }
    // Agreement on frames that are all of one kind would prove little.
    assert!(redirected > FRAMES / 10 && passed > FRAMES / 10, "{redirected} redirected, {passed} passed");
    println!("{redirected} redirected, {passed} passed");
}

fn counter_of(classification: Classification) -> &'static str {
    match classification {
        Classification::Redirect => "redirected",
        Classification::Pass(PassReason::Malformed) => "malformed",
        Classification::Pass(PassReason::NotOurMac) => "not_our_mac",
        Classification::Pass(_) => "passed",
    }
}

/// The one counter that grew by one.
fn counted(before: XdpCounters, after: XdpCounters) -> &'static str {
    let grown = [
        ("redirected", after.redirected - before.redirected),
        ("passed", after.passed - before.passed),
        ("not_our_mac", after.not_our_mac - before.not_our_mac),
        ("malformed", after.malformed - before.malformed),
        ("no_socket", after.no_socket - before.no_socket),
    ];
    let mut ones = grown.iter().filter(|(_, by)| *by == 1);
    match (ones.next(), ones.next(), grown.iter().map(|(_, by)| by).sum::<u64>()) {
        (Some((name, _)), None, 1) => name,
        _ => panic!("not one counter grew by one: {grown:?}"),
    }
}
