/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Which exchanges become spans, and why they were made.
 *
 * A budget, not a rate: each owner may emit so many a second, decided before anything is copied.
 * Errors and slow exchanges go first; the others are chosen by a hash of the wire identity, so
 * that both ends choose the same ones without talking. A quarter of the budget is not given to
 * the hash, so that an error in a busy second still has room.
 */
#pragma once

#include "count.h"

static __always_inline void dt_wire_of(struct dt_wire *w, const struct dt_conn *c, __u64 offset)
{
	struct dt_pair streams = dt_streams_of(c);

	w->client_seq = streams.client_seq;
	w->server_seq = streams.server_seq;
	w->offset = offset;
}

static __always_inline __u32 dt_wire_hash(const struct dt_wire *w)
{
	__u64 h = ((__u64)w->client_seq << 32 | w->server_seq) ^ (w->offset * DT_HASH_PRIME);

	/* murmur3's finalizer */
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h >> 32;
}

/* As protocols/ has it, each protocol's outcome(): a test holds the two against each other. */
static __always_inline int dt_is_error(const struct dt_series_key *key, __u32 role)
{
	if (key->end != DT_END_COMPLETE || key->protocol == DT_PROTOCOL_CONNECT)
		return 1;
	if (key->protocol == DT_PROTOCOL_HTTP)
		return key->outcome >= (role == DT_ROLE_SERVER ? 500 : 400);
	if (key->protocol == DT_PROTOCOL_DNS) /* that there is no such name is an answer */
		return key->outcome && key->outcome != DT_DNS_NXDOMAIN;
	return key->protocol == DT_PROTOCOL_REDIS && key->outcome;
}

/* enum dt_kept, or 0. */
static __always_inline __u8 dt_keep(const struct dt_conn *c, const struct dt_series_key *key,
				    const struct dt_wire *wire, __u64 duration, __u64 now)
{
	__u32 id = c->owner_id, budget;
	struct dt_owner_limit *limit = bpf_map_lookup_elem(&owner_limits, &id);
	__u8 why = dt_is_error(key, c->role) ? DT_KEPT_ERROR
		   : duration >= dt_slow_ns  ? DT_KEPT_SLOW
					     : DT_KEPT_HASH;

	if (!limit)
		return 0;
	budget = limit->budget ?: dt_default_budget;
	if (!budget)
		return 0;
	if (now - limit->window_ns > 1000000000) {
		limit->window_ns = now;
		limit->window_spans = 0;
		limit->window_errors = 0;
	}
	if (limit->window_spans + limit->window_errors >= budget)
		goto over;
	if (why != DT_KEPT_HASH) {
		limit->window_errors++;
		return why;
	}
	if (limit->window_spans >= budget - budget / 4 || dt_wire_hash(wire) < limit->drop_below)
		goto over;
	limit->window_spans++;
	return why;
over:
	dt_note(DT_SPANS_BUDGET, 1, 0);
	return 0;
}

/* Sends an exchange up. f: 0 where there is none. */
__noinline int dt_span(struct dt_conn *c, struct dt_flight *f, const struct dt_exchange *x,
		       int kept)
{
	const struct dt_request *q;
	const struct dt_response *p;
	struct dt_exchange_record *r;

	if (!c || !x)
		return 0;
	q = &x->request;
	p = &x->response;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		dt_note(DT_SPANS_RING_FULL, 1, 0);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->type = DT_RECORD_EXCHANGE;
	r->edge = x->key.edge;
	r->owner_id = c->owner_id;
	r->tid = (__u32)bpf_get_current_pid_tgid();
	r->key = x->key;
	dt_wire_of(&r->wire, c, q->offset);
	r->start_ns = q->start_ns;
	r->first_byte_ns = p->first_ns;
	r->end_ns = p->last_ns > q->start_ns ? p->last_ns : q->start_ns;
	r->request_bytes = q->bytes;
	r->response_bytes = p->bytes;
	r->request_body_bytes = q->body_bytes;
	r->response_body_bytes = p->body_bytes;
	__builtin_memcpy(r->local_address, c->ends.local_address, 16);
	__builtin_memcpy(r->peer_address, c->ends.peer_address, 16);
	r->local_port = c->ends.local_port;
	r->peer_port = c->ends.peer_port;
	r->transport = c->transport;
	r->kept = kept;
	r->flags = dt_is_alone(c) ? DT_EXCHANGE_ALONE : 0;
	if (f && f->head_ordinal == x->ordinal) {
		r->head_bytes = f->head_bytes;
		__builtin_memcpy(r->head, f->head, DT_HEAD_BYTES);
		r->trace_bytes = f->trace_bytes;
		__builtin_memcpy(r->trace, f->trace, DT_TRACE_BYTES);
		r->cause = f->cause;
		r->cause_found = f->cause_found;
		r->cause_trace_bytes = f->cause_trace_bytes;
		__builtin_memcpy(r->cause_trace, f->cause_trace, DT_TRACE_BYTES);
	}
	bpf_ringbuf_submit(r, dt_wake());
	return 0;
}

