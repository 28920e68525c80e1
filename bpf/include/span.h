/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Which exchanges become spans.
 *
 * A budget, not a rate: each owner may emit so many a second, decided before anything is copied.
 * Errors and slow exchanges go first; the others are chosen by a hash of the wire identity, so
 * that both ends choose the same ones without talking. A quarter of the budget is not given to
 * the hash, so that an error in a busy second still has room.
 */
#pragma once

#include "cause.h"

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
	}
	if (c->role != DT_ROLE_SERVER)
		dt_recall_cause(r, c);
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
