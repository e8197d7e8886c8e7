// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Redirects frames of virtual services to the AF_XDP socket of their queue and passes all else to the kernel.
 * docs/classification.md is the specification; src/classify.rs is the same in user space.
 *
 * Non-VIP traffic costs one hash lookup (`vips`), VIP traffic at most a second (`services`); only fragments cost more.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, __u32);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* When the first fragment of a datagram was passed to the kernel (CLOCK_MONOTONIC, ns). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PASSED_FRAGMENTS);
	__type(key, struct passed_fragment_key);
	__type(value, __u64);
} passed_fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

enum verdict {
	UNDECIDED,
	REDIRECT,
	PASS, /* not_ip, not_a_service, fragment_of_passed */
	NOT_OUR_MAC,
	MALFORMED,
};

/* The bytes under examination: offsets count from the start of the frame, `end` shrinks as headers tell lengths. */
struct view {
	const void *data;
	const void *data_end;
	__u64 end;
};

/* What both IP versions boil down to. */
struct datagram {
	struct vip_key destination;
	__u8 source[16];
	__u64 l4_offset;
	__u32 identification; /* network byte order */
	__u16 fragment_offset;
	bool more_fragments;
	__u8 protocol;
};

/* Not packed like the kernel's: that would be read byte by byte. */
struct ethernet {
	__u32 destination_first_four;
	__u16 destination_last_two;
	__u16 source[3];
	__be16 type;
};

#define ETHERNET_BYTES 14

struct extension_header {
	__u8 next_header;
	__u8 length; /* in units of 8 bytes, less one; reserved in a fragment header */
	union {
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
		__be16 fragment; /* 13 bits of offset, 2 reserved, M */
	};
	__be32 identification;
};

#define MAX_EXTENSION_HEADERS 8
#define MAX_VLAN_TAGS 2
#define PORTS_BYTES 4
#define ICMP_HEADER_BYTES 8
/* Over what two IPv6 headers with eight extension headers each can add up to; keeps the verifier's bounds under 64 KiB. */
#define MAX_OFFSET 36864

/* The `length` bytes at `offset`, or NULL if the view does not have all of them. */
static __always_inline const void *bytes_at(const struct view *view, __u64 offset, __u32 length)
{
	const void *bytes;

	/* One register for the comparison and for the access: the verifier does not carry a bound from one to another. */
	asm volatile("" : "+r"(offset));
	if (offset > MAX_OFFSET || offset + length > view->end)
		return NULL;
	bytes = view->data + offset;
	if (bytes + length > view->data_end) /* never more than view->end; the verifier wants to see it */
		return NULL;
	return bytes;
}

/*
 * Walks from the end of an IPv6 header to the transport header. A global function, so that the verifier looks at it once
 * and not anew for every path that leads here. Returns a verdict; UNDECIDED if `walk` holds where the L4 header is.
 */
struct walk {
	__u64 offset; /* in and out */
	__u64 end;
	__u32 identification;
	__u16 fragment_offset;
	__u8 more_fragments;
	__u8 protocol; /* in and out */
};

