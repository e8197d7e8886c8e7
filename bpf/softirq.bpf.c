// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Measures the time that each CPU spends in network softirqs, by the interface whose NAPI it polls. Optional: without it
 * the director runs and its statistics have only what /proc tells.
 *
 * napi_poll comes at the end of a poll. So the time since the softirq began, or since the poll before on this CPU, is
 * that poll's; what follows the last poll, and a softirq without any, is time outside of polls. Polls that come without
 * a softirq (threaded NAPI, busy polling) are counted and not timed: nothing says when they began.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* include/linux/interrupt.h */
enum { NET_TX_SOFTIRQ = 2, NET_RX_SOFTIRQ = 3 };

/* Of the kernel's structures what is read here; its type information tells where that lies. */
#define KERNEL_TYPE __attribute__((preserve_access_index))

struct ns_common {
	unsigned int inum;
} KERNEL_TYPE;

struct net {
	struct ns_common ns;
} KERNEL_TYPE;

typedef struct {
	struct net *net;
} KERNEL_TYPE possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} KERNEL_TYPE;

struct napi_struct {
	struct net_device *dev;
} KERNEL_TYPE;

/* The director's interfaces, by what tells them apart from those of other namespaces. Values are slots of `polls`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NAPI_INTERFACES);
	__type(key, struct napi_interface);
	__type(value, __u32);
} interfaces SEC(".maps");

/* Slot 0 is all other interfaces, and NAPIs without one. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_NAPI_INTERFACES + 1);
	__type(key, __u32);
	__type(value, struct napi_polls);
} polls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct softirq_time);
} softirqs SEC(".maps");

static struct softirq_time *time_of_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&softirqs, &zero);
}

static bool is_network(__u64 vector)
{
	return vector == NET_RX_SOFTIRQ || vector == NET_TX_SOFTIRQ;
}

/* include/trace/events/irq.h: vec_nr. */
SEC("raw_tracepoint/softirq_entry")
int softirq_begins(struct bpf_raw_tracepoint_args *ctx)
{
	struct softirq_time *time;

	if (!is_network(ctx->args[0]))
		return 0;
	time = time_of_cpu();
	if (time)
		time->since_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("raw_tracepoint/softirq_exit")
int softirq_ends(struct bpf_raw_tracepoint_args *ctx)
{
	struct softirq_time *time;

	if (!is_network(ctx->args[0]))
		return 0;
	time = time_of_cpu();
	/* It began before this program was attached. */
	if (!time || !time->since_ns)
		return 0;
	time->outside_ns += bpf_ktime_get_ns() - time->since_ns;
	time->since_ns = 0;
	return 0;
}

/* include/trace/events/napi.h: napi, work, budget. */
SEC("tp_btf/napi_poll")
int napi_polled(__u64 *ctx)
{
	struct napi_struct *napi = (struct napi_struct *)ctx[0];
	struct net_device *dev = napi->dev;
	int work = (int)ctx[1];
	struct napi_interface key = {};
	struct softirq_time *time;
	struct napi_polls *polled;
	__u32 *known, slot = 0;
	__u64 now;

	if (dev) {
		key.ifindex = dev->ifindex;
		key.namespace = dev->nd_net.net->ns.inum;
		known = bpf_map_lookup_elem(&interfaces, &key);
		if (known)
			slot = *known;
	}
	polled = bpf_map_lookup_elem(&polls, &slot);
	time = time_of_cpu();
	if (!polled || !time)
		return 0;
	polled->polls++;
	if (work > 0)
		polled->packets += work;
	if (time->since_ns) {
		now = bpf_ktime_get_ns();
		polled->ns += now - time->since_ns;
		time->since_ns = now;
	} else {
		polled->untimed_polls++;
	}
	return 0;
}
