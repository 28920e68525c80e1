/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Where exchanges go: the ledger, owners, edges, operations, series.
 *
 * Additions are atomic even on per-CPU values: a close in an interrupt may come between the load
 * and the store of the send that it interrupts.
 */
#pragma once

#include "traffic.h"

/* Bytes of a connection that leave it for a line of the ledger. */
static __always_inline void dt_settle(struct dt_conn *c, __u32 line, __u64 exchanges, __u64 bytes)
{
	if (bytes)
		__sync_fetch_and_add(&c->settled_bytes, bytes);
	dt_note(line, exchanges, bytes);
}

/* Keys stand on the stack: older verifiers take none that lies in a function's argument. */
static __always_inline struct dt_owner_limit *dt_limit_of(__u32 owner_id)
{
	return bpf_map_lookup_elem(&owner_limits, &owner_id);
}

/* User space is woken by amount, not by record: a wake-up costs as much as twenty requests. */
static __always_inline __u64 dt_wake(void)
{
	return bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) > (256 << 10) ? BPF_RB_FORCE_WAKEUP
									    : BPF_RB_NO_WAKEUP;
}

/* The namespace that the current process lives in. */
static __always_inline void dt_find_own_pid_namespace(void)
{
	struct pid *pid = bpf_get_current_task_btf()->thread_pid;
	__u32 level = pid->level;
	struct upid here;

	if (bpf_probe_read_kernel(&here, sizeof(here), &pid->numbers[level]))
		return;
	dt_own_pid_level = level;
	dt_own_pid_namespace = (__u64)here.ns;
}

/* A process's number in the agent's pid namespace; 0 when it has none there. */
static __always_inline __u32 dt_local_pid(struct task_struct *process)
{
	struct pid *pid = process->group_leader->thread_pid;
	struct upid here;

	if (!pid || pid->level < dt_own_pid_level)
		return 0;
	if (bpf_probe_read_kernel(&here, sizeof(here), &pid->numbers[dt_own_pid_level]))
		return 0;
	return (__u64)here.ns == dt_own_pid_namespace ? here.nr : 0;
}

/* What the workers of one parent have in common, if this is one of them: it runs on in its parent's
 * program. A daemon has lost the parent that forked it. */
static __always_inline __u32 *dt_family_of(struct task_struct *process)
{
	struct task_struct *leader = process->group_leader, *parent = leader->real_parent;
	struct dt_family_key key = {
		.start_ns = parent->group_leader->start_boottime,
		.pid = parent->tgid,
	};
	__u32 none = 0;

	if (!(leader->flags & DT_PF_FORKNOEXEC) ||
	    BPF_CORE_READ(leader, mm, exe_file, f_inode) !=
		    BPF_CORE_READ(parent, mm, exe_file, f_inode))
		return 0;
	if (!bpf_map_lookup_elem(&families, &key))
		bpf_map_update_elem(&families, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&families, &key);
}

static __always_inline void dt_inherit(struct task_struct *t, __u32 owner_id)
{
	struct dt_owner_limit *limit = dt_limit_of(owner_id);
	__u32 *family = dt_family_of(t);

	if (limit && family)
		limit->trust = *family;
}

static __always_inline __u32 dt_command_line(struct task_struct *t, __u8 to[DT_COMMAND_BYTES])
{
	__u64 start = BPF_CORE_READ(t, mm, arg_start);
	__u64 bytes = BPF_CORE_READ(t, mm, arg_end) - start;

	if ((__u32)(bpf_get_current_pid_tgid() >> 32) != (__u32)t->tgid)
		return 0; /* the memory here is another's */
	if (bytes > DT_COMMAND_BYTES)
		bytes = DT_COMMAND_BYTES;
	dt_opaque_value(bytes);
	if (!start || !bytes || bytes > DT_COMMAND_BYTES)
		return 0;
	return bpf_probe_read_user(to, bytes, (void *)start) ? 0 : bytes;
}