__attribute__((noinline)) int walk_extension_headers(struct xdp_md *ctx, struct walk *walk)
{
	struct view view = {
		.data = (const void *)(long)ctx->data,
		.data_end = (const void *)(long)ctx->data_end,
	};
	bool fragmented = false;
	__u64 offset;
	__u8 protocol;

	if (!walk)
		return MALFORMED;
	view.end = walk->end;
	offset = walk->offset;
	protocol = walk->protocol;

	/* Unrolled, because 6.1 refuses the loop that clang makes of it: "back-edge", for it falls through to its head. */
#pragma clang loop unroll(full)
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		const struct extension_header *header;
		__u32 length;

		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_DSTOPTS && protocol != IPPROTO_ROUTING &&
		    protocol != IPPROTO_FRAGMENT) {
			walk->offset = offset;
			walk->protocol = protocol;
			return UNDECIDED;
		}
		if (i == MAX_EXTENSION_HEADERS)
			return MALFORMED;
		header = bytes_at(&view, offset, sizeof(*header));
		if (!header)
			return MALFORMED;
		if (protocol == IPPROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(header->fragment);

			if (fragmented)
				return MALFORMED;
			fragmented = true;
			walk->fragment_offset = fragment >> 3;
			walk->more_fragments = fragment & 1;
			walk->identification = header->identification;
			if (fragment >> 3) {
				/* No header behind it is this datagram's next one. */
				walk->offset = offset + sizeof(*header);
				walk->protocol = header->next_header;
				return UNDECIDED;
			}
			length = sizeof(*header);
		} else {
			length = (header->length + 1) * 8;
			if (offset + length > view.end)
				return MALFORMED;
			if (protocol == IPPROTO_ROUTING && header->segments_left)
				return PASS;
		}
		protocol = header->next_header;
		offset += length;
	}
	return MALFORMED;
}

static __always_inline enum verdict parse_ipv6(struct xdp_md *ctx, struct view *view, __u64 offset, bool quoted,
					       struct datagram *datagram)
{
	const struct ipv6hdr *header = bytes_at(view, offset, sizeof(*header));
	struct walk walk = {};
	__u32 payload;
	int verdict;

	if (!header || header->version != 6)
		return MALFORMED;
	if (!quoted) {
		payload = bpf_ntohs(header->payload_len);
		if (offset + sizeof(*header) + payload > view->end)
			return MALFORMED;
		view->end = offset + sizeof(*header) + payload;
	}
	__builtin_memcpy(datagram->source, &header->saddr, 16);
	__builtin_memcpy(datagram->destination.address, &header->daddr, 16);
	datagram->destination.family = FAMILY_IPV6;
	datagram->protocol = header->nexthdr;
	datagram->l4_offset = offset + sizeof(*header);
	if (datagram->protocol == IPPROTO_TCP || datagram->protocol == IPPROTO_UDP ||
	    datagram->protocol == IPPROTO_ICMPV6)
		return UNDECIDED;

	walk.offset = datagram->l4_offset;
	walk.end = view->end;
	walk.protocol = datagram->protocol;
	verdict = walk_extension_headers(ctx, &walk);
	if (verdict != UNDECIDED)
		return verdict;
	datagram->l4_offset = walk.offset;
	datagram->protocol = walk.protocol;
	datagram->identification = walk.identification;
	datagram->fragment_offset = walk.fragment_offset;
	datagram->more_fragments = walk.more_fragments;
	return UNDECIDED;
}

static __always_inline enum verdict parse_ipv4(struct view *view, __u64 offset, bool quoted, struct datagram *datagram)
{
	const struct iphdr *header = bytes_at(view, offset, sizeof(*header));
	__u32 header_length, total_length;
	__u16 fragment;

	if (!header || header->version != 4)
		return MALFORMED;
	header_length = header->ihl * 4;
	total_length = bpf_ntohs(header->tot_len);
	if (header_length < sizeof(*header) || offset + header_length > view->end || total_length < header_length)
		return MALFORMED;
	if (!quoted) {
		if (offset + total_length > view->end)
			return MALFORMED;
		view->end = offset + total_length;
	}
	fragment = bpf_ntohs(header->frag_off);
	__builtin_memcpy(datagram->source, &header->saddr, 4);
	__builtin_memcpy(datagram->destination.address, &header->daddr, 4);
	datagram->destination.family = FAMILY_IPV4;
	datagram->protocol = header->protocol;
	datagram->l4_offset = offset + header_length;
	datagram->identification = header->id;
	datagram->fragment_offset = fragment & 0x1fff;
	datagram->more_fragments = fragment & 0x2000;
	return UNDECIDED;
}

static __always_inline __u8 protocol_bit(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? PROTOCOL_BIT_TCP : protocol == IPPROTO_UDP ? PROTOCOL_BIT_UDP : 0;
}

