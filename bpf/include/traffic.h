/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What TCP says of an edge's connections, and which two edges a connection belongs to.
 *
 * Both ends of a connection know the first sequence number of each direction, whatever addresses
 * they see. The first end that gets its edge writes it under that pair, the second finds it there
 * and joins the two edges: exact for every connection on this host, through any translation.
 */
#pragma once

#include "maps.h"

/* Names the connection at both ends. */
static __always_inline struct dt_pair dt_pair_of(const struct dt_conn *c)
{
	int is_client = c->role == DT_ROLE_CLIENT;
	struct dt_pair pair = {
		.client_seq = is_client ? c->tx_first_seq : c->rx_first_seq,
		.server_seq = is_client ? c->rx_first_seq : c->tx_first_seq,
	};

	return pair;
}

/* Names its streams, too, for what goes by their offsets. Where the ends count them from different
 * places each has a name of its own, so that nothing of one is taken for anything of the other. */
static __always_inline struct dt_pair dt_streams_of(const struct dt_conn *c)
{
	struct dt_pair own = { .client_seq = c->tx_first_seq, .server_seq = ~c->tx_first_seq };

	return c->is_apart ? own : dt_pair_of(c);
}

/* Nothing at another end is called what is called so here. */
static __always_inline int dt_is_alone(const struct dt_conn *c)
{
	return c->is_apart || !(c->flags & DT_CONN_FIRST_SEQS);
}

static __always_inline void dt_note(__u32 line, __u64 exchanges, __u64 bytes)
{
	struct dt_ledger *l = bpf_map_lookup_elem(&ledger, &line);

	if (!l)
		return;
	if (exchanges)
		__sync_fetch_and_add(&l->exchanges, exchanges);
	if (bytes)
		__sync_fetch_and_add(&l->bytes, bytes);
}

static __always_inline __u32 dt_duration_bucket(__u64 ns)
{
	const __u64 bounds[DT_DURATION_BOUNDS] = {
		5000000,   10000000,  25000000,	  50000000,   75000000,	  100000000,  250000000,
		500000000, 750000000, 1000000000, 2500000000, 5000000000, 7500000000, 10000000000,
	};

	for (int i = 0; i < DT_DURATION_BOUNDS; i++)
		if (ns <= bounds[i])
			return i;
	return DT_DURATION_BOUNDS;
}

static __always_inline __u32 dt_rtt_bucket(__u32 us)
{
	const __u32 bounds[DT_RTT_BOUNDS] = {
		500, 1000, 2000, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
	};

	for (int i = 0; i < DT_RTT_BOUNDS; i++)
		if (us <= bounds[i])
			return i;
	return DT_RTT_BOUNDS;
}

static __always_inline struct dt_traffic *dt_traffic_of(__u32 edge)
{
	return bpf_map_lookup_elem(&traffic, &edge);
}

static __always_inline void dt_add_join(__u32 client_edge, __u32 server_edge, __s64 connections)
{
	struct dt_join key = { .client_edge = client_edge, .server_edge = server_edge };
	__u64 *joined = bpf_map_lookup_elem(&joins, &key), none = 0;

	if (!client_edge || !server_edge)
		return;
	if (!joined) {
		bpf_map_update_elem(&joins, &key, &none, BPF_NOEXIST);
		joined = bpf_map_lookup_elem(&joins, &key);
	}
	if (joined)
		__sync_fetch_and_add(joined, connections);
	else
		dt_note(DT_OVERFLOW_JOINS, 1, 0);
}

/* Both edges of a link are one word, so that of two ends that come at once exactly one sees the
 * other. */
union dt_link_edges {
	struct dt_join edges;
	__u64 word;
};

/* Writes this end's edge into the connection's link; joins it with the other end's, and takes an
 * earlier owner's join back. */