/* A process may have ended before user space looks at it: this is what names it then. */
static __always_inline void dt_tell_command(struct task_struct *t, struct dt_owner_record *r)
{
	r->pad = 0;
	r->command_bytes = dt_command_line(t, r->command);
	r->executable[0] = r->directory[0] = 0;
	bpf_probe_read_kernel_str(r->executable, sizeof(r->executable),
				  BPF_CORE_READ(t, mm, exe_file, f_path.dentry, d_name.name));
	bpf_probe_read_kernel_str(r->directory, sizeof(r->directory),
				  BPF_CORE_READ(t, fs, pwd.dentry, d_name.name));
}

static __noinline __u32 dt_new_owner(const struct dt_owner_key *key, struct task_struct *t)
{
	struct dt_owner owner = {};
	struct dt_owner_record *r;
	struct dt_owner *old;

	if (bpf_map_pop_elem(&owner_ids, &owner.id))
		return 0; /* "other processes" */
	owner.cgroup_id = BPF_CORE_READ(t, cgroups, dfl_cgrp, kn, id);
	owner.local_pid = dt_local_pid(t);
	owner.parent_pid = dt_local_pid(t->real_parent);
	bpf_probe_read_kernel(owner.comm, sizeof(owner.comm), t->comm);
	if (bpf_map_update_elem(&owners, key, &owner, BPF_NOEXIST)) {
		bpf_map_push_elem(&owner_ids, &owner.id, 0);
		old = bpf_map_lookup_elem(&owners, key);
		return old ? old->id : 0;
	}
	dt_inherit(t, owner.id);
	r = bpf_ringbuf_reserve(&news, sizeof(*r), 0);
	if (!r) {
		dt_note(DT_SAMPLES_RING_FULL, 1, 0);
		return owner.id;
	}
	r->type = DT_RECORD_OWNER;
	r->id = owner.id;
	r->key = *key;
	r->owner = owner;
	dt_tell_command(t, r);
	/* at once: a short-lived process is soon gone from /proc */
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
	return owner.id;
}

/* The address of a socket's end, IPv4 as v4-mapped. */
static __always_inline void dt_address(struct sock *sk, int peer, __u8 address[16])
{
	__u32 *words = (__u32 *)address;

	if (sk->__sk_common.skc_family == DT_AF_INET) {
		words[0] = words[1] = 0;
		words[2] = bpf_htonl(0xffff);
		words[3] = peer ? sk->__sk_common.skc_daddr : sk->__sk_common.skc_rcv_saddr;
		return;
	}
	for (int i = 0; i < 4; i++)
		words[i] = peer ? sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[i]
				: sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i];
}

/* The path that a Unix server listens on: its own socket's or its peer's. */
static __always_inline void dt_unix_path(struct sock *sk, int is_server, char path[64])
{
	struct unix_sock *u = bpf_skc_to_unix_sock(sk);
	struct unix_address *address;
	__u64 bytes;

	if (!u)
		return;
	address = is_server ? u->addr : BPF_CORE_READ((struct unix_sock *)u->peer, addr);
	if (!address)
		return;
	/* without sun_family; an abstract name has no zero at its end, a path may have one */
	bytes = BPF_CORE_READ(address, len) - sizeof(unsigned short);
	if (bytes > 63)
		bytes = 63;
	dt_opaque_value(bytes);
	if (!bytes || bytes > 63)
		return;
	bpf_probe_read_kernel(path, bytes, &address->name[0].sun_path);
	if (!path[0])
		path[0] = '@';
}

static __u32 dt_last_edge;

static __always_inline __u32 dt_edge_id(void)
{
	return __sync_fetch_and_add(&dt_last_edge, 1) + 1;
}

static const struct dt_traffic dt_no_traffic;

/* Whether an owner that has so many of what all share may have one more. */
static __always_inline int dt_has_room(__u32 own, __u32 kind, __u32 bound)
{
	struct dt_share *all = bpf_map_lookup_elem(&shares, &kind);
	__u64 used = all ? all->made - all->gone : bound;

	return used < bound && own * 4ULL < bound - used;
}

static __always_inline void dt_count_share(__u32 *own, __u32 kind)
{
	struct dt_share *all = bpf_map_lookup_elem(&shares, &kind);

	__sync_fetch_and_add(own, 1);
	if (all)
		__sync_fetch_and_add(&all->made, 1);
}

