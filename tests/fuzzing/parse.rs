//! One frame through the parser and the twin of the XDP program.

use pointsman::classify::{Classification, Classifier, PassReason};
use pointsman::wire::{self, Family, Shape, Subject};

use crate::packets;

/// The input is a frame.
pub fn parse(frame: &[u8]) {
    let found = wire::subject(frame);
    if let Ok(subject) = &found {
        check_subject(subject, frame);
        // Neither the MAC addresses nor what stands behind the IP packet is part of it.
        let mut other = frame.to_vec();
        other[..12].fill(0xa5);
        other.extend([0xa5; 7]);
        assert_eq!(wire::subject(&other), found, "MAC addresses or padding matter");
    }
    check_classification(frame, found.ok().as_ref());
}

fn check_subject(subject: &Subject, frame: &[u8]) {
    assert!(subject.l3_offset >= 14 && subject.l3_offset < subject.l4_offset, "{subject:?}");
    assert!(subject.l4_offset + subject.l4_len <= frame.len(), "{subject:?}");
    assert!(matches!(subject.protocol, 6 | 17), "{subject:?}");
    let l4 = &frame[subject.l4_offset..][..subject.l4_len];
    match subject.shape {
        Shape::Datagram | Shape::FirstFragment => {
            assert_eq!(subject.client_port.to_be_bytes(), l4[..2], "{subject:?}");
            assert_eq!(subject.service_port.to_be_bytes(), l4[2..4], "{subject:?}");
        }
        Shape::Quote => assert!(l4.len() >= 8 + 20 + 4, "{subject:?}"),
        _ => assert_eq!((subject.client_port, subject.service_port), (0, 0), "{subject:?}"),
    }
    if matches!(subject.shape, Shape::Datagram | Shape::Truncated) {
        assert_eq!(subject.fragment_id, 0, "{subject:?}");
    }
    if subject.family == Family::V4 {
        assert_eq!((&subject.client[4..], &subject.vip[4..]), (&[0; 12][..], &[0; 12][..]), "{subject:?}");
    }
}

fn check_classification(frame: &[u8], subject: Option<&Subject>) {
    let services = packets::index();
    let mut any = Classifier::new(Vec::new());
    let decided = any.classify(frame, &services, 1);
    if decided == Classification::Redirect {
        let subject = subject.expect("a frame is redirected that is about no flow");
        let service = services.first_of(subject.family, &subject.vip, subject.protocol);
        assert!(service.is_some(), "a frame to no VIP is redirected: {subject:?}");
    }
    assert_eq!(any.classify(frame, &services, 2), decided, "the same frame is classified differently");
    let own = Classifier::new(packets::local_macs()).classify(frame, &services, 1);
    assert!(own == decided || own == Classification::Pass(PassReason::NotOurMac), "{own:?}, {decided:?}");
}
