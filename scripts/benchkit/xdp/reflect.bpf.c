// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The far end of scripts/bench's closed loop: sends each frame back to where it came from. What a router has taken from
 * the TTL it gives back, or frames would die of age.
 */
#include <linux/bpf.h>

#include "frame.h"

#define FRESH_TTL 64

__attribute__((section("xdp"), used)) int reflect(struct xdp_md *ctx)
{
	struct frame *frame = frame_of(ctx);
	__u32 sum;

	if (!frame)
		return XDP_PASS;
	swap_addresses(frame);
	if (frame->ttl < FRESH_TTL) {
		/* RFC 1624: HC' = ~(~HC + ~m + m'). TTL and protocol are one 16-bit word, which grows. */
		sum = (__u16)~__builtin_bswap16(frame->check);
		sum += (FRESH_TTL - frame->ttl) << 8;
		sum = (sum & 0xffff) + (sum >> 16);
		frame->check = __builtin_bswap16((__u16)~sum);
		frame->ttl = FRESH_TTL;
	}
	return XDP_TX;
}

char _license[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
