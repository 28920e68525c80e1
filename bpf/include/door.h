/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What the doors do: find the connection, find the bytes, hand the chunk to the engine.
 *
 * The socket tracepoints fire after the operation, with the socket and the result in hand. The
 * system call's registers still hold its arguments, and the bytes are still in user memory.
 */
#pragma once

#include "engine.h"

static __always_inline void dt_init_conn(struct dt_conn *c, struct sock *sk, __u8 transport,
					 __u8 role, __u8 flags)
{
	c->transport = transport;
	c->role = role;
	c->flags = flags;
	c->protocol = DT_PROTOCOL_UNDECIDED;
	c->netns = sk->__sk_common.skc_net.net->ns.inum;
	c->opened_ns = bpf_ktime_get_ns();
}

/* What is known once a connection is established: its ends, and the first data sequence number of
 * each direction. An active opener's SYN is among its bytes_acked. */
static __always_inline void dt_established(struct dt_conn *c, struct sock *sk)
{
	struct tcp_sock *tp;

	dt_address(sk, 0, c->ends.local_address);
	dt_address(sk, 1, c->ends.peer_address);
	c->ends.local_port = sk->__sk_common.skc_num;
	c->ends.peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	tp = sk->sk_protocol == DT_IPPROTO_TCP ? bpf_skc_to_tcp_sock(sk) : 0;
	if (!tp)
		return;
	c->tx_first_seq = tp->snd_una - (__u32)tp->bytes_acked + (c->role == DT_ROLE_CLIENT);
	c->rx_first_seq = tp->rcv_nxt - (__u32)tp->bytes_received;
	c->flags |= DT_CONN_FIRST_SEQS;
	if (c->flags & DT_CONN_MIDSTREAM) {
		c->sent_before = tp->bytes_acked - (c->role == DT_ROLE_CLIENT) +
				 (__u32)(tp->write_seq - tp->snd_una) - c->sent_bytes;
		c->received_before = tp->bytes_received - (__u32)(tp->rcv_nxt - tp->copied_seq) -
				     c->received_bytes;
	}
}

/* Where a direction's stream has come to, the chunk in hand included. */
static __always_inline __u64 dt_offset(const struct dt_conn *c, int is_send)
{
	return is_send ? c->sent_bytes + c->sent_blind + c->sent_before
		       : c->received_bytes + c->received_blind + c->received_before;
}

/* The role on a connection that is older than the agent: its port was found listening or not. */
static __always_inline __u8 dt_role_by_listener(struct sock *sk)
{
	struct dt_listener_key key = {
		.netns = sk->__sk_common.skc_net.net->ns.inum,
		.port = sk->__sk_common.skc_num,
	};

	return bpf_map_lookup_elem(&listeners, &key) ? DT_ROLE_SERVER : DT_ROLE_CLIENT;
}

static __always_inline int dt_is_tcp(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return (family == DT_AF_INET || family == DT_AF_INET6) && sk->sk_type == DT_SOCK_STREAM &&
	       (sk->sk_protocol == DT_IPPROTO_TCP || sk->sk_protocol == DT_IPPROTO_MPTCP);
}

static __always_inline int dt_is_unix(struct sock *sk)
{
	return sk->__sk_common.skc_family == DT_AF_UNIX &&
	       (sk->sk_type == DT_SOCK_STREAM || sk->sk_type == DT_SOCK_SEQPACKET);
}

static __always_inline struct dt_conn *dt_tcp_conn(struct sock *sk, __u8 role, __u8 flags)
{
	struct dt_conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);

	if (c)
		return c;
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c)
		return 0;
	dt_init_conn(c, sk, DT_TRANSPORT_TCP, role, flags);
	return c;
}

/* A Unix server's socket has the path that it listens on, its client's has none. Where both have
 * one, the first to speak is the client. */
static __always_inline __u8 dt_unix_role(struct sock *sk)
{
	struct unix_sock *u = bpf_skc_to_unix_sock(sk);
	struct unix_address *theirs;

	if (!u)
		return DT_ROLE_UNKNOWN;
	theirs = BPF_CORE_READ((struct unix_sock *)u->peer, addr);
	if (u->addr && !theirs)
		return DT_ROLE_SERVER;
	return !u->addr && theirs ? DT_ROLE_CLIENT : DT_ROLE_UNKNOWN;
}