#define DT_IS_OVERFLOW (1ULL << 32)

enum dt_overflow_bounds {
	DT_OVERFLOW_PORTS = 8, /* of one owner, with an overflow edge of their own */
};

static __always_inline int dt_new_edge(const struct dt_edge_key *key, struct dt_edge *fresh)
{
	fresh->id = dt_edge_id();
	fresh->first_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&edges, key, fresh, BPF_NOEXIST))
		return -1;
	bpf_map_update_elem(&traffic, &fresh->id, &dt_no_traffic, BPF_NOEXIST);
	return 0;
}

/* One edge for all peers that have none. A server's ports stay apart: it has few. */
static __always_inline struct dt_edge *
dt_overflow_edge_of(struct dt_edge_key *key, struct dt_edge *fresh, struct dt_owner_limit *limit)
{
	struct dt_edge *edge;

	__builtin_memset(key->address, 0, sizeof(key->address));
	if (key->role == DT_ROLE_CLIENT)
		key->port = 0;
	edge = bpf_map_lookup_elem(&edges, key);
	if (edge)
		return edge;
	if (limit->overflow_edges >= DT_OVERFLOW_PORTS) {
		key->port = 0;
		edge = bpf_map_lookup_elem(&edges, key);
		if (edge)
			return edge;
	}
	__builtin_memset(fresh->path, 0, sizeof(fresh->path));
	fresh->overflow = 1;
	if (!dt_new_edge(key, fresh))
		__sync_fetch_and_add(&limit->overflow_edges, 1);
	return bpf_map_lookup_elem(&edges, key);
}

/* The edge of a key, made when there is none; beyond the owner's share, its overflow edge. Its id,
 * 0 without memory, and DT_IS_OVERFLOW. Static: on 6.1 a key may not be an argument of another's.
 */
static __noinline __u64 dt_edge_of(struct dt_edge_key *key, struct dt_edge *fresh)
{
	struct dt_edge *edge = bpf_map_lookup_elem(&edges, key);
	struct dt_owner_limit *limit = dt_limit_of(key->owner_id);

	if (!limit)
		return 0;
	if (!edge && limit->edges < dt_edge_cap_per_owner &&
	    dt_has_room(limit->edges, DT_SHARED_EDGES, dt_max_edges)) {
		if (!dt_new_edge(key, fresh))
			dt_count_share(&limit->edges, DT_SHARED_EDGES);
		edge = bpf_map_lookup_elem(&edges, key);
	}
	if (!edge)
		edge = dt_overflow_edge_of(key, fresh, limit);
	if (!edge)
		return 0;
	return edge->overflow ? DT_IS_OVERFLOW | edge->id : edge->id;
}

/* t does the I/O of this connection, or holds it. */
static __always_inline void dt_find_owner(struct dt_conn *c, struct task_struct *t)
{
	struct dt_owner_key key = {
		.start_ns = t->group_leader->start_boottime,
		.pid = t->tgid,
		.netns = c->netns,
	};
	struct dt_owner *owner = bpf_map_lookup_elem(&owners, &key);

	c->owner_start_ns = key.start_ns;
	c->owner_tgid = key.pid;
	c->owner_id = owner ? owner->id : dt_new_owner(&key, t);
}

static __noinline int dt_find_edge(struct dt_conn *c, struct sock *sk, struct task_struct *t)
{
	struct dt_edge_key key = { .role = c->role, .transport = c->transport };
	int is_server = c->role == DT_ROLE_SERVER;
	struct dt_edge fresh = {};
	__u64 edge;

	dt_find_owner(c, t);
	key.owner_id = c->owner_id;
	if (c->transport == DT_TRANSPORT_TCP) {
		dt_address(sk, 1, key.address);
		dt_address(sk, 0, fresh.local_address);
		key.port = is_server ? sk->__sk_common.skc_num
				     : bpf_ntohs(sk->__sk_common.skc_dport);
	} else {
		__u64 *hash = (__u64 *)key.address, *words = (__u64 *)fresh.path;

		dt_unix_path(sk, is_server, fresh.path);
		for (int i = 0; i < 8; i++)
			hash[0] = (hash[0] ^ words[i]) * DT_HASH_PRIME;
	}
	edge = dt_edge_of(&key, &fresh);
	c->edge = edge;
	c->edge_overflow = !edge || edge & DT_IS_OVERFLOW;
	dt_connected(c);
	return 0;
}

