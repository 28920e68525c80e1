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
	if (!dt_unix_salt)
		dt_unix_salt = bpf_get_prandom_u32();
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

/* How often dt_iter_sockets began. */
static __u32 dt_visits;

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
	__u8 flags;

	if (!ctx->meta->seq_num)
		dt_visits++;
	flags = dt_visits > 1 ? 0 : DT_CONN_MIDSTREAM;
	if (!file || !task || (__u32)task->tgid == dt_own_tgid || task->flags & DT_PF_KTHREAD)
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
		c = dt_unix_conn(sk, flags);
		if (c && !(c->flags & DT_CONN_IGNORED))
			dt_own_idle(c, sk, task);
	} else if (dt_observe_udp && dt_is_udp(sk) && flags) {
		dt_visit_udp(sk);
	}
	return 0;
}

/* What user space asks for by running a program: it visits the maps that list what lives. */

/* A TCP connection's state, copied: its storage cannot be reached without the socket. */
static __always_inline const struct dt_conn *dt_live_conn(const struct dt_live *place)
{
	__u32 zero = 0;
	struct dt_conn *c = bpf_map_lookup_elem(&seen_conn, &zero);

	if (!c || bpf_probe_read_kernel(c, sizeof(*c), (const void *)place->conn))
		return 0;
	return c->transport == DT_TRANSPORT_TCP && !(c->flags & DT_CONN_IGNORED) ? c : 0;
}

static __always_inline void dt_add_open(struct dt_ledger *open, const struct dt_conn *c)
{
	open->exchanges += dt_open_exchanges(c);
	open->bytes += dt_open_bytes(c);
}

static long dt_open_tcp(struct bpf_map *map, __u64 *cookie, struct dt_live *place,
			struct dt_ledger *open)
{
	const struct dt_conn *c = dt_live_conn(place);

	if (c)
		dt_add_open(open, c);
	return 0;
}

static long dt_open_unix(struct bpf_map *map, __u64 *cookie, struct dt_conn *c,
			 struct dt_ledger *open)
{
	if (!(c->flags & DT_CONN_IGNORED))
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

	bpf_for_each_map_elem(&live, dt_open_tcp, &open, 0);
	bpf_for_each_map_elem(&unix_conns, dt_open_unix, &open, 0);
	bpf_for_each_map_elem(&lookups, dt_open_lookup, &open, 0);
	answer->exchanges = open.exchanges;
	answer->bytes = open.bytes;
	return 0;
}

static long dt_sample_tcp(struct bpf_map *map, __u64 *cookie, struct dt_live *place, void *unused)
{
	struct sock *sk = (struct sock *)place->sk;
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	const struct dt_conn *c = dt_live_conn(place);
	__u32 retransmits, srtt_us;

	if (!c || !c->edge)
		return 0;
	retransmits = BPF_CORE_READ(tp, total_retrans);
	srtt_us = BPF_CORE_READ(tp, srtt_us);
	if (BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != (long)*cookie)
		return 0; /* another's by now */
	dt_sample(c, &place->sampled, retransmits, srtt_us);
	return 0;
}

static long dt_sample_unix(struct bpf_map *map, __u64 *cookie, struct dt_conn *c, void *unused)
{
	if (c->edge && !(c->flags & DT_CONN_IGNORED))
		dt_sample(c, &c->sampled, 0, 0);
	return 0;
}

/* What connections carried since the last time, and their RTT. */
SEC("syscall")
int dt_read_traffic(void *unused)
{
	bpf_for_each_map_elem(&live, dt_sample_tcp, 0, 0);
	bpf_for_each_map_elem(&unix_conns, dt_sample_unix, 0, 0);
	return 0;
}

/* A released socket has no struct socket; its memory may be another's by now, which has another
 * cookie: they are never given twice. */
static __always_inline int dt_is_alive(__u64 address, __u64 cookie)
{
	struct sock *sk = (struct sock *)address;

	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == (long)cookie &&
	       BPF_CORE_READ(sk, sk_socket);
}

static long dt_sweep_unix(struct bpf_map *map, __u64 *cookie, struct dt_conn *c, void *unused)
{
	__u32 direction = 0;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &direction);
	__u64 key = *cookie;

	if (!s || !c->transport || dt_is_alive(c->sk, key))
		return 0;
	s->left = 0;
	s->now = bpf_ktime_get_ns();
	dt_closed(c, &c->sampled, 0);
	dt_finish(c, bpf_map_lookup_elem(&unix_flights, &key), s);
	dt_record_end(c);
	bpf_map_delete_elem(&unix_flights, &key);
	bpf_map_delete_elem(&unix_conns, &key);
	return 0;
}

static long dt_sweep_lookup(struct bpf_map *map, struct dt_lookup_key *key, struct dt_lookup *l,
			    void *unused)
{
	struct dt_lookup_key late = *key;
	struct dt_lookup copy = *l;

	if (bpf_ktime_get_ns() - copy.start_ns > DT_LOOKUP_NS)
		dt_lookup_failed(&late, &copy);
	return 0;
}

/* Ends what nothing else tells the end of: Unix connections whose socket is gone, look-ups that
 * were not answered in time. */
SEC("syscall")
int dt_sweep(void *unused)
{
	bpf_for_each_map_elem(&unix_conns, dt_sweep_unix, 0, 0);
	bpf_for_each_map_elem(&lookups, dt_sweep_lookup, 0, 0);
	return 0;
}
