/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Requests meet their responses, in the order of the connection, whichever is walked first; and
 * what becomes of both when the protocol was a wrong guess or its rules are broken.
 */
#pragma once

#include "turn.h"
#include "l7/http.h"
#include "l7/redis.h"

/* Pointers only: numbers would keep the verifier's states of the loop apart. */
struct dt_walk {
	struct dt_conn *c;
	struct dt_flight *f;
	struct dt_scratch *s;
	struct dt_walker *m;
	__u64 is_request;
};

static __noinline int dt_complete(struct dt_walk *w, struct dt_exchange *x)
{
	struct dt_conn *c = w->c;

	x->key.signature = x->request.signature;
	x->key.edge = c->edge;
	x->key.outcome = x->response.outcome;
	x->key.protocol = c->protocol;
	x->key.end = x->response.end;

	if (c->flags & DT_CONN_TENTATIVE) {
		c->flags &= ~(DT_CONN_TENTATIVE | DT_CONN_MIDSTREAM);
		/* completed: those that the spill map had no room for */
		dt_note(DT_SEEN, c->request.ordinal - c->completed, 0);
	}
	__sync_fetch_and_add(&c->completed, 1);
	dt_count(c, x);
	dt_offer_span(c, w->f, x);
	if (dt_recording())
		dt_record_count(c, x->ordinal, x->request.start_ns);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, x->response.end == DT_END_COMPLETE);
	return 0;
}

static __always_inline struct dt_spill_key dt_spill_key_of(struct dt_conn *c, __u32 ordinal,
							   __u32 state)
{
	struct dt_spill_key key = { .conn = (__u64)c, .ordinal = ordinal, .state = state };

	return key;
}

static __always_inline __u32 dt_tag_of(__u32 ordinal, __u32 state)
{
	return ordinal << DT_TAG_SHIFT | state;
}

static __always_inline int dt_tag_is(__u32 tag, __u32 ordinal, __u32 state)
{
	return (tag >> DT_TAG_SHIFT) == (ordinal & (~0U >> DT_TAG_SHIFT)) &&
	       (tag & DT_TAG_STATE) == state;
}

/* A function of its own, so that its stack is not under those of the exchange's. */
static __noinline int dt_spill(const struct dt_spill_key *key, const struct dt_exchange *x,
			       __u32 tag)
{
	struct dt_spill deep = { .request = x->request, .response = x->response, .tag = tag };

	return bpf_map_update_elem(&spill, key, &deep, BPF_ANY) != 0;
}

/* Takes a spilled request or response out. Both directions may try; one succeeds, and completes. */
static __always_inline int dt_claim(const struct dt_spill_key *key)
{
	return !bpf_map_delete_elem(&spill, key);
}

/* Beyond the cap of operations, HTTP's methods are still told. */
static __always_inline void dt_name_http(struct dt_walk *w)
{
	struct dt_walker *m = w->m;

	m->hash = dt_operation(w->c, m->hash, w->f->head, w->f->head_bytes);
	if (m->hash == DT_SIGNATURE_OVERFLOW)
		m->hash = dt_http_overflow(*(__u64 *)w->f->head);
}

/* Asks for a name of the request's operation, if it has none. */
static __always_inline void dt_named(struct dt_walk *w)
{
	struct dt_walker *m = w->m;

	if (dt_operation_known(w->c, m->hash))
		return;
	if (w->c->protocol == DT_PROTOCOL_HTTP)
		dt_name_http(w);
	else
		m->hash = dt_operation(w->c, m->hash, m->carry, m->carry_bytes);
}

