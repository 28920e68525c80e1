/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Chunk → protocol → exchange, whichever door brought the chunk.
 *
 * A connection is undecided until its first bytes: then a protocol is taken tentatively, and
 * confirmed by the first response that fits its request. What fits none is counted by turns: the
 * first byte out to the first byte back. A confirmed connection that breaks its protocol's rules
 * goes out of step, until a request begins a chunk.
 */
#pragma once

#include "match.h"

enum dt_engine_bound {
	/* Steps of the walker in one operation: a pipeline of 30,000 commands, 5 ms. */
	DT_STEPS = 1 << 17,
	/* A usual head is one or two such pieces. */
	DT_HEAD_PIECE = 64,
	/* Runs of a protocol's walker in one step: a usual head is one step. */
	DT_RUNS = 4,
};

static __always_inline void dt_keep_head(struct dt_walk *w)
{
	struct dt_flight *f = w->f;
	struct dt_scratch *s = w->s;
	__u32 pos = s->pos & DT_WINDOW_MASK, n = s->end - s->pos;

	f->head_ordinal = w->m->ordinal;
	f->trace_bytes = 0;
	f->head_bytes = n > DT_HEAD_BYTES ? DT_HEAD_BYTES : n;
	for (__u32 i = 0; i < DT_HEAD_BYTES && i < n; i += DT_HEAD_PIECE)
		__builtin_memcpy(&f->head[i], &s->buf[pos + i], DT_HEAD_PIECE);
}

/* The head goes on in another piece of the chunk, or in another chunk. */
static __always_inline void dt_keep_more_head(struct dt_walk *w)
{
	struct dt_flight *f = w->f;
	__u32 have = f->head_bytes, n = w->s->end;

	if (have >= DT_HEAD_BYTES)
		return;
	if (n > DT_HEAD_BYTES - have)
		n = DT_HEAD_BYTES - have;
	dt_opaque_value(n);
	if (have < DT_HEAD_BYTES && n <= DT_HEAD_BYTES && have + n <= DT_HEAD_BYTES)
		bpf_probe_read_kernel(&f->head[have], n, w->s->buf);
	f->head_bytes = have + n;
}

/* What a finished request starts besides its count: it is somebody's cause, or has one. */
static __noinline int dt_relate(struct dt_walk *w)
{
	if (w->c->role == DT_ROLE_SERVER)
		return dt_serve(w->c, w->f, w->m->offset, w->s);
	return dt_find_cause(w->c, w->m->offset, w->s->file);
}

/* A first line that was taken for HTTP and is none may be an inline command of Redis: it is read
 * again from the kept head. An answer must show it. Not static, so that the verifier looks at it
 * once. */
__noinline int dt_take_inline(struct dt_conn *c, struct dt_flight *f)
{
	struct dt_walker *m;

	if (!c || !f)
		return 0;
	m = &c->request;
	m->hash = DT_HASH_START;
	m->word = 0;
	m->carry_bytes = 0;
	m->flags = 0;
	for (int i = 0; i <= DT_REDIS_MAX_INLINE; i++) {
		__u8 b = f->head[i];

		if (i > 1 && (b == ' ' || b == '\r' || b == '\n')) {
			dt_redis_command_end(m);
			m->phase = DT_REDIS_INLINE_REST;
			c->desyncs |= DT_INLINE;
			c->protocol = DT_PROTOCOL_REDIS;
			return 1;
		}
		if (!dt_redis_is_letter(b))
			break;
		dt_redis_command_byte(m, b);
	}
	return 0;
}

/* Bytes behind a whole request that are none: of a body that nobody announced. They are passed over
 * until what waits is answered. */
static __always_inline void dt_stray(struct dt_walk *w)
{
	w->m->phase = DT_PHASE_STRAY;
	dt_settle(w->c, DT_LOST_UNPARSED, 0, w->m->bytes + w->s->left);
	w->m->bytes = 0;
	w->s->left = 0;
}

