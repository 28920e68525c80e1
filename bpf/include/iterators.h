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

static __always_inline void dt_write_open(struct seq_file *seq, const struct dt_conn *c)
{
	struct dt_ledger open = {};

	if (c->flags & DT_CONN_IGNORED || c->transport == DT_TRANSPORT_UDP)
		return;
	open.exchanges = dt_open_exchanges(c);
	open.bytes = dt_open_bytes(c);
	if (open.exchanges || open.bytes)
		bpf_seq_write(seq, &open, sizeof(open));
}

/* Over conns: what is open, one struct dt_ledger for each connection that has something. */
SEC("iter/bpf_sk_storage_map")
int dt_iter_open(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct dt_conn *c = ctx->value;

	if (c)
		dt_write_open(ctx->meta->seq, c);
	return 0;
}

/* Over unix_conns: the same. */
SEC("iter/bpf_map_elem")
int dt_iter_open_unix(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct dt_conn *c = ctx->value;

	if (c)
		dt_write_open(ctx->meta->seq, c);
	return 0;
}

/* Over unix_marks: sockets that live. */
SEC("iter/bpf_sk_storage_map")
int dt_iter_unix_mark(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	__u64 *cookie = ctx->value, key;
	struct dt_conn *c;

	if (!ctx->meta->seq_num)
		dt_epoch++;
	if (!cookie)
		return 0;
	key = *cookie;
	c = bpf_map_lookup_elem(&unix_conns, &key);
	if (c)
		c->epoch = dt_epoch;
	return 0;
}

/* Over unix_conns: closes those whose socket is gone. A socket made since the mark has its
 * epoch. */
SEC("iter/bpf_map_elem")
int dt_iter_unix_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 direction = 0;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &direction);
	struct dt_conn *c;
	__u64 *cookie = ctx->key, key;

	if (!cookie || !s)
		return 0;
	key = *cookie;
	c = bpf_map_lookup_elem(&unix_conns, &key);
	if (!c || c->epoch == dt_epoch)
		return 0;
	s->left = 0;
	s->now = bpf_ktime_get_ns();
	dt_closed(c, 0);
	dt_finish(c, bpf_map_lookup_elem(&unix_flights, &key), s);
	dt_record_end(c);
	bpf_map_delete_elem(&unix_flights, &key);
	bpf_map_delete_elem(&unix_conns, &key);
	return 0;
}

/* Over conns: what connections carried since the last time, and their RTT. */
SEC("iter/bpf_sk_storage_map")
int dt_iter_traffic(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct dt_conn *c = ctx->value;
	struct sock *sk = ctx->sk;

	if (!c || !sk || !c->edge || c->transport != DT_TRANSPORT_TCP ||
	    c->flags & DT_CONN_IGNORED || sk->__sk_common.skc_state == DT_TCP_CLOSE)
		return 0;
	dt_sample(c, bpf_skc_to_tcp_sock(sk));
	return 0;
}

/* Over unix_conns: the same. */
SEC("iter/bpf_map_elem")
int dt_iter_traffic_unix(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dt_conn *c;
	__u64 *cookie = ctx->key, key;

	if (!cookie)
		return 0;
	key = *cookie;
	c = bpf_map_lookup_elem(&unix_conns, &key);
	if (c && c->edge && !(c->flags & DT_CONN_IGNORED))
		dt_sample(c, 0);
	return 0;
}

/* Over lookups: what is open. */
SEC("iter/bpf_map_elem")
int dt_iter_open_lookups(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct dt_lookup *l = ctx->value;
	struct dt_ledger open = { .exchanges = 1 };

	if (!l)
		return 0;
	open.bytes = l->bytes;
	bpf_seq_write(ctx->meta->seq, &open, sizeof(open));
	return 0;
}

/* Over lookups: those that were not answered in time are exchanges without an end. */
SEC("iter/bpf_map_elem")
int dt_iter_late_lookups(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dt_lookup_key key;
	struct dt_lookup l;

	if (!ctx->key || !ctx->value || bpf_probe_read_kernel(&key, sizeof(key), ctx->key) ||
	    bpf_probe_read_kernel(&l, sizeof(l), ctx->value))
		return 0;
	if (bpf_ktime_get_ns() - l.start_ns > DT_LOOKUP_NS)
		dt_lookup_failed(&key, &l);
	return 0;
}