/* A request has ended: it waits for its response, or meets one that was faster. */
static __noinline int dt_request_end(struct dt_walk *w)
{
	struct dt_conn *c = w->c;
	struct dt_flight *f = w->f;
	struct dt_walker *m = w->m;
	__u32 ordinal = m->ordinal, flags = 0, old, tag;
	struct dt_slot *slot = &f->slots[ordinal & (DT_SLOTS - 1)];
	struct dt_spill_key key = dt_spill_key_of(c, ordinal, DT_TAG_RESPONSE);
	struct dt_spill *spilled;
	struct dt_exchange *x = &w->s->exchange;

	*x = (struct dt_exchange){
		.request = {
			.start_ns = m->first_ns,
			.offset = m->offset,
			.bytes = m->bytes,
			.body_bytes = m->body_bytes,
		},
		.ordinal = ordinal,
	};
	dt_named(w);
	x->request.signature = m->hash;
	if (c->protocol == DT_PROTOCOL_HTTP) {
		if (m->flags & DT_HTTP_IS_HEAD)
			flags = DT_TAG_HEAD;
		if (m->flags & DT_HTTP_IS_CONNECT)
			flags = DT_TAG_CONNECT;
	}
	m->phase = DT_PHASE_START;
	m->bytes = 0;
	m->ordinal++;
	if (!(c->flags & DT_CONN_TENTATIVE))
		dt_note(DT_SEEN, 1, 0);
	if ((__s32)(ordinal - c->response.ordinal) >= DT_SLOTS) {
		key.state = DT_TAG_REQUEST;
		if (dt_spill(&key, x, flags)) {
			dt_settle(c, DT_LOST_PIPELINE, !(c->flags & DT_CONN_TENTATIVE),
				  x->request.bytes);
			__sync_fetch_and_add(&c->completed, 1);
			return 0;
		}
		/* the responses may have caught up meanwhile; an atomic, because the look must come
		 * behind the entry */
		old = __sync_fetch_and_add(&slot->tag, 0);
		if (dt_tag_is(old, ordinal, DT_TAG_RESPONSE) && dt_claim(&key))
			goto meet;
		return 0;
	}
	old = slot->tag;
	if (dt_tag_is(old, ordinal, DT_TAG_RESPONSE))
		goto meet;
	slot->request = x->request;
	tag = __sync_val_compare_and_swap(&slot->tag, old,
					  dt_tag_of(ordinal, DT_TAG_REQUEST | flags));
	if (tag == old) {
		/* far more responses than one may have been faster */
		if (!f->spilled_responses)
			return 0;
		spilled = bpf_map_lookup_elem(&spill, &key);
		if (!spilled)
			return 0;
		x->response = spilled->response;
		if (!dt_claim(&key))
			return 0;
		__sync_fetch_and_add(&f->spilled_responses, -1);
		slot->tag = DT_TAG_FREE;
		dt_complete(w, x);
		return 0;
	}
meet:
	x->response = f->early[ordinal & (DT_EARLY - 1)];
	slot->tag = DT_TAG_FREE;
	dt_complete(w, x);
	return 0;
}

/* The flags of the request that the response being read answers. */
static __always_inline __u32 dt_request_tag(struct dt_walk *w)
{
	__u32 ordinal = w->m->ordinal;
	__u32 tag = w->f->slots[ordinal & (DT_SLOTS - 1)].tag;
	struct dt_spill_key key;
	struct dt_spill *spilled;

	if (dt_tag_is(tag, ordinal, DT_TAG_REQUEST))
		return tag;
	if ((__s32)(w->c->request.ordinal - ordinal) <= 0)
		return 0;
	key = dt_spill_key_of(w->c, ordinal, DT_TAG_REQUEST);
	spilled = bpf_map_lookup_elem(&spill, &key);
	return spilled ? spilled->tag : 0;
}

