//! The fuzz targets for a bounded time, with the stable toolchain: all seeds and regressions, and mutations of them that
//! are the same in every run. What crashes is written down, to be put into `fuzz/regressions` (see `fuzz/README.md`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod fuzzing;
mod packets;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzzing::{TARGETS, Target};
use packets::{Frames, Ipv4, UDP, rows, udp};

/// Mutations that are tried of each target.
const MUTATIONS: usize = 4000;
/// However slow the machine is, a target gets no more time than this.
const LONGEST: Duration = Duration::from_millis(2500);
/// An input is not mutated beyond this size.
const MOST_BYTES: usize = 8192;

#[test]
fn parse() {
    smoke("parse");
}

#[test]
fn forward() {
    smoke("forward");
}

#[test]
fn config() {
    smoke("config");
}

#[test]
fn replay() {
    smoke("replay");
}

fn smoke(name: &str) {
    let target = TARGETS.iter().find(|target| target.0 == name).unwrap().1;
    let seeds = inputs(&directory("seeds", name));
    assert!(!seeds.is_empty(), "no seeds in fuzz/seeds/{name}");
    let regressions = inputs(&directory("regressions", name));
    for input in seeds.iter().chain(&regressions) {
        run(name, target, input);
    }
    let start = Instant::now();
    let mut random = Random(0x706f_696e_7473);
    let mut tried = 0;
    while tried < MUTATIONS && start.elapsed() < LONGEST {
        let mut input = random.pick(&seeds).clone();
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut input, &seeds);
        }
        run(name, target, &input);
        tried += 1;
    }
    println!("{name}: {} seeds, {} regressions, {tried} mutations", seeds.len(), regressions.len());
}

/// Runs the target and, if it panics, writes the input down.
fn run(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| target(input))) {
        let crash = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{name}"));
        fs::write(&crash, input).unwrap();
        println!(
            "the input is in {}; move it to fuzz/regressions/{name}/ under a name that tells why",
            crash.display()
        );
        panic::resume_unwind(panic);
    }
}

fn directory(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name)
}

/// The files of a directory in the order of their names; none if there is no directory.
fn inputs(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let len = random.below(17).min(input.len() - at);
    match random.below(9) {
        _ if input.is_empty() => input.push(random.next() as u8),
        0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 if at < input.len() => input[at] = random.next() as u8,
        3 if at < input.len() => {
            input[at] = *random.pick(&[0, 1, 4, 6, 8, 17, 0x2c, 0x3a, 0x45, 0x60, 0x7f, 0x80, 0xff])
        }
        4 => input.truncate(at),
        5 => drop(input.drain(at..at + len)),
        6 => {
            let copy = input[at..at + len].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        7 => {
            let other = random.pick(seeds);
            let from = random.below(other.len());
            let to = (from + 1 + random.below(64)).min(other.len());
            input.splice(at..at + len, other.get(from..to).unwrap_or(&[]).iter().copied());
        }
        _ => {
            let byte = random.next() as u8;
            input.insert(at, byte);
        }
    }
    input.truncate(MOST_BYTES);
}

/// Makes the seeds anew, of the packet tables and the configurations of the other tests.
#[test]
#[ignore = "writes fuzz/seeds"]
fn write_the_seeds() {
    let frames: Vec<Vec<u8>> = rows().into_iter().map(|row| row.frame).collect();
    for (number, frame) in frames.iter().enumerate().step_by(4) {
        write_seed("parse", &format!("row-{number:03}"), frame);
    }
    for (number, frames) in frames.chunks(12).enumerate() {
        write_seed("forward", &format!("rows-{number:02}"), &steps(0xff, frames));
        write_seed("replay", &format!("rows-{number:02}"), &capture(0xff, frames, number));
    }
    let random: Vec<Vec<u8>> = Frames::new(7).take(16).collect();
    write_seed("forward", "random", &steps(0x9b, &random));
    write_seed("replay", "random", &capture(0x9b, &random, 0));
    write_seed("forward", "quic", &steps(0xff, &quic_frames()));
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    for entry in fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            write_seed("config", path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
        }
    }
}

/// QUIC packets with the id of one real server after the other: a short header, and long ones of each type.
fn quic_frames() -> Vec<Vec<u8>> {
    let id = |number| [1, number, 1, 2, 3, 4, 5, 6];
    let long = |kind: u8, number| [&[0xc0 | kind << 4, 0, 0, 0, 1, 8][..], &id(number)].concat();
    (0..4_u8)
        .flat_map(|number| [[&[0x40][..], &id(number)].concat(), long(number, number)])
        .map(|payload| {
            let mut datagram = udp(4711, 53);
            datagram.truncate(8);
            datagram[4..6].copy_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
            datagram.extend(payload);
            Ipv4 { protocol: UDP, ..Ipv4::default() }.frame(&datagram)
        })
        .collect()
}

fn write_seed(target: &str, name: &str, bytes: &[u8]) {
    let directory = directory("seeds", target);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), bytes).unwrap();
}

/// The frames as steps of the target `forward`: each arrives twice, at either queue, with real servers that change.
fn steps(servers: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut steps = vec![servers];
    for (number, frame) in frames.iter().enumerate() {
        for queue in [0, 1] {
            steps.push(queue);
            steps.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
            steps.extend(frame);
        }
        match number % 4 {
            1 => steps.extend([0x80, 0xc8]),
            3 => steps.extend([0x80, 0xc9, 0xf0, !(1 << (number % 8)), 0xe1]),
            _ => steps.push(0x80),
        }
    }
    steps
}

/// The frames as a capture file; `number` chooses between microseconds and nanoseconds.
fn capture(servers: u8, frames: &[Vec<u8>], number: usize) -> Vec<u8> {
    let magic: u32 = if number.is_multiple_of(2) { 0xa1b2_c3d4 } else { 0xa1b2_3c4d };
    let mut file = vec![servers];
    file.extend(magic.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    file.extend([0, 0, 65_536, 1_u32].iter().flat_map(|word| word.to_le_bytes()));
    for (second, frame) in (1_u32..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend([second, 0, len, len].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}