static __always_inline __u32 dt_inode(struct sock *sk)
{
	struct socket_alloc *alloc = (struct socket_alloc *)BPF_CORE_READ(sk, sk_socket);

	return alloc ? BPF_CORE_READ(alloc, vfs_inode.i_ino) : 0;
}

/* The sweep's number: see dt_iter_unix_mark. */
static __u32 dt_epoch = 1;

static const struct dt_conn dt_no_conn;
static const struct dt_flight dt_no_flight;

static __noinline struct dt_conn *dt_unix_conn(struct sock *sk, __u8 flags)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct dt_conn *c = bpf_map_lookup_elem(&unix_conns, &cookie);
	struct unix_sock *u;
	__u64 *mark;

	if (c)
		return c;
	mark = bpf_sk_storage_get(&unix_marks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark)
		return 0;
	*mark = cookie;
	if (bpf_map_update_elem(&unix_conns, &cookie, &dt_no_conn, BPF_NOEXIST))
		return bpf_map_lookup_elem(&unix_conns, &cookie);
	c = bpf_map_lookup_elem(&unix_conns, &cookie);
	if (!c)
		return 0;
	dt_init_conn(c, sk, DT_TRANSPORT_UNIX, dt_unix_role(sk), flags);
	c->epoch = dt_epoch;
	u = bpf_skc_to_unix_sock(sk);
	if (u && !u->addr && !BPF_CORE_READ((struct unix_sock *)u->peer, addr))
		c->flags |= DT_CONN_IGNORED; /* a pair without a name: a pipe inside one program */
	c->tx_first_seq = dt_inode(sk) ^ dt_unix_salt;
	if (u)
		c->rx_first_seq = dt_inode((struct sock *)u->peer) ^ dt_unix_salt;
	return c;
}

