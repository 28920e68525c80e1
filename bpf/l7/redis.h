/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Redis: RESP2 and RESP3 (redis.io/docs/reference/protocol-spec). Pipelined, matched by order.
 *
 * A reply's end is found with one counter: each value takes one off the values still to come, and
 * an aggregate adds its own. What answers no command is told apart: RESP3 pushes, RESP2 pub/sub
 * messages (an array whose first element is their kind), everything after MONITOR. Connections
 * on which replies are switched off or that become a replication link are foreign.
 */
#pragma once

#include "walk.h"

enum dt_redis_phase {
	DT_REDIS_ARGS = DT_PHASE_PROTOCOL, /* how many */
	DT_REDIS_BULK,			   /* '$' */
	DT_REDIS_LENGTH,
	DT_REDIS_COMMAND,
	DT_REDIS_INLINE,
	DT_REDIS_INLINE_REST,
	DT_REDIS_TYPE,
	DT_REDIS_COUNT,
	DT_REDIS_LINE,
	DT_REDIS_ERROR,
	DT_REDIS_KIND,
	DT_REDIS_VALUE, /* of one line: its first byte */
};

enum dt_redis_flag {
	DT_REDIS_NAMED = 1,	/* requests: the command has been read */
	DT_REDIS_ATTRIBUTE = 1, /* responses: attributes, the value they belong to follows */
	DT_REDIS_NEGATIVE = 2,	/* the number being read */
	DT_REDIS_DIGITS = 4,
	DT_REDIS_INNER = 8,    /* not the reply's outermost value */
	DT_REDIS_NO_CALL = 16, /* this message belongs to no call */
	DT_REDIS_CLIENT = 32,  /* the command is CLIENT: its second word matters */
	DT_REDIS_IS_MONITOR = 64,
	DT_REDIS_FOREIGN = 128,
};

enum dt_redis_bound {
	DT_REDIS_MAX_NUMBER = 0x3fffffff, /* twice the server's largest bulk string */
	DT_REDIS_MAX_COMMAND = 64,
	DT_REDIS_MAX_INLINE = 20, /* letters of a first command; the longest has 17 */
};

/* What a request must be while the connection is not known to speak Redis. */
enum dt_redis_strict {
	DT_REDIS_ANY = 0,
	DT_REDIS_LETTERS = 1, /* an array, or an inline command that begins with a letter */
	DT_REDIS_ARRAY = 2,
};

/* How replies are read. */
enum dt_redis_how {
	DT_REDIS_PUBSUB = 1,  /* messages may come that answer no request */
	DT_REDIS_DOUBTED = 2, /* nothing but an inline command says that this is Redis */
};

static __always_inline int dt_redis_is_request(__u8 c)
{
	return c == '*';
}

