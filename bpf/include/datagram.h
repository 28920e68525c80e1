/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * UDP: flows in bytes, and DNS look-ups as exchanges.
 *
 * A socket's role is its first operation's: who sends first calls. One that was open before the
 * agent is a server when its program chose the port and no peer. A datagram's sender is not known
 * at the door unless the socket is connected: the kernel writes it back later. So what a server
 * receives belongs to a peer without address, and a look-up to the peer that its answer goes to.
 */
#pragma once

#include "locate.h"
#include "match.h"
#include "socket.h"
#include "../l7/dns.h"

/* Resolvers give up after 5 s; a late answer finds its question gone. */
#define DT_LOOKUP_NS 10000000000ULL

enum dt_datagram_bound {
	/* a socket whose first datagrams are no DNS is not asked again */
	DT_NO_DNS = 4,
};

static __always_inline struct dt_conn *dt_udp_conn(struct sock *sk, __u8 role)
{
	struct dt_conn *c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!c || c->transport)
		return c;
	dt_init_conn(c, sk, role, 0);
	dt_address(sk, 0, c->ends.local_address);
	c->ends.local_port = sk->__sk_common.skc_num;
	dt_publish(c, DT_TRANSPORT_UDP);
	return c;
}

/* A socket that was open before the agent. */
static __always_inline void dt_visit_udp(struct sock *sk)
{
	int is_connected = sk->__sk_common.skc_dport != 0;
	int is_bound = BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & DT_SOCK_BINDPORT_LOCK;

	if (is_connected != !!is_bound) /* else its next operation says */
		dt_udp_conn(sk, is_bound ? DT_ROLE_SERVER : DT_ROLE_CLIENT);
}

/* Where a datagram went: the address that the call was given. */
static __noinline int dt_destination(const struct dt_scratch *s, struct task_struct *t,
				     struct dt_ends *to)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(t);
	__u32 *words = (__u32 *)to->peer_address;
	struct {
		__u16 family;
		__u16 port;
		__u32 v4;
	} start;
	__u64 name = 0;

	if (s->opaque)
		return -1;
	if (dt_syscall(regs) == DT_SENDTO)
		name = dt_arg5(regs);
	else if (s->message)
		dt_read_user(&name, sizeof(name), s->message);
	if (!name || dt_read_user(&start, sizeof(start), name))
		return -1;
	to->peer_port = bpf_ntohs(start.port);
	if (start.family == DT_AF_INET6)
		return dt_read_user(words, 16, name + sizeof(start));
	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = start.v4;
	return start.family == DT_AF_INET ? 0 : -1;
}

static __noinline __u64 dt_udp_edge(struct dt_conn *c, __u8 role, const struct dt_ends *ends)
{
	struct dt_edge_key key = {
		.owner_id = c->owner_id,
		.role = role,
		.transport = DT_TRANSPORT_UDP,
		.port = role == DT_ROLE_SERVER ? ends->local_port : ends->peer_port,
	};
	struct dt_edge fresh = {};

	__builtin_memcpy(key.address, ends->peer_address, 16);
	__builtin_memcpy(fresh.local_address, ends->local_address, 16);
	return dt_edge_of(&key, &fresh);
}

static __always_inline void dt_lookup_ends(const struct dt_lookup *l, struct dt_exchange *x,
					   __u64 now)
{
	x->key = l->key;
	x->request.start_ns = l->start_ns;
	x->request.bytes = l->bytes;
	x->request.offset = l->number;
	x->response.first_ns = x->response.last_ns = now;
}

/* Nobody answered: an exchange without an end. l: a copy, for a deleted entry is soon another's. */
static __noinline int dt_lookup_failed(const struct dt_lookup_key *key, const struct dt_lookup *l,
				       struct dt_scratch *s)
{
	struct dt_edge_key nobody = {
		.owner_id = l->owner_id,
		.role = l->role,
		.transport = DT_TRANSPORT_UDP,
		.port = l->port,
	};
	struct dt_edge fresh = {};
	struct dt_exchange *x = &s->exchange;
	struct dt_series *v;

