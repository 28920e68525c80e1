/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * HTTP/1.0 and HTTP/1.1 (RFC 9112). One at a time or pipelined, matched by order.
 *
 * Of a head only what decides the framing is read: the first line (http_line.h), content-length and
 * transfer-encoding, and one header with a trace context. The other lines are passed over eight
 * bytes at a time.
 */
#pragma once

#include "http_line.h"

enum dt_http_name_bound {
	DT_NAME_WINDOW = 24, /* bytes looked at to tell a header's name */
	DT_NAME_BYTES = 20,  /* the longest name looked for, "transfer-encoding:", and a little */
};

static __always_inline int dt_http_is(__u64 word, __u64 name, __u64 mask)
{
	return ((word | DT_LOWER8) & mask) == name;
}

/* The phase that a header's name asks for. name: its first 24 bytes, stale behind the colon. */
static __always_inline int dt_http_header(const __u64 *name, int is_request)
{
	__u64 first = name[0], second = name[1];

	switch ((__u8)first | 0x20) {
	case 'c':
		if (dt_http_is(first, DT_BYTES8('c', 'o', 'n', 't', 'e', 'n', 't', '-'), ~0ULL) &&
		    dt_http_is(second, DT_BYTES8('l', 'e', 'n', 'g', 't', 'h', ':', 0), ~0ULL >> 8))
			return DT_HTTP_LENGTH;
		break;
	case 't':
		if (dt_http_is(first, DT_BYTES8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'), ~0ULL) &&
		    dt_http_is(second, DT_BYTES8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'), ~0ULL) &&
		    dt_http_is(name[2], DT_BYTES8('g', ':', 0, 0, 0, 0, 0, 0), 0xffff))
			return DT_HTTP_CODING;
		if (is_request &&
		    dt_http_is(first, DT_BYTES8('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r'), ~0ULL) &&
		    dt_http_is(second, DT_BYTES8('e', 'n', 't', ':', 0, 0, 0, 0), ~0ULL >> 32))
			return DT_HTTP_TRACE;
		break;
	case 'x':
		if (is_request &&
		    dt_http_is(first, DT_BYTES8('x', '-', 'b', '3', '-', 't', 'r', 'a'), ~0ULL) &&
		    dt_http_is(second, DT_BYTES8('c', 'e', 'i', 'd', ':', 0, 0, 0), ~0ULL >> 24))
			return DT_HTTP_TRACE;
		break;
	case 'b':
		if (is_request &&
		    dt_http_is(first, DT_BYTES8('b', '3', ':', 0, 0, 0, 0, 0), ~0ULL >> 40))
			return DT_HTTP_TRACE;
		break;
	case 's':
		if (is_request &&
		    dt_http_is(first, DT_BYTES8('s', 'w', '8', ':', 0, 0, 0, 0), ~0ULL >> 32))
			return DT_HTTP_TRACE;
		break;
	case 'e':
		if (is_request &&
		    dt_http_is(first, DT_BYTES8('e', 'x', 'p', 'e', 'c', 't', ':', 0), ~0ULL >> 8))
			return DT_HTTP_FIRST_LINE; /* stands for: expects */
		break;
	}
	return DT_HTTP_LINE;
}

/* Enters the phase of the header whose name has been read. */
static __always_inline void dt_http_enter(struct dt_walker *m, struct dt_flight *f, int phase)
{
	if (phase == DT_HTTP_FIRST_LINE) {
		m->flags |= DT_HTTP_EXPECT;
		phase = DT_HTTP_LINE;
	}
	if (phase == DT_HTTP_LENGTH)
		m->number = 0;
	if (phase == DT_HTTP_CODING) {
		m->word = 0;
		m->flags |= DT_HTTP_HAS_CODING;
	}
	if (phase == DT_HTTP_TRACE) {
		/* W3C's own is the one to keep when there are several */
		if (f->trace_bytes && (f->trace[0] | 0x20) == 't')
			phase = DT_HTTP_LINE;
		else
			f->trace_bytes = 0;
	}
	m->phase = phase;
}

/* The connection ends: of a body that was announced, what came is what counts. */
static __always_inline void dt_http_cut_off(struct dt_walker *m)
{
	if (m->phase >= DT_PHASE_PROTOCOL && m->phase < DT_HTTP_CHUNK_SIZE)
		m->body_bytes = 0; /* the head itself is cut off */
	else if (m->phase == DT_PHASE_UNTIL_CLOSE)
		m->body_bytes = ~0ULL - m->skip;
	else if (m->phase == DT_PHASE_BODY)
		m->body_bytes -= m->skip;
	else if (m->phase == DT_HTTP_CHUNK_SIZE && m->skip > 2)
		m->body_bytes -= m->skip - 2;
	m->skip = 0;
}

/* The head is complete: what follows, for a request. */
static __always_inline int dt_http_request_body(struct dt_walker *m)
{
	if (m->flags & DT_HTTP_ODD) {
		m->body_bytes = 0;
		m->phase = DT_HTTP_CHUNK_SIZE; /* behind the head */
		return DT_BAD;
	}
	if (m->flags & DT_HTTP_CHUNKED) {
		m->body_bytes = 0;
		m->number = 0;
		m->phase = DT_HTTP_CHUNK_SIZE;
		m->flags &= ~DT_HTTP_DIGITS;
		return DT_GO_ON;
	}
	if (!(m->flags & DT_HTTP_HAS_LENGTH) || !m->body_bytes)
		return DT_MESSAGE_END;
	m->skip = m->body_bytes;
	m->phase = DT_PHASE_BODY;
	return DT_GO_ON;
}

/* The same for a response to a request with these flags of its tag. */
static __always_inline int dt_http_response_body(struct dt_walker *m, __u32 tag)
{
	__u16 status = m->outcome;

	if (status == 101 || ((tag & DT_TAG_CONNECT) && status / 100 == 2))
		return DT_TUNNEL;
	if (status < 200) { /* interim: the final response follows */
		m->phase = DT_HTTP_STATUS;
		m->at = 0;
		m->outcome = 0;
		m->flags = 0;
		m->body_bytes = 0;
		m->first_ns = 0;
		return DT_GO_ON;
	}
	if ((tag & DT_TAG_HEAD) || status == 204 || status == 304) {
		m->body_bytes = 0;
		return DT_MESSAGE_END;
	}
	if (!(m->flags & DT_HTTP_ODD) &&
	    (m->flags & DT_HTTP_CHUNKED ||
	     (m->flags & DT_HTTP_HAS_LENGTH && !(m->flags & DT_HTTP_HAS_CODING))))
		return dt_http_request_body(m);
	m->body_bytes = 0;
	m->phase = DT_PHASE_UNTIL_CLOSE;
	m->skip = ~0ULL;
	return DT_GO_ON;
}

static __always_inline int dt_http_name(struct dt_walker *m, struct dt_scratch *s,
					struct dt_flight *f, int is_request)
{
	__u8 c = dt_byte(s, s->pos);
	__u64 name[3];
	int phase;

	if (!m->carry_bytes) {
		if (c == '\r') {
			s->pos++;
			return DT_GO_ON;
		}
		if (c == '\n') {
			s->pos++;
			return is_request ? dt_http_request_body(m) : DT_RESPONSE_HEAD;
		}
		if (s->end - s->pos >= DT_NAME_WINDOW) {
			name[0] = dt_word(s, s->pos);
			name[1] = dt_word(s, s->pos + 8);
			name[2] = dt_word(s, s->pos + 16);
			phase = dt_http_header(name, is_request);
			if (phase == DT_HTTP_LINE) {
				m->phase = dt_skip_line(s) ? DT_HTTP_NAME : DT_HTTP_LINE;
				return DT_GO_ON;
			}
			dt_http_enter(m, f, phase);
			/* a trace line is kept with its name; values begin behind the name */
			if (phase == DT_HTTP_LENGTH)
				s->pos += 15;
			else if (phase == DT_HTTP_CODING)
				s->pos += 18;
			return DT_GO_ON;
		}
	}
	/* The window ends near: gather the name byte by byte, it may go on in the next chunk. */
	s->pos++;
	if (m->carry_bytes >= DT_CARRY)
		return DT_BAD; /* never */
	m->carry[m->carry_bytes++] = c;
	if (c != ':' && c != '\n' && m->carry_bytes < DT_NAME_BYTES)
		return DT_GO_ON;
	name[0] = *(__u64 *)&m->carry[0];
	name[1] = *(__u64 *)&m->carry[8];
	name[2] = *(__u64 *)&m->carry[16];
	phase = c == '\n' ? DT_HTTP_LINE : dt_http_header(name, is_request);
	dt_http_enter(m, f, phase);
	if (m->phase == DT_HTTP_TRACE) {
		for (int i = 0; i < DT_NAME_BYTES; i++)
			f->trace[i] = m->carry[i];
		f->trace_bytes = m->carry_bytes;
	}
	if (c == '\n')
		m->phase = DT_HTTP_NAME;
	m->carry_bytes = 0;
	*(__u64 *)&m->carry[0] = 0;
	*(__u64 *)&m->carry[8] = 0;
	*(__u64 *)&m->carry[16] = 0;
	return DT_GO_ON;
}

/* A length: digits, with spaces around. */
static __always_inline int dt_http_length(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		s->pos++;
		if (c == '\n') {
			m->body_bytes = m->number;
			m->flags |= DT_HTTP_HAS_LENGTH;
			m->phase = DT_HTTP_NAME;
			return DT_GO_ON;
		}
		if (c >= '0' && c <= '9') {
			if (m->number > (1ULL << 58))
				m->flags |= DT_HTTP_ODD;
			m->number = m->number * 10 + (c - '0');
		} else if (c == ',') {
			m->number = 0; /* a repeated list of one value, RFC 9112 6.3 */
		} else if (c != ' ' && c != '\t' && c != '\r') {
			m->flags |= DT_HTTP_ODD;
		}
	}
	return DT_GO_ON;
}

/* A list of codings; only the last one matters. */
static __always_inline int dt_http_coding(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		s->pos++;
		if (c == '\n') {
			/* "chunked", the last byte lowest */
			if ((m->word & (~0ULL >> 8)) == 0x6368756e6b6564ULL)
				m->flags |= DT_HTTP_CHUNKED;
			m->phase = DT_HTTP_NAME;
			return DT_GO_ON;
		}
		if (c != ' ' && c != '\t' && c != '\r')
			m->word = m->word << 8 | (c | 0x20);
	}
	return DT_GO_ON;
}