static __always_inline int dt_redis_is_letter(__u8 c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Is the window's place the beginning of a line that opens a connection by an inline command? Other
 * protocols begin alike; an answer must show it. In the middle of a connection it may be a line of
 * a text, but for a health check's PING. A function of its own for its loop. */
__noinline int dt_redis_may_be_inline(struct dt_scratch *s, int is_first)
{
	if (!s)
		return 0;
	if (!is_first &&
	    (__u32)dt_word(s, s->pos) != (__u32)DT_BYTES8('P', 'I', 'N', 'G', 0, 0, 0, 0))
		return 0;
	for (__u32 i = 0; i <= DT_REDIS_MAX_INLINE && s->pos + i < s->end; i++) {
		__u8 c = dt_byte(s, s->pos + i);

		if (c == ' ' || c == '\r' || c == '\n')
			return i > 1;
		if (!dt_redis_is_letter(c))
			return 0;
	}
	return 0;
}

static __always_inline int dt_redis_is_response(__u8 c)
{
	switch (c) {
	case '+':
	case '-':
	case ':':
	case '$':
	case '*':
	case '_':
	case '#':
	case ',':
	case '(':
	case '!':
	case '=':
	case '%':
	case '~':
	case '>':
	case '|':
		return 1;
	}
	return 0;
}

static __always_inline void dt_redis_command_end(struct dt_walker *m)
{
	switch (m->word) {	    /* the last eight bytes of the word, the last one lowest */
	case 0x5542534352494245ULL: /* (UN|P|S|...)SUBSCRIBE */
		m->flags |= DT_REDIS_NO_CALL;
		break;
	case 0x4d4f4e49544f52ULL: /* MONITOR */
		m->flags |= DT_REDIS_NO_CALL | DT_REDIS_IS_MONITOR;
		break;
	case 0x5053594e43ULL: /* PSYNC */
	case 0x53594e43ULL:   /* SYNC */
		m->flags |= DT_REDIS_FOREIGN;
		break;
	case 0x434c49454e54ULL: /* CLIENT */
		m->flags |= DT_REDIS_CLIENT;
		break;
	}
	m->hash = dt_signature_of(m->hash);
	m->flags |= DT_REDIS_NAMED;
	m->word = 0;
}

/* One byte of a command's name, as a capital. */
static __always_inline void dt_redis_command_byte(struct dt_walker *m, __u8 c)
{
	if (c >= 'a' && c <= 'z')
		c -= 0x20;
	m->word = m->word << 8 | c;
	if (m->flags & DT_REDIS_NAMED)
		return;
	m->hash = dt_hash(m->hash, c);
	/* the name itself, for user space */
	if (m->carry_bytes < DT_CARRY) {
		m->carry[m->carry_bytes++] = c;
	}
}

/* A decimal number and the end of its line. 1: read; 0: goes on; -1: none. */
static __always_inline int dt_redis_number(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		s->pos++;
		if (c >= '0' && c <= '9') {
			m->number = m->number * 10 + (c - '0');
			m->flags |= DT_REDIS_DIGITS;
			if (m->number > DT_REDIS_MAX_NUMBER)
				return -1;
		} else if (c == '\n') {
			return m->flags & DT_REDIS_DIGITS ? 1 : -1;
		} else if (c == '-' && !(m->flags & DT_REDIS_DIGITS)) {
			m->flags |= DT_REDIS_NEGATIVE;
		} else if (c != '\r') {
			return -1;
		}
	}
	return 0;
}

static __always_inline void dt_redis_expect_number(struct dt_walker *m, int phase)
{
	m->number = 0;
	m->flags &= ~(DT_REDIS_DIGITS | DT_REDIS_NEGATIVE);
	m->phase = phase;
}

static __always_inline int dt_redis_request_end(struct dt_walker *m)
{
	return m->flags & DT_REDIS_FOREIGN   ? DT_FOREIGN
	       : m->flags & DT_REDIS_NO_CALL ? DT_NOT_A_CALL_END
					     : DT_MESSAGE_END;
}

/* Passes over what is left of an argument; the message ends with the last one. */
static __always_inline void dt_redis_argument_end(struct dt_walker *m, __u64 skip)
{
	m->skip = skip;
	m->left--;
	m->phase = m->left ? DT_REDIS_BULK : DT_PHASE_BODY;
}

static __always_inline int dt_redis_command(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end && m->number; i++) {
		dt_redis_command_byte(m, dt_byte(s, s->pos));
		s->pos++;
		m->number--;
	}
	if (m->number)
		return DT_GO_ON;
	if (m->flags & DT_REDIS_NAMED) { /* CLIENT's second word */
		m->flags &= ~DT_REDIS_CLIENT;
		if (m->word == 0x5245504c59ULL) /* REPLY */
			m->flags |= DT_REDIS_FOREIGN;
		dt_redis_argument_end(m, 2);
		return DT_GO_ON;
	}
	dt_redis_command_end(m);
	dt_redis_argument_end(m, 2);
	return DT_GO_ON;
}

