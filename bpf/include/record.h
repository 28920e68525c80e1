/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Recording: which connections, and their bytes piece by piece into a ring.
 *
 * A connection is decided about once, at a moment at which nothing is open on it: from there on its
 * bytes are whole messages. What can not be copied leaves a piece that says how much and why; what
 * the ring has no room for is a jump in the offsets.
 */
#pragma once

#include "socket.h"

enum dt_record_bound {
	/* Rounds of one operation: 128 MB in whole pieces, which no ring holds. */
	DT_COPY_STEPS = 1 << 14,
	/* A message's head, which may stand before the body in the same piece. */
	DT_HEAD_ROOM = 1 << 16,
	/* Not worth a piece of its own; leaves what stands behind a value to be read. */
	DT_HIDE_LEAST = 4096,
	DT_HIDE_KEEP = 64,
};

static __always_inline void dt_recording_note(__u32 line, __u64 exchanges, __u64 bytes)
{
	struct dt_ledger *v = bpf_map_lookup_elem(&recording_ledger, &line);

	if (v) {
		__sync_fetch_and_add(&v->exchanges, exchanges);
		__sync_fetch_and_add(&v->bytes, bytes);
	}
}

/* The rules, or 0: nothing is recorded. */
static __always_inline const struct dt_recording_rules *dt_recording(void)
{
	__u32 zero = 0;
	const struct dt_recording_rules *rules = bpf_map_lookup_elem(&recording_rules, &zero);

	return rules && rules->epoch ? rules : 0;
}

static __always_inline int dt_is_idle(const struct dt_conn *c)
{
	if (c->protocol == DT_PROTOCOL_UNKNOWN)
		return !c->turn_open;
	return c->request.phase == DT_PHASE_START && c->response.phase == DT_PHASE_START &&
	       c->request.ordinal == c->response.ordinal;
}

static __always_inline int dt_port_is_chosen(const struct dt_conn *c,
					     const struct dt_recording_rules *rules)
{
	__u16 port = c->role == DT_ROLE_SERVER ? c->ends.local_port : c->ends.peer_port;

	for (int i = 0; i < DT_RECORDING_PORTS && i < rules->ports; i++)
		if (rules->port[i] == port)
			return 1;
	return !rules->ports;
}

static __always_inline int dt_peer_is_chosen(const struct dt_conn *c,
					     const struct dt_recording_rules *rules)
{
	__u64 address[2];

	__builtin_memcpy(address, c->ends.peer_address, sizeof(address));
	for (int i = 0; i < DT_RECORDING_PEERS && i < rules->peers; i++)
		if (!((address[0] ^ rules->address[2 * i]) & rules->mask[2 * i]) &&
		    !((address[1] ^ rules->address[2 * i + 1]) & rules->mask[2 * i + 1]))
			return 1;
	return !rules->peers;
}

/* The same at both ends. */
static __always_inline __u32 dt_pair_hash(struct dt_pair pair)
{
	__u64 hash = ((__u64)pair.client_seq << 32 | pair.server_seq) * 0x9e3779b97f4a7c15ULL;

	hash ^= hash >> 29;
	return hash * 0xbf58476d1ce4e5b9ULL >> 32;
}

/* What the rules say of this connection, and user space of its owner. A function of its own for its
 * loops. */
__noinline int dt_is_chosen(struct dt_conn *c)
{
	const struct dt_recording_rules *rules = dt_recording();
	struct dt_owner_limit *owner;
	__u32 id;

	if (!c || !rules)
		return 0;
	id = c->owner_id;
	owner = bpf_map_lookup_elem(&owner_limits, &id);
	return (!owner || owner->recorded != DT_OWNER_NOT_CHOSEN) &&
	       rules->roles & (1 << (c->role & 3)) &&
	       rules->protocols & (1 << (c->protocol & 15)) && dt_port_is_chosen(c, rules) &&
	       dt_peer_is_chosen(c, rules) &&
	       (rules->keep_below == ~0U || dt_pair_hash(dt_streams_of(c)) < rules->keep_below);
}

/* Whether user space has said so: what is missing of anybody else's is nobody's loss. */
static __always_inline int dt_owner_is_chosen(__u32 id)
{
	struct dt_owner_limit *owner = bpf_map_lookup_elem(&owner_limits, &id);

	return owner && owner->recorded == DT_OWNER_CHOSEN;
}

