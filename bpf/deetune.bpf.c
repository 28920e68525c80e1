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

#include "door.h"
#include "iterators.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(dt_tcp_state, struct sock *sk, int old, int new)
{
	return dt_state(sk, old, new);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(dt_tcp_destroy, struct sock *sk)
{
	return dt_destroy(sk);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(dt_sock_recv, struct sock *sk, int ret, int flags)
{
	return dt_io(sk, ret, flags, 0);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(dt_sock_send, struct sock *sk, int ret, int flags)
{
	return dt_io(sk, ret, flags, 1);
}