static __always_inline int dt_redis_inline(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		if (c == ' ' || c == '\r' || c == '\n') {
			if (!m->at)
				return DT_BAD;
			dt_redis_command_end(m);
			m->phase = DT_REDIS_INLINE_REST;
			return DT_GO_ON;
		}
		if (c < '!' || c > '~' || m->at >= DT_REDIS_MAX_COMMAND)
			return DT_BAD;
		dt_redis_command_byte(m, c);
		m->at++;
		s->pos++;
	}
	return DT_GO_ON;
}

static __always_inline int dt_redis_request_step(struct dt_walker *m, struct dt_scratch *s,
						 int strict)
{
	__u8 c = dt_byte(s, s->pos);
	int read;

	switch (m->phase) {
	case DT_PHASE_START:
		if (c == '*') {
			s->pos++;
			dt_redis_expect_number(m, DT_REDIS_ARGS);
			return DT_GO_ON;
		}
		if (c == '\r' || c == '\n') { /* an empty inline command: no reply */
			s->pos++;
			m->offset++;
			return DT_GO_ON;
		}
		if (strict == DT_REDIS_ARRAY || (strict && !dt_redis_is_letter(c)))
			return DT_BAD;
		m->phase = DT_REDIS_INLINE;
		return dt_redis_inline(m, s);
	case DT_REDIS_ARGS:
		read = dt_redis_number(m, s);
		if (read <= 0)
			return read ? DT_BAD : DT_GO_ON;
		if (m->flags & DT_REDIS_NEGATIVE || !m->number)
			return DT_NOT_A_CALL_END; /* no reply */
		m->left = m->number;
		m->phase = DT_REDIS_BULK;
		return DT_GO_ON;
	case DT_REDIS_BULK:
		if (c != '$')
			return DT_BAD;
		s->pos++;
		dt_redis_expect_number(m, DT_REDIS_LENGTH);
		return DT_GO_ON;
	case DT_REDIS_LENGTH:
		read = dt_redis_number(m, s);
		if (read <= 0)
			return read ? DT_BAD : DT_GO_ON;
		if (m->flags & DT_REDIS_NEGATIVE)
			return DT_BAD;
		if (m->flags & DT_REDIS_NAMED && (!(m->flags & DT_REDIS_CLIENT) || !m->number ||
						  m->number > DT_REDIS_MAX_COMMAND)) {
			m->flags &= ~DT_REDIS_CLIENT;
			dt_redis_argument_end(m, m->number + 2);
			return DT_GO_ON;
		}
		if (m->number > DT_REDIS_MAX_COMMAND || !m->number)
			return DT_BAD;
		m->phase = DT_REDIS_COMMAND;
		return DT_GO_ON;
	case DT_REDIS_COMMAND:
		return dt_redis_command(m, s);
	case DT_REDIS_INLINE:
		return dt_redis_inline(m, s);
	case DT_REDIS_INLINE_REST:
		return dt_skip_line(s) ? dt_redis_request_end(m) : DT_GO_ON;
	}
	return DT_BAD;
}

/* From an error's first eight letters, the first one highest. */
static __always_inline __u16 dt_redis_outcome(__u64 word)
{
	switch (word >> 32) {
	case 0x45525220:
		return DT_REDIS_ERR; /* "ERR " */
	case 0x57524f4e:	     /* WRON, GPASS or GTYPE */
		return (__u32)word == 0x47504153 ? DT_REDIS_WRONGPASS : DT_REDIS_WRONGTYPE;
	case 0x4d4f5645:
		return DT_REDIS_MOVED;
	case 0x41534b20:
		return DT_REDIS_ASK;
	case 0x4e4f4155:
		return DT_REDIS_NOAUTH;
	case 0x4e4f5045:
		return DT_REDIS_NOPERM;
	case 0x4f4f4d20:
		return DT_REDIS_OOM;
	case 0x42555359:
		return DT_REDIS_BUSY;
	case 0x4c4f4144:
		return DT_REDIS_LOADING;
	case 0x4e4f5343:
		return DT_REDIS_NOSCRIPT;
	case 0x45584543:
		return DT_REDIS_EXECABORT;
	case 0x52454144:
		return DT_REDIS_READONLY;
	case 0x4d495343:
		return DT_REDIS_MISCONF;
	case 0x434c5553:
		return DT_REDIS_CLUSTERDOWN;
	case 0x54525941:
		return DT_REDIS_TRYAGAIN;
	case 0x4d415354:
		return DT_REDIS_MASTERDOWN;
	}
	return DT_REDIS_OTHER;
}

