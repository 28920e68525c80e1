/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * From a socket to what is remembered of it: made at first sight, found without hashing for TCP.
 */
#pragma once

#include "maps.h"
#include "count.h"

/* Where there are no sequence numbers, the cookie tells connections apart. */
static __always_inline void dt_identify(struct dt_conn *c)
{
	c->tx_first_seq = c->cookie ^ dt_cookie_salt;
	c->rx_first_seq = (c->cookie >> 32) ^ dt_cookie_salt;
}

static __always_inline void dt_init_conn(struct dt_conn *c, struct sock *sk, __u8 role, __u8 flags)
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
	dt_identify(c);
	c->sampled.sent = c->sampled.received = c->sampled.retransmits = c->cookie << DT_TOLD_BITS;
}

/* Says that all of it is there. */
static __always_inline void dt_publish(struct dt_conn *c, __u8 transport)
{
	dt_forget_values();
	c->transport = transport;
}

/* An active opener's SYN is among its bytes_acked. */
static __always_inline __u32 dt_tx_first_seq(const struct dt_conn *c, struct tcp_sock *tp)
{
	return tp->snd_una - (__u32)tp->bytes_acked + (c->role == DT_ROLE_CLIENT);
}

static __always_inline __u32 dt_rx_first_seq(struct tcp_sock *tp)
{
	return tp->rcv_nxt - (__u32)tp->bytes_received;
}

/* Takes the numbers; whether none of them moved meanwhile. No loop's body: older verifiers (6.1)
 * take none whose end the compiler has put before its head. */
static __always_inline int dt_look_at_seqs(struct dt_conn *c, struct tcp_sock *tp)
{
	c->tx_first_seq = dt_tx_first_seq(c, tp);
	c->rx_first_seq = dt_rx_first_seq(tp);
	dt_forget_values();
	return c->tx_first_seq == dt_tx_first_seq(c, tp) && c->rx_first_seq == dt_rx_first_seq(tp);
}

/* Where the streams were when the agent came. The low halves are the numbers of what programs wrote
 * and read, which only they move. */
static __always_inline void dt_come_late(struct dt_conn *c, struct tcp_sock *tp)
{
	__u64 sent = tp->bytes_acked - (c->role == DT_ROLE_CLIENT), received = tp->bytes_received;

	sent += tp->write_seq - c->tx_first_seq - (__u32)sent;
	received -= (__u32)received - (tp->copied_seq - c->rx_first_seq);
	c->sent_before = sent - c->sent_bytes;
	c->received_before = received - c->received_bytes;
	c->retransmits = tp->total_retrans;
}

/* What is known once a connection is established: its ends, and the first data sequence number of
 * each direction. */
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
	/* of an older connection a packet may come between two of the numbers */
	if (!dt_look_at_seqs(c, tp) && !dt_look_at_seqs(c, tp))
		dt_look_at_seqs(c, tp);
	c->flags |= DT_CONN_FIRST_SEQS;
	if (c->flags & DT_CONN_MIDSTREAM)
		dt_come_late(c, tp);
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

/* Does it lead to the agent's own endpoint, on this host? Then it is a scraper's, a browser's or a
 * command of ours, and no call of what is observed. */
static __always_inline int dt_leads_to_agent(struct sock *sk)
{
	__u32 local[4] = {}, peer[4] = {};

	if (dt_observe_own || !dt_own_port || bpf_ntohs(sk->__sk_common.skc_dport) != dt_own_port ||
	    sk->__sk_common.skc_net.net->ns.inum != dt_own_netns)
		return 0;
	dt_address(sk, 0, (__u8 *)local);
	dt_address(sk, 1, (__u8 *)peer);
	return (local[0] == peer[0] && local[1] == peer[1] && local[2] == peer[2] &&
		local[3] == peer[3]) ||
	       (!peer[0] && !peer[1] && peer[2] == bpf_htonl(0xffff) && (__u8)peer[3] == 127);
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

static __noinline struct dt_conn *dt_tcp_conn(struct sock *sk, __u8 role, __u8 flags)
{
	int is_told = dt_end_is_told(sk);
	struct dt_conn *c = is_told ? bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE)
				    : dt_hashed_conn(sk);

	if (!c || c->transport) /* no memory, or it was there */
		return c;
	c->is_hashed = !is_told;
	dt_init_conn(c, sk, role, flags);
	dt_publish(c, DT_TRANSPORT_TCP);
	if (is_told && !(c->flags & DT_CONN_IGNORED))
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

/* Both ends have each other's cookie, before the server accepts and when one has closed, too. What
 * was written and not yet read when the agent came is in neither's count: so the ends of an older
 * connection, and of one that may be older, are apart. */
static __always_inline void dt_unix_pair(struct dt_conn *c, struct unix_sock *u)
{
	__u64 cookie = bpf_get_socket_cookie(u->peer);
	struct dt_conn *theirs = bpf_map_lookup_elem(&hashed_conns, &cookie);

	c->rx_first_seq = cookie ^ dt_cookie_salt;
	c->flags |= DT_CONN_FIRST_SEQS;
	c->is_apart = !dt_visits || dt_unix_lost;
	if (!theirs)
		return;
	if (c->is_apart)
		theirs->is_apart = 1;
	else /* accepted late */
		c->is_apart = theirs->is_apart;
}

static __noinline struct dt_conn *dt_unix_conn(struct sock *sk)
{
	struct dt_conn *c = dt_hashed_conn(sk);
	struct unix_sock *u;

	if (!c)
		dt_unix_lost = 2; /* the visit under way may have passed it */
	if (!c || c->transport)
		return c;
	c->is_hashed = 1;
	dt_init_conn(c, sk, dt_unix_role(sk),
		     DT_CONN_ESTABLISHED | (dt_visits ? 0 : DT_CONN_MIDSTREAM));
	u = bpf_skc_to_unix_sock(sk);
	if (u) {
		if (!u->addr && !BPF_CORE_READ((struct unix_sock *)u->peer, addr))
			c->flags |= DT_CONN_IGNORED; /* a pipe inside one program */
		dt_unix_pair(c, u);
	}
	dt_publish(c, DT_TRANSPORT_UNIX);
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