	if (bpf_map_delete_elem(&lookups, key))
		return 0; /* answered meanwhile */
	*x = (struct dt_exchange){};
	dt_lookup_ends(l, x, bpf_ktime_get_ns());
	if (!x->key.edge)
		x->key.edge = dt_edge_of(&nobody, &fresh);
	x->key.end = DT_END_CLOSED;
	v = dt_series_of(&x->key, l->owner_id, l->role);
	if (v)
		dt_add(v, x);
	dt_note(DT_COUNTED, 1, x->request.bytes);
	return 0;
}

static __noinline int dt_dns_question(struct dt_conn *c, struct dt_scratch *s,
				      struct dt_lookup_key *key, __u32 edge, __u64 role_bytes)
{
	__u8 role = role_bytes >> 32;
	__u32 bytes = role_bytes;
	struct dt_lookup l = {
		.start_ns = s->now,
		.bytes = bytes,
		.number = __sync_fetch_and_add(&c->completed, 1),
		.key = { .edge = edge, .protocol = DT_PROTOCOL_DNS },
		.owner_id = c->owner_id,
		.port = c->ends.local_port,
		.role = role,
	};
	struct dt_lookup *before = bpf_map_lookup_elem(&lookups, key), old;

	if (before) { /* asked again: the same look-up, from its first question on */
		old = *before;
		if (!bpf_map_delete_elem(&lookups, key)) {
			dt_note(DT_SEEN, 0, bytes);
			old.bytes += bytes;
			if (bpf_map_update_elem(&lookups, key, &old, BPF_NOEXIST))
				dt_note(DT_LOST_PIPELINE, 1, old.bytes);
			return 0;
		}
	}
	dt_note(DT_SEEN, 1, bytes);
	l.key.signature = dt_operation_known(c, key->signature)
				  ? key->signature
				  : dt_operation(c, key->signature, s->buf, s->end);
	if (bpf_map_update_elem(&lookups, key, &l, BPF_NOEXIST))
		dt_note(DT_LOST_PIPELINE, 1, bytes);
	return role == DT_ROLE_CLIENT ? dt_find_cause(c, l.number, s->file) : 0;
}

/* The names of addresses: user space reads them in the answers that clients get. */
static __noinline int dt_tell_answer(struct dt_conn *c, struct dt_scratch *s, __u64 signature)
{
	__u64 key = signature ^ (__u64)c->owner_id << 40, now = s->now, *told, bytes = s->end;
	struct dt_answer_record *r;

	told = bpf_map_lookup_elem(&answers, &key);
	if (told && now - *told < 1000000000)
		return 0;
	r = bpf_ringbuf_reserve(&news, sizeof(*r), 0);
	if (!r) {
		dt_note(DT_ANSWERS_DROPPED, 1, 0);
		return 0;
	}
	bpf_map_update_elem(&answers, &key, &now, BPF_ANY);
	r->type = DT_RECORD_ANSWER;
	r->owner_id = c->owner_id;
	r->at_ns = now;
	r->netns = c->netns;
	if (bytes > DT_ANSWER_BYTES)
		bytes = DT_ANSWER_BYTES;
	dt_opaque_value(bytes);
	if (bytes > DT_ANSWER_BYTES)
		bytes = 0;
	r->message_bytes = bytes;
	bpf_probe_read_kernel(r->message, bytes, s->buf);
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
	return 0;
}

static __noinline int dt_dns_answer(struct dt_conn *c, struct dt_scratch *s,
				    const struct dt_dns_message *m, struct dt_lookup_key *key,
				    __u64 edge_bytes)
{
	struct dt_lookup *l = bpf_map_lookup_elem(&lookups, key);
	struct dt_exchange *x = &s->exchange;
	__u32 edge = edge_bytes >> 32, bytes = edge_bytes;
	struct dt_series *v;
	__u32 owner_id;
	__u8 role;

	*x = (struct dt_exchange){};
	dt_note(DT_SEEN, 0, bytes);
	if (!l) {
		dt_note(DT_LOST_UNANSWERED, 0, bytes);
		return 0;
	}
	dt_lookup_ends(l, x, s->now);
	role = l->role;
	owner_id = l->owner_id;
	if (bpf_map_delete_elem(&lookups, key)) {
		dt_note(DT_LOST_UNANSWERED, 0, bytes);
		return 0; /* another thread had it, or it was given up */
	}
	x->response.bytes = bytes;
	x->key.outcome = m->code;
	if (role == DT_ROLE_SERVER)
		x->key.edge = edge; /* only now is the client known */
	v = dt_series_of(&x->key, owner_id, role);
	if (v)
		dt_add(v, x);
	dt_note(DT_COUNTED, 1, x->request.bytes + bytes);
	if (role != DT_ROLE_CLIENT)
		return 0; /* the ends of a socket with many peers are not one request's */
	dt_offer_span(c, 0, x);
	if (m->answers && !m->code)
		dt_tell_answer(c, s, key->signature);
	return 0;
}

