//! Attaching a loaded program to an interface by a BPF link, and looking for programs of others.
#![allow(
    unsafe_code,
    reason = "libbpf-rs cannot attach XDP by a link in a given mode, and keeps error numbers to itself"
)]

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::{Program, XdpFlags};

use crate::xdp::XdpError;

/// Which mode to attach in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native, and if that fails generic.
    #[default]
    Auto,
    /// In the driver, before the kernel makes an skb of the frame; no fallback.
    Native,
    /// In the network core, on skbs: works on every interface, and is slower.
    Generic,
}

/// The mode that a program is attached in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network core.
    Generic,
}

impl AttachedMode {
    /// `native` or `generic`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn flag(self) -> XdpFlags {
        match self {
            Self::Native => XdpFlags::DRV_MODE,
            Self::Generic => XdpFlags::SKB_MODE,
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An attached program; dropping it detaches the program.
#[derive(Debug)]
pub(super) struct Attachment {
    link: OwnedFd,
    mode: AttachedMode,
    fallback_reason: Option<String>,
}

impl Attachment {
    pub(super) fn mode(&self) -> AttachedMode {
        self.mode
    }

    pub(super) fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Closing would detach, too, but only when no other descriptor of the link is left, and perhaps later.
        // SAFETY: the call takes an integer, and `link` is open until the end of this function.
        let _ = unsafe { libbpf_sys::bpf_link_detach(self.link.as_raw_fd()) };
    }
}

/// Attaches `program`, which is not attached anywhere yet.
pub(super) fn attach(
    interface: &str,
    ifindex: u32,
    mode: AttachMode,
    program: &OwnedFd,
) -> Result<Attachment, XdpError> {
    let in_mode = |mode: AttachedMode, fallback_reason: Option<String>| match create_link(program, ifindex, mode) {
        Ok(link) => Ok(Attachment { link, mode, fallback_reason }),
        Err(source) => Err(attach_error(interface, ifindex, mode, source)),
    };
    match mode {
        AttachMode::Native => in_mode(AttachedMode::Native, None),
        AttachMode::Generic => in_mode(AttachedMode::Generic, None),
        AttachMode::Auto => match in_mode(AttachedMode::Native, None) {
            Err(error @ XdpError::Attach { .. }) => in_mode(AttachedMode::Generic, Some(error.to_string())),
            result => result,
        },
    }
}

/// What is known of XDP on an interface before anything is attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnInterface {
    /// The program that is attached, if there is one.
    pub program: Option<ForeignProgram>,
    /// What the driver offers; `None` where neither it nor the kernel tells (Linux before 6.3).
    pub features: Option<XdpFeatures>,
}

/// A program on an interface, attached by whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignProgram {
    /// The kernel's number of it.
    pub id: u32,
    /// Its name as the kernel keeps it, up to 15 bytes, if it tells: it wants CAP_SYS_ADMIN.
    pub name: Option<String>,
    /// `native`, `generic` or `offloaded`.
    pub mode: &'static str,
}

/// What a driver offers (`NETDEV_XDP_ACT_*`, include/uapi/linux/netdev.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// Of the kernel's flags.
    pub const fn new(flags: u64) -> Self {
        Self(flags)
    }

    /// Whether programs run in the driver and may redirect from there.
    pub const fn native(self) -> bool {
        self.0 & 0b11 == 0b11
    }

    /// Whether AF_XDP sockets share their memory with the driver.
    pub const fn zero_copy(self) -> bool {
        self.0 & 0b1000 != 0
    }
}

/// Asks the kernel what is attached to an interface and what its driver offers (the netdev family of generic netlink).
///
/// # Errors
/// [`XdpError::NoSuchInterface`] and [`XdpError::Query`].
pub fn on_interface(interface: &str, ifindex: u32) -> Result<OnInterface, XdpError> {
    let found = found_on(interface, ifindex)?;
    let program = attached(&found).map(|(id, mode)| ForeignProgram { id, name: program_name(id), mode });
    // libbpf gives 0 where the kernel has no such family, and so does a driver that has nothing.
    let features = (found.feature_flags != 0).then_some(XdpFeatures(found.feature_flags));
    Ok(OnInterface { program, features })
}

/// Fails if there is any XDP program on the interface.
pub(super) fn refuse_occupied(interface: &str, ifindex: u32) -> Result<(), XdpError> {
    match occupant(interface, ifindex)? {
        Some(occupied) => Err(occupied),
        None => Ok(()),
    }
}

