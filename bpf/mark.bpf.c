// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sink's program: redirects what carries a generator's mark (src/generator/mark.rs), whoever it is for, and leaves
 * everything else to the kernel, so that ARP and neighbour discovery go on.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mark_counters);
} counters SEC(".maps");

#define MAX_VLAN_TAGS 2
#define ETHERNET_BYTES 14
#define VLAN_TAG_BYTES 4
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define UDP_BYTES 8
#define TCP_BYTES 20

/* The `length` bytes at `offset`, or NULL if the frame does not have all of them. */
static __always_inline const void *bytes_at(const struct xdp_md *ctx, __u32 offset, __u32 length)
{
	const void *bytes = (const void *)(long)ctx->data + (offset & 0xff);

	return bytes + length > (const void *)(long)ctx->data_end ? NULL : bytes;
}

/* Headers have no options: the generator makes none. */
static __always_inline bool is_marked(const struct xdp_md *ctx)
{
	__u32 offset = ETHERNET_BYTES;
	const __u8 *header, *transport;
	const __u32 *magic;
	const __be16 *word;
	__be16 type;
	__u8 protocol;

	word = bytes_at(ctx, ETHERNET_BYTES - 2, 2);
	if (!word)
		return false;
	type = *word;
#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		word = bytes_at(ctx, offset, VLAN_TAG_BYTES);
		if (!word)
			return false;
		type = word[1];
		offset += VLAN_TAG_BYTES;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		header = bytes_at(ctx, offset, IPV4_BYTES);
		if (!header)
			return false;
		protocol = header[9];
		offset += IPV4_BYTES;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		header = bytes_at(ctx, offset, IPV6_BYTES);
		if (!header)
			return false;
		protocol = header[6];
		offset += IPV6_BYTES;
	} else {
		return false;
	}
	if (protocol == IPPROTO_UDP) {
		offset += UDP_BYTES;
	} else if (protocol == IPPROTO_TCP) {
		transport = bytes_at(ctx, offset, TCP_BYTES);
		if (!transport || transport[12] >> 4 != TCP_BYTES / 4)
			return false;
		offset += TCP_BYTES;
	} else {
		return false;
	}
	magic = bytes_at(ctx, offset, 4);
	return magic && *magic == bpf_htonl(MARK_MAGIC);
}

/* As in redirect.bpf.c. */
static __always_inline void write_stamp(struct xdp_md *ctx)
{
	struct stamp *stamp;
	void *data;

	if (bpf_xdp_adjust_meta(ctx, -STAMP_BYTES))
		return;
	stamp = (void *)(long)ctx->data_meta;
	data = (void *)(long)ctx->data;
	if ((void *)(stamp + 1) > data)
		return;
	asm volatile("" : "+r"(stamp));
	if ((void *)(stamp + 1) != data)
		return;
	stamp->magic = STAMP_MAGIC;
	stamp->received_ns = bpf_ktime_get_ns();
}

SEC("xdp")
int pointsman_sink(struct xdp_md *ctx)
{
	struct mark_counters *count;
	__u32 zero = 0;
	int action;

	count = bpf_map_lookup_elem(&counters, &zero);
	if (!count || !is_marked(ctx))
		return XDP_PASS;
	action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
	if (action != XDP_REDIRECT) {
		count->no_socket++;
		return action;
	}
	count->redirected++;
	write_stamp(ctx);
	return action;
}
