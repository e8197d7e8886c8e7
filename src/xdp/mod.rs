//! The XDP program in the kernel: loading and attaching it, and its maps.
//!
//! `docs/classification.md` says what the program does with a frame. This room loads it, fills its maps and attaches it
//! to an interface. One [`XdpProgram`] is one interface's own copy of the program with its own maps.
//!
//! # What a killed director leaves behind
//!
//! Nothing. The program is attached by a BPF link, which the kernel removes with the last file descriptor that refers to
//! it: with the process, whatever ends it, `SIGKILL` included. The descriptors are closed on exec and the link is not
//! pinned, so no other process holds it. A program that is found on the interface at start is therefore never a
//! leftover of an earlier instance; it belongs to somebody, and [`XdpError::Occupied`] names it.

mod abi;
mod attach;
mod counters;
mod error;
mod mark;
mod object;
mod redirect_errors;
mod services;
mod softirq;
mod test_run;

pub use abi::{MAX_LOCAL_MACS, MAX_QUEUES, MAX_SERVICES, MAX_VIPS, STAMP_BYTES, STAMP_MAGIC};
pub use attach::{AttachMode, AttachedMode, ForeignProgram, OnInterface, XdpFeatures, on_interface};
pub use counters::{CounterReader, RedirectErrors, XdpCounters};
pub use error::{XdpError, effective_capabilities, missing_in as missing_capabilities_in, require_capabilities};
pub use mark::{MarkCounters, MarkProgram};
pub use softirq::{NapiPolls, SoftirqOfCpu, SoftirqWatch};
pub use test_run::{TestRun, XdpAction};

use std::os::fd::{OwnedFd, RawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::service::ServiceKey;
use crate::wire::MacAddress;
use abi::LocalMacs;
use attach::Attachment;
use services::Services;

/// What the program does with a frame of a virtual service whose receive queue has no AF_XDP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoSocketAction {
    /// Drops it. The default: the director's own TCP stack has the VIP but no listener, and would answer a live client
    /// with RST.
    #[default]
    Drop,
    /// Passes it to the kernel.
    Pass,
}

/// What the program knows besides the services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Destination MAC addresses that are the interface's own or a configured virtual one, at most
    /// [`MAX_LOCAL_MACS`]. Frames to any other pass.
    pub local_macs: Vec<MacAddress>,
    /// What becomes of frames that have no socket to go to.
    pub no_socket: NoSocketAction,
}

impl Settings {
    /// Passes every frame. For an interface that only transmits: igb sends in zero-copy mode only while a program is
    /// attached to the interface.
    pub fn pass_all() -> Self {
        Self::default()
    }
}

/// The program, loaded for one interface. Dropping it detaches it.
///
/// The maps may be changed while the program runs; each change is seen whole by the next frame.
#[derive(Debug)]
pub struct XdpProgram {
    // Fields are dropped in this order: first no more frames, then the maps.
    attachment: Option<Attachment>,
    program: OwnedFd,
    program_id: u32,
    settings_map: MapHandle,
    sockets: MapHandle,
    services: Services,
    counters: CounterReader,
    local_macs: LocalMacs,
}

impl XdpProgram {
    /// Loads the program and attaches it to the interface of that name and index in the network namespace of the
    /// calling thread. Until services are added every frame passes.
    ///
    /// # Errors
    /// Those of [`XdpProgram::load`], then [`XdpError::NoSuchInterface`], [`XdpError::Occupied`], [`XdpError::Busy`],
    /// [`XdpError::MissingCapability`] and [`XdpError::Attach`]. Nothing stays attached.
    pub fn attach(interface: &str, ifindex: u32, mode: AttachMode, settings: &Settings) -> Result<Self, XdpError> {
        // Before loading, because it costs nothing and needs no privilege.
        attach::refuse_occupied(interface, ifindex)?;
        let mut program = Self::load(settings)?;
        program.attachment = Some(attach::attach(interface, ifindex, mode, &program.program)?);
        Ok(program)
    }