static __always_inline long dt_event(struct dt_walk *w, int event)
{
	struct dt_conn *c = w->c;
	struct dt_walker *m = w->m;
	int is_odd = 0;

	if (event == DT_RESPONSE_HEAD)
		event = dt_http_response_body(m, dt_request_tag(w));
	if (event == DT_BAD && c->protocol == DT_PROTOCOL_HTTP && dt_http_is_odd(m)) {
		if (!w->is_request) {
			m->flags |= DT_HTTP_ODD;
			m->skip = ~0ULL - m->body_bytes;
			m->phase = DT_PHASE_UNTIL_CLOSE;
			return 0;
		}
		is_odd = 1;
		event = DT_MESSAGE_END;
	}
	switch (event) {
	case DT_GO_ON:
		return 0;
	case DT_MESSAGE_END:
		if (w->is_request) {
			dt_relate(w);
			dt_request_end(w);
			if (is_odd)
				dt_stray(w);
		} else {
			dt_response_end(w, DT_END_COMPLETE);
		}
		return 0;
	case DT_NOT_A_CALL_END:
		if (w->is_request && c->protocol == DT_PROTOCOL_REDIS) {
			if (m->flags & DT_REDIS_IS_MONITOR)
				c->flags |= DT_CONN_MONITOR;
			else
				c->flags |= DT_CONN_PUBSUB;
		}
		dt_settle(c, DT_LOST_NOT_A_CALL, 0, m->bytes);
		m->bytes = 0;
		m->phase = DT_PHASE_START;
		return 0;
	case DT_TUNNEL:
		m->body_bytes = 0;
		dt_response_end(w, DT_END_COMPLETE);
		/* fall through */
	case DT_FOREIGN:
		dt_demote(w);
		return 1;
	}
	if (w->is_request && c->protocol == DT_PROTOCOL_HTTP && m->phase <= DT_HTTP_METHOD &&
	    (__s32)(m->ordinal - c->response.ordinal) > 0) {
		dt_stray(w);
		return 1;
	}
	if (c->protocol == DT_PROTOCOL_HTTP && c->flags & DT_CONN_TENTATIVE && w->is_request &&
	    !m->ordinal && m->phase >= DT_HTTP_METHOD && m->phase <= DT_HTTP_VERSION &&
	    m->bytes <= DT_REQUEST_LINE_BYTES &&
	    (!(c->flags & DT_CONN_MIDSTREAM) ||
	     *(const __u32 *)w->f->head == (__u32)DT_BYTES8('P', 'I', 'N', 'G', 0, 0, 0, 0)) &&
	    dt_take_inline(c, w->f))
		return 0;
	dt_desync(w, DT_LOST_UNPARSED, 0);
	return 1;
}

/* What a request must be on this connection; where the server has spoken first, no inline command.
 */
static __always_inline int dt_redis_strict(const struct dt_conn *c)
{
	if (!(c->flags & DT_CONN_TENTATIVE) || c->request.ordinal)
		return DT_REDIS_ANY;
	return c->response.bytes || c->response.ordinal ? DT_REDIS_ARRAY : DT_REDIS_LETTERS;
}

static __always_inline int dt_redis_how(const struct dt_conn *c)
{
	return (c->flags & DT_CONN_PUBSUB ? DT_REDIS_PUBSUB : 0) |
	       (c->flags & DT_CONN_TENTATIVE && c->desyncs & DT_INLINE ? DT_REDIS_DOUBTED : 0);
}

static __always_inline long dt_step_once(struct dt_walk *w)
{
	struct dt_scratch *s = w->s;
	struct dt_walker *m = w->m;
	struct dt_conn *c = w->c;
	__u32 before;
	int event;

	if (!s->left || c->protocol == DT_PROTOCOL_UNKNOWN || c->protocol == DT_PROTOCOL_UNDECIDED)
		return 1; /* the other direction may have found that it speaks something else */
	if (m->skip) {
		__u64 n = dt_pass(s, m->skip);

		m->skip -= n;
		m->bytes += n;
		if (!m->skip && m->phase == DT_PHASE_BODY) {
			event = c->protocol == DT_PROTOCOL_HTTP ? DT_MESSAGE_END
				: w->is_request			? dt_redis_request_end(m)
								: dt_redis_response_end(m);
			return dt_event(w, event);
		}
		if (n)
			return 0;
	}
	if (s->pos >= s->end) {
		if (dt_fill(s)) {
			if (s->fault)
				dt_note(DT_FAULT, 0, s->left);
			dt_desync(w, DT_LOST_UNPARSED, 0);
			return 1;
		}
		if (w->is_request && c->protocol == DT_PROTOCOL_HTTP &&
		    m->phase >= DT_PHASE_PROTOCOL && m->phase < DT_HTTP_CHUNK_SIZE)
			dt_keep_more_head(w);
		if (s->pos >= s->end)
			return 0;
	}
	if (m->skip)
		return 0;
	if (m->phase == DT_PHASE_START) {
		__u64 carried = m->bytes; /* empty lines before a request */

		dt_begin(m, s);
		m->bytes = carried;
		if (w->is_request && c->protocol == DT_PROTOCOL_HTTP)
			dt_keep_head(w);
	}
	for (int i = 0; i < DT_RUNS; i++) {
		before = s->pos;
		if (c->protocol == DT_PROTOCOL_HTTP)
			event = dt_http_run(m, s, w->f, w->is_request);
		else if (w->is_request)
			event = dt_redis_request_run(m, s, dt_redis_strict(c));
		else
			event = dt_redis_response_run(m, s, dt_redis_how(c));
		before = s->pos - before;
		s->left -= before;
		s->offset += before;
		m->bytes += before;
		if (event || m->skip || s->pos >= s->end || m->phase == DT_PHASE_START)
			break;
	}
	if (event && dt_event(w, event))
		return 1;
	return !s->left;
}

