/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What threads wait for that have a request in hand. The program runs where a task leaves the
 * processor, so it is attached only while some program is not known yet (dt_wonder), and all of it
 * is one look-up for whoever has read no request.
 *
 * A program is trusted once a thread of it was seen through a whole bracket: it had a request in
 * hand, slept waiting for the answer to its own call and for nothing else, answered the request,
 * and slept again. A thread that sleeps waiting for several things with a request in hand polls.
 * Without one it does, too, if its sockets do not block: those that read them one at a time have no
 * need to. Servers that fork wait for several listening sockets and read from ones that block.
 */
#pragma once

#include "locate.h"
#include "cause.h"

enum dt_sleep_bound {
	/* Descriptors looked at: more than that are an event loop's. */
	DT_POLL_FDS = 8,
	/* Words of the set of a select: 1024 descriptors, as glibc has it. */
	DT_SELECT_WORDS = 16,
};

enum dt_wait {
	DT_WAIT_OTHER, /* a lock, a timer, a file: nothing can come in between */
	DT_WAIT_ASKED, /* the answer to the last call, alone */
	DT_WAIT_SEVERAL,
};

struct dt_pollfd {
	int fd;
	__u16 events;
	__u16 revents;
};

static __always_inline int dt_is_asked(const struct dt_serving *v, const struct file *file)
{
	return file && (__u64)file == v->asked;
}

/* Does this descriptor bring requests? */
static __always_inline int dt_brings_requests(const struct dt_serving *v, struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);

	if ((__u64)file == v->file)
		return 1;
	/* anything may stand there, but only a socket has its file in it */
	return socket && BPF_CORE_READ(socket, file) == file &&
	       BPF_CORE_READ(socket, sk, __sk_common.skc_state) == DT_TCP_LISTEN;
}

/* A client library waits for its connection and for being woken up, that is one thing. */
static __always_inline enum dt_wait dt_poll_wait(struct task_struct *t, const struct dt_serving *v,
						 __u64 fds, __u32 many)
{
	enum dt_wait wait = DT_WAIT_OTHER;
	struct dt_pollfd one;

	if (many > DT_POLL_FDS)
		return DT_WAIT_SEVERAL;
	for (__u32 i = 0; i < DT_POLL_FDS && i < many; i++) {
		struct file *file;

		if (dt_read_user(&one, sizeof(one), fds + i * sizeof(one)))
			return DT_WAIT_SEVERAL;
		file = one.fd < 0 ? 0 : dt_file_at(t, one.fd);
		if (many > 1 && (!v->open || (file && dt_brings_requests(v, file))))
			return DT_WAIT_SEVERAL;
		if (dt_is_asked(v, file))
			wait = DT_WAIT_ASKED;
	}
	return many == 1 || (many == 2 && !(v->way & DT_WAY_NONBLOCKING)) ? wait : DT_WAIT_OTHER;
}

/* A descriptor of an epoll instance, if there is one there. 1: it brings requests, or there are
 * more below it than are looked at. */
static __always_inline int dt_watch_brings(const struct dt_serving *v, struct rb_node *node,
					   int is_root, int *many, enum dt_wait *wait)
{
	struct file *file;

	if (!node)
		return 0;
	file = BPF_CORE_READ((struct epitem *)node, ffd.file);
	(*many)++;
	if (dt_is_asked(v, file))
		*wait = DT_WAIT_ASKED;
	return (file && dt_brings_requests(v, file)) ||
	       (!is_root && (BPF_CORE_READ(node, rb_left) || BPF_CORE_READ(node, rb_right)));
}

/* Some client libraries have an instance of their own for their connection. */
static __always_inline enum dt_wait dt_epoll_wait(struct task_struct *t, const struct dt_serving *v,
						  __u32 fd)
{
	struct file *file = dt_file_at(t, fd);
	struct eventpoll *instance = file ? BPF_CORE_READ(file, private_data) : 0;
	struct rb_node *root = instance ? BPF_CORE_READ(instance, rbr.rb_root.rb_node) : 0;
	enum dt_wait wait = DT_WAIT_SEVERAL;
	int many = 0;

	if (!v->open || !root || dt_watch_brings(v, root, 1, &many, &wait) ||
	    dt_watch_brings(v, BPF_CORE_READ(root, rb_left), 0, &many, &wait) ||
	    dt_watch_brings(v, BPF_CORE_READ(root, rb_right), 0, &many, &wait))
		return DT_WAIT_SEVERAL;
	return many == 1 || !(v->way & DT_WAY_NONBLOCKING) ? wait : DT_WAIT_SEVERAL;
}

