/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * HTTP/1.0 and HTTP/1.1 (RFC 9112). One at a time or pipelined, matched by order.
 *
 * Of a head only what decides the framing is read: the request line, content-length and
 * transfer-encoding, and one header with a trace context. The other lines are passed over eight
 * bytes at a time. The signature is a hash over method and path up to '?', where a segment that
 * holds a digit counts as '{}', unless it is a version: 'v' and one or two digits.
 *
 * A request is told by a method that is known, or else by the end of its first line: any token may
 * be a method (RFC 9110, 9.1), so behind one that nobody knows the line must end in " HTTP/1.x".
 */
#pragma once

#include "walk.h"

enum dt_http_phase {
	DT_HTTP_METHOD = DT_PHASE_PROTOCOL,
	DT_HTTP_PATH,
	DT_HTTP_VERSION, /* the rest of a line that must end in one */
	DT_HTTP_STATUS,
	DT_HTTP_FIRST_LINE, /* the rest of it */
	DT_HTTP_NAME,	    /* of a header */
	DT_HTTP_LINE,	    /* the rest of a header's line */
	DT_HTTP_LENGTH,	    /* content-length's value */
	DT_HTTP_CODING,	    /* transfer-encoding's value */
	DT_HTTP_TRACE,
	DT_HTTP_CHUNK_SIZE,
	DT_HTTP_CHUNK_LINE, /* extension, to the end of the line */
	DT_HTTP_TRAILER,
	DT_HTTP_TRAILER_LINE,
};

enum dt_http_bound {
	/* Of a method. The longest one registered has 17 (UPDATEREDIRECTREF); three quarters of a
	 * kept head stay for the path that names the operation. */
	DT_METHOD_BYTES = 64,
	/* Of a line whose method is not known. Servers refuse request lines of 8 to 32 KB; without
	 * a bound a text that has no lines would be looked at to its end. */
	DT_REQUEST_LINE_BYTES = 1 << 16,
	DT_PATH_BYTES = 32,   /* of a path in one step */
	DT_VERSION_BYTES = 8, /* "HTTP/1.1" */
	DT_NAME_WINDOW = 24,  /* bytes looked at to tell a header's name */
	DT_NAME_BYTES = 20,   /* the longest name looked for, "transfer-encoding:", and a little */
};

enum dt_http_flag {
	DT_HTTP_CHUNKED = 1,
	DT_HTTP_HAS_LENGTH = 2,
	DT_HTTP_HAS_CODING = 4,
	DT_HTTP_EXPECT = 8,
	DT_HTTP_IS_HEAD = 16,
	DT_HTTP_IS_CONNECT = 32,
	DT_HTTP_DIGITS = 64,
	DT_HTTP_STRANGE = 128, /* the method is none that is known */
};

/* What a path segment has been so far, and what comes next: a table, because the verifier follows
 * branches on a state that it knows, sixteen bytes deep. */
enum dt_http_segment {
	DT_SEGMENT_START = 0,
	DT_SEGMENT_PLAIN = 1,
	DT_SEGMENT_V = 2, /* "v" */
	DT_SEGMENT_V1 = 3,
	DT_SEGMENT_V12 = 4,
	DT_SEGMENT_DIGIT = 5, /* to be collapsed */
};

enum dt_http_class {
	DT_CLASS_OTHER = 0,
	DT_CLASS_DIGIT = 1,
	DT_CLASS_V = 2,
	DT_CLASS_SLASH = 3,
	DT_CLASS_END = 4,
};

static const __u8 dt_http_classes[256] = {
	[0 ... ' '] = DT_CLASS_END, ['?'] = DT_CLASS_END, ['#'] = DT_CLASS_END,
	['/'] = DT_CLASS_SLASH,	    ['v'] = DT_CLASS_V,	  ['0' ... '9'] = DT_CLASS_DIGIT,
};

