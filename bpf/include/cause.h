/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Why a client request was made: what its thread has in hand.
 *
 * A thread that reads a request, waits for one thing at a time until it has answered it, and
 * answers it itself, does all that it does meanwhile for that request: a bracket. A thread that
 * waits for several things at once does whatever comes first, so what it has in hand says nothing.
 * It is refused
 *   - when it reads a request from a socket that is registered in an epoll instance, or by a ring;
 *   - when it was seen to wait so with a request in hand, or another thread answered for it;
 *   - in a program of which no bracket has been seen yet (sleep.h).
 * A wrong cause is worse than none: what is refused is counted.
 */
#pragma once

#include "count.h"

enum dt_cause_bound {
	/* Calls of a program that is not known yet, each of which asks for a look at it. */
	DT_WONDERS = 64,
};

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

/* How a request is read: whether its thread may be waiting for other things as well. */
static __always_inline void dt_look_at_file(struct dt_scratch *s, struct sock *sk,
					    struct task_struct *t, int flags)
{
	struct file *file = sk->sk_socket->file;

	s->file = (__u64)file;
	s->way = flags & DT_MSG_DONTWAIT ? DT_WAY_NONBLOCKING : 0;
	if (t->io_uring || t->flags & DT_PF_IO_WORKER ||
	    (file && bpf_core_field_exists(file->f_ep) && file->f_ep))
		s->way |= DT_WAY_REGISTERED;
}

static __always_inline struct dt_serving *dt_serving_of(__u32 tid)
{
	__u32 i = tid & (DT_SERVING - 1);

	return bpf_map_lookup_elem(&serving, &i);
}

/* Other threads share the place, and a thread's number may have been another's. */
static __always_inline int dt_is_of(const struct dt_serving *v, struct task_struct *t)
{
	return v->tid == (__u32)t->pid && v->born_ns == t->start_boottime;
}

/* From now on this thread's requests are nobody's cause; for its life. */
static __always_inline void dt_polls(struct dt_serving *v)
{
	struct dt_owner_limit *limit = dt_limit_of(v->owner_id);

	v->habits |= DT_HABIT_POLLS;
	if (limit)
		__sync_fetch_and_or(&limit->trust, DT_TRUST_POLLS);
}

/* A server exchange begins: this thread has it in hand. f: 0 where there is none. */
static __noinline int dt_serve(struct dt_conn *c, const struct dt_flight *f, __u64 offset,
			       const struct dt_scratch *s)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dt_serving *v = dt_serving_of(t->pid);

	if (!v || c->serving)
		return 0;
	if (!dt_is_of(v, t)) {
		if (v->open)
			return 0; /* another thread's */
		v->tid = t->pid;
		v->born_ns = t->start_boottime;
		v->habits = 0;
	}
	c->serving = t->pid;
	v->owner_id = c->owner_id;
	if (s->way & DT_WAY_REGISTERED && !(v->habits & DT_HABIT_POLLS))
		dt_polls(v);
	if (__sync_fetch_and_add(&v->open, 1)) { /* ambiguous until it has none in hand */
		v->known = 0;
		return 0;
	}
	v->conn = (__u64)c;
	v->file = s->file;
	v->asked = 0;
	v->way = s->way;
	v->habits &= ~DT_HABIT_ALONE;
	dt_wire_of(&v->wire, c, offset);
	v->trace_bytes = f ? f->trace_bytes : 0;
	if (v->trace_bytes)
		__builtin_memcpy(v->trace, f->trace, DT_TRACE_BYTES);
	v->known = 1;
	return 0;
}

/* The server exchange is not in hand any more: this thread has answered it, or it has ended. */
static __always_inline void dt_served(struct dt_conn *c, int is_answer)
{
	struct dt_serving *v;

	if (!c->serving)
		return;
	v = dt_serving_of(c->serving);
	if (v && v->tid == c->serving && v->open) {
		if (is_answer && (__u32)bpf_get_current_pid_tgid() != c->serving)
			dt_polls(v); /* it hands requests on, and does something else then */
		else if (is_answer && v->known && v->habits & DT_HABIT_ALONE)
			v->habits |= DT_HABIT_ANSWERED;
		if (v->conn == (__u64)c)
			v->known = 0;
		__sync_fetch_and_add(&v->open, -1);
	}
	c->serving = 0;
}

