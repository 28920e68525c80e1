// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * The doors. A program here is one line: the body stands in include/door.h, so that another hook
 * can share it.
 */
#include "kernel.h"
#include <bpf/bpf_endian.h>

#define dt_read_user(to, bytes, from) bpf_probe_read_user(to, bytes, (const void *)(from))
/* keeps clang from comparing a half of a register and passing the whole */
#define dt_opaque_value(value) asm volatile("" : "+r"(value))

/* makes clang, and so the verifier, read the walker's state from memory again: a state that is
 * known is followed by itself, for every round of a loop */
#define dt_forget_values() asm volatile("" ::: "memory")

#include "door.h"
#include "sleep.h"
#include "visits.h"

/* A type is in the object's BTF only where something has it: this gives user space the others. */
struct dt_contract {
	struct dt_exchange_record exchange;
	struct dt_operation_record operation;
	struct dt_owner_record owner;
	struct dt_blind_record blind;
	struct dt_answer_record answer;
	struct dt_unproven_record unproven;
	enum dt_role role;
	enum dt_transport transport;
	enum dt_protocol protocol;
	enum dt_end end;
	enum dt_redis_outcome redis_outcome;
	enum dt_signature signature;
	enum dt_limit limit;
	enum dt_trust trust;
	enum dt_exchange_flag exchange_flag;
	enum dt_ledger_line ledger_line;
	enum dt_record_type record_type;
	enum dt_kept kept;
	enum dt_owner_recorded owner_recorded;
	enum dt_recording_bound recording_bound;
	enum dt_piece_flag piece_flag;
	enum dt_recording_line recording_line;
};

const struct dt_contract *dt_contract __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(dt_tcp_state, struct sock *sk, int old, int new)
{
	return dt_state(sk, old, new);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(dt_tcp_connect, struct sock *sk, int old, int new)
{
	return dt_connect(sk, new);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(dt_task_switch, _Bool preempt, struct task_struct *from)
{
	return from->__state ? dt_task_sleeps(from) : 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(dt_tcp_destroy, struct sock *sk)
{
	return dt_destroy(sk);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(dt_sock_recv, struct sock *sk, int ret, int flags)
{
	return dt_io(sk, ret, flags, DT_CONTEXT_RECV);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(dt_sock_send, struct sock *sk, int ret, int flags)
{
	return dt_io(sk, ret, flags, DT_CONTEXT_SEND);
}

/*
 * The second rung, where the two tracepoints above do not exist (before Linux 6.3): the functions
 * that they stand behind. They are called through the socket's operations, so no compiler inlines
 * them, and their arguments have been the same from 5.10 on.
 */
#define DT_SEND_DOOR(name, function, context)                                                      \
	SEC("?fexit/" #function)                                                                   \
	int BPF_PROG(name, struct socket *socket, void *message, unsigned long bytes, int ret)     \
	{                                                                                          \
		struct sock *sk = socket->sk;                                                      \
                                                                                                   \
		return sk ? dt_io(sk, ret, 0, context) : 0;                                        \
	}

#define DT_RECV_DOOR(name, function, context)                                                      \
	SEC("?fexit/" #function)                                                                   \
	int BPF_PROG(name, struct socket *socket, void *message, unsigned long bytes, int flags,   \
		     int ret)                                                                      \
	{                                                                                          \
		struct sock *sk = socket->sk;                                                      \
                                                                                                   \
		return sk ? dt_io(sk, ret, flags, context) : 0;                                    \
	}

DT_RECV_DOOR(dt_inet_recv, inet_recvmsg, DT_CONTEXT_RECV)
DT_SEND_DOOR(dt_inet_send, inet_sendmsg, DT_CONTEXT_SEND)
DT_RECV_DOOR(dt_inet6_recv, inet6_recvmsg, DT_CONTEXT_INET6_RECV)
DT_SEND_DOOR(dt_inet6_send, inet6_sendmsg, DT_CONTEXT_INET6_SEND)
DT_RECV_DOOR(dt_unix_recv, unix_stream_recvmsg, DT_CONTEXT_UNIX_RECV)
DT_SEND_DOOR(dt_unix_send, unix_stream_sendmsg, DT_CONTEXT_UNIX_SEND)
DT_RECV_DOOR(dt_unix_packet_recv, unix_seqpacket_recvmsg, DT_CONTEXT_UNIX_PACKET_RECV)
DT_SEND_DOOR(dt_unix_packet_send, unix_seqpacket_sendmsg, DT_CONTEXT_UNIX_PACKET_SEND)
