/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What runs when user space asks: sockets that are older than the agent or have not spoken yet,
 * what is open on live connections and what they carried, the end of Unix sockets, and DNS look-ups
 * that nobody answered.
 */
#pragma once

#include "door.h"

/* Before the doors: who listens where. Also learns the agent's own process. */
SEC("iter/task_file")
int dt_iter_listeners(struct bpf_iter__task_file *ctx)
{
	struct dt_listener_key key = {};
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;
	__u32 one = 1;

	dt_own_tgid = bpf_get_current_pid_tgid() >> 32;
	dt_find_own_pid_namespace();
	if (!dt_cookie_salt)
		dt_cookie_salt = bpf_get_prandom_u32();
	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !dt_is_tcp(sk) || sk->__sk_common.skc_state != DT_TCP_LISTEN)
		return 0;
	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = sk->__sk_common.skc_num;
	bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
	return 0;
}

/* After the doors: connections that were there before. From then on every now and again, for those
 * that are idle since they began. */
SEC("iter/task_file")
int dt_iter_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct dt_conn *c;
	struct sock *sk;

	if (!task) { /* past the last one */
		dt_visits++;
		if (dt_unix_lost)
			dt_unix_lost--;
		return 0;
	}
	if (!file || (__u32)task->tgid == dt_own_tgid || task->flags & DT_PF_KTHREAD)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	if (dt_is_tcp(sk) && sk->__sk_common.skc_state == DT_TCP_ESTABLISHED) {
		c = dt_tcp_conn(sk, dt_role_by_listener(sk), DT_CONN_MIDSTREAM);
		if (!c)
			return 0;
		if (!(c->flags & DT_CONN_ESTABLISHED))
			dt_established(c, sk);
		if (!(c->flags & DT_CONN_IGNORED))
			dt_own_idle(c, sk, task);
	} else if (dt_observe_unix && dt_is_unix(sk) &&
		   sk->__sk_common.skc_state == DT_TCP_ESTABLISHED) {
		c = dt_unix_conn(sk);
		if (c && !(c->flags & DT_CONN_IGNORED))
			dt_own_idle(c, sk, task);
	} else if (dt_observe_udp && dt_is_udp(sk) && !dt_visits) {
		dt_visit_udp(sk);
	}
	return 0;
}

/*
 * What user space asks for by running a program, which walks the hashes that list what lives.
 *
 * The storage of a TCP connection can not be reached without its socket, so its state is copied
 * from where it was. By then both may be gone, and their memory another's: the copy is taken only
 * if it has the connection's cookie inside, and the socket is alive behind it. Cookies are never
 * given twice, so a socket that lives after the copy has lived all along, and its storage with it.
 */
static __always_inline int dt_is_alive(const struct dt_conn *c)
{
	struct sock *sk = (struct sock *)c->sk;

	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == (long)c->cookie &&
	       BPF_CORE_READ(sk, __sk_common.skc_refcnt.refs.counter) > 0;
}

static __always_inline const struct dt_conn *dt_live_conn(__u64 cookie, const struct dt_live *place)
{
	__u32 zero = 0;
	struct dt_conn *c = bpf_map_lookup_elem(&seen_conn, &zero);

	if (!c || bpf_probe_read_kernel(c, sizeof(*c), (const void *)place->conn))
		return 0;
	return c->cookie == cookie && dt_is_alive(c) ? c : 0;
}

static __always_inline void dt_add_open(struct dt_ledger *open, const struct dt_conn *c)
{
	if (!c->transport || c->flags & DT_CONN_IGNORED)
		return;
	open->exchanges += dt_open_exchanges(c);
	open->bytes += dt_open_bytes(c);
}

static long dt_open_listed(struct bpf_map *map, __u64 *cookie, struct dt_live *place,
			   struct dt_ledger *open)
{
	const struct dt_conn *c = dt_live_conn(*cookie, place);

	if (c)
		dt_add_open(open, c);
	return 0;
}

static long dt_open_hashed(struct bpf_map *map, __u64 *cookie, struct dt_conn *c,
			   struct dt_ledger *open)
{
	dt_add_open(open, c);
	return 0;
}

