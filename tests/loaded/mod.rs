//! The compiled XDP program, loaded with the services of the packet tables, for `BPF_PROG_TEST_RUN`. Needs root and Linux.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it is skipped"
)]
#![allow(unsafe_code, reason = "AF_XDP sockets have no safe interface here")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "the module is compiled into several test binaries")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use pointsman::xdp::{NoSocketAction, Settings, XdpError, XdpProgram};

use crate::packets;

/// A loaded program with the services of the packet tables, and a socket for queue 0. The kernel lets any AF_XDP socket
/// into the map; a test run redirects nothing to it.
pub struct Loaded {
    pub program: XdpProgram,
    _socket: OwnedFd,
}

/// Takes frames to the addresses of the packet tables.
pub fn settings(no_socket: NoSocketAction) -> Settings {
    Settings { local_macs: packets::local_macs(), no_socket }
}

/// Without a socket. None: cannot be loaded here, and that is no failure.
pub fn load(no_socket: NoSocketAction) -> Option<XdpProgram> {
    match XdpProgram::load(&settings(no_socket)) {
        Ok(mut program) => {
            program.add_services(packets::services()).unwrap();
            Some(program)
        }
        Err(error @ (XdpError::MissingCapability { .. } | XdpError::NotPermitted { .. }))
            if std::env::var_os("CI").is_none() =>
        {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// As `load`, and a frame of a service is redirected.
pub fn load_with_socket() -> Option<Loaded> {
    let program = load(NoSocketAction::Drop)?;
    let socket = af_xdp_socket();
    program.insert_socket(0, socket.as_raw_fd()).unwrap();
    Some(Loaded { program, _socket: socket })
}

/// A socket that is bound to nothing.
pub fn af_xdp_socket() -> OwnedFd {
    // SAFETY: the call takes integers; what it returns is checked, and nobody else owns it.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}