/* Asks user space to let sleep.h look, the first times and then ever less often. */
static __noinline int dt_wonder(struct dt_owner_limit *limit, __u32 owner_id)
{
	__u32 times = __sync_fetch_and_add(&limit->wondered, 1) + 1;
	struct dt_unproven_record *r;

	dt_note(DT_UNPROVEN, 1, 0);
	if (times > DT_WONDERS && times & (times - 1))
		return 0;
	r = bpf_ringbuf_reserve(&news, sizeof(*r), 0);
	if (!r)
		return 0; /* it will wonder again */
	r->type = DT_RECORD_UNPROVEN;
	r->owner_id = owner_id;
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* Is what this thread has in hand the cause of what it does? */
static __always_inline int dt_is_bracket(const struct dt_serving *v)
{
	int nonblocking = v->way & DT_WAY_NONBLOCKING;
	struct dt_owner_limit *limit = dt_limit_of(v->owner_id);

	if (!limit || !v->owner_id || v->habits & DT_HABIT_POLLS ||
	    (nonblocking && limit->trust & DT_DISTRUST_NONBLOCKING)) {
		dt_note(DT_POLLING, 1, 0);
		return 0;
	}
	if (limit->trust & (nonblocking ? DT_TRUST_NONBLOCKING : DT_TRUST_BLOCKING))
		return 1;
	dt_wonder(limit, v->owner_id);
	return 0;
}

/* So that user space can follow a trace upwards before its parents have finished. */
static __always_inline void dt_tell_cause(const struct dt_conn *c, const struct dt_serving *v,
					  __u64 offset)
{
	struct dt_owner_limit *limit = dt_limit_of(c->owner_id);
	struct dt_cause cause = { .wire = v->wire, .trace_bytes = v->trace_bytes };
	struct dt_wire wire;

	dt_wire_of(&wire, c, offset);
	if (!c->is_recorded && (!limit || dt_wire_hash(&wire) < limit->drop_below))
		return; /* no span of it will be looked for */
	__builtin_memcpy(cause.trace, v->trace, DT_TRACE_BYTES);
	bpf_map_update_elem(&causes, &wire, &cause, BPF_ANY);
}

/* A client request was sent, from this open file: which server exchange made it? None rather than a
 * wrong one. */
static __noinline int dt_find_cause(struct dt_conn *c, __u64 offset, __u64 file)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dt_serving *v = dt_serving_of(t->pid);
	struct dt_because *b = &c->because;

	b->offset = offset;
	b->found = 0;
	if (!v || !v->open || !dt_is_of(v, t))
		return 0;
	v->asked = file;
	if (!dt_is_bracket(v))
		return 0;
	if (!v->known) {
		b->found = 2;
		dt_note(DT_AMBIGUOUS_CAUSE, 1, 0);
		return 0;
	}
	b->found = 1;
	b->cause = v->wire;
	b->trace_bytes = v->trace_bytes;
	if (v->trace_bytes)
		__builtin_memcpy(b->trace, v->trace, DT_TRACE_BYTES);
	if (!c->is_connecting) /* who connects in vain has no far end */
		dt_tell_cause(c, v, offset);
	return 0;
}

/* What is remembered of it, when it is finished: the newest request's cause, or an earlier one's.
 */
static __always_inline void dt_recall_cause(struct dt_exchange_record *r, const struct dt_conn *c)
{
	const struct dt_because *b = &c->because;
	struct dt_wire wire = r->wire;
	struct dt_cause *told;

	if (b->offset == wire.offset) {
		r->cause_found = b->found;
		if (b->found != 1)
			return;
		r->cause = b->cause;
		r->cause_trace_bytes = b->trace_bytes;
		__builtin_memcpy(r->cause_trace, b->trace, DT_TRACE_BYTES);
		return;
	}
	told = bpf_map_lookup_elem(&causes, &wire);
	if (!told)
		return;
	r->cause_found = 1;
	r->cause = told->wire;
	r->cause_trace_bytes = told->trace_bytes;
	__builtin_memcpy(r->cause_trace, told->trace, DT_TRACE_BYTES);
}