/* A response has ended: it meets its request, or waits for it. */
static __noinline int dt_response_end(struct dt_walk *w, __u8 end)
{
	struct dt_conn *c = w->c;
	struct dt_flight *f = w->f;
	struct dt_walker *m = &c->response;
	__u32 ordinal = m->ordinal, old, tag;
	struct dt_slot *slot = &f->slots[ordinal & (DT_SLOTS - 1)];
	struct dt_spill_key key = dt_spill_key_of(c, ordinal, DT_TAG_REQUEST);
	struct dt_spill *spilled;
	struct dt_exchange *x = &w->s->exchange;

	*x = (struct dt_exchange){
		.response = {
			.first_ns = m->first_ns,
			.last_ns = m->last_ns,
			.bytes = m->bytes,
			.body_bytes = m->body_bytes,
			.outcome = m->outcome,
			.end = end,
		},
		.ordinal = ordinal,
	};
	m->phase = DT_PHASE_START;
	m->bytes = 0;
	old = slot->tag;
	if (dt_tag_is(old, ordinal, DT_TAG_REQUEST))
		goto meet;
	spilled = bpf_map_lookup_elem(&spill, &key);
	if (spilled) {
		x->request = spilled->request;
		bpf_map_delete_elem(&spill, &key);
		m->ordinal++;
		dt_complete(w, x);
		return 0;
	}
	/* one place is still read by the request that is being completed */
	if ((__s32)(ordinal - c->request.ordinal) >= DT_EARLY - 1) {
		key.state = DT_TAG_RESPONSE;
		__sync_fetch_and_add(&f->spilled_responses, 1);
		if (dt_spill(&key, x, 0)) {
			__sync_fetch_and_add(&f->spilled_responses, -1);
			dt_settle(c, DT_LOST_UNANSWERED, 0, x->response.bytes);
			m->ordinal++;
			return 0;
		}
		/* the requests may have caught up meanwhile */
		old = __sync_fetch_and_add(&slot->tag, 0);
		if (dt_tag_is(old, ordinal, DT_TAG_REQUEST) && dt_claim(&key)) {
			__sync_fetch_and_add(&f->spilled_responses, -1);
			goto meet;
		}
		m->ordinal++;
		return 0;
	}
	f->early[ordinal & (DT_EARLY - 1)] = x->response;
	tag = __sync_val_compare_and_swap(&slot->tag, old, dt_tag_of(ordinal, DT_TAG_RESPONSE));
	if (tag == old) {
		if ((__s32)(c->request.ordinal - ordinal) > 0) {
			/* the request was spilled meanwhile */
			spilled = bpf_map_lookup_elem(&spill, &key);
			if (spilled) {
				x->request = spilled->request;
				if (dt_claim(&key))
					goto complete;
			}
		}
		m->ordinal++;
		return 0;
	}
meet:
	x->request = slot->request;
complete:
	slot->tag = DT_TAG_FREE;
	m->ordinal++;
	dt_complete(w, x);
	return 0;
}

/* What is open, in exchanges and bytes: nothing of it will be matched any more. */
static __always_inline __u64 dt_open_bytes(const struct dt_conn *c)
{
	return c->sent_bytes + c->received_bytes - c->settled_bytes;
}

static __always_inline __u64 dt_open_exchanges(const struct dt_conn *c)
{
	__s32 open;

	if (c->protocol == DT_PROTOCOL_UNKNOWN)
		return c->turn_open;
	if (c->flags & DT_CONN_TENTATIVE)
		return 0;
	open = c->request.ordinal - c->completed;
	return open > 0 ? open : 0;
}

static long dt_forget_request(__u32 i, struct dt_walk *w)
{
	struct dt_spill_key key = dt_spill_key_of(w->c, w->c->response.ordinal + i, DT_TAG_REQUEST);

	bpf_map_delete_elem(&spill, &key);
	return 0;
}

static long dt_forget_response(__u32 i, struct dt_walk *w)
{
	struct dt_spill_key key = dt_spill_key_of(w->c, w->c->request.ordinal + i, DT_TAG_RESPONSE);

	bpf_map_delete_elem(&spill, &key);
	return 0;
}

/* Slots and spilled requests and responses are gone afterwards. */
static __always_inline void dt_forget_flight(struct dt_walk *w)
{
	__s32 deep = w->c->request.ordinal - w->c->response.ordinal;

	for (int i = 0; i < DT_SLOTS; i++)
		w->f->slots[i].tag = DT_TAG_FREE;
	if (deep > 0)
		bpf_loop(deep, dt_forget_request, w, 0);
	else if (deep < 0)
		bpf_loop(-deep, dt_forget_response, w, 0);
	w->f->spilled_responses = 0;
}

/* Has a request begun that has not ended? */
static __always_inline int dt_is_asking(const struct dt_conn *c)
{
	return c->request.phase != DT_PHASE_START && c->request.phase != DT_PHASE_LOST;
}

/* Has it said what it wants? Of HTTP: has its line been read? */
static __always_inline int dt_has_asked(const struct dt_conn *c)
{
	const struct dt_walker *m = &c->request;

	if (!dt_is_asking(c))
		return 0;
	if (c->protocol == DT_PROTOCOL_HTTP)
		return m->phase == DT_PHASE_BODY || m->phase > DT_HTTP_VERSION;
	return m->flags & DT_REDIS_NAMED;
}

