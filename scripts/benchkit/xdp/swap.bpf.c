// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Swaps the MAC addresses and sends the frame back: the contender xdp-tx of scripts/bench. */
#include <linux/bpf.h>

#include "frame.h"

__attribute__((section("xdp"), used)) int swap(struct xdp_md *ctx)
{
	struct frame *frame = frame_of(ctx);

	if (!frame)
		return XDP_PASS;
	swap_addresses(frame);
	return XDP_TX;
}

char _license[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
