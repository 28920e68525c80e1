/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What the doors do: find the connection, find the bytes, hand the chunk to the engine.
 *
 * The socket tracepoints fire after the operation, with the socket and the result in hand; the TCP
 * ones when a connection begins and ends.
 */
#pragma once

#include "datagram.h"
#include "engine.h"
#include "locate.h"
#include "record.h"
#include "socket.h"

/* Counted twice, by a visit that came between TCP and the door, or because another thread's chunk
 * was taken for blind before it came to its door. */
static __always_inline void dt_take_back(struct dt_conn *c, int is_send, __u32 bytes)
{
	__u64 *blind = is_send ? &c->sent_blind : &c->received_blind;
	__u64 *before = is_send ? &c->sent_before : &c->received_before;
	__u64 n = bytes < *blind ? bytes : *blind;

	*blind -= n;
	*before -= bytes - n;
}

/* Bytes that TCP has counted since the last chunk and no door has seen: splice from a socket,
 * zero-copy receive. */
static __always_inline __u32 dt_blind(struct dt_conn *c, struct sock *sk, int is_send)
{
	struct tcp_sock *tp;
	__u32 gap;

	if ((c->flags & (DT_CONN_FIRST_SEQS | DT_CONN_ULP)) != DT_CONN_FIRST_SEQS)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	gap = (is_send ? tp->write_seq - c->tx_first_seq : tp->copied_seq - c->rx_first_seq) -
	      (__u32)dt_offset(c, is_send);
	if (!gap)
		return 0;
	if (gap >= 1U << 31) {
		dt_take_back(c, is_send, -gap);
		return 0;
	}
	if (gap == 1 && sk->sk_shutdown)
		return 0; /* the FIN */
	if (tp->inet_conn.icsk_ulp_ops) {
		c->flags |= DT_CONN_ULP;
		return 0;
	}
	if (is_send)
		c->sent_blind += gap;
	else
		c->received_blind += gap;
	dt_note(DT_BLIND, 0, gap);
	return gap;
}