static __always_inline void dt_dns(struct dt_conn *c, struct dt_scratch *s,
				   const struct dt_dns_message *m, __u32 edge, __u8 role,
				   __u32 bytes)
{
	struct dt_lookup_key key = {
		.conn = (__u64)c,
		.signature = m->signature,
		.id = m->id,
	};

	if (m->is_answer)
		dt_dns_answer(c, s, m, &key, (__u64)edge << 32 | bytes);
	else
		dt_dns_question(c, s, &key, edge, (__u64)role << 32 | bytes);
}

/* Is it DNS? Looks until it knows. */
static __always_inline int dt_is_dns(struct dt_conn *c, struct dt_scratch *s,
				     struct dt_dns_message *m)
{
	if (c->protocol == DT_PROTOCOL_UNKNOWN || s->opaque)
		return 0;
	if (dt_fill_first(s) && dt_dns_read(m, s)) {
		c->protocol = DT_PROTOCOL_DNS;
		return 1;
	}
	if (c->protocol == DT_PROTOCOL_UNDECIDED && ++c->desyncs >= DT_NO_DNS)
		c->protocol = DT_PROTOCOL_UNKNOWN;
	return 0;
}

static __noinline int dt_find_owner_apart(struct dt_conn *c, struct task_struct *t)
{
	dt_find_owner(c, t);
	return 0;
}

static __noinline int dt_datagram(struct sock *sk, struct dt_conn *c, struct task_struct *t,
				  __u32 bytes, __u32 context)
{
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &context);
	struct dt_dns_message m = {};
	struct dt_ends ends = {};
	struct dt_traffic *v;
	__u64 edge;
	int is_send = dt_is_send(context), is_dns;
	__u8 role = c->role;

	dt_note(DT_DATAGRAMS, 1, bytes);
	if (!s)
		return 0;
	s->now = bpf_ktime_get_ns();
	s->left = bytes;
	s->pos = s->end = 0;
	s->fault = 0;
	s->message = 0;
	dt_look_at_file(s, sk, t, 0);
	s->opaque = dt_locate(s, c, sk, t) != 0;
	if (c->owner_tgid != (__u32)t->tgid || c->owner_start_ns != t->group_leader->start_boottime)
		dt_find_owner_apart(c, t);
	ends = c->ends;
	if (sk->__sk_common.skc_dport) {
		dt_address(sk, 1, ends.peer_address);
		ends.peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	} else if (!is_send || dt_destination(s, t, &ends)) {
		__builtin_memset(ends.peer_address, 0, 16);
		ends.peer_port = 0;
	}
	is_dns = !dt_dns_is_other(ends.local_port) && !dt_dns_is_other(ends.peer_port) &&
		 dt_is_dns(c, s, &m);
	if (is_dns)
		role = m.is_answer == is_send ? DT_ROLE_SERVER : DT_ROLE_CLIENT;
	if (is_send && role == DT_ROLE_CLIENT)
		c->ends = ends; /* for its spans, and for who answers */
	if (role == DT_ROLE_CLIENT && !ends.peer_port)
		ends = c->ends; /* a client hears from whom it has asked last */
	if (role == DT_ROLE_CLIENT && !ends.peer_port)
		return 0;
	if (is_dns && role == DT_ROLE_SERVER && !is_send && !ends.peer_port) {
		dt_dns(c, s, &m, 0, role, bytes); /* its answer will tell whose it is */
		return 0;
	}
	edge = dt_udp_edge(c, role, &ends);
	if (!edge)
		return 0;
	v = dt_traffic_of(edge);
	if (v)
		__sync_fetch_and_add(is_send ? &v->sent_bytes : &v->received_bytes, bytes);
	c->edge = edge;
	c->edge_overflow = (edge & DT_IS_OVERFLOW) != 0;
	if (is_dns)
		dt_dns(c, s, &m, edge, role, bytes);
	return 0;
}