/* The descriptors of a select, and one of them. */
struct dt_select {
	__u64 sets[3]; /* user addresses; 0: none */
	__u32 words;   /* of each */
	__u32 count;   /* of descriptors: 2 are many */
	__u32 fd;
	__u32 pad;
};

static long dt_select_word(__u32 i, struct dt_select *of)
{
	for (int set = 0; set < 3; set++) {
		__u64 word = 0, lowest;

		if (i >= of->words || !of->sets[set] ||
		    dt_read_user(&word, sizeof(word), of->sets[set] + i * sizeof(word)) || !word)
			continue;
		lowest = word & -word;
		of->count += word == lowest ? 1 : 2;
		of->fd = i * 64 + __builtin_popcountll(lowest - 1);
	}
	return 0;
}

static __always_inline enum dt_wait
dt_select_wait(struct task_struct *t, const struct dt_serving *v, const struct pt_regs *regs)
{
	__u32 many = dt_arg1(regs);
	struct dt_select of = {
		.sets = { dt_arg2(regs), dt_arg3(regs), dt_arg4(regs) },
		.words = (many + 63) / 64,
	};

	if (many > DT_SELECT_WORDS * 64)
		return DT_WAIT_SEVERAL;
	bpf_loop(DT_SELECT_WORDS, dt_select_word, &of, 0);
	if (of.count > 1)
		return DT_WAIT_SEVERAL;
	return of.count && dt_is_asked(v, dt_file_at(t, of.fd)) ? DT_WAIT_ASKED : DT_WAIT_OTHER;
}

static __always_inline enum dt_wait dt_wait_of(struct task_struct *t, const struct dt_serving *v)
{
	const struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(t);

	if (dt_is_compat(t))
		return DT_WAIT_OTHER;
	switch (dt_syscall(regs)) {
	case DT_READ:
	case DT_READV:
	case DT_PREADV2:
	case DT_RECVFROM:
	case DT_RECVMSG:
	case DT_RECVMMSG:
		return dt_is_asked(v, dt_file_at(t, dt_arg1(regs))) ? DT_WAIT_ASKED : DT_WAIT_OTHER;
#ifdef __TARGET_ARCH_x86
	case DT_POLL:
#endif
	case DT_PPOLL:
		return dt_poll_wait(t, v, dt_arg1(regs), dt_arg2(regs));
#ifdef __TARGET_ARCH_x86
	case DT_SELECT:
#endif
	case DT_PSELECT6:
		return dt_select_wait(t, v, regs);
#ifdef __TARGET_ARCH_x86
	case DT_EPOLL_WAIT:
#endif
	case DT_EPOLL_PWAIT:
	case DT_EPOLL_PWAIT2:
		return dt_epoll_wait(t, v, dt_arg1(regs));
	case DT_IO_URING_ENTER:
		return DT_WAIT_SEVERAL;
	}
	return DT_WAIT_OTHER;
}

/* What is known of its program now. */
static __always_inline void dt_learn(const struct dt_serving *v, struct task_struct *t, __u32 trust)
{
	struct dt_owner_limit *limit = dt_limit_of(v->owner_id);
	__u32 *family = dt_family_of(t);

	if (limit)
		__sync_fetch_and_or(&limit->trust, trust);
	if (family)
		__sync_fetch_and_or(family, trust);
}

static __always_inline int dt_task_sleeps(struct task_struct *t)
{
	struct dt_serving *v = dt_serving_of(t->pid);
	enum dt_wait wait;
	int nonblocking;

	if (!v || !v->tid || !dt_is_of(v, t) || v->habits & DT_HABIT_POLLS)
		return 0;
	wait = dt_wait_of(t, v);
	nonblocking = v->way & DT_WAY_NONBLOCKING;
	if (wait == DT_WAIT_SEVERAL && (v->open || nonblocking)) {
		v->habits |= DT_HABIT_POLLS;
		dt_learn(v, t,
			 nonblocking ? DT_TRUST_POLLS | DT_DISTRUST_NONBLOCKING : DT_TRUST_POLLS);
	} else if (v->open) {
		if (wait == DT_WAIT_ASKED)
			v->habits |= DT_HABIT_ALONE;
	} else if (v->habits & DT_HABIT_ANSWERED) {
		v->habits &= ~DT_HABIT_ANSWERED;
		dt_learn(v, t, nonblocking ? DT_TRUST_NONBLOCKING : DT_TRUST_BLOCKING);
	}
	return 0;
}