/* Not 32 bytes long: clang would put it into a section of its own. */
static const __u8 dt_http_segments[8][8] = {
	[DT_SEGMENT_START] = { DT_SEGMENT_PLAIN, DT_SEGMENT_DIGIT, DT_SEGMENT_V },
	[DT_SEGMENT_PLAIN] = { DT_SEGMENT_PLAIN, DT_SEGMENT_DIGIT, DT_SEGMENT_PLAIN },
	[DT_SEGMENT_V] = { DT_SEGMENT_PLAIN, DT_SEGMENT_V1, DT_SEGMENT_PLAIN },
	[DT_SEGMENT_V1] = { DT_SEGMENT_DIGIT, DT_SEGMENT_V12, DT_SEGMENT_DIGIT },
	[DT_SEGMENT_V12] = { DT_SEGMENT_DIGIT, DT_SEGMENT_DIGIT, DT_SEGMENT_DIGIT },
	[DT_SEGMENT_DIGIT] = { DT_SEGMENT_DIGIT, DT_SEGMENT_DIGIT, DT_SEGMENT_DIGIT },
};

/* What a token is made of (RFC 9110, 5.6.2). */
static const __u8 dt_http_token[256] = {
	['!'] = 1,	   ['#' ... '\''] = 1, ['*'] = 1,	  ['+'] = 1, ['-'] = 1, ['.'] = 1,
	['0' ... '9'] = 1, ['A' ... 'Z'] = 1,  ['^' ... 'z'] = 1, ['|'] = 1, ['~'] = 1,
};

/* "PING": not HTTP's, but an inline one opens a Redis connection. */
#define DT_HTTP_PING 0x50494e47ULL

/* The methods that need no version to be one. word: the last eight of so many bytes, the last one
 * lowest. */
static __always_inline int dt_http_known_method(__u64 word, __u32 bytes)
{
	if (bytes > sizeof(word))
		return 0;
	switch (word) {
	case 0x474554ULL:	    /* GET */
	case 0x505554ULL:	    /* PUT */
	case 0x504f5354ULL:	    /* POST */
	case 0x48454144ULL:	    /* HEAD */
	case 0x434f5059ULL:	    /* COPY */
	case 0x4d4f5645ULL:	    /* MOVE */
	case 0x4c4f434bULL:	    /* LOCK */
	case 0x5041544348ULL:	    /* PATCH */
	case 0x5452414345ULL:	    /* TRACE */
	case 0x4d4b434f4cULL:	    /* MKCOL */
	case 0x5055524745ULL:	    /* PURGE */
	case 0x5155455259ULL:	    /* QUERY */
	case 0x44454c455445ULL:	    /* DELETE */
	case 0x534541524348ULL:	    /* SEARCH */
	case 0x5245504f5254ULL:	    /* REPORT */
	case 0x554e4c4f434bULL:	    /* UNLOCK */
	case 0x4f5054494f4e53ULL:   /* OPTIONS */
	case 0x434f4e4e454354ULL:   /* CONNECT */
	case 0x50524f5046494e44ULL: /* PROPFIND */
		return 1;
	}
	return 0;
}

/* "HTTP/1.x", the last byte lowest. */
static __always_inline int dt_http_is_version(__u64 word)
{
	return word >> 8 == 0x485454502f312eULL && (__u8)((__u8)word - '0') <= 9;
}

/* May a request begin at the window's place? What has not come yet may still make it one. A
 * function of its own for its loops. */
__noinline int dt_http_may_begin(struct dt_scratch *s)
{
	__u32 begin, space, bytes = 0, line;
	__u64 word = 0;
	__u8 c = 0;
	int is_whole = 0;

	if (!s)
		return 0;
	begin = s->pos;
	for (; bytes <= DT_METHOD_BYTES && begin + bytes < s->end; bytes++) {
		c = dt_byte(s, begin + bytes);
		if (!dt_http_token[c])
			break;
		word = word << 8 | c;
	}
	space = begin + bytes;
	if (space >= s->end || word == DT_HTTP_PING)
		return bytes <= DT_METHOD_BYTES;
	if (c != ' ' || !bytes || bytes > DT_METHOD_BYTES)
		return 0;
	if (dt_http_known_method(word, bytes))
		return 1;
	s->pos = space;
	for (int i = 0; i < DT_WINDOW / DT_LINE_WORDS / 8; i++) {
		dt_forget_values();
		is_whole = dt_skip_line(s);
		if (is_whole || s->pos >= s->end)
			break;
	}
	line = s->pos - 1;
	s->pos = begin;
	if (!is_whole)
		return 1;
	if (dt_byte(s, line - 1) == '\r')
		line--;
	/* as dt_http_version sees it: a target, a space and a version */
	line -= DT_VERSION_BYTES;
	return (__s32)(line - 1 - space) > 0 && dt_byte(s, line - 1) == ' ' &&
	       dt_http_is_version(__builtin_bswap64(dt_word(s, line)));
}

