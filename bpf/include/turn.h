/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Turn-taking: what is counted of a connection whose protocol is not known, encrypted ones too.
 */
#pragma once

#include "record.h"
#include "span.h"

static __always_inline void dt_turn_add(struct dt_conn *c, __u64 request, __u64 response)
{
	struct dt_series_key key = { .edge = c->edge };
	struct dt_series *v = dt_series_of(&key, c->owner_id, c->role);

	if (!v)
		return;
	if (request)
		__sync_fetch_and_add(&v->request_bytes, request);
	if (response)
		__sync_fetch_and_add(&v->response_bytes, response);
	dt_settle(c, DT_COUNTED, 0, request + response);
}

/* The turn that is answered or ends now. */
static __always_inline void dt_take_turn(struct dt_conn *c, struct dt_exchange *x, __u64 now)
{
	x->key.edge = c->edge;
	x->request.start_ns = c->turn_start_ns;
	x->request.offset = c->turn_offset;
	x->request.bytes = c->turn_bytes;
	x->response.first_ns = x->response.last_ns = now;
	c->turn_open = 0;
	c->turn_bytes = 0;
}

/* A request begins so many bytes before where the stream has come to. */
static __always_inline void dt_open_turn(struct dt_conn *c, __u64 bytes, __u64 start_ns)
{
	c->turn_open = 1;
	c->turn_start_ns = start_ns;
	c->turn_offset = dt_offset(c, c->role == DT_ROLE_CLIENT) - bytes;
	dt_note(DT_SEEN, 1, 0);
}

/* As dt_relate, of an open turn. */
static __always_inline void dt_relate_turn(struct dt_conn *c, const struct dt_scratch *s)
{
	if (c->role == DT_ROLE_SERVER)
		dt_serve(c, 0, c->turn_offset, s);
	else
		dt_find_cause(c, c->turn_offset, s->file);
}

/* Bytes of a connection whose protocol is not known. The exchange is counted at the first byte
 * back: when the last one has come can not be told. */
__noinline int dt_turn(struct dt_conn *c, struct dt_scratch *s, __u64 bytes, int is_request)
{
	struct dt_exchange x = {};

	if (!c || !s)
		return 0;
	if (is_request) {
		if (!c->turn_open) {
			dt_open_turn(c, bytes, s->now);
			dt_relate_turn(c, s);
		}
		c->turn_bytes += bytes;
		return 0;
	}
	if (!c->turn_open) {
		dt_turn_add(c, 0, bytes);
		return 0;
	}
	dt_take_turn(c, &x, s->now);
	x.response.bytes = bytes;
	dt_count(c, &x);
	dt_offer_span(c, 0, &x);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, 1);
	if (dt_recording())
		dt_record_count(c, c->recorded_from, x.request.start_ns);
	return 0;
}

/* A turn that nobody answered. */
static __noinline int dt_close_turn(struct dt_conn *c, __u64 now)
{
	struct dt_exchange x = { .key.end = DT_END_CLOSED };

	dt_take_turn(c, &x, now);
	dt_count(c, &x);
	dt_offer_span(c, 0, &x);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, 0);
	if (dt_recording())
		dt_record_count(c, c->recorded_from, x.request.start_ns);
	return 0;
}
