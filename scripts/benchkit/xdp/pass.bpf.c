// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Leaves all to the kernel: veth wakes a receiver after the peer's XDP_TX only if it has an XDP program. */
#include <linux/bpf.h>

__attribute__((section("xdp"), used)) int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
