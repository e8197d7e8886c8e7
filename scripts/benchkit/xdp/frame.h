/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Ethernet, and the part of an IPv4 header that is of interest. */
struct frame {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
	__u8 before_ttl[8];
	__u8 ttl;
	__u8 protocol;
	__be16 check;
} __attribute__((packed));

/* NULL if it is not IPv4: ARP and their like are the kernel's. */
static __attribute__((always_inline)) struct frame *frame_of(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end)
		return (void *)0;
	return frame->type == __builtin_bswap16(0x0800) ? frame : (void *)0;
}

static __attribute__((always_inline)) inline void swap_addresses(struct frame *frame)
{
	__u8 destination[6];

	__builtin_memcpy(destination, frame->destination, 6);
	__builtin_memcpy(frame->destination, frame->source, 6);
	__builtin_memcpy(frame->source, destination, 6);
}
