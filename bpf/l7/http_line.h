/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * HTTP's first lines: may a request begin here, what does it ask for, what does the answer say.
 *
 * A request is told by a method that is known, or else by the end of its line: any token may be a
 * method (RFC 9110, 9.1), so behind one that nobody knows the line must end in " HTTP/1.x". The
 * signature is a hash over method and path (http_path.h).
 */
#pragma once

#include "http_path.h"

enum dt_http_phase {
	DT_HTTP_PREAMBLE = DT_PHASE_PROTOCOL, /* of the PROXY protocol, version 2 */
	DT_HTTP_METHOD,
	DT_HTTP_PATH,
	DT_HTTP_PARAMETERS, /* of a segment of it */
	DT_HTTP_VERSION,    /* the rest of a line that must end in one */
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
	DT_VERSION_BYTES = 8, /* "HTTP/1.1" */
	DT_EMPTY_BYTES = 4,   /* of empty lines before a connection's first request */
	DT_PREAMBLE_BYTES = 16,
};

enum dt_http_flag {
	DT_HTTP_CHUNKED = 1,
	DT_HTTP_HAS_LENGTH = 2,
	DT_HTTP_HAS_CODING = 4,
	DT_HTTP_EXPECT = 8,
	DT_HTTP_IS_HEAD = 16,
	DT_HTTP_IS_CONNECT = 32,
	DT_HTTP_DIGITS = 64,   /* of a chunk's size */
	DT_HTTP_ODD = 64,      /* in a head: nobody can say where the body ends */
	DT_HTTP_STRANGE = 128, /* the method is none that is known */
};

/* What a token is made of (RFC 9110, 5.6.2). */
static const __u8 dt_http_token[256] = {
	['!'] = 1,	   ['#' ... '\''] = 1, ['*'] = 1,	  ['+'] = 1, ['-'] = 1, ['.'] = 1,
	['0' ... '9'] = 1, ['A' ... 'Z'] = 1,  ['^' ... 'z'] = 1, ['|'] = 1, ['~'] = 1,
};

/* "PROXY": a line of it comes before a connection's first request (haproxy's
 * proxy-protocol.txt, 2.1). */
#define DT_HTTP_PROXY 0x50524f5859ULL

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

/* Of methods, in the order of enum dt_signature. */
static const struct {
	__u64 text, mask;
} dt_http_overflows[] = {
	{ DT_BYTES8('G', 'E', 'T', ' ', 0, 0, 0, 0), ~0ULL >> 32 },
	{ DT_BYTES8('P', 'U', 'T', ' ', 0, 0, 0, 0), ~0ULL >> 32 },
	{ DT_BYTES8('H', 'E', 'A', 'D', ' ', 0, 0, 0), ~0ULL >> 24 },
	{ DT_BYTES8('P', 'O', 'S', 'T', ' ', 0, 0, 0), ~0ULL >> 24 },
	{ DT_BYTES8('P', 'A', 'T', 'C', 'H', ' ', 0, 0), ~0ULL >> 16 },
	{ DT_BYTES8('T', 'R', 'A', 'C', 'E', ' ', 0, 0), ~0ULL >> 16 },
	{ DT_BYTES8('Q', 'U', 'E', 'R', 'Y', ' ', 0, 0), ~0ULL >> 16 },
	{ DT_BYTES8('D', 'E', 'L', 'E', 'T', 'E', ' ', 0), ~0ULL >> 8 },
	{ DT_BYTES8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' '), ~0ULL },
};

/* The signature of a request beyond the cap of operations that begins so. */
static __always_inline __u64 dt_http_overflow(__u64 head)
{
	for (__u32 i = 0; i < sizeof(dt_http_overflows) / sizeof(dt_http_overflows[0]); i++)
		if (!((head ^ dt_http_overflows[i].text) & dt_http_overflows[i].mask))
			return DT_SIGNATURE_OVERFLOW_GET + i;
	return DT_SIGNATURE_OVERFLOW;
}

/* "HTTP/1.x", the last byte lowest. */
static __always_inline int dt_http_is_version(__u64 word)
{
	return word >> 8 == 0x485454502f312eULL && (__u8)((__u8)word - '0') <= 9;
}

/* May a request begin at the window's place? What has not come yet may still make it one. A
 * function of its own for its loops. */
