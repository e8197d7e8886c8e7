//! A foreign XDP program on an interface, and what `ip` tells about programs.
#![allow(unsafe_code, reason = "bpf(2) through libbpf")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Host, Lab};

/// An XDP program that passes everything, attached by netlink as `ip link set ... xdp` would do.
pub struct ForeignProgram {
    _program: OwnedFd,
}

impl ForeignProgram {
    /// Attaches the program; it stays on the interface until the namespace goes.
    pub fn attach(lab: &Lab, host: Host, interface: &str, name: &str) -> ForeignProgram {
        lab.on(host, || {
            let name = CString::new(name).unwrap();
            // r0 = XDP_PASS (2); exit
            let program = [instruction(0xb7, 2), instruction(0x95, 0)];
            // SAFETY: name, licence and the two instructions outlive the call; no options.
            let fd = unsafe {
                libbpf_sys::bpf_prog_load(
                    libbpf_sys::BPF_PROG_TYPE_XDP,
                    name.as_ptr(),
                    c"GPL".as_ptr(),
                    program.as_ptr(),
                    program.len() as libbpf_sys::size_t,
                    std::ptr::null_mut(),
                )
            };
            assert!(fd >= 0, "could not load the foreign program: {fd}");
            // SAFETY: the descriptor is new and owned by nobody else.
            let program = unsafe { OwnedFd::from_raw_fd(fd) };
            let index = i32::try_from(nix::net::if_::if_nametoindex(interface).unwrap()).unwrap();
            // SAFETY: a live descriptor and no options.
            let status = unsafe { libbpf_sys::bpf_xdp_attach(index, program.as_raw_fd(), 0, std::ptr::null()) };
            assert_eq!(status, 0, "could not attach the foreign program");
            ForeignProgram { _program: program }
        })
    }
}

fn instruction(code: u8, immediate: i32) -> libbpf_sys::bpf_insn {
    libbpf_sys::bpf_insn { code, imm: immediate, ..Default::default() }
}

/// What the kernel says about an XDP program on an interface; `None` if there is none.
pub fn xdp_program(lab: &Lab, host: Host, interface: &str) -> Option<String> {
    let link = lab.ip(host, &format!("-d link show dev {interface}"));
    link.lines().find(|line| line.contains("prog/xdp")).map(|line| line.trim().to_owned())
}
