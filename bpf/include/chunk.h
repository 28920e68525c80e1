/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * A chunk: the bytes of one socket operation, where they are in user memory, and a window on them.
 * Only what a protocol must look at is read: a body is passed over by its length.
 *
 * All numbers stay in map memory (the scratch of this CPU), so that the verifier's states of the
 * walker's loop converge at once.
 */
#pragma once

#include "state.h"

/* FNV-1a, 64 bits */
#define DT_HASH_START 0xcbf29ce484222325ULL
#define DT_HASH_PRIME 0x100000001b3ULL

static __always_inline __u64 dt_hash(__u64 hash, __u8 byte)
{
	return (hash ^ byte) * DT_HASH_PRIME;
}

enum dt_window {
	DT_WINDOW = 512,
	DT_WINDOW_MASK = DT_WINDOW - 1,
	/* fixed-size reads may begin at any place of the window */
	DT_WINDOW_PAD = DT_HEAD_BYTES,
};

/*
 * Where a chunk or a close is worked on. The kernel never runs a program twice at once on one
 * processor (the guard is each program's own), but any other one on top of it: a close in an
 * interrupt, a task that preempts another one. So each program has a place of its own. Sends are
 * odd.
 */
enum dt_context {
	DT_CONTEXT_RECV = 0,
	DT_CONTEXT_SEND = 1,
	DT_CONTEXT_INET6_RECV = 2,
	DT_CONTEXT_INET6_SEND = 3,
	DT_CONTEXT_UNIX_RECV = 4,
	DT_CONTEXT_UNIX_SEND = 5,
	DT_CONTEXT_UNIX_PACKET_RECV = 6,
	DT_CONTEXT_UNIX_PACKET_SEND = 7,
	DT_CONTEXT_CLOSE = 8,
	DT_CONTEXT_SWEEP = 9, /* user space's, one at a time */
	DT_CONTEXTS = 10,
};

/* How an operation's bytes are waited for. */
enum dt_way {
	DT_WAY_NONBLOCKING = 1, /* the call does not wait */
	DT_WAY_REGISTERED = 2,	/* by an epoll instance or a ring, with others */
};

static __always_inline int dt_is_send(__u32 context)
{
	return context & 1;
}

struct dt_scratch {
	__u8 buf[DT_WINDOW + DT_WINDOW_PAD];
	__u64 segment;	    /* user address of what is not yet in the window */
	__u64 segment_left; /* its length */
	__u64 iov;	    /* user address of the next struct iovec */
	__u64 message;	    /* of the struct msghdr; 0: none */
	__u64 now;
	__u64 offset; /* in the stream, of the chunk's next byte */
	__u32 iovs;
	__u32 left; /* bytes of the chunk not yet walked, window included */
	__u32 pos;  /* window */
	__u32 end;
	__u8 opaque; /* no readable buffer */
	__u8 fault;
	__u8 way; /* bits of enum dt_way */
	__u8 pad[5];
	__u64 file;		     /* address of the open file of the operation */
	struct dt_exchange exchange; /* that is being completed: too big for the stack */
};

struct dt_iovec {
	__u64 base;
	__u64 len;
};

/* Gets the next bytes into the window. 0, or -1 when there is no way to read them. */
static __always_inline int dt_fill(struct dt_scratch *s)
{
	struct dt_iovec iov;
	__u64 n;

	if (s->opaque)
		return -1;
	if (!s->segment_left) {
		if (!s->iovs || dt_read_user(&iov, sizeof(iov), s->iov)) {
			s->fault = s->iovs != 0;
			s->opaque = 1;
			return -1;
		}
		s->iovs--;
		s->iov += sizeof(iov);
		s->segment = iov.base;
		s->segment_left = iov.len;
		s->pos = s->end = 0;
		return 0; /* the loop comes again: an iovec may be empty */
	}
	n = s->segment_left;
	if (n > s->left)
		n = s->left;
	if (n > DT_WINDOW)
		n = DT_WINDOW;
	/* clang compares a half of the register and passes the whole */
	dt_opaque_value(n);
	if (n > DT_WINDOW)
		return -1;
	if (dt_read_user(s->buf, n, s->segment)) {
		s->fault = 1;
		s->opaque = 1;
		return -1;
	}
	s->segment += n;
	s->segment_left -= n;
	s->pos = 0;
	s->end = n;
	return 0;
}

/* Gets the chunk's first bytes into the window. An iovec may be empty: looks at a few. */
static __noinline int dt_fill_first(struct dt_scratch *s)
{
	for (int i = 0; i < 4; i++)
		if (s->pos < s->end || dt_fill(s))
			break;
	return s->pos < s->end;
}

/* Passes over up to n bytes, at most to the end of the segment. Gives how many. */
static __always_inline __u64 dt_pass(struct dt_scratch *s, __u64 n)
{
	__u64 have = s->end - s->pos;

	if (n > s->left)
		n = s->left;
	if (s->opaque) {
		s->pos = s->end = 0;
	} else if (n <= have) {
		s->pos += n;
	} else {
		n -= have;
		if (n > s->segment_left)
			n = s->segment_left;
		s->segment += n;
		s->segment_left -= n;
		n += have;
		s->pos = s->end = 0;
	}
	s->left -= n;
	s->offset += n;
	return n;
}
