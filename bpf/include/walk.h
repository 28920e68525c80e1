/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What every protocol's walker is made of. A protocol takes one step at a time on the window: it
 * moves s->pos on and says what happened. It holds no state but struct dt_walker, so a message may
 * be cut at any byte. Pure: compiled for user space by tests/host.
 */
#pragma once

#include "chunk.h"

enum dt_event {
	DT_GO_ON = 0,
	DT_MESSAGE_END,	   /* of a call or of its answer */
	DT_NOT_A_CALL_END, /* of a message that belongs to no call */
	DT_RESPONSE_HEAD,  /* HTTP: what follows depends on the request */
	DT_TUNNEL,	   /* the message ended and the connection is something else now */
	DT_FOREIGN,	   /* the connection goes on in a way that calls can not be told in */
	DT_BAD,		   /* the protocol's rules are broken */
};

/* Below that a signature has a meaning of its own (enum dt_signature). */
static __always_inline __u64 dt_signature_of(__u64 hash)
{
	hash ^= hash >> 32;
	return hash >= DT_SIGNATURE_HASHES ? hash : hash + DT_SIGNATURE_HASHES;
}

#define DT_BYTES8(a, b, c, d, e, f, g, h)                                                          \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)
#define DT_LOWER8 0x2020202020202020ULL

static __always_inline __u8 dt_byte(const struct dt_scratch *s, __u32 pos)
{
	return s->buf[pos & DT_WINDOW_MASK];
}

/* Eight bytes from a place of the window; behind s->end they are stale. */
static __always_inline __u64 dt_word(const struct dt_scratch *s, __u32 pos)
{
	return *(const __u64 *)&s->buf[pos & DT_WINDOW_MASK];
}

enum dt_line_bound {
	/* words searched for a newline in one step: a usual header line */
	DT_LINE_WORDS = 8,
	/* bytes of a token in one step */
	DT_TOKEN_BYTES = 8,
};

/* Moves behind the next newline or as far as one step goes; 1 when it was found. */
static __always_inline int dt_skip_line(struct dt_scratch *s)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u32 pos = s->pos, end = s->end;

	for (int i = 0; i < DT_LINE_WORDS && pos < end; i++) {
		__u64 x = dt_word(s, pos) ^ (ones * '\n');
		__u64 match = (x - ones) & ~x & (ones << 7);

		if (match) {
			/* bytes up to the first match, counted by their low bits */
			pos += ((((match ^ (match - 1)) >> 7) & ones) * ones) >> 56;
			if (pos > end)
				break; /* in the stale bytes */
			s->pos = pos;
			return 1;
		}
		pos += 8;
	}
	s->pos = pos < end ? pos : end;
	return 0;
}

/* Begins a message at the window's place. */
static __always_inline void dt_begin(struct dt_walker *m, const struct dt_scratch *s)
{
	m->bytes = 0;
	m->body_bytes = 0;
	m->offset = s->offset;
	m->first_ns = s->now;
	m->hash = DT_HASH_START;
	m->word = 0;
	m->number = 0;
	m->left = 0;
	m->outcome = 0;
	m->flags = 0;
	m->at = 0;
	m->segment = 0;
	m->carry_bytes = 0;
}
