//! Watching the kernel's tracepoint `xdp_redirect_err` for redirects to our sockets that failed.

use std::sync::Arc;

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use crate::xdp::object;

/// A program on the tracepoint that counts the errors of one table of sockets. The last clone detaches it.
#[derive(Debug)]
pub(super) struct Watch {
    link: Arc<Link>,
    errors: MapHandle,
}

impl Watch {
    /// Per CPU: `struct redirect_errors` of `bpf/abi.h`.
    pub(super) fn errors(&self) -> &MapHandle {
        &self.errors
    }

    pub(super) fn try_clone(&self) -> Result<Self, libbpf_rs::Error> {
        Ok(Self { link: Arc::clone(&self.link), errors: MapHandle::try_from(&self.errors)? })
    }
}

/// Begins to count failed redirects to the XSKMAP `sockets`. The error says in words why that is not possible: the
/// director does without, and its statistics call these errors not measurable.
pub(super) fn watch(sockets: &MapHandle) -> Result<Watch, String> {
    let attach = || -> Result<Watch, libbpf_rs::Error> {
        let object = object::load_redirect_errors()?;
        let watched = object::map(&object, "watched")?;
        watched.update(&0_u32.to_ne_bytes(), &sockets.info()?.info.id.to_ne_bytes(), MapFlags::ANY)?;
        let errors = object::map(&object, "errors")?;
        let link = object::program(&object, "redirect_error")?.attach_raw_tracepoint("xdp_redirect_err")?;
        Ok(Watch { link: Arc::new(link), errors })
    };
    attach().map_err(|error| format!("the kernel's tracepoint xdp_redirect_err cannot be used: {error:#}"))
}