/* Who does the I/O owns the connection, not who accepted it. */
static __always_inline void dt_own(struct dt_conn *c, struct sock *sk, struct task_struct *t)
{
	if (c->edge && c->owner_tgid == (__u32)t->tgid &&
	    c->owner_start_ns == t->group_leader->start_boottime)
		return;
	dt_find_edge(c, sk, t);
}

static __always_inline void dt_bucket(__u64 *buckets, __u64 bytes)
{
	/* the size boundaries behind 0 are 32 << i */
	__u32 i = 1;

	for (; i < DT_SIZE_BUCKETS - 1; i++)
		if (bytes <= (16ULL << i))
			break;
	__sync_fetch_and_add(&buckets[i], 1);
}

static const struct dt_series dt_no_series;

static __always_inline struct dt_series *dt_insert_series(const struct dt_series_key *key,
							  __u32 *own, int is_shared)
{
	if (!bpf_map_update_elem(&series, key, &dt_no_series, BPF_NOEXIST)) {
		if (is_shared)
			dt_count_share(own, DT_SHARED_SERIES);
		else
			__sync_fetch_and_add(own, 1);
	}
	return bpf_map_lookup_elem(&series, key);
}

/* A key that has no series yet. Beyond the owner's share its operations are counted together, and
 * its outcomes as well beyond two for each of its edges: always with the edge and the protocol. */
static __noinline struct dt_series *dt_new_series(struct dt_series_key *key, __u32 owner_id)
{
	struct dt_owner_limit *limit = dt_limit_of(owner_id);
	struct dt_series *v;

	if (!limit)
		return 0;
	if (dt_has_room(limit->series, DT_SHARED_SERIES, dt_max_series)) {
		v = dt_insert_series(key, &limit->series, 1);
		if (v)
			return v;
	}
	if (key->signature >= DT_SIGNATURE_HASHES)
		key->signature = DT_SIGNATURE_OVERFLOW;
	v = bpf_map_lookup_elem(&series, key);
	if (!v && limit->overflow_series >= 2 * (limit->edges + limit->overflow_edges)) {
		key->outcome = 0;
		v = bpf_map_lookup_elem(&series, key);
	}
	return v ?: dt_insert_series(key, &limit->overflow_series, 0);
}

/* The series of a key, made when there is none; where all goes when there is no memory. */
static __always_inline struct dt_series *dt_series_of(const struct dt_series_key *key,
						      __u32 owner_id, __u32 role)
{
	struct dt_series_key here = *key;
	struct dt_series *v = bpf_map_lookup_elem(&series, &here);
	__u32 i;

	if (v)
		return v;
	v = dt_new_series(&here, owner_id);
	if (!v || here.signature != key->signature || here.outcome != key->outcome)
		dt_note(DT_OVERFLOW_SERIES, 1, 0);
	if (v)
		return v;
	i = (here.protocol * 4 + role) & (DT_SERIES_OVERFLOWS - 1);
	return bpf_map_lookup_elem(&series_overflow, &i);
}

