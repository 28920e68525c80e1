/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Where an operation's bytes are. The system call's registers still hold its arguments after it,
 * and the bytes are still in user memory.
 */
#pragma once

#include "chunk.h"

/* The open file behind a task's descriptor; 0: there is none. */
static __always_inline struct file *dt_file_at(struct task_struct *t, __u32 fd)
{
	struct file **table = BPF_CORE_READ(t, files, fdt, fd);
	struct file *file = 0;

	if (fd >= BPF_CORE_READ(t, files, fdt, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

/* Does the system call's descriptor belong to this socket? io_uring completes requests on the way
 * out of other calls, whose arguments are about something else. */
static __always_inline int dt_descriptor_is(struct task_struct *t, __u32 fd, struct sock *sk)
{
	struct file *file = dt_file_at(t, fd);

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
static __noinline int dt_locate(struct dt_scratch *s, struct dt_conn *c, struct sock *sk,
				struct task_struct *t)
{
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
	s->message = message;
	if (dt_read_user(&vector, sizeof(vector), message + DT_MSG_IOV))
		return -1;
	s->iov = vector.base;
	s->iovs = vector.len;
	return 0;
}