static __noinline long dt_step(__u32 i, struct dt_walk *w)
{
	return dt_step_once(w);
}

/* Does this chunk begin with a request? What is in the window is at least one byte. is_first: of
 * its connection. */
static __always_inline __u8 dt_guess(struct dt_scratch *s, int is_request, int is_first)
{
	__u8 c = dt_byte(s, s->pos);

	if (is_request)
		return dt_redis_is_request(c)		     ? DT_PROTOCOL_REDIS
		       : dt_http_may_begin(s, is_first)	     ? DT_PROTOCOL_HTTP
		       : dt_redis_may_be_inline(s, is_first) ? DT_PROTOCOL_REDIS
							     : DT_PROTOCOL_UNKNOWN;
	return c == 'H'			 ? DT_PROTOCOL_HTTP
	       : dt_redis_is_response(c) ? DT_PROTOCOL_REDIS
					 : DT_PROTOCOL_UNKNOWN;
}

/* A chunk of a connection that is out of step: does a request begin here? Answers are looked at
 * when one has. */
static __always_inline int dt_resync(struct dt_walk *w)
{
	struct dt_conn *c = w->c;
	struct dt_scratch *s = w->s;

	if (c->request.phase == DT_PHASE_STRAY && c->response.phase == DT_PHASE_START &&
	    (__s32)(c->response.ordinal - c->request.ordinal) >= 0)
		c->request.phase = c->response.phase = DT_PHASE_LOST;
	if (w->m->phase != DT_PHASE_LOST && w->m->phase != DT_PHASE_STRAY)
		return 1;
	if (w->m->phase == DT_PHASE_STRAY)
		goto lost;
	if (w->is_request ? dt_fill_first(s) && dt_guess(s, 1, 0) == c->protocol
			  : c->request.phase != DT_PHASE_LOST && !dt_is_looking(c)) {
		w->m->phase = DT_PHASE_START;
		return 1;
	}
lost:
	dt_settle(c, DT_LOST_UNPARSED, 0, s->left);
	return 0;
}

/* A chunk of a connection whose protocol is taken. Not static, so that the verifier looks at it
 * once, and not for each place where a connection's state may live. */
__noinline int dt_walk_chunk(struct dt_conn *c, struct dt_flight *f, struct dt_scratch *s,
			     int is_request)
{
	struct dt_walk w = { .c = c, .f = f, .s = s, .is_request = is_request };
	struct dt_walker *m;

	if (!c || !f || !s)
		return 0;
	m = w.m = is_request ? &c->request : &c->response;
	if (c->flags & DT_CONN_MONITOR) {
		dt_settle(c, DT_LOST_NOT_A_CALL, 0, s->left);
		return 0;
	}
	if (!dt_resync(&w))
		return 0;
	m->last_ns = s->now;
	if (is_request && m->phase == DT_PHASE_BODY && c->protocol == DT_PROTOCOL_HTTP &&
	    m->flags & DT_HTTP_EXPECT && m->skip == m->body_bytes &&
	    (__s32)(c->response.ordinal - m->ordinal) > 0) {
		/* It asked to be told to go on, and was told no: there is no body. */
		m->skip = 0;
		m->body_bytes = 0;
		dt_request_end(&w);
	}
	if (!dt_step(0, &w)) /* a usual chunk is one step */
		bpf_loop(DT_STEPS, dt_step, &w, 0);
	if (c->protocol == DT_PROTOCOL_UNKNOWN) { /* demoted on the way */
		if (c->turn_open)
			dt_relate_turn(c, s);
		if (s->left)
			dt_turn(c, s, s->left, is_request);
	} else if (c->protocol == DT_PROTOCOL_UNDECIDED) {
		dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
	} else if (s->left) {
		dt_desync(&w, DT_LOST_STEPS, 0);
	}
	return 0;
}

