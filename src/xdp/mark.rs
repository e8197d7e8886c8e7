//! The program of the sink, `bpf/mark.bpf.c`: it redirects frames that carry a generator's mark.

use std::os::fd::{OwnedFd, RawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::xdp::attach::{self, Attachment};
use crate::xdp::counters::sum;
use crate::xdp::{AttachMode, AttachedMode, MAX_QUEUES, TestRun, XdpError, object, test_run};

/// The program, loaded for one interface. Dropping it detaches it.
#[derive(Debug)]
pub struct MarkProgram {
    // Dropped first: no more frames.
    attachment: Option<Attachment>,
    program: OwnedFd,
    sockets: MapHandle,
    counters: MapHandle,
}

/// Frames with a mark, since the program was loaded, over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkCounters {
    /// Attempts to redirect to an AF_XDP socket.
    pub redirected: u64,
    /// Passed to the kernel, for their queue has no socket.
    pub no_socket: u64,
}

impl MarkProgram {
    /// Loads the program without attaching it.
    ///
    /// # Errors
    /// [`XdpError::MissingCapability`], [`XdpError::KernelLacks`] and [`XdpError::Load`].
    pub fn load() -> Result<Self, XdpError> {
        let (program, sockets, counters) = object::load_mark()?;
        Ok(Self { attachment: None, program, sockets, counters })
    }

    /// Loads the program and attaches it to the interface of that name and index.
    ///
    /// # Errors
    /// As [`XdpProgram::attach`](crate::xdp::XdpProgram::attach).
    pub fn attach(interface: &str, ifindex: u32, mode: AttachMode) -> Result<Self, XdpError> {
        attach::refuse_occupied(interface, ifindex)?;
        let mut program = Self::load()?;
        program.attachment = Some(attach::attach(interface, ifindex, mode, &program.program)?);
        Ok(program)
    }

    /// Redirects frames of receive queue `queue` to this AF_XDP socket, which must be bound to this interface and queue.
    ///
    /// # Errors
    /// [`XdpError::QueueOutOfRange`] and [`XdpError::Map`].
    pub fn insert_socket(&self, queue: u32, socket: RawFd) -> Result<(), XdpError> {
        if queue >= MAX_QUEUES {
            return Err(XdpError::QueueOutOfRange { queue });
        }
        self.sockets
            .update(&queue.to_ne_bytes(), &socket.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| XdpError::Map { action: "enter an AF_XDP socket", source })
    }

    /// What it counted.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn counters(&self) -> Result<MarkCounters, XdpError> {
        let [redirected, no_socket] = sum(&self.counters)?;
        Ok(MarkCounters { redirected, no_socket })
    }

    /// How it is attached; `None` if it is only loaded.
    pub fn mode(&self) -> Option<AttachedMode> {
        self.attachment.as_ref().map(Attachment::mode)
    }

    /// Why [`AttachMode::Auto`] fell back to generic mode, in words; `None` if it did not.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.attachment.as_ref().and_then(Attachment::fallback_reason)
    }

    /// Detaches the program; it stays loaded.
    pub fn detach(&mut self) {
        self.attachment = None;
    }

    /// Runs the program on a frame, as [`XdpProgram::test_run`](crate::xdp::XdpProgram::test_run) does.
    ///
    /// # Errors
    /// [`XdpError::TestRun`].
    pub fn test_run(&self, frame: &[u8]) -> Result<TestRun, XdpError> {
        test_run::run(&self.program, frame)
    }
}