__noinline int dt_http_may_begin(struct dt_scratch *s, int is_first)
{
	__u32 first, begin, space, bytes = 0, line;
	__u64 word = 0;
	__u8 c = 0;
	int is_whole = 0;

	if (!s)
		return 0;
	begin = s->pos;
	for (int i = 0; is_first && i < DT_EMPTY_BYTES && begin < s->end; i++) {
		c = dt_byte(s, begin);
		if (c != '\r' && c != '\n')
			break;
		begin++;
	}
	for (; bytes <= DT_METHOD_BYTES && begin + bytes < s->end; bytes++) {
		c = dt_byte(s, begin + bytes);
		if (!dt_http_token[c])
			break;
		word = word << 8 | c;
	}
	space = begin + bytes;
	if (space >= s->end)
		return bytes <= DT_METHOD_BYTES;
	if (!bytes && !c && begin - s->pos == DT_EMPTY_BYTES)
		return 1; /* the PROXY protocol's second version */
	if (c != ' ' || !bytes || bytes > DT_METHOD_BYTES)
		return 0;
	if (dt_http_known_method(word, bytes) || word == DT_HTTP_PROXY)
		return 1;
	first = s->pos;
	s->pos = space;
	for (int i = 0; i < DT_WINDOW / DT_LINE_WORDS / 8; i++) {
		dt_forget_values();
		is_whole = dt_skip_line(s);
		if (is_whole || s->pos >= s->end)
			break;
	}
	line = s->pos - 1;
	s->pos = first;
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
	/* CONNECT's target is a host, no path */
	m->hash = dt_signature_of(m->flags & DT_HTTP_IS_CONNECT ? DT_HASH_START : m->base);
	m->phase = DT_HTTP_FIRST_LINE;
	m->path = (struct dt_path){}; /* a header's name will stand there */
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

/* Not static, so that the verifier looks at it once. */
__noinline int dt_http_path(struct dt_walker *m, struct dt_scratch *s)
{
	if (!m || !s)
		return DT_BAD;
	for (int i = 0; i < DT_PATH_PARTS && s->pos < s->end; i++) {
		__u32 class;

		dt_forget_values();
		class = dt_path_walk(m, s);
		if (class < DT_CLASS_SPLIT && m->path.state != DT_PART_SPLIT)
			continue;
		dt_path_end_part(m, class, dt_byte(s, s->pos));
		if (class == DT_CLASS_END)
			return dt_http_path_end(m);
		if (class >= DT_CLASS_SPLIT)
			s->pos++;
		if (class == DT_CLASS_PARAMETER) {
			m->phase = DT_HTTP_PARAMETERS;
			break;
		}
	}
	return dt_http_line_goes_on(m);
}

/* ";name=value" to the end of the segment: names no operation. */
static __always_inline int dt_http_parameters(struct dt_walker *m, struct dt_scratch *s)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 class = dt_path_classes[dt_byte(s, s->pos)];

		if (class == DT_CLASS_END)
			return dt_http_path_end(m);
		s->pos++;
		if (class == DT_CLASS_SLASH) {
			m->phase = DT_HTTP_PATH;
			return DT_GO_ON;
		}
	}
	return dt_http_line_goes_on(m);
}

/* The line of the PROXY protocol's first version, which tells a server who its client is. */
static __always_inline int dt_http_is_preamble(const struct dt_walker *m, const struct dt_flight *f)
{
	return !m->ordinal && (*(const __u64 *)f->head & (~0ULL >> 16)) ==
				      DT_BYTES8('P', 'R', 'O', 'X', 'Y', ' ', 0, 0);
}

/* Of its second version, behind four bytes that are two empty lines: the signature's other eight,
 * the command, the family, and the length of what follows. */
static __always_inline int dt_http_preamble(struct dt_walker *m, struct dt_scratch *s)
{
	const __u64 signature = DT_BYTES8(0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n');

	__u8 c = dt_byte(s, s->pos);

	s->pos++;
	m->number = m->number << 8 | c;
	if (m->at < 8 && c != (__u8)(signature >> (m->at * 8)))
		return DT_BAD;
	if (++m->at == DT_PREAMBLE_BYTES - DT_EMPTY_BYTES) {
		m->skip = m->number & 0xffff;
		m->phase = DT_PHASE_START;
	}
	return DT_GO_ON;
}

/* The last word of the line must be a version. */
static __always_inline int dt_http_version(struct dt_walker *m, struct dt_scratch *s,
					   const struct dt_flight *f)
{
	for (int i = 0; i < DT_TOKEN_BYTES && s->pos < s->end; i++) {
		__u8 c = dt_byte(s, s->pos);

		if (c == '\n') {
			if (m->at != DT_VERSION_BYTES || !dt_http_is_version(m->word)) {
				if (!dt_http_is_preamble(m, f))
					return DT_BAD;
				s->pos++;
				m->phase = DT_PHASE_START; /* as an empty line */
				return DT_GO_ON;
			}
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
			dt_path_begin(m, dt_hash(m->hash, ' '));
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