static __always_inline int dt_http_trace(struct dt_walker *m, struct dt_scratch *s,
					 struct dt_flight *f)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);
		__u32 n = f->trace_bytes;

		s->pos++;
		if (c == '\n') {
			m->phase = DT_HTTP_NAME;
			return DT_GO_ON;
		}
		if (c != '\r' && n < DT_TRACE_BYTES) {
			f->trace[n] = c;
			f->trace_bytes = n + 1;
		}
	}
	return DT_GO_ON;
}

/* Hexadecimal digits, then an extension or the end of the line. */
static __always_inline int dt_http_chunk_size(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos), lower = c | 0x20;

		if (c >= '0' && c <= '9')
			m->number = m->number << 4 | (c - '0');
		else if (lower >= 'a' && lower <= 'f')
			m->number = m->number << 4 | (lower - 'a' + 10);
		else if ((c == ';' || c == ' ' || c == '\t' || c == '\r' || c == '\n') &&
			 m->flags & DT_HTTP_DIGITS) {
			m->phase = DT_HTTP_CHUNK_LINE;
			return DT_GO_ON;
		} else
			return DT_BAD;
		if (m->number > (1ULL << 58))
			return DT_BAD;
		m->flags |= DT_HTTP_DIGITS;
		s->pos++;
	}
	return DT_GO_ON;
}

