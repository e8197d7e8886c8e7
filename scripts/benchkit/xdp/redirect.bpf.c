// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Writes both MAC addresses and sends by the interface EGRESS: the contender xdp-redirect of scripts/bench. */
#include <linux/bpf.h>

#include "frame.h"

static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;

__attribute__((section("xdp"), used)) int redirect(struct xdp_md *ctx)
{
	/* REAL_SERVER_MACS[0] and EGRESS_MAC in lab.py. */
	static const __u8 destination[6] = { 2, 0, 0, 0, 0x51, 1 }, source[6] = { 2, 0, 0, 0, 0, 3 };
	struct frame *frame = frame_of(ctx);

	if (!frame)
		return XDP_PASS;
	__builtin_memcpy(frame->destination, destination, 6);
	__builtin_memcpy(frame->source, source, 6);
	return bpf_redirect(EGRESS, 0);
}

char _license[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