static __always_inline struct dt_flight *dt_flight_of(struct dt_conn *c, struct sock *sk,
						      int create)
{
	__u64 cookie;

	if (c->transport == DT_TRANSPORT_TCP)
		return bpf_sk_storage_get(&flights, sk, 0,
					  create ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	cookie = bpf_get_socket_cookie(sk);
	if (create)
		bpf_map_update_elem(&unix_flights, &cookie, &dt_no_flight, BPF_NOEXIST);
	return bpf_map_lookup_elem(&unix_flights, &cookie);
}

/* ---- where the bytes are ------------------------------------------------------------------- */

/* Does the system call's descriptor belong to this socket? io_uring completes requests on the way
 * out of other calls, whose arguments are about something else. */
static __always_inline int dt_descriptor_is(struct task_struct *t, unsigned long fd,
					    struct sock *sk)
{
	struct file **table = BPF_CORE_READ(t, files, fdt, fd);
	struct file *file = 0;

	if (fd >= BPF_CORE_READ(t, files, fdt, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file && file == BPF_CORE_READ(sk, sk_socket, file);
}

/* struct mmsghdr: a struct msghdr of 56 bytes, then the length that the kernel writes back */
enum dt_mmsg {
	DT_MMSG_BYTES = 64,
	DT_MMSG_LENGTH = 56,
	DT_MSG_IOV = 16,
};

/* Which message of a sendmmsg or recvmmsg this is: the one behind the last, when the kernel has
 * written that one's length back since. */
static __always_inline __u64 dt_batch_entry(struct dt_conn *c, __u64 vector, __u32 entries,
					    __u32 bytes)
{
	__u32 i = c->batch_next, written = 0;

	if (c->batch != vector || !i || i >= entries ||
	    dt_read_user(&written, sizeof(written),
			 vector + (__u64)(i - 1) * DT_MMSG_BYTES + DT_MMSG_LENGTH) ||
	    written != c->batch_bytes)
		i = 0;
	c->batch = vector;
	c->batch_next = i + 1 < entries ? i + 1 : 0;
	c->batch_bytes = bytes;
	return vector + (__u64)i * DT_MMSG_BYTES;
}

/* Finds the user buffer of the operation that has just ended. */
static __always_inline int dt_locate(struct dt_scratch *s, struct dt_conn *c, struct sock *sk)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(t);
	struct dt_iovec vector;
	__u64 message;

	s->segment_left = 0;
	s->iovs = 0;
	if (t->flags & DT_PF_IO_WORKER || dt_is_compat(t))
		return -1;
	if (t->io_uring && !dt_descriptor_is(t, dt_arg1(regs), sk))
		return -1;
	switch (dt_syscall(regs)) {
	case DT_READ:
	case DT_WRITE:
	case DT_SENDTO:
	case DT_RECVFROM:
		s->segment = dt_arg2(regs);
		s->segment_left = dt_arg3(regs);
		return 0;
	case DT_READV:
	case DT_WRITEV:
	case DT_PREADV2:
	case DT_PWRITEV2:
		s->iov = dt_arg2(regs);
		s->iovs = dt_arg3(regs);
		return 0;
	case DT_SENDMMSG:
	case DT_RECVMMSG:
		message = dt_batch_entry(c, dt_arg2(regs), dt_arg3(regs), s->left);
		break;
	case DT_SENDMSG:
	case DT_RECVMSG:
		message = dt_arg2(regs);
		break;
	default: /* sendfile, splice, io_uring: the bytes never pass user memory by a call */
		return -1;
	}
	if (dt_read_user(&vector, sizeof(vector), message + DT_MSG_IOV))
		return -1;
	s->iov = vector.base;
	s->iovs = vector.len;
	return 0;
}

/* ---- the chunk ----------------------------------------------------------------------------- */

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
	if (!gap || gap >= 1U << 31)
		return 0;
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
	/* an iovec may be empty: look at a few */
	for (int i = 0; i < 4; i++)
		if (s->pos < s->end || dt_fill(s))
			break;
	if (s->pos < s->end)
		guess = dt_guess(s, is_request);
	if (c->flags & DT_CONN_MIDSTREAM) {
		if (!is_request) {
			c->desyncs |= 0x80; /* answered: the next request begins a turn */
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
		if (guess == DT_PROTOCOL_UNKNOWN && !(c->desyncs & 0x80)) {
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
		c->desyncs &= 0x7f;
	}
	dt_forget_values();
	if (c->protocol != DT_PROTOCOL_UNDECIDED)
		return 1; /* the other direction was faster */
	if (guess == DT_PROTOCOL_UNKNOWN)
		c->flags &= ~DT_CONN_MIDSTREAM;
	else
		c->flags |= DT_CONN_TENTATIVE;
	c->protocol = guess;
	return 1;
}

static __always_inline int dt_chunk(struct sock *sk, struct dt_conn *c, __u32 bytes, int flags,
				    int is_send)
{
	__u32 direction = is_send, gap = 0;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &direction);
	struct dt_flight *f;
	int is_request;

	if (!s)
		return 0;
	if (c->role == DT_ROLE_UNKNOWN)
		c->role = is_send ? DT_ROLE_CLIENT : DT_ROLE_SERVER;
	dt_own(c, sk);
	dt_note(DT_SEEN, 0, bytes);
	is_request = (c->role == DT_ROLE_CLIENT) == is_send;
	if (is_send)
		c->sent_bytes += bytes;
	else
		c->received_bytes += bytes;
	if (c->transport == DT_TRANSPORT_TCP)
		gap = dt_blind(c, sk, is_send);
	if (c->protocol == DT_PROTOCOL_UNKNOWN)
		return dt_turn(c, bytes, bpf_ktime_get_ns(), is_request);
	s->now = bpf_ktime_get_ns();
	s->left = bytes;
	s->pos = s->end = 0;
	s->fault = 0;
	s->opaque = 0;
	s->offset = dt_offset(c, is_send) - bytes;
	if ((flags & DT_MSG_TRUNC && !is_send) || dt_locate(s, c, sk)) {
		s->opaque = 1;
		dt_note(DT_OPAQUE, 0, bytes);
	}
	if (c->protocol == DT_PROTOCOL_UNDECIDED) {
		gap = 0; /* it begins here */
		if (!dt_decide(c, s, is_request))
			return 0;
	}
	f = dt_flight_of(c, sk, c->flags & DT_CONN_TENTATIVE);
	if (c->protocol == DT_PROTOCOL_UNKNOWN || !f) {
		c->protocol = DT_PROTOCOL_UNKNOWN;
		return dt_turn(c, bytes, s->now, is_request);
	}
	if (gap) {
		dt_walk_blind(c, f, s, is_request, gap);
		if (c->protocol == DT_PROTOCOL_UNKNOWN)
			return dt_turn(c, s->left, s->now, is_request);
		if (c->protocol == DT_PROTOCOL_UNDECIDED) {
			dt_settle(c, DT_LOST_MIDSTREAM, 0, s->left);
			return 0;
		}
	}
	return dt_walk_chunk(c, f, s, is_request);
}

static __always_inline int dt_end_of_stream(struct sock *sk)
{
	__u32 direction = 0;
	struct dt_scratch *s;
	struct dt_flight *f;
	struct dt_conn *c;

	if (!dt_is_tcp(sk) || !(sk->sk_shutdown & DT_RCV_SHUTDOWN))
		return 0;
	c = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!c || c->role != DT_ROLE_CLIENT || c->response.phase != DT_PHASE_UNTIL_CLOSE ||
	    c->flags & DT_CONN_IGNORED)
		return 0;
	f = bpf_sk_storage_get(&flights, sk, 0, 0);
	s = bpf_map_lookup_elem(&scratch, &direction);
	if (!f || !s)
		return 0;
	s->left = 0;
	return dt_walk_end(c, f, s);
}

static __always_inline int dt_io(struct sock *sk, int ret, int flags, int is_send)
{
	struct task_struct *t;
	struct dt_conn *c;

	if (ret <= 0)
		return ret || is_send ? 0 : dt_end_of_stream(sk);
	if (flags & (DT_MSG_PEEK | DT_MSG_ERRQUEUE | DT_MSG_OOB))
		return 0;
	t = bpf_get_current_task_btf();
	if (t->flags & DT_PF_KTHREAD || (__u32)t->tgid == dt_own_tgid)
		goto not_observed;
	if (dt_is_tcp(sk)) {
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (!c) {
			c = dt_tcp_conn(sk, dt_role_by_listener(sk), DT_CONN_MIDSTREAM);
			if (c) {
				dt_established(c, sk);
				/* the chunk in hand comes on top */
				if (is_send)
					c->sent_before -= ret;
				else
					c->received_before -= ret;
			}
		}
	} else if (dt_observe_unix && dt_is_unix(sk)) {
		c = dt_unix_conn(sk, 0);
	} else {
		goto not_observed;
	}
	if (!c) {
		dt_note(DT_SEEN, 0, ret);
		dt_note(DT_LOST_STATE, 0, ret);
		return 0;
	}
	if (c->flags & DT_CONN_IGNORED)
		goto not_observed;
	return dt_chunk(sk, c, ret, flags, is_send);
not_observed:
	dt_note(DT_NOT_OBSERVED, 0, ret);
	return 0;
}

/* ---- the life of a TCP connection ---------------------------------------------------------- */

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
	};

	x.response.first_ns = x.response.last_ns = bpf_ktime_get_ns();
	dt_note(DT_SEEN, 1, 0);
	dt_count(c, &x);
	dt_offer_span(c, 0, &x);
	return 0;
}