/* Bytes that no door has seen: a body may be passed over by them, anything else is out of step. */
__noinline int dt_walk_blind(struct dt_conn *c, struct dt_flight *f, struct dt_scratch *s,
			     int is_request, __u32 bytes)
{
	struct dt_walk w = { .c = c, .f = f, .s = s, .is_request = is_request };
	struct dt_walker *m;

	if (!c || !f || !s)
		return 0;
	m = w.m = is_request ? &c->request : &c->response;
	if (m->skip >= bytes)
		m->skip -= bytes;
	else if (m->phase != DT_PHASE_LOST)
		dt_desync(&w, DT_LOST_UNPARSED, s->left);
	if (!m->skip && m->phase == DT_PHASE_BODY)
		dt_event(&w, DT_MESSAGE_END);
	return 0;
}

/* A client's response that lasts until the connection's end has ended. */
__noinline int dt_walk_end(struct dt_conn *c, struct dt_flight *f, struct dt_scratch *s)
{
	struct dt_walk w = { .c = c, .f = f, .s = s };

	if (!c || !f || !s)
		return 0;
	w.m = &c->response;
	dt_http_cut_off(w.m);
	return dt_response_end(&w, DT_END_COMPLETE);
}

static long dt_close_one(__u32 i, struct dt_walk *w)
{
	struct dt_walker *m = &w->c->response;

	m->bytes = m->body_bytes = 0;
	m->outcome = 0;
	m->first_ns = m->last_ns = w->s->now;
	dt_response_end(w, DT_END_CLOSED);
	return 0;
}

/* The ledger's line for bytes that are open when their connection ends. */
static __always_inline __u32 dt_rest_of(const struct dt_conn *c)
{
	if (c->flags & DT_CONN_MIDSTREAM)
		return DT_LOST_MIDSTREAM;
	/* a preamble, or empty lines, and no request: who looks whether the server is there */
	if (c->flags & DT_CONN_TENTATIVE && c->protocol == DT_PROTOCOL_HTTP &&
	    !c->request.ordinal &&
	    (c->request.phase == DT_PHASE_START || c->request.phase == DT_HTTP_PREAMBLE))
		return DT_LOST_NOT_A_CALL;
	return DT_LOST_UNPARSED;
}

/* Has nothing shown that a connection speaks what was taken? */
static __always_inline int dt_is_unlikely(const struct dt_conn *c)
{
	const struct dt_walker *m = &c->request;

	if (c->protocol == DT_PROTOCOL_REDIS)
		return c->desyncs & DT_INLINE;
	return c->protocol == DT_PROTOCOL_HTTP && !m->ordinal && dt_is_asking(c) &&
	       !dt_has_asked(c) && (m->phase == DT_HTTP_METHOD || m->flags & DT_HTTP_STRANGE);
}

/* The connection has ended: what is open ends with it. */
__noinline int dt_finish(struct dt_conn *c, struct dt_flight *f, struct dt_scratch *s)
{
	struct dt_walk w = { .c = c, .f = f, .s = s };
	struct dt_walker *request, *response;
	__s32 waits;
	__u64 open;
	int is_odd;

	if (!c || !s)
		return 0;
	request = &c->request;
	response = &c->response;
	w.m = request;
	w.is_request = 1;
	if (f && (c->flags & (DT_CONN_TENTATIVE | DT_CONN_MIDSTREAM)) == DT_CONN_TENTATIVE &&
	    dt_is_unlikely(c))
		dt_demote(&w);
	if (c->protocol == DT_PROTOCOL_UNKNOWN || !f) {
		if (c->turn_open)
			dt_close_turn(c, s->now);
		goto rest;
	}
	if (c->protocol == DT_PROTOCOL_HTTP) {
		/* the phases stay */
		dt_http_cut_off(request);
		dt_http_cut_off(response);
	}
	if (request->bytes && dt_has_asked(c))
		dt_request_end(&w);
	w.m = response;
	w.is_request = 0;
	is_odd = c->protocol == DT_PROTOCOL_HTTP && response->flags & DT_HTTP_ODD &&
		 (response->phase == DT_PHASE_UNTIL_CLOSE || response->phase == DT_PHASE_START);
	waits = request->ordinal - response->ordinal;
	if (waits > 0 && response->bytes && response->phase != DT_PHASE_LOST) {
		dt_response_end(&w, response->phase == DT_PHASE_UNTIL_CLOSE ? DT_END_COMPLETE
									    : DT_END_CLOSED);
		waits--;
	}
	if (waits > 0 && is_odd)
		dt_note(DT_LOST_UNPARSED, waits,
			0); /* their answers are in a body without an end */
	else if (waits > 0)
		bpf_loop(waits, dt_close_one, &w, 0);
	dt_forget_flight(&w);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, 0);
rest:
	open = dt_open_bytes(c);
	if (open)
		dt_settle(c, dt_rest_of(c), 0, open);
	c->flags |= DT_CONN_IGNORED;
	return 0;
}
