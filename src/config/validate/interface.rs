//! The `[[interface]]` tables.

use std::time::Duration;

use super::{Check, Seen, warn};
use crate::config::error::Findings;
use crate::config::interface::{
    AttachMode, BusyPoll, CopyMode, FrameSize, InterfaceConfig, MAX_CORE, MAX_QUEUE, MAX_VIRTUAL_MACS, PollMode, Queues,
};
use crate::config::raw::{RawBusyPoll, RawInterface};
use crate::config::reader::{Field, Item, WordOr, quoted};
use crate::wire::MacAddress;

/// `IFNAMSIZ` of the kernel without the closing zero.
const MAX_NAME_BYTES: usize = 15;

const RING_SIZES: std::ops::RangeInclusive<i64> = 64..=65_536;

pub(super) fn interfaces(raw: &[RawInterface<'_>], findings: &Findings) -> Vec<InterfaceConfig> {
    let mut names = Seen::new();
    let mut interfaces = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let check = Check { place: &raw.place, findings };
        if let Some(name) = &raw.name
            && let Some(first) = names.before(name.value, index)
        {
            let message = format!("{} is interface[{first}] already; remove one of them", quoted(name.value));
            check.refuse_with(name, message);
        }
        interfaces.push(interface(raw, check));
    }
    if let (Some(raw), false) = (raw.first(), interfaces.iter().any(|interface| interface.receive)) {
        let path = raw.place.path_of("receive");
        let message = "no interface receives, so nothing is forwarded; set one to receive = true".to_owned();
        findings.warn(raw.receive.as_ref().map_or(raw.place.at, |field| field.at), path, message);
    }
    interfaces
}

fn interface(raw: &RawInterface<'_>, check: Check<'_>) -> InterfaceConfig {
    let mut interface = InterfaceConfig::named(raw.name.as_ref().map_or("", |name| name.value));
    name(raw.name.as_ref(), check);
    interface.queues = queues(raw.queues.as_ref(), check);
    interface.cores = cores(raw.cores.as_ref(), check);
    if let Some(receive) = &raw.receive {
        interface.receive = receive.value;
    }
    if let Some(huge_pages) = &raw.huge_pages {
        interface.huge_pages = huge_pages.value;
    }
    modes(raw, &mut interface, check);
    timing(raw, &mut interface, check);
    sizes(raw, &mut interface, check);
    interface.virtual_macs = virtual_macs(raw.virtual_macs.as_ref(), check);
    if let (Queues::List(queues), Some(cores)) = (&interface.queues, &raw.cores)
        && interface.cores.len() > queues.len()
    {
        let message = "there are more cores than queues, so some of them stay without work";
        warn(check.place, cores, message, check.findings);
    }
    interface
}

/// What the kernel takes as an interface's name (`dev_valid_name`), and no control characters.
fn name(field: Option<&Field<&str>>, check: Check<'_>) {
    let Some(field) = field else { return };
    let name = field.value;
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." || name.contains(|c: char| "/:".contains(c)) {
        "is not an interface name"
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "contains a space or a control character"
    } else {
        return;
    };
    check.refuse(field, format_args!("{} {problem}", quoted(name)));
}

fn queues(field: Option<&Field<WordOr<'_, Vec<Item<i64>>>>>, check: Check<'_>) -> Queues {
    match field.map(|field| (field, &field.value)) {
        None | Some((_, WordOr::Word("all"))) => Queues::All,
        Some((field, WordOr::Word(word))) => {
            check.refuse(field, format_args!("{} is not a list of queues", quoted(word)));
            Queues::All
        }
        Some((field, WordOr::Other(items))) => {
            if items.is_empty() {
                check.refuse(field, "an empty list leaves no queue");
            }
            Queues::List(distinct(field, items, i64::from(MAX_QUEUE), "a queue", check))
        }
    }
}