static __always_inline int dt_http_path_end(struct dt_walker *m)
{
	if (m->segment == DT_SEGMENT_DIGIT)
		m->hash = dt_hash(dt_hash(m->base, '{'), '}');
	m->hash = dt_signature_of(m->hash);
	m->phase = DT_HTTP_FIRST_LINE;
	if (m->flags & DT_HTTP_STRANGE) {
		m->at = DT_VERSION_BYTES + 1; /* of the last word: no version's */
		m->phase = DT_HTTP_VERSION;
	}
	return DT_GO_ON;
}

/* Goes on in a line whose method is not known, unless that has no end. */
static __always_inline int dt_http_line_goes_on(const struct dt_walker *m)
{
	return m->flags & DT_HTTP_STRANGE && m->bytes > DT_REQUEST_LINE_BYTES ? DT_BAD : DT_GO_ON;
}

static __always_inline int dt_http_path(struct dt_walker *m, struct dt_scratch *s)
{
	__u32 pos = s->pos, end = s->end;
	__u64 hash = m->hash, base = m->base;
	__u8 segment = m->segment, class = 0;

	for (int i = 0; i < DT_PATH_BYTES && pos < end; i++) {
		__u8 c = dt_byte(s, pos);

		class = dt_http_classes[c];
		if (class == DT_CLASS_END)
			break;
		pos++;
		if (class == DT_CLASS_SLASH) {
			if (segment == DT_SEGMENT_DIGIT)
				hash = dt_hash(dt_hash(base, '{'), '}');
			hash = base = dt_hash(hash, c);
		} else {
			hash = dt_hash(hash, c);
		}
		segment = dt_http_segments[segment & 7][class & 7];
	}
	s->pos = pos;
	m->hash = hash;
	m->base = base;
	m->segment = segment;
	return class == DT_CLASS_END ? dt_http_path_end(m) : dt_http_line_goes_on(m);
}

/* The last word of the line must be a version. */
static __always_inline int dt_http_version(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		if (c == '\n') {
			if (m->at != DT_VERSION_BYTES || !dt_http_is_version(m->word))
				return DT_BAD;
			s->pos++;
			m->phase = DT_HTTP_NAME;
			return DT_GO_ON;
		}
		if (c < ' ' && c != '\r')
			return DT_BAD;
		s->pos++;
		if (c == ' ') {
			m->at = 0;
		} else if (c != '\r') {
			m->word = m->word << 8 | c;
			if (m->at <= DT_VERSION_BYTES)
				m->at++;
		}
	}
	return dt_http_line_goes_on(m);
}

/* A token and a space. */
static __always_inline int dt_http_method(struct dt_walker *m, struct dt_scratch *s)
{
	__u32 pos = s->pos, end = s->end;

	for (int i = 0; i < DT_TOKEN_BYTES && pos < end; i++) {
		__u8 c = dt_byte(s, pos);

		pos++;
		if (c == ' ') {
			if (!m->at)
				return DT_BAD;
			if (!dt_http_known_method(m->word, m->at))
				m->flags |= DT_HTTP_STRANGE;
			else if (m->word == 0x48454144ULL)
				m->flags |= DT_HTTP_IS_HEAD;
			else if (m->word == 0x434f4e4e454354ULL)
				m->flags |= DT_HTTP_IS_CONNECT;
			m->hash = dt_hash(m->hash, ' ');
			m->base = m->hash;
			m->phase = DT_HTTP_PATH;
			s->pos = pos;
			return DT_GO_ON;
		}
		if (!dt_http_token[c] || m->at >= DT_METHOD_BYTES)
			return DT_BAD;
		m->at++;
		m->word = m->word << 8 | c;
		m->hash = dt_hash(m->hash, c);
	}
	s->pos = pos;
	return DT_GO_ON;
}