/* `port` is in network byte order. */
static __always_inline bool has_service(const struct vip_key *address, const struct vip *vip, __u8 protocol,
					__be16 port)
{
	struct service_key key;

	if (vip->any_port & protocol_bit(protocol))
		return true;
	__builtin_memcpy(key.address, address->address, sizeof(key.address));
	key.port = port;
	key.protocol = protocol;
	key.family = address->family;
	return bpf_map_lookup_elem(&services, &key) != NULL;
}

static __always_inline void passed_fragment_key(const struct datagram *datagram, struct passed_fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, datagram->source, sizeof(key->source));
	__builtin_memcpy(key->destination, datagram->destination.address, sizeof(key->destination));
	key->identification = datagram->identification;
	key->protocol = datagram->protocol;
	key->family = datagram->destination.family;
}

static __always_inline enum verdict classify_later_fragment(const struct datagram *datagram)
{
	struct passed_fragment_key key;
	const __u64 *passed_ns;

	passed_fragment_key(datagram, &key);
	passed_ns = bpf_map_lookup_elem(&passed_fragments, &key);
	return passed_ns && bpf_ktime_get_ns() - *passed_ns <= PASSED_FRAGMENT_NS ? PASS : REDIRECT;
}

/* The later fragments of a datagram go where its first one goes. */
static __always_inline void note_first_fragment(const struct datagram *datagram, enum verdict verdict)
{
	struct passed_fragment_key key;
	__u64 now_ns;

	passed_fragment_key(datagram, &key);
	if (verdict == REDIRECT) {
		bpf_map_delete_elem(&passed_fragments, &key);
		return;
	}
	now_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&passed_fragments, &key, &now_ns, BPF_ANY);
}

static __always_inline enum verdict classify_transport(const struct view *view, const struct datagram *datagram)
{
	const struct vip *vip = bpf_map_lookup_elem(&vips, &datagram->destination);
	enum verdict verdict = REDIRECT;
	const __be16 *ports;

	if (!vip || !(vip->protocols & protocol_bit(datagram->protocol)))
		return PASS;
	if (datagram->fragment_offset)
		return classify_later_fragment(datagram);
	ports = bytes_at(view, datagram->l4_offset, PORTS_BYTES);
	if (ports && !has_service(&datagram->destination, vip, datagram->protocol, ports[1]))
		verdict = PASS;
	if (datagram->more_fragments)
		note_first_fragment(datagram, verdict);
	return verdict;
}