fn cores(field: Option<&Field<WordOr<'_, Vec<Item<i64>>>>>, check: Check<'_>) -> Vec<usize> {
    match field.map(|field| (field, &field.value)) {
        None | Some((_, WordOr::Word("auto"))) => Vec::new(),
        Some((field, WordOr::Word(word))) => {
            check.refuse(field, format_args!("{} is not a list of cores", quoted(word)));
            Vec::new()
        }
        Some((field, WordOr::Other(items))) => {
            let max = i64::try_from(MAX_CORE).unwrap_or(i64::MAX);
            distinct(field, items, max, "a CPU number", check)
        }
    }
}

/// The numbers of a list, each from 0 to `max` and there once.
fn distinct<T: TryFrom<i64>, L>(
    field: &Field<L>,
    items: &[Item<i64>],
    max: i64,
    noun: &str,
    check: Check<'_>,
) -> Vec<T> {
    let mut seen = Seen::new();
    let mut numbers = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}[{index}]", check.place.path_of(field.key.name));
        if let Some(first) = seen.before(item.value, index) {
            let message = format!("{} is element [{first}] already; remove one of them", item.value);
            check.findings.refuse(item.at, path, message);
            continue;
        }
        match T::try_from(item.value) {
            Ok(number) if (0..=max).contains(&item.value) => numbers.push(number),
            _ => {
                let message = format!("{} is not {noun}; use {}", item.value, field.key.expects);
                check.findings.refuse(item.at, path, message);
            }
        }
    }
    numbers
}

fn modes(raw: &RawInterface<'_>, interface: &mut InterfaceConfig, check: Check<'_>) {
    let modes = [("auto", AttachMode::Auto), ("native", AttachMode::Native), ("generic", AttachMode::Generic)];
    check.word(raw.mode.as_ref(), &modes, &mut interface.mode);
    let copies = [("auto", CopyMode::Auto), ("zero_copy", CopyMode::ZeroCopy), ("copy", CopyMode::Copy)];
    check.word(raw.copy.as_ref(), &copies, &mut interface.copy);
    let polls = [("busy", PollMode::Busy), ("adaptive", PollMode::Adaptive)];
    check.word(raw.poll.as_ref(), &polls, &mut interface.poll);
    if let (AttachMode::Generic, CopyMode::ZeroCopy, Some(copy)) = (interface.mode, interface.copy, &raw.copy) {
        let message = "zero copy needs the driver's hook, which mode = \"generic\" does without; use mode = \"native\" \
                       or copy = \"auto\"";
        check.refuse_with(copy, message.to_owned());
    }
}

fn timing(raw: &RawInterface<'_>, interface: &mut InterfaceConfig, check: Check<'_>) {
    const MAX_US: i64 = 1_000_000;
    let microseconds = |field: Option<&Field<i64>>, into: &mut Duration| {
        let mut value = u64::MAX;
        check.number(field, 0..=MAX_US, &mut value);
        if value != u64::MAX {
            *into = Duration::from_micros(value);
        }
    };
    microseconds(raw.idle_spin_us.as_ref(), &mut interface.idle_spin);
    microseconds(raw.tx_hold_us.as_ref(), &mut interface.tx_hold);
    interface.busy_poll = raw.busy_poll.as_ref().map(|raw| busy_poll(raw, check.findings));
    if let (PollMode::Busy, Some(idle_spin)) = (interface.poll, &raw.idle_spin_us) {
        warn(check.place, idle_spin, "has no effect with poll = \"busy\", which never sleeps", check.findings);
    }
}

fn busy_poll(raw: &RawBusyPoll, findings: &Findings) -> BusyPoll {
    let check = Check { place: &raw.place, findings };
    let mut busy_poll = BusyPoll::default();
    check.number(raw.timeout_us.as_ref(), 1..=1_000_000, &mut busy_poll.timeout_us);
    check.number(raw.budget.as_ref(), 1..=65_535, &mut busy_poll.budget);
    busy_poll
}