/* Counts an exchange of a recorded connection: what its recording is held against. */
__noinline int dt_record_count(struct dt_conn *c, __u32 ordinal, __u64 start_ns)
{
	const struct dt_recording_rules *rules = dt_recording();
	struct dt_recorded first = { .exchanges = 1 }, *found;
	struct dt_recorded_key key;

	if (!c || !rules)
		return 0;
	if (c->recorded_epoch != rules->epoch) {
		if (dt_owner_is_chosen(c->owner_id) && dt_is_chosen(c))
			dt_recording_note(start_ns < rules->begun_ns ? DT_RECORDING_OPEN
								     : DT_RECORDING_MISSED,
					  1, 0);
		return 0;
	}
	/* what looked like a chosen protocol at first, and is none, is not recorded after all */
	if (!c->is_recorded || !(rules->protocols & (1 << (c->protocol & 15))) ||
	    (__s32)(ordinal - c->recorded_from) < 0)
		return 0;
	key.pair = dt_streams_of(c);
	key.role = c->role;
	found = bpf_map_lookup_elem(&recorded, &key);
	if (!found) {
		first.owner_id = c->owner_id;
		if (!bpf_map_update_elem(&recorded, &key, &first, BPF_NOEXIST))
			return 0;
		found = bpf_map_lookup_elem(&recorded, &key);
	}
	if (found)
		__sync_fetch_and_add(&found->exchanges, 1);
	else
		dt_recording_note(DT_RECORDING_OVERFLOW, 1, 0);
	return 0;
}

/* Hands what is in k->data to user space, or the fact that so many bytes are missing. */
static __noinline int dt_emit(struct dt_copy *k, __u32 missing)
{
	__u32 zero = 0, line = DT_RECORDING_COPIED, bytes = k->have;
	void *ring = bpf_map_lookup_elem(&recording, &zero);

	k->have = 0;
	if (!ring)
		return 0;
	dt_opaque_value(bytes);
	if (bytes > DT_PIECE_BYTES)
		return 0;
	k->piece.bytes = bytes;
	k->piece.missing = missing;
	if (k->piece.flags & DT_PIECE_LIMIT)
		line = DT_RECORDING_LIMITED;
	else if (k->piece.flags & DT_PIECE_OPAQUE)
		line = DT_RECORDING_OPAQUE;
	else if (k->piece.flags & DT_PIECE_FAULT)
		line = DT_RECORDING_FAULT;
	if (bpf_ringbuf_output(ring, k, sizeof(k->piece) + bytes, BPF_RB_NO_WAKEUP))
		line = DT_RECORDING_RING_FULL;
	dt_recording_note(line, 1, bytes + missing);
	k->piece.offset += bytes + missing;
	k->piece.flags &= DT_PIECE_FROM_CLIENT;
	return 0;
}

/* What is left can not be read. */
static __always_inline long dt_give_up(struct dt_copy *k, __u8 why)
{
	if (k->have)
		dt_emit(k, 0);
	k->piece.flags |= why;
	dt_emit(k, k->left);
	k->left = 0;
	return 1;
}

static long dt_copy_step(__u32 i, struct dt_copy **at)
{
	struct dt_copy *k = *at;
	struct dt_iovec iov;
	__u32 have = k->have;
	__u64 n;

	if (!k->left)
		return 1;
	if (!k->segment_left) {
		if (!k->iovs)
			return dt_give_up(k, DT_PIECE_OPAQUE);
		if (dt_read_user(&iov, sizeof(iov), k->iov))
			return dt_give_up(k, DT_PIECE_FAULT);
		k->iovs--;
		k->iov += sizeof(iov);
		k->segment = iov.base;
		k->segment_left = iov.len;
		return 0;
	}
	n = k->segment_left;
	if (n > k->left)
		n = k->left;
	if (k->hidden) {
		if (n > k->hidden)
			n = k->hidden;
		k->hidden -= n;
	} else {
		dt_opaque_value(have);
		if (have >= DT_PIECE_BYTES)
			return 1;
		if (n > DT_PIECE_BYTES - have)
			n = DT_PIECE_BYTES - have;
		dt_opaque_value(n);
		if (n > DT_PIECE_BYTES)
			return 1;
		if (dt_read_user(&k->data[have], n, k->segment))
			return dt_give_up(k, DT_PIECE_FAULT);
		k->have = have + n;
	}
	k->segment += n;
	k->segment_left -= n;
	k->left -= n;
	if (k->have == DT_PIECE_BYTES || (k->have && !k->left))
		dt_emit(k, 0);
	return !k->left;
}

/* Where the chunk's bytes are, before anybody passes over them. */
static __always_inline void dt_remember_place(const struct dt_scratch *s, __u32 context)
{
	struct dt_copy *k = bpf_map_lookup_elem(&copies, &context);

	if (!k)
		return;
	k->segment = s->segment;
	k->segment_left = s->segment_left;
	k->iov = s->iov;
	k->iovs = s->iovs;
	k->left = s->left;
	k->opaque = s->opaque;
	k->piece.offset = s->offset;
	k->piece.at_ns = s->now;
}

