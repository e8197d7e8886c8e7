//! The compiled programs, embedded in the binary, and how they are loaded.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Once;

use libbpf_rs::{ErrorKind, MapHandle, MapType, Object, ObjectBuilder, PrintLevel, Program, ProgramType};

use crate::xdp::XdpError;

/// The loader reads the bytes as an ELF file in place, so they are aligned as its headers want.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static REDIRECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/redirect.bpf.o")));
static REDIRECT_ERRORS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/redirect_errors.bpf.o")));
static SOFTIRQ: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/softirq.bpf.o")));

static MARK: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/mark.bpf.o")));

/// `bpf/redirect.bpf.c` in the kernel: its program and maps, each held by a file descriptor of its own.
pub(super) struct RedirectObject {
    pub(super) program: OwnedFd,
    pub(super) program_id: u32,
    pub(super) settings: MapHandle,
    pub(super) vips: MapHandle,
    pub(super) services: MapHandle,
    pub(super) sockets: MapHandle,
    pub(super) counters: MapHandle,
}

pub(super) fn load_redirect() -> Result<RedirectObject, XdpError> {
    let object = load(&REDIRECT.0).map_err(load_error)?;
    let take = || -> Result<RedirectObject, libbpf_rs::Error> {
        let program = program(&object, "pointsman")?.as_fd().try_clone_to_owned()?;
        Ok(RedirectObject {
            program_id: Program::id_from_fd(program.as_fd())?,
            program,
            settings: map(&object, "settings")?,
            vips: map(&object, "vips")?,
            services: map(&object, "services")?,
            sockets: map(&object, "sockets")?,
            counters: map(&object, "counters")?,
        })
    };
    take().map_err(XdpError::Load)
}

/// `bpf/redirect_errors.bpf.c` in the kernel.
pub(super) fn load_redirect_errors() -> Result<Object, libbpf_rs::Error> {
    load(&REDIRECT_ERRORS.0)
}

/// `bpf/mark.bpf.c` in the kernel: its program, its table of sockets and its counters.
pub(super) fn load_mark() -> Result<(OwnedFd, MapHandle, MapHandle), XdpError> {
    let object = load(&MARK.0).map_err(load_error)?;
    let take = || {
        let program = program(&object, "pointsman_sink")?.as_fd().try_clone_to_owned()?;
        Ok((program, map(&object, "sockets")?, map(&object, "counters")?))
    };
    take().map_err(XdpError::Load)
}

/// `bpf/softirq.bpf.c` in the kernel.
pub(super) fn load_softirq() -> Result<Object, libbpf_rs::Error> {
    load(&SOFTIRQ.0)
}

pub(super) fn program<'a>(object: &'a Object, name: &str) -> Result<libbpf_rs::ProgramMut<'a>, libbpf_rs::Error> {
    object.progs_mut().find(|program| program.name() == name).ok_or_else(|| missing("program", name))
}

pub(super) fn map(object: &Object, name: &str) -> Result<MapHandle, libbpf_rs::Error> {
    use libbpf_rs::MapCore;
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| missing("map", name))?;
    MapHandle::try_from(&map)
}

fn missing(what: &str, name: &str) -> libbpf_rs::Error {
    std::io::Error::new(std::io::ErrorKind::NotFound, format!("the object has no {what} {name}")).into()
}

fn load(elf: &[u8]) -> Result<Object, libbpf_rs::Error> {
    static MESSAGES_TO_THE_LOG: Once = Once::new();
    MESSAGES_TO_THE_LOG.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Info, log)));
    });
    ObjectBuilder::default().open_memory(elf)?.load()
}

/// libbpf writes to the standard error stream by itself, the verifier's whole log included.
fn log(_: PrintLevel, message: String) {
    tracing::debug!(target: "libbpf", "{}", message.trim_end());
}

fn load_error(error: libbpf_rs::Error) -> XdpError {
    const ACTION: &str = "loading the XDP program";
    if error.kind() == ErrorKind::PermissionDenied {
        // EPERM from the system call, but EACCES from a verifier that finds CAP_PERFMON missing or an error.
        return match XdpError::not_permitted(ACTION) {
            XdpError::NotPermitted { .. } if !is_eperm(&error) => XdpError::Load(error),
            not_permitted => not_permitted,
        };
    }
    // What is missing is told by probing, for the errors differ between kernels.
    if matches!(ProgramType::Xdp.is_supported(), Ok(false)) {
        return XdpError::KernelLacks { what: "BPF or no XDP", option: "CONFIG_BPF_SYSCALL" };
    }
    if matches!(MapType::Xskmap.is_supported(), Ok(false)) {
        return XdpError::KernelLacks { what: "AF_XDP", option: "CONFIG_XDP_SOCKETS" };
    }
    // The verifier needs it for functions that it looks at by themselves.
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return XdpError::KernelLacks { what: "BPF type information", option: "CONFIG_DEBUG_INFO_BTF" };
    }
    XdpError::Load(error)
}

/// The type keeps the number to itself, and shows it only in its text.
fn is_eperm(error: &libbpf_rs::Error) -> bool {
    format!("{error:#}").contains(&std::io::Error::from_raw_os_error(libc::EPERM).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_programs_are_aligned_elf_files() {
        for elf in [&REDIRECT.0, &REDIRECT_ERRORS.0, &MARK.0, &SOFTIRQ.0] {
            assert_eq!(&elf[..4], b"\x7fELF");
            assert_eq!(elf.as_ptr().align_offset(8), 0);
        }
    }
}