fn sizes(raw: &RawInterface<'_>, interface: &mut InterfaceConfig, check: Check<'_>) {
    check.number(raw.batch.as_ref(), 1..=512, &mut interface.batch);
    let batch = interface.batch;
    let rings = [
        (&raw.rx_ring, &mut interface.rx_ring),
        (&raw.tx_ring, &mut interface.tx_ring),
        (&raw.fill_ring, &mut interface.fill_ring),
        (&raw.completion_ring, &mut interface.completion_ring),
    ];
    for (field, ring) in rings {
        let Some(field) = field else { continue };
        if RING_SIZES.contains(&field.value) && field.value.count_ones() != 1 {
            check.refuse_with(field, not_a_power_of_two(field.value));
            continue;
        }
        check.number(Some(field), RING_SIZES, ring);
        if *ring < batch {
            check.refuse_with(
                field,
                format!("{ring} is less than batch = {batch}; use {batch} or more, or a smaller batch"),
            );
        }
    }
    let mut frames = 0;
    check.number(raw.frames.as_ref(), 128..=1_048_576, &mut frames);
    interface.frames = (frames > 0).then_some(frames);
    if let (Some(field), Some(frames)) = (&raw.frames, interface.frames)
        && frames < 2 * batch
    {
        let message = format!("{frames} frames do not hold two batches of {batch}; use {} or more", 2 * batch);
        check.refuse_with(field, message);
    }
    let mut mtu = 0;
    check.number(raw.mtu.as_ref(), 68..=65_535, &mut mtu);
    interface.mtu = (mtu > 0).then_some(mtu);
    interface.frame_size = frame_size(raw.frame_size.as_ref(), check);
}

fn not_a_power_of_two(size: i64) -> String {
    let above = size.unsigned_abs().next_power_of_two();
    format!("{size} is not a power of two; use {} or {above}", above / 2)
}

fn frame_size(field: Option<&Field<WordOr<'_, i64>>>, check: Check<'_>) -> FrameSize {
    let Some(field) = field else { return FrameSize::Auto };
    let shown = match field.value {
        WordOr::Word("auto") => return FrameSize::Auto,
        WordOr::Other(2048) => return FrameSize::Bytes2048,
        WordOr::Other(4096) => return FrameSize::Bytes4096,
        WordOr::Word(word) => quoted(word),
        WordOr::Other(bytes) => bytes.to_string(),
    };
    check.refuse(field, format_args!("{shown} is not a frame size"));
    FrameSize::Auto
}

fn virtual_macs(field: Option<&Field<Vec<Item<&str>>>>, check: Check<'_>) -> Vec<MacAddress> {
    let Some(field) = field else { return Vec::new() };
    let mut seen = Seen::new();
    let mut macs = Vec::with_capacity(field.value.len());
    for (index, item) in field.value.iter().enumerate() {
        let message = match unicast_mac(item.value) {
            Err(problem) => format!("{problem}; use {}", field.key.expects),
            Ok(mac) => match seen.before(mac, index) {
                None => {
                    macs.push(mac);
                    continue;
                }
                Some(first) => format!("{mac} is element [{first}] already; remove one of them"),
            },
        };
        let path = format!("{}[{index}]", check.place.path_of(field.key.name));
        check.findings.refuse(item.at, path, message);
    }
    if macs.len() > MAX_VIRTUAL_MACS {
        check.refuse_with(field, format!("{} virtual MACs are too many; use {MAX_VIRTUAL_MACS} at most", macs.len()));
    }
    macs
}

/// The MAC of one station, or why it is none.
pub(super) fn unicast_mac(text: &str) -> Result<MacAddress, String> {
    match text.parse::<MacAddress>() {
        Err(_) => Err(format!("{} is not a MAC", quoted(text))),
        Ok(mac) if mac.is_zero() => Err(format!("{mac} belongs to no station")),
        Ok(mac) if mac.is_multicast() => Err(format!("{mac} is a group address, not the MAC of one station")),
        Ok(mac) => Ok(mac),
    }
}