fn occupant(interface: &str, ifindex: u32) -> Result<Option<XdpError>, XdpError> {
    let occupied = attached(&found_on(interface, ifindex)?).map(|(program_id, mode)| XdpError::Occupied {
        interface: interface.to_owned(),
        program_name: program_name(program_id),
        program_id,
        mode,
    });
    Ok(occupied)
}

/// The program's number and mode.
fn attached(found: &libbpf_sys::bpf_xdp_query_opts) -> Option<(u32, &'static str)> {
    [(found.drv_prog_id, "native"), (found.skb_prog_id, "generic"), (found.hw_prog_id, "offloaded")]
        .into_iter()
        .find(|(program_id, _)| *program_id != 0)
}

fn found_on(interface: &str, ifindex: u32) -> Result<libbpf_sys::bpf_xdp_query_opts, XdpError> {
    let no_such_interface = || XdpError::NoSuchInterface { interface: interface.to_owned() };
    // Asked first, since 6.1 answers the query below with nothing for an interface that is not there.
    if nix::net::if_::if_nametoindex(interface) != Ok(ifindex) {
        return Err(no_such_interface());
    }
    let ifindex = i32::try_from(ifindex).map_err(|_| no_such_interface())?;
    query(ifindex).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV) => no_such_interface(),
        _ => XdpError::Query { interface: interface.to_owned(), source },
    })
}

fn query(ifindex: i32) -> io::Result<libbpf_sys::bpf_xdp_query_opts> {
    let mut found = libbpf_sys::bpf_xdp_query_opts {
        sz: mem::size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `found` is a valid structure of the size that it says, which the call fills in; it holds no pointer.
    let result = unsafe { libbpf_sys::bpf_xdp_query(ifindex, 0, &mut found) };
    if result == 0 { Ok(found) } else { Err(io::Error::from_raw_os_error(-result)) }
}

/// Needs CAP_SYS_ADMIN, and the program may be gone by now.
fn program_name(program_id: u32) -> Option<String> {
    Program::fd_from_id(program_id).ok().and_then(|program| name_of(program.as_fd()))
}

fn name_of(program: BorrowedFd<'_>) -> Option<String> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = u32::try_from(mem::size_of_val(&info)).ok()?;
    // SAFETY: `info` is a valid structure of `length` bytes, all zero, so the kernel fills it in and follows no pointer
    // in it; `program` is open.
    let result = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut length) };
    if result != 0 {
        return None;
    }
    let name: Vec<u8> = info.name.iter().take_while(|byte| **byte != 0).map(|byte| byte.to_ne_bytes()[0]).collect();
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}

fn create_link(program: &OwnedFd, ifindex: u32, mode: AttachedMode) -> io::Result<OwnedFd> {
    let ifindex = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let options = libbpf_sys::bpf_link_create_opts {
        sz: mem::size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: mode.flag().bits(),
        ..Default::default()
    };
    // SAFETY: `options` is a valid structure of the size that it says, with null pointers where it has any; `program` is
    // open during the call.
    let link = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_XDP, &options) };
    if link < 0 {
        // libbpf returns the negative errno.
        return Err(io::Error::from_raw_os_error(-link));
    }
    // SAFETY: the call succeeded and returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

fn attach_error(interface: &str, ifindex: u32, mode: AttachedMode, source: io::Error) -> XdpError {
    let interface = interface.to_owned();
    match source.raw_os_error() {
        Some(libc::ENODEV) => XdpError::NoSuchInterface { interface },
        Some(libc::EPERM) => XdpError::not_permitted("attaching the XDP program"),
        // Somebody was faster since the interface was looked at.
        Some(libc::EBUSY | libc::EEXIST) => match occupant(&interface, ifindex) {
            Ok(Some(occupied)) => occupied,
            Ok(None) => XdpError::Busy { interface },
            Err(error) => error,
        },
        _ => XdpError::Attach { interface, mode: mode.name(), hint: hint(mode, &source), cause: source },
    }
}

/// What drivers mean by these errors; what they say themselves does not come through the system call.
fn hint(mode: AttachedMode, source: &io::Error) -> &'static str {
    match (mode, source.raw_os_error()) {
        (AttachedMode::Native, Some(libc::EOPNOTSUPP)) => " (its driver has no native XDP in this configuration)",
        (AttachedMode::Native, Some(libc::ERANGE | libc::EINVAL)) => {
            " (mostly an MTU, for veth the peer's, over the about 3,500 bytes that fit into a page, or LRO; dmesg may \
             tell more)"
        }
        (AttachedMode::Native, Some(libc::ENOMEM | libc::ENOSPC)) => {
            " (mostly too few free transmit queues: some drivers want one per CPU for XDP; see ethtool -l)"
        }
        _ => "",
    }
}