/* "HTTP/1.x SSS" */
static __always_inline int dt_http_status(struct dt_walker *m, struct dt_scratch *s)
{
	const __u64 version = DT_BYTES8('H', 'T', 'T', 'P', '/', '1', '.', 0);

	if (!m->first_ns)
		m->first_ns = s->now; /* of the final response, after an interim one */
	if (!m->at && s->end - s->pos >= 16) {
		__u64 word = dt_word(s, s->pos + 8);
		__u8 a = (__u8)(word >> 8) - '0', b = (__u8)(word >> 16) - '0',
		     d = (__u8)(word >> 24) - '0';

		if ((dt_word(s, s->pos) & (~0ULL >> 8)) != version || (__u8)word != ' ' || a < 1 ||
		    a > 9 || b > 9 || d > 9)
			return DT_BAD;
		m->outcome = a * 100 + b * 10 + d;
		s->pos += 12;
		m->phase = dt_skip_line(s) ? DT_HTTP_NAME : DT_HTTP_FIRST_LINE;
		return DT_GO_ON;
	}
	for (int i = 0; i < 12 && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		s->pos++;
		if (m->at < 7) {
			if (c != ((version >> (m->at * 8)) & 0xff))
				return DT_BAD;
		} else if (m->at == 8) {
			if (c != ' ')
				return DT_BAD;
		} else {
			if (c < '0' || c > '9')
				return DT_BAD;
			if (m->at > 8)
				m->outcome = m->outcome * 10 + (c - '0');
		}
		if (++m->at == 12) {
			m->phase = DT_HTTP_FIRST_LINE;
			return m->outcome >= 100 ? DT_GO_ON : DT_BAD;
		}
	}
	return DT_GO_ON;
}

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
	if (m->flags & DT_HTTP_CHUNKED ||
	    (m->flags & DT_HTTP_HAS_LENGTH && !(m->flags & DT_HTTP_HAS_CODING)))
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
				return DT_BAD;
			m->number = m->number * 10 + (c - '0');
		} else if (c == ',') {
			m->number = 0; /* a repeated list of one value, RFC 9112 6.3 */
		} else if (c != ' ' && c != '\t' && c != '\r') {
			return DT_BAD;
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
	if (!m->number) {
		m->phase = DT_HTTP_TRAILER;
		return DT_GO_ON;
	}
	m->body_bytes += m->number;
	m->skip = m->number + 2; /* and its CRLF */
	m->number = 0;
	m->flags &= ~DT_HTTP_DIGITS;
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
		/* an empty line before a request is to be passed over, RFC 9112 2.2 */
		if (is_request && (dt_byte(s, s->pos) == '\r' || dt_byte(s, s->pos) == '\n')) {
			s->pos++;
			return DT_GO_ON;
		}
		if (is_request && s->end - s->pos >= 4 &&
		    (__u32)dt_word(s, s->pos) == DT_BYTES8('G', 'E', 'T', ' ', 0, 0, 0, 0)) {
			m->hash = dt_hash(dt_hash(dt_hash(dt_hash(DT_HASH_START, 'G'), 'E'), 'T'),
					  ' ');
			m->base = m->hash;
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
	case DT_HTTP_VERSION:
		return dt_http_version(m, s);
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
	case DT_HTTP_TRAILER_LINE:
		if (dt_skip_line(s))
			m->phase = DT_HTTP_TRAILER;
		return DT_GO_ON;
	}
	return DT_BAD;
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
		if (event || m->skip || s->pos >= s->end)
			break;
	}
	return event;
}