    /// Loads the program without attaching it, for [`XdpProgram::test_run`].
    ///
    /// # Errors
    /// [`XdpError::TooManyLocalMacs`], [`XdpError::MissingCapability`], [`XdpError::KernelLacks`], [`XdpError::Load`] and
    /// [`XdpError::Map`].
    pub fn load(settings: &Settings) -> Result<Self, XdpError> {
        let object = object::load_redirect()?;
        let errors = redirect_errors::watch(&object.sockets);
        let mut program = Self {
            attachment: None,
            program: object.program,
            program_id: object.program_id,
            settings_map: object.settings,
            sockets: object.sockets,
            services: Services::new(object.vips, object.services),
            counters: CounterReader::new(object.counters, errors),
            local_macs: LocalMacs::default(),
        };
        program.update_settings(settings)?;
        Ok(program)
    }

    /// Replaces the settings. Addresses that stay are recognised without a gap.
    ///
    /// # Errors
    /// [`XdpError::TooManyLocalMacs`] and [`XdpError::Map`]; the former settings then stay.
    pub fn update_settings(&mut self, settings: &Settings) -> Result<(), XdpError> {
        let local_macs = self.local_macs.replaced_by(&settings.local_macs)?;
        self.settings_map
            .update(&0_u32.to_ne_bytes(), &abi::settings_value(&local_macs, settings.no_socket), MapFlags::ANY)
            .map_err(|source| XdpError::Map { action: "write its settings", source })?;
        self.local_macs = local_macs;
        Ok(())
    }

    /// Makes these the services whose frames are redirected: adds what is new, then removes what is gone.
    ///
    /// # Errors
    /// [`XdpError::TooManyServices`], [`XdpError::TooManyVips`] and [`XdpError::Map`]; a part may then be done, and a
    /// later call completes it.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = ServiceKey>) -> Result<(), XdpError> {
        self.services.set(services.into_iter().collect())
    }

    /// Redirects frames of these services, too. Those that are there already stay as they are.
    ///
    /// # Errors
    /// As [`XdpProgram::set_services`].
    pub fn add_services(&mut self, services: impl IntoIterator<Item = ServiceKey>) -> Result<(), XdpError> {
        services.into_iter().try_for_each(|service| self.services.add(service))
    }

    /// Leaves frames of these services to the kernel. Those that are not there are ignored. The other services of a VIP
    /// are not disturbed.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn remove_services(&mut self, services: impl IntoIterator<Item = ServiceKey>) -> Result<(), XdpError> {
        services.into_iter().try_for_each(|service| self.services.remove(service))
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

    /// Takes the socket of receive queue `queue` out, if there is one. (The kernel does so itself when it is closed.)
    ///
    /// # Errors
    /// [`XdpError::QueueOutOfRange`] and [`XdpError::Map`].
    pub fn remove_socket(&self, queue: u32) -> Result<(), XdpError> {
        if queue >= MAX_QUEUES {
            return Err(XdpError::QueueOutOfRange { queue });
        }
        match self.sockets.delete(&queue.to_ne_bytes()) {
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| XdpError::Map { action: "take an AF_XDP socket out", source }),
        }
    }

    /// The counters of this interface's program since it was loaded.
    pub fn counters(&self) -> &CounterReader {
        &self.counters
    }

    /// How the program is attached; `None` if it is only loaded.
    pub fn mode(&self) -> Option<AttachedMode> {
        self.attachment.as_ref().map(Attachment::mode)
    }

    /// Why [`AttachMode::Auto`] fell back to generic mode, in words for the log; `None` if it did not.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.attachment.as_ref().and_then(Attachment::fallback_reason)
    }

    /// The kernel's number of the program, as `bpftool prog` and `ip link` show it.
    pub fn program_id(&self) -> u32 {
        self.program_id
    }

    /// Detaches the program; it stays loaded. Does nothing if it is not attached.
    pub fn detach(&mut self) {
        self.attachment = None;
    }

    /// Runs the program on a frame as if it had come in on queue 0 of the loopback interface (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// [`XdpError::TestRun`]. The kernel refuses frames of fewer than 14 and more than about 3,500 bytes.
    pub fn test_run(&self, frame: &[u8]) -> Result<TestRun, XdpError> {
        test_run::run(&self.program, frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The control thread owns the program, the statistics thread a reader.
    #[test]
    fn the_program_and_its_readers_can_move_between_threads() {
        fn movable<T: Send + Sync>() {}
        movable::<XdpProgram>();
        movable::<CounterReader>();
    }
}