static __always_inline bool is_icmp_error(__u8 family, __u8 type)
{
	if (family == FAMILY_IPV4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

static __always_inline bool same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline enum verdict classify_icmp(struct xdp_md *ctx, struct view *view, const struct datagram *outer)
{
	__u8 family = outer->destination.family;
	struct datagram quoted = {};
	enum verdict verdict;
	const struct vip *vip;
	const __be16 *ports;
	const __u8 *icmp;
	__u64 offset;

	if (outer->fragment_offset || outer->more_fragments)
		return PASS;
	vip = bpf_map_lookup_elem(&vips, &outer->destination);
	if (!vip)
		return PASS;
	icmp = bytes_at(view, outer->l4_offset, ICMP_HEADER_BYTES);
	if (!icmp)
		return MALFORMED;
	if (!is_icmp_error(family, icmp[0]))
		return PASS;

	/* The quoted packet is one that a real server sent to the client, from the VIP. */
	offset = outer->l4_offset + ICMP_HEADER_BYTES;
	if (family == FAMILY_IPV4)
		verdict = parse_ipv4(view, offset, true, &quoted);
	else
		verdict = parse_ipv6(ctx, view, offset, true, &quoted);
	if (verdict != UNDECIDED)
		return verdict;
	if (!same_address(quoted.source, outer->destination.address))
		return PASS;
	if (!(vip->protocols & protocol_bit(quoted.protocol)))
		return PASS;
	if (quoted.fragment_offset)
		return REDIRECT;
	ports = bytes_at(view, quoted.l4_offset, PORTS_BYTES);
	if (!ports)
		return MALFORMED;
	return has_service(&outer->destination, vip, quoted.protocol, ports[0]) ? REDIRECT : PASS;
}

static __always_inline bool is_local_mac(const struct settings *configured, const struct ethernet *ethernet)
{
#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_LOCAL_MACS; i++) {
		const struct local_mac *local = &configured->local_macs[i];

		if (local->first_four == ethernet->destination_first_four &&
		    local->last_two == ethernet->destination_last_two && local->used)
			return true;
	}
	return false;
}

static __always_inline enum verdict classify(struct xdp_md *ctx, const struct settings *configured)
{
	struct view view = {
		.data = (const void *)(long)ctx->data,
		.data_end = (const void *)(long)ctx->data_end,
	};
	const struct ethernet *ethernet;
	struct datagram datagram = {};
	__u64 offset = ETHERNET_BYTES;
	enum verdict verdict;
	const __be16 *tag;
	__be16 type;

	view.end = view.data_end - view.data;
	ethernet = bytes_at(&view, 0, ETHERNET_BYTES);
	if (!ethernet)
		return MALFORMED;
	if (!is_local_mac(configured, ethernet))
		return NOT_OUR_MAC;
	type = ethernet->type;
#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		tag = bytes_at(&view, offset, 4);
		if (!tag)
			return MALFORMED;
		type = tag[1];
		offset += 4;
	}
	if (type == bpf_htons(ETH_P_IP))
		verdict = parse_ipv4(&view, offset, false, &datagram);
	else if (type == bpf_htons(ETH_P_IPV6))
		verdict = parse_ipv6(ctx, &view, offset, false, &datagram);
	else
		return PASS;
	if (verdict != UNDECIDED)
		return verdict;

	if (datagram.protocol == IPPROTO_TCP || datagram.protocol == IPPROTO_UDP)
		return classify_transport(&view, &datagram);
	if (datagram.protocol == (type == bpf_htons(ETH_P_IP) ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return classify_icmp(ctx, &view, &datagram);
	return PASS;
}

/* Writes the stamp directly in front of the frame; false if the driver has no room for it, or uses it itself. */
static __always_inline bool write_stamp(struct xdp_md *ctx)
{
	struct stamp *stamp;
	void *data;

	if (bpf_xdp_adjust_meta(ctx, -STAMP_BYTES))
		return false;
	stamp = (void *)(long)ctx->data_meta;
	data = (void *)(long)ctx->data;
	if ((void *)(stamp + 1) > data)
		return false;
	/* Or the compiler drops the comparison above, which is the one that the verifier understands. */
	asm volatile("" : "+r"(stamp));
	if ((void *)(stamp + 1) != data)
		return false;
	stamp->magic = STAMP_MAGIC;
	stamp->received_ns = bpf_ktime_get_ns();
	return true;
}

static __always_inline int redirect(struct xdp_md *ctx, const struct settings *configured, struct counters *count)
{
	/* Looks the socket up itself and returns the given action if there is none: no race, no second lookup. */
	int action = bpf_redirect_map(&sockets, ctx->rx_queue_index, configured->no_socket & (XDP_DROP | XDP_PASS));

	if (action != XDP_REDIRECT) {
		count->no_socket++;
		return action;
	}
	count->redirected++;
	if (!write_stamp(ctx))
		count->unstamped++;
	return action;
}

SEC("xdp")
int pointsman(struct xdp_md *ctx)
{
	const struct settings *configured;
	struct counters *count;
	__u32 zero = 0;

	configured = bpf_map_lookup_elem(&settings, &zero);
	count = bpf_map_lookup_elem(&counters, &zero);
	if (!configured || !count)
		return XDP_PASS;

	switch (classify(ctx, configured)) {
	case REDIRECT:
		return redirect(ctx, configured, count);
	case NOT_OUR_MAC:
		count->not_our_mac++;
		break;
	case MALFORMED:
		count->malformed++;
		break;
	default:
		count->passed++;
	}
	return XDP_PASS;
}