static __always_inline int dt_http_chunk_line(struct dt_walker *m, struct dt_scratch *s)
{
	if (!dt_skip_line(s))
		return DT_GO_ON;
	m->flags &= ~DT_HTTP_DIGITS;
	if (!m->number) {
		m->phase = DT_HTTP_TRAILER;
		return DT_GO_ON;
	}
	m->body_bytes += m->number;
	m->skip = m->number + 2; /* and its CRLF */
	m->number = 0;
	m->phase = DT_HTTP_CHUNK_SIZE;
	return DT_GO_ON;
}

static __always_inline int dt_http_trailer(struct dt_walker *m, struct dt_scratch *s)
{
	__u8 c = dt_byte(s, s->pos);

	if (c == '\n') {
		s->pos++;
		return DT_MESSAGE_END;
	}
	if (c == '\r')
		s->pos++;
	else
		m->phase = DT_HTTP_TRAILER_LINE;
	return DT_GO_ON;
}

/* One step of either direction. The window is not empty. */
static __always_inline int dt_http_step(struct dt_walker *m, struct dt_scratch *s,
					struct dt_flight *f, int is_request)
{
	switch (m->phase) {
	case DT_PHASE_START:
		/* an empty line before a request is to be passed over, RFC 9112 2.2; servers that
		 * write one too many behind a body are understood as well */
		if (dt_byte(s, s->pos) == '\r' || dt_byte(s, s->pos) == '\n') {
			s->pos++;
			m->offset++; /* wherever the chunk ends: its name is where it begins */
			return DT_GO_ON;
		}
		if (is_request && !dt_byte(s, s->pos) && !m->ordinal) {
			m->number = 0;
			m->phase = DT_HTTP_PREAMBLE;
			return dt_http_preamble(m, s);
		}
		if (is_request && s->end - s->pos >= 4 &&
		    (__u32)dt_word(s, s->pos) == DT_BYTES8('G', 'E', 'T', ' ', 0, 0, 0, 0)) {
			dt_path_begin(
				m, dt_hash(dt_hash(dt_hash(dt_hash(DT_HASH_START, 'G'), 'E'), 'T'),
					   ' '));
			m->at = 3;
			m->phase = DT_HTTP_PATH;
			s->pos += 4;
			return DT_GO_ON;
		}
		if (is_request) {
			m->phase = DT_HTTP_METHOD;
			return dt_http_method(m, s);
		}
		m->phase = DT_HTTP_STATUS;
		return dt_http_status(m, s);
	case DT_HTTP_METHOD:
		return dt_http_method(m, s);
	case DT_HTTP_PATH:
		return dt_http_path(m, s);
	case DT_HTTP_PARAMETERS:
		return dt_http_parameters(m, s);
	case DT_HTTP_VERSION:
		return dt_http_version(m, s, f);
	case DT_HTTP_STATUS:
		return dt_http_status(m, s);
	case DT_HTTP_NAME:
		return dt_http_name(m, s, f, is_request);
	case DT_HTTP_FIRST_LINE:
	case DT_HTTP_LINE:
		if (dt_skip_line(s))
			m->phase = DT_HTTP_NAME;
		return DT_GO_ON;
	case DT_HTTP_LENGTH:
		return dt_http_length(m, s);
	case DT_HTTP_CODING:
		return dt_http_coding(m, s);
	case DT_HTTP_TRACE:
		return dt_http_trace(m, s, f);
	case DT_HTTP_CHUNK_SIZE:
		return dt_http_chunk_size(m, s);
	case DT_HTTP_CHUNK_LINE:
		return dt_http_chunk_line(m, s);
	case DT_HTTP_TRAILER:
		return dt_http_trailer(m, s);
	case DT_HTTP_PREAMBLE:
		return dt_http_preamble(m, s);
	case DT_HTTP_TRAILER_LINE:
		if (dt_skip_line(s))
			m->phase = DT_HTTP_TRAILER;
		return DT_GO_ON;
	}
	return DT_BAD;
}

/* What of a message cannot be told where it ends. A request ends with what was read of it, and the
 * rest belongs to none; a response lasts until the connection's end. */
static __always_inline int dt_http_is_odd(const struct dt_walker *m)
{
	return m->phase >= DT_HTTP_CHUNK_SIZE && m->phase <= DT_HTTP_TRAILER_LINE;
}

enum dt_http_run {
	/* Steps in one call. A call's return costs as much as a step where the processor must
	 * guard it (SRSO); more steps cost the verifier. */
	DT_HTTP_RUN = 4,
};

/* Steps until something happens, a body begins or the window is used up. Not static, so that the
 * verifier looks at it once. */
__noinline int dt_http_run(struct dt_walker *m, struct dt_scratch *s, struct dt_flight *f,
			   int is_request)
{
	int event = DT_GO_ON;

	if (!m || !s || !f)
		return DT_BAD;
	for (int i = 0; i < DT_HTTP_RUN; i++) {
		dt_forget_values();
		event = dt_http_step(m, s, f, is_request);
		if (event || m->skip || s->pos >= s->end || m->phase == DT_PHASE_START)
			break;
	}
	return event;
}