static __always_inline int dt_redis_response_end(struct dt_walker *m)
{
	return m->flags & DT_REDIS_NO_CALL ? DT_NOT_A_CALL_END : DT_MESSAGE_END;
}

/* A value is over (but for `skip` bytes). */
static __always_inline int dt_redis_value_end(struct dt_walker *m, __u64 skip)
{
	m->left--;
	if (m->flags & DT_REDIS_ATTRIBUTE && m->left == 1)
		m->flags &= ~(DT_REDIS_ATTRIBUTE | DT_REDIS_INNER);
	else
		m->flags |= DT_REDIS_INNER;
	m->skip = skip;
	if (m->left) {
		m->phase = DT_REDIS_TYPE;
		return DT_GO_ON;
	}
	if (skip) {
		m->phase = DT_PHASE_BODY;
		return DT_GO_ON;
	}
	return dt_redis_response_end(m);
}

static __always_inline int dt_redis_counted(struct dt_walker *m, int pubsub)
{
	__u64 n = m->flags & DT_REDIS_NEGATIVE ? 0 : m->number;
	int outermost = !(m->flags & DT_REDIS_INNER);

	switch (m->segment) { /* the value's type */
	case '$':
	case '!':
	case '=':
		if (m->flags & DT_REDIS_NEGATIVE)
			return dt_redis_value_end(m, 0);
		if (m->segment == '!' && outermost)
			m->outcome = DT_REDIS_OTHER;
		if (m->at == 1 && pubsub && n && n <= 16) { /* first of the outermost array */
			m->at = 2;
			m->word = 0;
			m->number = n;
			m->phase = DT_REDIS_KIND;
			return DT_GO_ON;
		}
		m->at = 2;
		return dt_redis_value_end(m, n + 2);
	case '%':
		n *= 2;
		break;
	case '|': /* attributes come before the value they belong to */
		n = n * 2 + 1;
		break;
	}
	if (n > DT_REDIS_MAX_NUMBER || m->left + n > DT_REDIS_MAX_NUMBER)
		return DT_BAD;
	if (outermost && m->segment == '*')
		m->at = 1;
	m->left += n;
	if (m->segment == '|') {
		m->left--;
		if (outermost && n > 1)
			m->flags |= DT_REDIS_ATTRIBUTE | DT_REDIS_INNER;
		m->phase = DT_REDIS_TYPE;
		return DT_GO_ON;
	}
	return dt_redis_value_end(m, 0);
}

static __always_inline int dt_redis_kind(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end && m->number; i++) {
		m->word = m->word << 8 | (dt_byte(s, s->pos) | 0x20);
		s->pos++;
		m->number--;
	}
	if (m->number)
		return DT_GO_ON;
	switch (m->word) {
	case 0x6d657373616765ULL:   /* message */
	case 0x706d657373616765ULL: /* pmessage */
	case 0x736d657373616765ULL: /* smessage */
	case 0x7562736372696265ULL: /* ...ubscribe */
		m->flags |= DT_REDIS_NO_CALL;
	}
	return dt_redis_value_end(m, 2);
}

static __always_inline int dt_redis_type(struct dt_walker *m, struct dt_scratch *s)
{
	__u8 c = dt_byte(s, s->pos);

	s->pos++;
	m->segment = c;
	switch (c) {
	case '-':
		m->word = 0;
		m->number = 0;
		m->phase = DT_REDIS_ERROR;
		return DT_GO_ON;
	case '+':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		m->at = 2;
		m->phase = DT_REDIS_VALUE;
		return DT_GO_ON;
	case '>':
		if (m->flags & DT_REDIS_INNER)
			return DT_BAD;
		m->flags |= DT_REDIS_NO_CALL;
		dt_redis_expect_number(m, DT_REDIS_COUNT);
		return DT_GO_ON;
	case '$':
	case '!':
	case '=':
	case '*':
	case '~':
	case '%':
	case '|':
		dt_redis_expect_number(m, DT_REDIS_COUNT);
		return DT_GO_ON;
	}
	return DT_BAD;
}