static __always_inline int dt_state(struct sock *sk, int old, int new)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dt_conn *c;

	if (!dt_is_tcp(sk))
		return 0;
	if (new == DT_TCP_SYN_SENT) {
		if (t->flags & DT_PF_KTHREAD || (__u32)t->tgid == dt_own_tgid)
			return 0;
		c = dt_tcp_conn(sk, DT_ROLE_CLIENT, 0);
		if (c)
			dt_find_edge(c, sk);
	} else if (new == DT_TCP_ESTABLISHED) {
		c = old == DT_TCP_SYN_RECV ? dt_tcp_conn(sk, DT_ROLE_SERVER, 0)
					   : bpf_sk_storage_get(&conns, sk, 0, 0);
		if (c)
			dt_established(c, sk);
	} else if (new == DT_TCP_CLOSE &&old == DT_TCP_SYN_SENT) {
		c = bpf_sk_storage_get(&conns, sk, 0, 0);
		if (c)
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

static __always_inline int dt_destroy(struct sock *sk)
{
	__u32 direction = 0;
	struct dt_scratch *s = bpf_map_lookup_elem(&scratch, &direction);
	struct dt_conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);

	if (!c || !s || c->flags & DT_CONN_IGNORED)
		return 0;
	dt_compare_with_tcp(c, sk);
	s->left = 0;
	s->now = bpf_ktime_get_ns();
	return dt_finish(c, bpf_sk_storage_get(&flights, sk, 0, 0), s);
}