static __always_inline void dt_add(struct dt_series *v, const struct dt_exchange *x)
{
	const struct dt_request *q = &x->request;
	const struct dt_response *p = &x->response;
	__u64 duration, first;
	__u32 i;

	duration = p->last_ns > q->start_ns ? p->last_ns - q->start_ns : 0;
	first = p->first_ns > q->start_ns ? p->first_ns - q->start_ns : 0;
	i = dt_duration_bucket(duration);
	if (i < DT_DURATION_BUCKETS)
		__sync_fetch_and_add(&v->duration_buckets[i], 1);
	__sync_fetch_and_add(&v->duration_sum_ns, duration);
	__sync_fetch_and_add(&v->first_byte_sum_ns, first);
	__sync_fetch_and_add(&v->request_bytes, q->bytes);
	__sync_fetch_and_add(&v->response_bytes, p->bytes);
	if (q->body_bytes) {
		__sync_fetch_and_add(&v->request_body_bytes, q->body_bytes);
		dt_bucket(v->request_body_buckets, q->body_bytes);
	}
	if (p->body_bytes) {
		__sync_fetch_and_add(&v->response_body_bytes, p->body_bytes);
		dt_bucket(v->response_body_buckets, p->body_bytes);
	}
}

/* Adds an exchange to its series. Not static, so that the verifier looks at it once. */
__noinline int dt_count(struct dt_conn *c, const struct dt_exchange *x)
{
	struct dt_series *v;

	if (!c || !x)
		return 0;
	v = dt_series_of(&x->key, c->owner_id, c->role);
	if (!v)
		return 0;
	dt_add(v, x);
	dt_settle(c, DT_COUNTED, 1, x->request.bytes + x->response.bytes);
	if (c->edge_overflow)
		dt_note(DT_OVERFLOW_EDGES, 1, 0);
	if (x->key.signature >= DT_SIGNATURE_OVERFLOW && x->key.signature < DT_SIGNATURE_HASHES)
		dt_note(DT_OVERFLOW_OPERATIONS, 1, 0);
	return 0;
}

static __always_inline __u64 dt_operation_mark(const struct dt_conn *c, __u64 signature)
{
	return signature ^ ((__u64)c->owner_id << 40 | (__u64)c->protocol << 36);
}

static __always_inline __u64 *dt_operation_cached(const struct dt_conn *c, __u64 signature)
{
	__u32 slot = (signature ^ c->owner_id) & (DT_OPERATION_CACHE - 1);

	return bpf_map_lookup_elem(&operation_cache, &slot);
}

static __always_inline int dt_operation_known(const struct dt_conn *c, __u64 signature)
{
	__u64 *cached = dt_operation_cached(c, signature);

	return cached && *cached == dt_operation_mark(c, signature);
}

/* A request's operation: its signature, or the overflow's when the owner has too many. An
 * operation that is new sends up what it was read from, so that it gets a name. */
static __noinline __u64 dt_operation(struct dt_conn *c, __u64 signature, const __u8 *head,
				     __u32 head_bytes)
{
	struct dt_operation_key key = {
		.signature = signature,
		.owner_id = c->owner_id,
		.protocol = c->protocol,
	};
	struct dt_operation_record *r;
	struct dt_owner_limit *limit;
	__u32 one = 1;
	__u64 *cached = dt_operation_cached(c, signature);

	if (!cached)
		return signature;
	if (bpf_map_lookup_elem(&operations, &key)) {
		*cached = dt_operation_mark(c, signature);
		return signature;
	}
	limit = dt_limit_of(c->owner_id);
	if (!limit || limit->operations >= dt_operation_cap)
		return DT_SIGNATURE_OVERFLOW;
	r = bpf_ringbuf_reserve(&news, sizeof(*r), 0);
	if (!r) {
		/* not remembered: the next such request tries again */
		dt_note(DT_SAMPLES_RING_FULL, 1, 0);
		return signature;
	}
	if (bpf_map_update_elem(&operations, &key, &one, BPF_NOEXIST)) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		return bpf_map_lookup_elem(&operations, &key) ? signature : DT_SIGNATURE_OVERFLOW;
	}
	__sync_fetch_and_add(&limit->operations, 1);
	*cached = dt_operation_mark(c, signature);
	r->type = DT_RECORD_OPERATION;
	r->owner_id = c->owner_id;
	r->signature = signature;
	r->protocol = c->protocol;
	r->pad = 0;
	r->edge = c->edge;
	if (head_bytes > DT_HEAD_BYTES)
		head_bytes = DT_HEAD_BYTES;
	r->head_bytes = head_bytes;
	bpf_probe_read_kernel(r->head, head_bytes, head);
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
	return signature;
}