static __always_inline void dt_join_ends(struct dt_conn *c)
{
	int is_client = c->role == DT_ROLE_CLIENT;
	struct dt_pair pair = dt_pair_of(c);
	struct dt_link fresh = { .local_port = c->ends.local_port, .peer_port = c->ends.peer_port };
	struct dt_link *l = bpf_map_lookup_elem(&links, &pair);
	union dt_link_edges before, after;
	__u64 found;

	if (!l) {
		bpf_map_update_elem(&links, &pair, &fresh, BPF_NOEXIST);
		l = bpf_map_lookup_elem(&links, &pair);
		if (!l)
			return;
	} else if (is_client) {
		l->local_port = c->ends.local_port;
		l->peer_port = c->ends.peer_port;
	}
	before.edges.client_edge = l->client_edge;
	before.edges.server_edge = l->server_edge;
	/* the other end may come in between: once, or twice when it changes hands */
	for (int i = 0; i < 4; i++) {
		after = before;
		if (is_client)
			after.edges.client_edge = c->edge;
		else
			after.edges.server_edge = c->edge;
		found = __sync_val_compare_and_swap((__u64 *)&l->client_edge, before.word,
						    after.word);
		if (found == before.word) {
			if (before.word == after.word)
				return;
			dt_add_join(before.edges.client_edge, before.edges.server_edge, -1);
			dt_add_join(after.edges.client_edge, after.edges.server_edge, 1);
			return;
		}
		before.word = found;
	}
}

/* A connection that is established and has an edge: counted there, and no more where it was. */
static __always_inline void dt_connected(struct dt_conn *c)
{
	__u64 cookie = c->cookie;
	struct dt_live *place;
	struct dt_traffic *v;

	if (!(c->flags & DT_CONN_ESTABLISHED) || c->opened_edge == c->edge)
		return;
	v = dt_traffic_of(c->opened_edge);
	if (v)
		__sync_fetch_and_add(&v->opened, -1);
	v = dt_traffic_of(c->edge);
	if (v)
		__sync_fetch_and_add(&v->opened, 1);
	c->opened_edge = c->edge;
	place = bpf_map_lookup_elem(&live, &cookie);
	if (place)
		place->opened_edge = c->edge;
	if (c->flags & DT_CONN_FIRST_SEQS)
		dt_join_ends(c);
}

static __always_inline void dt_add_connect(struct dt_conn *c)
{
	struct dt_traffic *v = dt_traffic_of(c->edge);
	__u64 ns = bpf_ktime_get_ns() - c->opened_ns;
	__u32 i = dt_duration_bucket(ns);

	if (!v)
		return;
	__sync_fetch_and_add(&v->connect_sum_ns, ns);
	if (i < DT_DURATION_BUCKETS)
		__sync_fetch_and_add(&v->connect_buckets[i], 1);
}

/* What came since the last time; a close may come in between, and each is added once. */
static __always_inline void dt_add_since(__u64 *sum, __u64 *told, __u64 cookie, __u64 now)
{
	__u64 tag = cookie << DT_TOLD_BITS, before = *told;

	now |= tag;
	for (int i = 0; i < 2 && !((before ^ tag) >> DT_TOLD_BITS) && now > before; i++) {
		__u64 found = __sync_val_compare_and_swap(told, before, now);

		if (found == before) {
			__sync_fetch_and_add(sum, now - before);
			return;
		}
		before = found;
	}
}

/* Adds what a connection carried to its edge. */
static __always_inline void dt_sample(const struct dt_conn *c, struct dt_sampled *told,
				      __u32 retransmits, __u32 srtt_us)
{
	struct dt_traffic *v = dt_traffic_of(c->edge);
	__u32 rtt_us = srtt_us >> 3, i;

	if (!v)
		return;
	dt_add_since(&v->sent_bytes, &told->sent, c->cookie, c->sent_bytes + c->sent_blind);
	dt_add_since(&v->received_bytes, &told->received, c->cookie,
		     c->received_bytes + c->received_blind);
	if (retransmits > c->retransmits)
		dt_add_since(&v->retransmits, &told->retransmits, c->cookie,
			     retransmits - c->retransmits);
	if (!rtt_us)
		return;
	__sync_fetch_and_add(&v->rtt_sum_ns, rtt_us * 1000ULL);
	i = dt_rtt_bucket(rtt_us);
	if (i < DT_RTT_BUCKETS)
		__sync_fetch_and_add(&v->rtt_buckets[i], 1);
}

static __always_inline void dt_count_closed(__u32 edge)
{
	struct dt_traffic *v = dt_traffic_of(edge);

	if (v)
		__sync_fetch_and_add(&v->closed, 1);
}

static __always_inline void dt_closed(struct dt_conn *c, struct dt_sampled *told,
				      struct tcp_sock *tp)
{
	dt_sample(c, told, tp ? tp->total_retrans : 0, tp ? tp->srtt_us : 0);
	dt_count_closed(c->opened_edge);
	c->opened_edge = 0;
}
