/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the XDP program and src/xdp/abi.rs agree on. A unit test there reads this file and compares every constant; the
 * sizes of the structures are compared with the maps when the program is loaded. All fields are in host byte order
 * unless marked.
 */
#ifndef POINTSMAN_ABI_H
#define POINTSMAN_ABI_H

#include <linux/types.h>

#define STAMP_MAGIC 0x504f494e54534d4e /* "POINTSMN" read as a number */
#define STAMP_BYTES 16

#define MAX_LOCAL_MACS 8
#define MAX_VIPS 65536
#define MAX_SERVICES 65536
#define MAX_QUEUES 1024
#define MAX_PASSED_FRAGMENTS 4096
#define PASSED_FRAGMENT_NS 60000000000
#define MAX_NAPI_INTERFACES 64

#define PROTOCOL_BIT_TCP 1
#define PROTOCOL_BIT_UDP 2

#define FAMILY_IPV4 4
#define FAMILY_IPV6 6

/* Directly in front of a redirected frame. */
struct stamp {
	__u64 magic;
	__u64 received_ns; /* CLOCK_MONOTONIC */
};

/* An IPv4 address is in the first four bytes, the rest is zero. */
struct vip_key {
	__u8 address[16];
	__u8 family;
	__u8 pad[3];
};

/* Both are masks of PROTOCOL_BIT_*: protocols with any service at all, and those with a service on port 0 (any). */
struct vip {
	__u8 protocols;
	__u8 any_port;
	__u8 pad[2];
};

struct service_key {
	__u8 address[16];
	__be16 port; /* network byte order */
	__u8 protocol;
	__u8 family;
};

/* An address in the byte order of the wire. Slots need no order: an update never moves an address that stays. */
struct local_mac {
	__u32 first_four;
	__u16 last_two;
	__u16 used; /* 0 or 1 */
};

struct settings {
	struct local_mac local_macs[MAX_LOCAL_MACS];
	__u32 no_socket; /* XDP_DROP or XDP_PASS */
	__u32 pad;
};

/* One per CPU. */
struct counters {
	__u64 redirected;
	__u64 passed;
	__u64 not_our_mac;
	__u64 malformed;
	__u64 no_socket;
	__u64 unstamped; /* of the redirected ones */
};

struct passed_fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 identification; /* network byte order */
	__u8 protocol;
	__u8 family;
	__u8 pad[2];
};

/* mark.bpf.c: how a generator's mark begins, "pmGn" read as a number in network byte order. */
#define MARK_MAGIC 0x706d476e

/* mark.bpf.c, one per CPU. */
struct mark_counters {
	__u64 redirected;
	__u64 no_socket;
};

/* redirect_errors.bpf.c, one per CPU. */
struct redirect_errors {
	__u64 counted_by_socket; /* rx_dropped or rx_ring_full of the socket has it, too */
	__u64 others;
};

/* softirq.bpf.c: an interface, wherever it is. */
struct napi_interface {
	__u32 ifindex;
	__u32 namespace; /* inode number of the network namespace */
};

/* One per CPU and interface. */
struct napi_polls {
	__u64 ns; /* of all polls but the untimed ones */
	__u64 polls;
	__u64 packets;
	__u64 untimed_polls; /* of `polls`, outside of a softirq */
};

/* One per CPU. */
struct softirq_time {
	__u64 since_ns; /* when the softirq under way began or its last poll ended; 0 while there is none */
	__u64 outside_ns;
};

#endif