static __always_inline int dt_redis_error(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < 8 && s->pos < s->end && m->number < 8; i++) {
		__u8 c = dt_byte(s, s->pos);

		if (c == '\r' || c == '\n')
			c = ' '; /* a bare code */
		else
			s->pos++;
		m->word = m->word << 8 | c;
		m->number++;
	}
	if (m->number < 8)
		return DT_GO_ON;
	if (!(m->flags & DT_REDIS_INNER))
		m->outcome = dt_redis_outcome(m->word);
	m->at = 2;
	m->phase = DT_REDIS_LINE;
	return DT_GO_ON;
}

/* What a value of one line begins with: other protocols have lines with the same mark. */
static __always_inline int dt_redis_value(struct dt_walker *m, struct dt_scratch *s)
{
	__u8 c = dt_byte(s, s->pos), is_digit = c >= '0' && c <= '9';

	switch (m->segment) {
	case ':':
	case '(':
		return is_digit || c == '-' || c == '+' ? DT_GO_ON : DT_BAD;
	case ',': /* inf, nan */
		return is_digit || c == '-' || c == '+' || c == 'i' || c == 'n' ? DT_GO_ON : DT_BAD;
	case '#':
		return c == 't' || c == 'f' ? DT_GO_ON : DT_BAD;
	case '_':
		return c == '\r' || c == '\n' ? DT_GO_ON : DT_BAD;
	}
	return DT_GO_ON;
}

static __always_inline int dt_redis_response_step(struct dt_walker *m, struct dt_scratch *s,
						  int how)
{
	int read;

	switch (m->phase) {
	case DT_PHASE_START:
		m->left = 1;
		return dt_redis_type(m, s);
	case DT_REDIS_TYPE:
		return dt_redis_type(m, s);
	case DT_REDIS_COUNT:
		read = dt_redis_number(m, s);
		if (read <= 0)
			return read ? DT_BAD : DT_GO_ON;
		return dt_redis_counted(m, how & DT_REDIS_PUBSUB);
	case DT_REDIS_VALUE:
		m->phase = DT_REDIS_LINE;
		return how & DT_REDIS_DOUBTED ? dt_redis_value(m, s) : DT_GO_ON;
	case DT_REDIS_LINE:
		return dt_skip_line(s) ? dt_redis_value_end(m, 0) : DT_GO_ON;
	case DT_REDIS_ERROR:
		return dt_redis_error(m, s);
	case DT_REDIS_KIND:
		return dt_redis_kind(m, s);
	}
	return DT_BAD;
}

enum dt_redis_run {
	DT_REDIS_RUN = 4, /* see DT_HTTP_RUN */
};

/* strict: one of enum dt_redis_strict. */
__noinline int dt_redis_request_run(struct dt_walker *m, struct dt_scratch *s, int strict)
{
	int event = DT_GO_ON;

	if (!m || !s)
		return DT_BAD;
	for (int i = 0; i < DT_REDIS_RUN; i++) {
		dt_forget_values();
		event = dt_redis_request_step(m, s, strict);
		if (event || m->skip || s->pos >= s->end)
			break;
	}
	return event;
}

__noinline int dt_redis_response_run(struct dt_walker *m, struct dt_scratch *s, int how)
{
	int event = DT_GO_ON;

	if (!m || !s)
		return DT_BAD;
	for (int i = 0; i < DT_REDIS_RUN; i++) {
		dt_forget_values();
		event = dt_redis_response_step(m, s, how);
		if (event || m->skip || s->pos >= s->end)
			break;
	}
	return event;
}
