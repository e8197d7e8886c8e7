//! Giving up the capabilities that only the start needs.
//!
//! Capabilities are a thread's own and pass to the threads that it starts, so this comes before the first of them.

use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs,
};

use super::DirectorError;

/// What the running director goes on needing: to ask the kernel to resolve a neighbour (rtnetlink wants NET_ADMIN), and
/// to open the packet and raw sockets of health checks (NET_RAW). Maps of a loaded program are changed by their file
/// descriptors, which needs none.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// What a director of user 0 keeps besides: its configuration file may be anybody's, to be read again by a reload and to
/// be written with its owner by `--persist`.
const KEPT_BY_ROOT: CapabilitySet =
    CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::CHOWN).union(CapabilitySet::FOWNER);

/// Leaves the calling thread [`KEPT`] (user 0 also [`KEPT_BY_ROOT`]), and the programs that it will start nothing at all, whoever it runs as.
pub(super) fn give_up() -> Result<(), DirectorError> {
    reduce().map_err(|error| DirectorError::System { action: "give up capabilities", source: error.into() })
}

fn reduce() -> Result<(), Errno> {
    let own = capabilities(None)?;
    let kept = if geteuid().is_root() { KEPT | KEPT_BY_ROOT } else { KEPT };
    // Neither by a set-user-ID bit nor by capabilities of a file.
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    if own.effective.contains(CapabilitySet::SETPCAP) {
        // Else a program that user 0 starts would get all that is in the bounding set.
        set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )?;
        shrink_bounding_set(kept)?;
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: own.effective & kept,
            permitted: own.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

fn shrink_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
    for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel knows none of this number, nor of a higher one.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