/* Is it still to be seen whether what begins here is a request? */
static __always_inline int dt_is_looking(const struct dt_conn *c)
{
	return dt_is_asking(c) && !dt_has_asked(c) && c->request.ordinal == c->response.ordinal;
}

/* The protocol taken was wrong: what was gathered becomes a turn. */
static __noinline int dt_demote(struct dt_walk *w)
{
	struct dt_conn *c = w->c;
	__u64 request, response = c->response.bytes;
	__u64 open = dt_open_bytes(c) - w->s->left;
	__u32 waits = c->request.ordinal - c->completed;
	int confirmed = !(c->flags & DT_CONN_TENTATIVE);

	if (!confirmed && !(c->flags & DT_CONN_MIDSTREAM))
		/* what had come as responses waits for its requests in vain */
		response = (c->role == DT_ROLE_CLIENT ? c->received_bytes : c->sent_bytes) -
			   (w->is_request ? 0 : w->s->left);

	dt_note(DT_DEMOTED, 1, 0);
	if (confirmed && waits && waits < (1U << 31))
		/* they were opened as exchanges; as such they end here */
		dt_note(DT_LOST_UNPARSED, waits, 0);
	dt_forget_flight(w);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, 0);
	c->protocol = DT_PROTOCOL_UNKNOWN;
	c->flags &= ~(DT_CONN_TENTATIVE | DT_CONN_MIDSTREAM | DT_CONN_PUBSUB | DT_CONN_MONITOR);
	c->turn_open = 0;
	c->turn_bytes = 0;
	c->request.bytes = c->response.bytes = 0;
	if (response > open)
		response = open;
	request = open - response;
	if (request && !confirmed) {
		dt_open_turn(c, request + (w->is_request ? w->s->left : 0),
			     c->request.first_ns ?: w->s->now);
		c->turn_bytes = request;
		request = 0;
	}
	if (request || response)
		dt_turn_add(c, request, response);
	return 0;
}

/* Out of step: the rules were broken, or bytes were hidden. Open exchanges end as lost, and the
 * chunk in hand but for the bytes to keep, which may begin with a request. */
static __noinline int dt_desync(struct dt_walk *w, __u32 line, __u32 keep)
{
	struct dt_conn *c = w->c;
	__u32 waits = c->request.ordinal - c->completed;
	int tentative = c->flags & DT_CONN_TENTATIVE, older = c->flags & DT_CONN_MIDSTREAM;
	/* it was to be seen whether a request begins here, and none does: that breaks no rule */
	int none = dt_is_looking(c) && (tentative ? older : c->response.phase == DT_PHASE_LOST);
	/* one that had begun is lost like those that wait */
	int begun = dt_is_asking(c) && !none && !tentative;

	if (waits >= 1U << 31)
		waits = 0;
	if (!none)
		c->desyncs++;
	if ((c->desyncs & DT_DESYNCS_MASK) >= DT_DESYNCS || (tentative && !older) ||
	    (tentative && none && w->is_request && c->desyncs & DT_ANSWERED)) {
		if (begun && !(w->is_request && w->s->left)) { /* else it goes on as a turn */
			dt_note(DT_SEEN, 1, 0);
			dt_note(line, 1, 0);
		}
		return dt_demote(w);
	}
	if (tentative) {
		/* older than the agent: this was no beginning, another chunk may be one */
		c->flags &= ~DT_CONN_TENTATIVE;
		c->desyncs &= DT_DESYNCS_MASK;
		c->protocol = DT_PROTOCOL_UNDECIDED;
		c->request.ordinal = 0;
		line = DT_LOST_MIDSTREAM;
		waits = 0;
	}
	if (begun) {
		dt_note(DT_SEEN, 1, 0);
		waits++;
	}
	dt_settle(c, line, waits, dt_open_bytes(c) - keep);
	dt_forget_flight(w);
	if (c->role == DT_ROLE_SERVER)
		dt_served(c, 0);
	c->response.ordinal = c->completed = c->request.ordinal;
	c->request.phase = c->response.phase = c->protocol == DT_PROTOCOL_UNDECIDED ? DT_PHASE_START
										    : DT_PHASE_LOST;
	c->request.skip = c->response.skip = 0;
	c->request.bytes = c->response.bytes = 0;
	w->s->left = keep;
	return 0;
}
