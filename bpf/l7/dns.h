/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * DNS over UDP: is it this, what is asked, what came of it. A message says itself whether it is a
 * question or an answer, so that both ends are known without port numbers (RFC 1035). What has the
 * same form and is something else is told by its port.
 */
#pragma once

#include "../include/count.h"

enum dt_dns {
	DT_DNS_HEADER = 12,
	DT_DNS_SHORTEST = 17, /* header, root name, type, class */
	DT_DNS_NAME = 256,
	DT_DNS_LABEL = 63,
	DT_DNS_CLASS_IN = 1,
};

/* NetBIOS's names (RFC 1002), and questions to everybody on a link, which nobody need answer:
 * multicast DNS (RFC 6762), LLMNR (RFC 4795). */
static __always_inline int dt_dns_is_other(__u16 port)
{
	return port == 137 || port == 5353 || port == 5355;
}

struct dt_dns_message {
	const struct dt_scratch *s;
	__u64 signature; /* of the name, in lower case, and the type */
	__u32 end;	 /* of the name */
	__u16 id;
	__u8 label; /* bytes left in it */
	__u8 whole; /* the name came to its end */
	__u8 is_answer;
	__u8 code;
	__u8 answers; /* there are some */
	__u8 pad[5];
};

static long dt_dns_byte(__u32 i, struct dt_dns_message *m)
{
	__u32 at = DT_DNS_HEADER + i;
	__u8 byte;

	if (at >= m->s->end)
		return 1;
	byte = m->s->buf[at & DT_WINDOW_MASK];
	if (m->label) {
		m->label--;
		if (byte >= 'A' && byte <= 'Z')
			byte |= 0x20;
	} else if (!byte) {
		m->end = at + 1;
		m->whole = 1;
		return 1;
	} else if (byte > DT_DNS_LABEL) {
		return 1;
	} else {
		m->label = byte;
	}
	m->signature = dt_hash(m->signature, byte);
	return 0;
}

static __always_inline __u16 dt_dns_word(const struct dt_scratch *s, __u32 at)
{
	return s->buf[at & DT_WINDOW_MASK] << 8 | s->buf[(at + 1) & DT_WINDOW_MASK];
}

/* Reads the message in the window. 0 when it is not DNS. */
static __noinline int dt_dns_read(struct dt_dns_message *m, const struct dt_scratch *s)
{
	__u16 flags = dt_dns_word(s, 2), type;

	m->s = s;
	m->signature = DT_HASH_START;
	/* Zero, but the verifier must not know: older ones (6.1) follow a loop's body once, and cut
	 * off what no first round reaches. */
	m->label = m->whole = s->fault;
	m->id = dt_dns_word(s, 0);
	m->is_answer = flags >> 15;
	m->code = flags & 15;
	m->answers = dt_dns_word(s, 6) != 0;
	/* a standard query, the reserved bit clear, one question */
	if (s->end < DT_DNS_SHORTEST || flags & 0x7840 || dt_dns_word(s, 4) != 1)
		return 0;
	/* what only an answer may say */
	if (!m->is_answer && (flags & 0x068f || m->answers))
		return 0;
	bpf_loop(DT_DNS_NAME, dt_dns_byte, m, 0);
	if (!m->whole || m->end + 4 > s->end ||
	    (dt_dns_word(s, m->end + 2) & 0x7fff) != DT_DNS_CLASS_IN)
		return 0;
	type = dt_dns_word(s, m->end);
	m->signature = dt_hash(dt_hash(m->signature, type >> 8), type);
	if (m->signature < DT_SIGNATURE_HASHES)
		m->signature += DT_SIGNATURE_HASHES;
	return 1;
}
