//! Running the loaded program on a frame without any interface (`BPF_PROG_TEST_RUN`).
#![allow(unsafe_code, reason = "libbpf-rs runs programs only while the object that they came from is held")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::xdp::XdpError;

/// What an XDP program decided (`enum xdp_action` in linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAction {
    /// XDP_ABORTED, or a number that is no action.
    Aborted,
    /// XDP_DROP.
    Drop,
    /// XDP_PASS.
    Pass,
    /// XDP_TX.
    Tx,
    /// XDP_REDIRECT.
    Redirect,
}

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The program's decision.
    pub action: XdpAction,
    /// The metadata area that the program wrote in front of the frame.
    pub metadata: Vec<u8>,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

pub(super) fn run(program: &OwnedFd, frame: &[u8]) -> Result<TestRun, XdpError> {
    /// No program makes more metadata: the kernel's limit was 32 bytes until 6.3 and is 255 since.
    const MAX_METADATA_BYTES: usize = 256;
    let error = |source| XdpError::TestRun { length: frame.len(), source };
    let too_long = |_| error(io::Error::from_raw_os_error(libc::EINVAL));

    let mut output = vec![0; frame.len() + MAX_METADATA_BYTES];
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: mem::size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).map_err(too_long)?,
        data_out: output.as_mut_ptr().cast(),
        data_size_out: u32::try_from(output.len()).map_err(too_long)?,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: `options` is a valid structure of the size that it says. Its pointers are null or point to `frame`, which is
    // only read, and `output`, which is only written, each with its true length; both outlive the call.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    if result != 0 {
        return Err(error(io::Error::from_raw_os_error(-result)));
    }
    // The kernel returns the metadata area and the frame in one piece.
    output.truncate(options.data_size_out as usize);
    let frame = output.split_off(output.len().saturating_sub(frame.len()));
    let action = match options.retval {
        libbpf_sys::XDP_DROP => XdpAction::Drop,
        libbpf_sys::XDP_PASS => XdpAction::Pass,
        libbpf_sys::XDP_TX => XdpAction::Tx,
        libbpf_sys::XDP_REDIRECT => XdpAction::Redirect,
        _ => XdpAction::Aborted,
    };
    Ok(TestRun { action, metadata: output, frame })
}