/* How many bytes at the chunk's beginning are of a body, and behind the limit. */
static __always_inline __u32 dt_behind_limit(const struct dt_walker *m, const struct dt_copy *k,
					     __u64 limit)
{
	__u64 most = m->skip;

	if (m->phase == DT_PHASE_UNTIL_CLOSE)
		return k->piece.offset - m->offset > limit + DT_HEAD_ROOM ? k->left : 0;
	if (m->phase == DT_PHASE_START || m->phase == DT_PHASE_LOST || most < DT_HIDE_LEAST ||
	    k->piece.offset - m->offset < limit + DT_HEAD_ROOM)
		return 0;
	most -= DT_HIDE_KEEP;
	if (most < k->left)
		return most;
	return k->left;
}

static __always_inline void dt_describe(struct dt_copy *k, const struct dt_conn *c)
{
	k->piece.pair = dt_streams_of(c);
	k->piece.owner_id = c->owner_id;
	k->piece.edge = c->edge;
	__builtin_memcpy(k->piece.local_address, c->ends.local_address, 16);
	__builtin_memcpy(k->piece.peer_address, c->ends.peer_address, 16);
	k->piece.local_port = c->ends.local_port;
	k->piece.peer_port = c->ends.peer_port;
	k->piece.role = c->role;
	k->piece.transport = c->transport;
	k->piece.protocol = c->protocol;
}

/* Decides about the connection, if it may be decided about now. */
static __always_inline int dt_decide_recorded(struct dt_conn *c, __u32 epoch, int is_idle)
{
	__u32 id = c->owner_id;
	struct dt_owner_limit *owner;

	if (c->recorded_epoch != epoch) {
		if (!is_idle || !(c->flags & DT_CONN_FIRST_SEQS))
			return 0;
		c->is_recorded = dt_is_chosen(c);
		c->recorded_from = c->request.ordinal;
		c->recorded_epoch = epoch;
	}
	if (!c->is_recorded)
		return 0;
	owner = bpf_map_lookup_elem(&owner_limits, &id);
	if (owner && owner->recorded == DT_OWNER_NOT_CHOSEN)
		c->is_recorded = 0;
	return c->is_recorded;
}

/* Copies the chunk that dt_remember_place saw, before it is walked. */
__noinline int dt_record(struct dt_conn *c, __u32 context, int is_request)
{
	const struct dt_recording_rules *rules = dt_recording();
	struct dt_copy *k = bpf_map_lookup_elem(&copies, &context);
	__u8 flags = 0;
	int is_idle;

	if (!c || !k || !rules)
		return 0;
	is_idle = is_request && dt_is_idle(c);
	if (!dt_decide_recorded(c, rules->epoch, is_idle))
		return 0;
	dt_describe(k, c);
	if (is_request)
		flags |= DT_PIECE_FROM_CLIENT;
	if (is_idle)
		flags |= DT_PIECE_START;
	k->piece.flags = flags;
	k->piece.other_offset = dt_offset(c, !dt_is_send(context));
	k->have = 0;
	k->hidden = 0;
	if (c->protocol != DT_PROTOCOL_UNKNOWN)
		k->hidden = dt_behind_limit(is_request ? &c->request : &c->response, k,
					    rules->body_limit);
	if (k->opaque) {
		dt_give_up(k, DT_PIECE_OPAQUE);
		return 0;
	}
	if (k->hidden) {
		k->piece.flags |= DT_PIECE_LIMIT;
		dt_emit(k, k->hidden);
	}
	if (k->left && !dt_copy_step(0, &k)) /* a usual chunk is one step */
		bpf_loop(DT_COPY_STEPS, dt_copy_step, &k, 0);
	return 0;
}

/* The connection has ended, and all of it is counted. */
__noinline int dt_record_end(struct dt_conn *c, __u32 context)
{
	const struct dt_recording_rules *rules = dt_recording();
	struct dt_copy *k = bpf_map_lookup_elem(&copies, &context);
	struct dt_recorded_key key;
	struct dt_recorded *found;
	int is_client;

	if (!c || !k || !rules || c->recorded_epoch != rules->epoch || !c->is_recorded)
		return 0;
	is_client = c->role == DT_ROLE_CLIENT;
	key.pair = dt_streams_of(c);
	key.role = c->role;
	found = bpf_map_lookup_elem(&recorded, &key);
	if (found)
		found->is_closed = 1;
	dt_describe(k, c);
	k->have = 0;
	k->piece.flags = DT_PIECE_FROM_CLIENT | DT_PIECE_LAST;
	k->piece.offset = dt_offset(c, is_client);
	k->piece.other_offset = dt_offset(c, !is_client);
	k->piece.at_ns = bpf_ktime_get_ns();
	dt_emit(k, 0);
	return 0;
}
