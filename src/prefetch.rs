#![allow(unsafe_code, reason = "a hint to the processor, which only an intrinsic gives")]
//! Having memory fetched before it is needed, so that the misses of a burst overlap.

/// Has the processor fetch the cache line that `value` begins in.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it touches nothing, and the address is one of a live value besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