/* Decides what an undecided connection speaks, from the chunk in hand. 0: the chunk is settled. */
__noinline int dt_decide(struct dt_conn *c, struct dt_scratch *s, int is_request)
{
	__u8 guess = DT_PROTOCOL_UNKNOWN;

	if (!c || !s)
		return 0;
	if (dt_fill_first(s))
		guess = dt_guess(s, is_request, !(c->flags & DT_CONN_MIDSTREAM));
	if (c->flags & DT_CONN_MIDSTREAM) {
		if (!is_request) {
			c->desyncs |= DT_ANSWERED;
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
		if (guess == DT_PROTOCOL_UNKNOWN && !(c->desyncs & DT_ANSWERED)) {
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
	}
	dt_forget_values();
	if (c->protocol != DT_PROTOCOL_UNDECIDED)
		return 1; /* the other direction was faster */
	if (guess == DT_PROTOCOL_UNKNOWN)
		c->flags &= ~DT_CONN_MIDSTREAM;
	else
		c->flags |= DT_CONN_TENTATIVE;
	if (guess == DT_PROTOCOL_REDIS && is_request && !dt_redis_is_request(dt_byte(s, s->pos)))
		c->desyncs |= DT_INLINE;
	c->protocol = guess;
	return 1;
}

static __noinline int dt_chunk(struct sock *sk, struct dt_conn *c, __u32 bytes, int flags,
			       __u32 context)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &context);
	const struct dt_recording_rules *rules = dt_recording();
	int is_send = dt_is_send(context), is_request;
	struct dt_flight *f;
	__u32 gap = 0;

	if (!s)
		return 0;
	if (c->role == DT_ROLE_UNKNOWN)
		c->role = is_send ? DT_ROLE_CLIENT : DT_ROLE_SERVER;
	dt_own(c, sk, t);
	dt_note(DT_SEEN, 0, bytes);
	is_request = (c->role == DT_ROLE_CLIENT) == is_send;
	if (is_send)
		c->sent_bytes += bytes;
	else
		c->received_bytes += bytes;
	if (c->transport == DT_TRANSPORT_TCP)
		gap = dt_blind(c, sk, is_send);
	s->now = bpf_ktime_get_ns();
	if (is_request)
		dt_look_at_file(s, sk, t, flags);
	if (c->protocol == DT_PROTOCOL_UNKNOWN &&
	    !(rules && rules->protocols & (1 << DT_PROTOCOL_UNKNOWN)))
		return dt_turn(c, s, bytes, is_request);
	s->left = bytes;
	s->pos = s->end = 0;
	s->fault = 0;
	s->opaque = 0;
	s->offset = dt_offset(c, is_send) - bytes;
	if ((flags & DT_MSG_TRUNC && !is_send) || dt_locate(s, c, sk, t)) {
		s->opaque = 1;
		dt_note(DT_OPAQUE, 0, bytes);
	}
	if (rules)
		dt_remember_place(s, context);
	if (c->protocol == DT_PROTOCOL_UNDECIDED) {
		gap = 0; /* it begins here */
		if (!dt_decide(c, s, is_request))
			return 0;
	}
	if (rules)
		dt_record(c, context, is_request);
	f = dt_flight_of(c, sk, c->flags & DT_CONN_TENTATIVE);
	if (c->protocol == DT_PROTOCOL_UNKNOWN || !f) {
		c->protocol = DT_PROTOCOL_UNKNOWN;
		return dt_turn(c, s, bytes, is_request);
	}
	if (gap) {
		dt_walk_blind(c, f, s, is_request, gap);
		if (c->protocol == DT_PROTOCOL_UNKNOWN)
			return dt_turn(c, s, s->left, is_request);
		if (c->protocol == DT_PROTOCOL_UNDECIDED) {
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
	}
	return dt_walk_chunk(c, f, s, is_request);
}

/* Nobody has spoken on this connection yet: it is whose descriptor it is. */
static __always_inline void dt_own_idle(struct dt_conn *c, struct sock *sk, struct task_struct *t)
{
	if (c->edge || c->role == DT_ROLE_UNKNOWN || t->flags & DT_PF_KTHREAD ||
	    (__u32)t->tgid == dt_own_tgid)
		return;
	dt_find_edge(c, sk, t);
}

/* A connection that ends: a response without a length is whole; who reads that of one that never
 * spoke owns it. */
static __always_inline int dt_end_of_stream(struct sock *sk, __u32 context)
{
	struct dt_scratch *s;
	struct dt_flight *f;
	struct dt_conn *c;

	if (!dt_is_tcp(sk) || !(sk->sk_shutdown & DT_RCV_SHUTDOWN))
		return 0;
	c = dt_known_conn(sk);
	if (!c || c->flags & DT_CONN_IGNORED)
		return 0;
	dt_own_idle(c, sk, bpf_get_current_task_btf());
	if (c->role != DT_ROLE_CLIENT || c->response.phase != DT_PHASE_UNTIL_CLOSE)
		return 0;
	f = dt_flight_of(c, sk, 0);
	s = bpf_map_lookup_elem(&scratch, &context);
	if (!f || !s)
		return 0;
	s->left = 0;
	return dt_walk_end(c, f, s);
}

/* A connection whose handshake was not seen. The bytes of the chunk in hand come on top. */
static __noinline int dt_meet(struct dt_conn *c, struct sock *sk, __u32 bytes, int is_send)
{
	if (!(c->flags & DT_CONN_MIDSTREAM) || dt_visits)
		dt_note(DT_UNSEEN_HANDSHAKES, 1, 0);
	dt_established(c, sk);
	if (c->edge)
		dt_connected(c);
	if ((c->flags & (DT_CONN_FIRST_SEQS | DT_CONN_MIDSTREAM)) !=
	    (DT_CONN_FIRST_SEQS | DT_CONN_MIDSTREAM))
		return 0;
	if (is_send)
		c->sent_before -= bytes;
	else
		c->received_before -= bytes;
	return 0;
}

/* A connection that turns out to be the agent's: what TCP says of it is compared with nothing. */
static __always_inline void dt_disown(struct sock *sk)
{
	struct dt_conn *c = dt_known_conn(sk);
	__u64 cookie;

	if (!c || c->flags & DT_CONN_IGNORED)
		return;
	c->flags |= DT_CONN_IGNORED;
	cookie = c->cookie;
	bpf_map_delete_elem(&live, &cookie);
}

static __always_inline int dt_io(struct sock *sk, int ret, int flags, __u32 context)
{
	int is_send = dt_is_send(context);
	struct task_struct *t;
	struct dt_conn *c;

	if (ret <= 0)
		return ret || is_send ? 0 : dt_end_of_stream(sk, context);
	if (flags & (DT_MSG_PEEK | DT_MSG_ERRQUEUE | DT_MSG_OOB))
		return 0;
	t = bpf_get_current_task_btf();
	if (t->flags & DT_PF_KTHREAD || (__u32)t->tgid == dt_own_tgid) {
		if (dt_is_tcp(sk))
			dt_disown(sk);
		goto not_observed;
	}
	if (dt_is_tcp(sk)) {
		c = dt_known_conn(sk);
		if (!c)
			c = dt_tcp_conn(sk, dt_role_by_listener(sk), DT_CONN_MIDSTREAM);
		if (c && !(c->flags & (DT_CONN_ESTABLISHED | DT_CONN_IGNORED)))
			dt_meet(c, sk, ret, is_send);
	} else if (dt_observe_unix && dt_is_unix(sk)) {
		c = dt_unix_conn(sk);
	} else if (dt_observe_udp && dt_is_udp(sk)) {
		c = dt_udp_conn(sk, is_send ? DT_ROLE_CLIENT : DT_ROLE_SERVER);
		if (!c)
			goto not_observed;
		if (c->transport && !(c->flags & DT_CONN_IGNORED))
			return dt_datagram(sk, c, t, ret, context);
		goto not_observed;
	} else {
		goto not_observed;
	}
	if (!c || !c->transport) { /* no memory, or the other direction is about to fill it in */
		dt_note(DT_SEEN, 0, ret);
		dt_note(DT_LOST_STATE, 0, ret);
		return 0;
	}
	if (c->flags & DT_CONN_IGNORED)
		goto not_observed;
	return dt_chunk(sk, c, ret, flags, context);
not_observed:
	dt_note(DT_NOT_OBSERVED, 0, ret);
	return 0;
}

/* A connect that failed is an exchange of its own: its outcome is the error. */
static __noinline int dt_connect_failed(struct dt_conn *c, struct sock *sk)
{
	struct dt_exchange x = {
		.key = {
			.edge = c->edge,
			.protocol = DT_PROTOCOL_CONNECT,
			.outcome = sk->sk_err ?: DT_ECANCELED,
		},
		.request.start_ns = c->opened_ns,
		.request.offset = c->opened_ns, /* tells its tries apart */
	};

	c->is_connecting = 0;
	x.response.first_ns = x.response.last_ns = bpf_ktime_get_ns();
	dt_note(DT_SEEN, 1, 0);
	dt_count(c, &x);
	dt_offer_span(c, 0, &x);
	return 0;
}

/* What a task does to a socket: it connects or listens. A program apart from dt_state, whose
 * interrupts would not be seen meanwhile. */
static __always_inline int dt_connect(struct sock *sk, int new)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dt_conn *c;

	if (!dt_is_tcp(sk))
		return 0;
	if (new == DT_TCP_LISTEN) {
		dt_listen(sk);
		if ((__u32)t->tgid == dt_own_tgid) {
			dt_own_netns = sk->__sk_common.skc_net.net->ns.inum;
			dt_own_port = sk->__sk_common.skc_num;
		}
	}
	if (new != DT_TCP_SYN_SENT || t->flags &DT_PF_KTHREAD || (__u32)t->tgid == dt_own_tgid)
		return 0;
	c = dt_tcp_conn(sk, DT_ROLE_CLIENT, 0);
	if (!c || c->flags & DT_CONN_IGNORED)
		return 0;
	if (dt_leads_to_agent(sk)) {
		c->flags |= DT_CONN_IGNORED;
		return 0;
	}
	c->opened_ns = bpf_ktime_get_ns(); /* a socket may try again */
	c->is_connecting = 1;
	c->flags &= ~(DT_CONN_ESTABLISHED | DT_CONN_FIRST_SEQS); /* and may have been another's */
	dt_identify(c);
	dt_find_edge(c, sk, t);
	return dt_find_cause(c, c->opened_ns, (__u64)sk->sk_socket->file);
}

