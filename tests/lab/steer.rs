//! Which of the director's queues a frame arrives on, decided at the port that faces the director.
//!
//! A veth hands a frame to the receive queue of the same number as the transmit queue that it left by, and a frame that
//! was received before, as at a bridge, leaves by the queue that it is recorded to have come in by. A program on the
//! port's way out writes that record.
#![allow(unsafe_code, reason = "bpf(2) through libbpf")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys::bpf_insn;

use super::{Host, Lab};

/// Steers the frames to the director as long as it lives.
pub struct Steering {
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Steering {
    /// ICMP and ICMPv6 (untagged, without IP options or extension headers) go to one queue, all else to the other.
    pub fn by_kind(lab: &Lab, icmp_queue: u16, other_queue: u16) -> Steering {
        let (icmp, other) = (i32::from(icmp_queue) + 1, i32::from(other_queue) + 1);
        let set_queue = |queue| [instruction(MOV, 1, 0, 0, queue), instruction(STORE_WORD, 6, 1, QUEUE_MAPPING, 0)];
        let program = [
            &[
                instruction(MOV_REGISTER, 6, 1, 0, 0),
                // The protocol of IPv4; no IPv6 address here has a 1 in this place.
                instruction(LOAD_BYTE, 0, 0, 0, 23),
                instruction(JUMP_IF_EQUAL, 0, 0, 5, 1),
                // The next header of IPv6; no flags and fragment offset of IPv4 look so here.
                instruction(LOAD_BYTE, 0, 0, 0, 20),
                instruction(JUMP_IF_EQUAL, 0, 0, 3, 58),
            ][..],
            &set_queue(other),
            &[instruction(JUMP, 0, 0, 2, 0)],
            &set_queue(icmp),
            &[instruction(MOV, 0, 0, 0, TCX_PASS), instruction(EXIT, 0, 0, 0, 0)],
        ]
        .concat();
        lab.on(Host::Switch, || attach(&program))
    }

    /// Fragments behind the first (untagged, without IP options or further extension headers) go to one queue, all else
    /// to the other.
    pub fn by_fragment(lab: &Lab, later_queue: u16, other_queue: u16) -> Steering {
        let (later, other) = (i32::from(later_queue) + 1, i32::from(other_queue) + 1);
        let program = [
            instruction(MOV_REGISTER, 6, 1, 0, 0),
            instruction(MOV, 7, 0, 0, other),
            instruction(LOAD_HALF, 0, 0, 0, 12),
            instruction(JUMP_IF_EQUAL, 0, 0, 5, 0x86dd),
            instruction(JUMP_IF_NOT_EQUAL, 0, 0, 10, 0x0800),
            // IPv4: flags and fragment offset.
            instruction(LOAD_HALF, 0, 0, 0, 20),
            instruction(AND, 0, 0, 0, 0x1fff),
            instruction(JUMP_IF_EQUAL, 0, 0, 7, 0),
            instruction(JUMP, 0, 0, 5, 0),
            // IPv6: a fragment header, and its offset.
            instruction(LOAD_BYTE, 0, 0, 0, 20),
            instruction(JUMP_IF_NOT_EQUAL, 0, 0, 4, 44),
            instruction(LOAD_HALF, 0, 0, 0, 56),
            instruction(AND, 0, 0, 0, 0xfff8),
            instruction(JUMP_IF_EQUAL, 0, 0, 1, 0),
            instruction(MOV, 7, 0, 0, later),
            instruction(STORE_WORD, 6, 7, QUEUE_MAPPING, 0),
            instruction(MOV, 0, 0, 0, TCX_PASS),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        lab.on(Host::Switch, || attach(&program))
    }

    /// All frames go to one queue.
    pub fn all(lab: &Lab, queue: u16) -> Steering {
        Steering::by_kind(lab, queue, queue)
    }
}

fn attach(program: &[bpf_insn]) -> Steering {
    // SAFETY: name, licence and the instructions outlive the call, and their number is given; no options.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"steer".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "could not load the steering program: {fd}");
    // SAFETY: the descriptor is new and owned by nobody else.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let port = i32::try_from(nix::net::if_::if_nametoindex("director").unwrap()).unwrap();
    // SAFETY: a live descriptor and no options.
    let fd =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), port, libbpf_sys::BPF_TCX_EGRESS, std::ptr::null()) };
    assert!(fd >= 0, "could not attach the steering program: {fd}");
    // SAFETY: the descriptor is new and owned by nobody else.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    Steering { _program: program, _link: link }
}

// Instruction codes: Documentation/bpf/standardization/instruction-set.rst of the kernel.
const MOV: u8 = 0xb7;
const MOV_REGISTER: u8 = 0xbf;
const LOAD_BYTE: u8 = 0x30;
const LOAD_HALF: u8 = 0x28;
const AND: u8 = 0x57;
const STORE_WORD: u8 = 0x63;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;
/// Offset of `queue_mapping` in `struct __sk_buff`: the recorded queue plus 1.
const QUEUE_MAPPING: i16 = 12;
const TCX_PASS: i32 = 0;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> bpf_insn {
    let mut instruction = bpf_insn { code, off: offset, imm: immediate, ..Default::default() };
    instruction.set_dst_reg(destination);
    instruction.set_src_reg(source);
    instruction
}
