/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * From a socket to what is remembered of it: made at first sight, found without hashing for TCP.
 */
#pragma once

#include "maps.h"
#include "count.h"

static __always_inline void dt_init_conn(struct dt_conn *c, struct sock *sk, __u8 transport,
					 __u8 role, __u8 flags)
{
	c->role = role;
	c->flags = flags;
	c->protocol = DT_PROTOCOL_UNDECIDED;
	c->netns = sk->__sk_common.skc_net.net->ns.inum;
	if (dt_only_netns && c->netns != dt_only_netns)
		c->flags |= DT_CONN_IGNORED;
	c->opened_ns = bpf_ktime_get_ns();
	c->cookie = bpf_get_socket_cookie(sk);
	c->sk = (__u64)sk;
	c->sampled.sent = c->sampled.received = c->sampled.retransmits = c->cookie << DT_TOLD_BITS;
	dt_forget_values();
	c->transport = transport; /* last: says that the others are there */
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
	c->flags |= DT_CONN_ESTABLISHED;
	c->is_connecting = 0;
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
		c->retransmits = tp->total_retrans;
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

static __always_inline int dt_is_udp(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return (family == DT_AF_INET || family == DT_AF_INET6) && sk->sk_type == DT_SOCK_DGRAM &&
	       sk->sk_protocol == DT_IPPROTO_UDP;
}

static __always_inline int dt_is_unix(struct sock *sk)
{
	return sk->__sk_common.skc_family == DT_AF_UNIX &&
	       (sk->sk_type == DT_SOCK_STREAM || sk->sk_type == DT_SOCK_SEQPACKET);
}

/* A port that is listened on: its connections are a server's. */
static __always_inline void dt_listen(struct sock *sk)
{
	struct dt_listener_key key = {
		.netns = sk->__sk_common.skc_net.net->ns.inum,
		.port = sk->__sk_common.skc_num,
	};
	__u32 one = 1;

	if (key.port)
		bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
}

/* The socket goes through tcp_destroy_sock, so what is known of it can lie in its storage. */
static __always_inline int dt_end_is_told(struct sock *sk)
{
	return sk->sk_protocol == DT_IPPROTO_TCP;
}

static const struct dt_conn dt_no_conn;
static const struct dt_flight dt_no_flight;

/* The state in a hash, made where there is none. A new one has no transport yet. */
static __always_inline struct dt_conn *dt_hashed_conn(struct sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct dt_conn *c = bpf_map_lookup_elem(&hashed_conns, &cookie);

	if (c)
		return c;
	bpf_map_update_elem(&hashed_conns, &cookie, &dt_no_conn, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hashed_conns, &cookie);
}

/* The state of a TCP socket that has one. */
static __always_inline struct dt_conn *dt_known_conn(struct sock *sk)
{
	__u64 cookie;

	if (dt_end_is_told(sk))
		return bpf_sk_storage_get(&conns, sk, 0, 0);
	cookie = bpf_get_socket_cookie(sk);
	return bpf_map_lookup_elem(&hashed_conns, &cookie);
}

/* So that visits find it. */
static __noinline int dt_list(struct dt_conn *c)
{
	struct dt_live place = { .conn = (__u64)c, .sampled = c->sampled };
	__u64 cookie = c->cookie;

	if (bpf_map_update_elem(&live, &cookie, &place, BPF_ANY))
		dt_note(DT_OVERFLOW_CONNECTIONS, 1, 0);
	return 0;
}

/* Where there are no sequence numbers, the cookie tells connections apart. */
static __always_inline void dt_identify(struct dt_conn *c)
{
	c->tx_first_seq = c->cookie ^ dt_unix_salt;
	c->rx_first_seq = (c->cookie >> 32) ^ dt_unix_salt;
}

static __noinline struct dt_conn *dt_tcp_conn(struct sock *sk, __u8 role, __u8 flags)
{
	int is_told = dt_end_is_told(sk);
	struct dt_conn *c = is_told ? bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE)
				    : dt_hashed_conn(sk);

	if (!c || c->transport) /* no memory, or it was there */
		return c;
	c->is_hashed = !is_told;
	dt_init_conn(c, sk, DT_TRANSPORT_TCP, role, flags);
	if (!is_told)
		dt_identify(c);
	else if (!(c->flags & DT_CONN_IGNORED))
		dt_list(c);
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

/* The peer has an inode once it was accepted, and until it is closed. */
static __always_inline void dt_unix_peer(struct dt_conn *c, struct sock *sk)
{
	struct unix_sock *u = bpf_skc_to_unix_sock(sk);
	__u32 inode = u ? dt_inode((struct sock *)u->peer) : 0;

	if (!inode)
		return;
	c->rx_first_seq = inode ^ dt_unix_salt;
	c->flags |= DT_CONN_FIRST_SEQS;
	if (c->edge && c->opened_edge == c->edge)
		dt_join_ends(c);
}

static __noinline struct dt_conn *dt_unix_conn(struct sock *sk, __u8 flags)
{
	struct dt_conn *c = dt_hashed_conn(sk);
	struct unix_sock *u;

	if (!c)
		return 0;
	if (c->transport) {
		if (!(c->flags & DT_CONN_FIRST_SEQS))
			dt_unix_peer(c, sk);
		return c;
	}
	c->is_hashed = 1;
	dt_init_conn(c, sk, DT_TRANSPORT_UNIX, dt_unix_role(sk), flags);
	u = bpf_skc_to_unix_sock(sk);
	if (u && !u->addr && !BPF_CORE_READ((struct unix_sock *)u->peer, addr))
		c->flags |= DT_CONN_IGNORED; /* a pair without a name: a pipe inside one program */
	c->flags |= DT_CONN_ESTABLISHED;
	c->tx_first_seq = dt_inode(sk) ^ dt_unix_salt;
	c->rx_first_seq = dt_unix_salt;
	dt_unix_peer(c, sk);
	return c;
}

static __always_inline struct dt_flight *dt_flight_of(struct dt_conn *c, struct sock *sk,
						      int create)
{
	__u64 cookie = c->cookie;

	if (!c->is_hashed)
		return bpf_sk_storage_get(&flights, sk, 0,
					  create ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (create)
		bpf_map_update_elem(&hashed_flights, &cookie, &dt_no_flight, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hashed_flights, &cookie);
}
