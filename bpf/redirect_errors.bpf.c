// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts the redirects to our sockets that the kernel could not complete. Optional: without it the director runs and
 * reports redirect errors as not measurable.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* The id of the XSKMAP to watch. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct redirect_errors);
} errors SEC(".maps");

/* include/trace/events/xdp.h: dev, xdp, tgt, err, map_type, map_id, index. */
enum { ARG_ERR = 3, ARG_MAP_ID = 5 };

SEC("raw_tracepoint/xdp_redirect_err")
int redirect_error(struct bpf_raw_tracepoint_args *ctx)
{
	struct redirect_errors *count;
	const __u32 *map_id;
	__u32 zero = 0;

	map_id = bpf_map_lookup_elem(&watched, &zero);
	count = bpf_map_lookup_elem(&errors, &zero);
	if (!map_id || !count || (__u32)ctx->args[ARG_MAP_ID] != *map_id)
		return 0;

	switch ((int)ctx->args[ARG_ERR]) {
	case -ENOMEM:  /* fill ring empty: rx_dropped */
	case -ENOSPC:  /* longer than a frame of the UMEM: rx_dropped */
	case -ENOBUFS: /* RX ring full: rx_ring_full */
		count->counted_by_socket++;
		break;
	default: /* socket not bound, or bound to another queue or interface */
		count->others++;
	}
	return 0;
}