/* What comes of it, as a rule in an interrupt. */
static __always_inline int dt_state(struct sock *sk, int old, int new)
{
	struct dt_conn *c;

	if ((new != DT_TCP_ESTABLISHED &&new != DT_TCP_CLOSE) || !dt_is_tcp(sk))
		return 0;
	c = old == DT_TCP_SYN_RECV && new == DT_TCP_ESTABLISHED ? dt_tcp_conn(sk, DT_ROLE_SERVER, 0)
								: dt_known_conn(sk);
	if (!c || c->flags & DT_CONN_IGNORED)
		return 0;
	if (new == DT_TCP_ESTABLISHED) {
		dt_established(c, sk);
		if (c->edge) { /* a client's; a server's is found by who does the I/O */
			dt_add_connect(c);
			dt_connected(c);
		}
	} else if (old == DT_TCP_SYN_SENT) {
		dt_connect_failed(c, sk);
	}
	return 0;
}

/* TCP's own counts against what the doors saw. */
static __always_inline void dt_compare_with_tcp(struct dt_conn *c, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct dt_blind_record *r;
	__u64 acked, sent;
	__u32 received;

	if (!tp || (c->flags & (DT_CONN_FIRST_SEQS | DT_CONN_ULP)) != DT_CONN_FIRST_SEQS)
		return;
	if (tp->inet_conn.icsk_ulp_ops)
		return;
	/* bytes_acked counts a SYN and a FIN, copied_seq a FIN: one more is none more */
	acked = tp->bytes_acked - (c->role == DT_ROLE_CLIENT);
	sent = dt_offset(c, 1);
	if ((__s64)(acked - sent) > 1) {
		dt_note(DT_BLIND, 0, acked - sent);
		c->sent_blind += acked - sent;
	}
	received = tp->copied_seq - c->rx_first_seq - (__u32)dt_offset(c, 0);
	if (received > 1 && received < 1U << 31) {
		dt_note(DT_BLIND, 0, received);
		c->received_blind += received;
	}
	if (!c->sent_blind && !c->received_blind)
		return;
	r = bpf_ringbuf_reserve(&news, sizeof(*r), 0);
	if (!r)
		return;
	r->type = DT_RECORD_BLIND;
	r->owner_id = c->owner_id;
	r->sent_bytes = c->sent_blind;
	r->received_bytes = c->received_blind;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* A function of its own, so that its stack is not under those of what follows. */
static __noinline int dt_unlist(struct dt_conn *c, struct sock *sk)
{
	__u64 cookie = c->cookie;
	struct dt_live *place = bpf_map_lookup_elem(&live, &cookie);

	dt_closed(c, place ? &place->sampled : &c->sampled, bpf_skc_to_tcp_sock(sk));
	return bpf_map_delete_elem(&live, &cookie);
}

static __always_inline int dt_destroy(struct sock *sk)
{
	__u32 context = DT_CONTEXT_CLOSE;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &context);
	struct dt_conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);

	if (!c || !s || c->flags & DT_CONN_IGNORED)
		return 0;
	if (c->is_connecting) /* its failure was not seen */
		dt_connect_failed(c, sk);
	dt_compare_with_tcp(c, sk);
	dt_unlist(c, sk);
	s->left = 0;
	s->now = bpf_ktime_get_ns();
	dt_finish(c, bpf_sk_storage_get(&flights, sk, 0, 0), s);
	return dt_record_end(c, context);
}