/* The same when the budget keeps it. */
static __always_inline void dt_offer_span(struct dt_conn *c, struct dt_flight *f,
					  const struct dt_exchange *x)
{
	const struct dt_request *q = &x->request;
	const struct dt_response *p = &x->response;
	struct dt_wire wire;
	__u8 kept;

	dt_wire_of(&wire, c, q->offset);
	kept = dt_keep(c, &x->key, &wire, p->last_ns > q->start_ns ? p->last_ns - q->start_ns : 0,
		       p->last_ns);
	if (kept)
		dt_span(c, f, x, kept);
}

static __always_inline struct dt_serving *dt_serving_of(__u32 tid)
{
	__u32 i = tid & (DT_SERVING - 1);

	return bpf_map_lookup_elem(&serving, &i);
}

/* A server exchange begins: this thread has it in hand. */
static __always_inline void dt_serve(struct dt_conn *c, const struct dt_flight *f, __u64 offset,
				     __u32 tid)
{
	struct dt_owner_limit *limit = dt_limit_of(c->owner_id);
	struct dt_serving *s;

	if (!limit || limit->cause != DT_CAUSE_THREAD || c->serving)
		return;
	s = dt_serving_of(tid);
	if (!s || (s->open && s->tid != tid))
		return; /* another thread's, that shares the place */
	c->serving = tid;
	if (__sync_fetch_and_add(&s->open, 1))
		return; /* more than one: ambiguous until it is one again */
	s->tid = tid;
	s->conn = (__u64)c;
	dt_wire_of(&s->wire, c, offset);
	s->trace_bytes = f->trace_bytes;
	if (f->trace_bytes)
		__builtin_memcpy(s->trace, f->trace, DT_TRACE_BYTES);
	s->known = 1;
}

/* The server exchange has been answered, by whatever thread. */
static __always_inline void dt_served(struct dt_conn *c)
{
	struct dt_serving *s;

	if (!c->serving)
		return;
	s = dt_serving_of(c->serving);
	if (s && s->tid == c->serving && s->open) {
		if (s->conn == (__u64)c)
			s->known = 0;
		__sync_fetch_and_add(&s->open, -1);
	}
	c->serving = 0;
}

/* A client request was sent: which server exchange made it? None rather than a wrong one. */
static __always_inline void dt_find_cause(struct dt_conn *c, struct dt_flight *f, __u64 offset,
					  __u32 tid)
{
	struct dt_serving *s = dt_serving_of(tid);
	struct dt_owner_limit *limit;
	struct dt_cause cause = {};
	struct dt_wire wire;

	f->cause_found = 0;
	f->cause_trace_bytes = 0;
	__builtin_memset(&f->cause, 0, sizeof(f->cause));
	if (!s || !s->open || s->tid != tid)
		return;
	if (s->open > 1 || !s->known) {
		f->cause_found = 2;
		dt_note(DT_AMBIGUOUS_CAUSE, 1, 0);
		return;
	}
	f->cause_found = 1;
	f->cause = s->wire;
	f->cause_trace_bytes = s->trace_bytes;
	if (s->trace_bytes)
		__builtin_memcpy(f->cause_trace, s->trace, DT_TRACE_BYTES);
	limit = dt_limit_of(c->owner_id);
	dt_wire_of(&wire, c, offset);
	if (!c->is_recorded && (!limit || dt_wire_hash(&wire) < limit->drop_below))
		return; /* no span of it will be looked for */
	cause.wire = s->wire;
	cause.trace_bytes = s->trace_bytes;
	__builtin_memcpy(cause.trace, s->trace, DT_TRACE_BYTES);
	bpf_map_update_elem(&causes, &wire, &cause, BPF_ANY);
}