static long dt_open_lookup(struct bpf_map *map, struct dt_lookup_key *key, struct dt_lookup *l,
			   struct dt_ledger *open)
{
	open->exchanges++;
	open->bytes += l->bytes;
	return 0;
}

/* What is open: on live connections, and of look-ups without an answer. */
SEC("syscall")
int dt_read_open(struct dt_ledger *answer)
{
	struct dt_ledger open = {};

	bpf_for_each_map_elem(&live, dt_open_listed, &open, 0);
	bpf_for_each_map_elem(&hashed_conns, dt_open_hashed, &open, 0);
	bpf_for_each_map_elem(&lookups, dt_open_lookup, &open, 0);
	answer->exchanges = open.exchanges;
	answer->bytes = open.bytes;
	return 0;
}

static long dt_sample_listed(struct bpf_map *map, __u64 *cookie, struct dt_live *unsure,
			     void *unused)
{
	__u64 key = *cookie;
	/* the entry in hand may be another's by now, with only its key written so far */
	struct dt_live *place = bpf_map_lookup_elem(&live, &key);
	const struct dt_conn *c;
	__u32 opened_edge, retransmits, srtt_us;
	struct tcp_sock *tp;

	if (!place)
		return 0;
	opened_edge = place->opened_edge;
	c = dt_live_conn(key, place);
	if (!c) {
		/* listed until dt_destroy takes it off: that program was not run */
		if (!bpf_map_delete_elem(&live, &key)) {
			dt_note(DT_UNSEEN_ENDS, 1, 0);
			dt_count_closed(opened_edge);
		}
		return 0;
	}
	tp = (struct tcp_sock *)c->sk;
	retransmits = BPF_CORE_READ(tp, total_retrans);
	srtt_us = BPF_CORE_READ(tp, srtt_us);
	if (c->edge && dt_is_alive(c))
		dt_sample(c, &place->sampled, retransmits, srtt_us);
	return 0;
}

static long dt_sample_hashed(struct bpf_map *map, __u64 *cookie, struct dt_conn *c, void *unused)
{
	if (c->edge && !(c->flags & DT_CONN_IGNORED))
		dt_sample(c, &c->sampled, 0, 0);
	return 0;
}

/* What connections carried since the last time, and their RTT. */
SEC("syscall")
int dt_read_traffic(void *unused)
{
	bpf_for_each_map_elem(&live, dt_sample_listed, 0, 0);
	bpf_for_each_map_elem(&hashed_conns, dt_sample_hashed, 0, 0);
	return 0;
}

/* A program has it open: a released socket is without a struct socket before it goes. */
static __always_inline int dt_is_held(const struct dt_conn *c)
{
	struct sock *sk = (struct sock *)c->sk;

	return dt_is_alive(c) && BPF_CORE_READ(sk, sk_socket);
}

static long dt_sweep_conn(struct bpf_map *map, __u64 *cookie, struct dt_conn *c, void *unused)
{
	__u32 context = DT_CONTEXT_SWEEP;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &context);
	__u64 key = *cookie;

	if (!s || !c->transport || dt_is_held(c))
		return 0;
	s->left = 0;
	s->now = bpf_ktime_get_ns();
	dt_closed(c, &c->sampled, 0);
	dt_finish(c, bpf_map_lookup_elem(&hashed_flights, &key), s);
	dt_record_end(c, context);
	bpf_map_delete_elem(&hashed_flights, &key);
	bpf_map_delete_elem(&hashed_conns, &key);
	return 0;
}

static long dt_sweep_lookup(struct bpf_map *map, struct dt_lookup_key *key, struct dt_lookup *l,
			    void *unused)
{
	__u32 context = DT_CONTEXT_SWEEP;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &context);
	struct dt_lookup_key late = *key;
	struct dt_lookup copy = *l;

	if (s && bpf_ktime_get_ns() - copy.start_ns > DT_LOOKUP_NS)
		dt_lookup_failed(&late, &copy, s);
	return 0;
}

/* Ends what nothing else tells the end of: connections in hashes whose socket is gone, look-ups
 * that were not answered in time. */
SEC("syscall")
int dt_sweep(void *unused)
{
	bpf_for_each_map_elem(&hashed_conns, dt_sweep_conn, 0, 0);
	bpf_for_each_map_elem(&lookups, dt_sweep_lookup, 0, 0);
	return 0;
}
