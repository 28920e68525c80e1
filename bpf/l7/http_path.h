/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * HTTP's paths, as far as they name an operation: a hash of the path up to '?' in which what looks
 * like an identifier is one and the same. `config/http_path.py` says in words what does.
 *
 * A segment is made of parts: punctuation ends one, and so does '-' or '_' behind a plain word
 * ("order-" and "123"). A part that is an identifier counts as DT_IDENTIFIER, any other one as it
 * is written. Parameters of a segment (";name=value", RFC 3986, 3.3) are left out. A segment that
 * the configuration names is kept as it is written.
 *
 * One look at two tables per byte: the verifier follows branches on a state that it knows, sixteen
 * bytes deep.
 */
#pragma once

#include "maps.h"
#include "walk.h"

#define DT_IDENTIFIER 0x9e3779b97f4a7c15ULL

enum dt_path_bound {
	/* Of a part, and parts of a path, in one step: most paths take two. More cost the verifier
	 * 7,000 instructions a part. */
	DT_PATH_BYTES = 32,
	DT_PATH_PARTS = 3,
};

enum dt_path_class {
	DT_CLASS_MARK = 0, /* '-', '_' and whatever else is none of the others */
	DT_CLASS_PERCENT = 1,
	DT_CLASS_DIGIT = 2,
	DT_CLASS_LOWER = 3, /* and all behind ASCII */
	DT_CLASS_UPPER = 4,
	DT_CLASS_V = 5, /* of a version */
	DT_CLASS_LARGE_V = 6,
	/* from here on a part ends */
	DT_CLASS_SPLIT = 8,
	DT_CLASS_DOT = 9,
	DT_CLASS_SLASH = 10, /* and a segment */
	DT_CLASS_PARAMETER = 11,
	DT_CLASS_END = 12, /* and the path */
};

static const __u8 dt_path_classes[256] = {
	[0 ... ' '] = DT_CLASS_END,
	['?'] = DT_CLASS_END,
	['#'] = DT_CLASS_END,
	['/'] = DT_CLASS_SLASH,
	[';'] = DT_CLASS_PARAMETER,
	['.'] = DT_CLASS_DOT,
	['!'] = DT_CLASS_SPLIT,
	['$'] = DT_CLASS_SPLIT,
	['&'] = DT_CLASS_SPLIT,
	['\''] = DT_CLASS_SPLIT,
	['('] = DT_CLASS_SPLIT,
	[')'] = DT_CLASS_SPLIT,
	['*'] = DT_CLASS_SPLIT,
	[':'] = DT_CLASS_SPLIT,
	['='] = DT_CLASS_SPLIT,
	['@'] = DT_CLASS_SPLIT,
	['~'] = DT_CLASS_SPLIT,
	['%'] = DT_CLASS_PERCENT,
	['0' ... '9'] = DT_CLASS_DIGIT,
	['a' ... 'u'] = DT_CLASS_LOWER,
	['v'] = DT_CLASS_V,
	['w' ... 'z'] = DT_CLASS_LOWER,
	['A' ... 'U'] = DT_CLASS_UPPER,
	['V'] = DT_CLASS_LARGE_V,
	['W' ... 'Z'] = DT_CLASS_UPPER,
	[0x7f ... 0xff] = DT_CLASS_LOWER,
};

/* What a part has been so far: where its row begins in dt_path_states. Words are what stands
 * between marks and escapes. */
enum dt_path_state {
	DT_PART_START = 0 << 3,
	DT_PART_AFTER = 1 << 3,	  /* behind a word that was split off */
	DT_PART_VERSION = 2 << 3, /* behind "v1." */
	/* a word of letters: one; that may be split off, in small or in capital letters; others */
	DT_WORD_LETTER = 3 << 3,
	DT_WORD_SMALL = 4 << 3,
	DT_WORD_CAPITAL = 5 << 3,
	DT_WORD_MIXED = 6 << 3,
	DT_PART_GAP = 7 << 3, /* between words, of which one has letters */
	/* a number of one digit or two: where no letter was; behind letters; behind "v1." */
	DT_BARE_1 = 8 << 3,
	DT_BARE_2 = 9 << 3,
	DT_BARE_GAP = 10 << 3, /* between such */
	DT_NUMBER_1 = 11 << 3,
	DT_NUMBER_2 = 12 << 3,
	DT_MINOR_1 = 13 << 3,
	DT_MINOR_2 = 14 << 3,
	/* a word with a number at its end ("sha1"), with one before its end ("2fa", "log4j") */
	DT_NUMBERED_1 = 15 << 3,
	DT_NUMBERED_2 = 16 << 3,
	DT_NUMBERED = 17 << 3,
	/* "v" where a word may be split off, and where not; "v1", "v12", "v1beta", "v1beta1" */
	DT_V = 18 << 3,
	DT_INNER_V = 19 << 3,
	DT_V_1 = 20 << 3,
	DT_V_2 = 21 << 3,
	DT_V_WORD = 22 << 3,
	DT_V_WORD_1 = 23 << 3,
	DT_V_WORD_2 = 24 << 3,
	DT_PART_IDENTIFIER = 25 << 3,
	DT_PART_SPLIT = 26 << 3, /* the mark behind a plain word ends the part */
	/* of the two bytes behind '%' */
	DT_PART_ESCAPE = 27 << 3,
	DT_PART_ESCAPED = 28 << 3,
};

#define DT_ROW(state) ((state) >> 3)
#define DT_ALL(state) { state, state, state, state, state, state, state }
/* small letters, capitals, v, V */
#define DT_LETTERS(state) state, state, state, state

/* By state and class: what comes next. One row more than states, for the verifier. */
static const __u8 dt_path_states[33][8] = {
	[DT_ROW(DT_PART_START)] = { DT_PART_START, DT_PART_ESCAPE, DT_BARE_1, DT_WORD_LETTER,
				    DT_WORD_LETTER, DT_V, DT_V },
	[DT_ROW(DT_PART_AFTER)] = { DT_PART_AFTER, DT_PART_ESCAPE, DT_NUMBER_1, DT_WORD_LETTER,
				    DT_WORD_LETTER, DT_V, DT_V },
	[DT_ROW(DT_PART_VERSION)] = { DT_PART_AFTER, DT_PART_ESCAPE, DT_MINOR_1, DT_WORD_LETTER,
				      DT_WORD_LETTER, DT_V, DT_V },
	[DT_ROW(DT_WORD_LETTER)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_NUMBERED_1, DT_WORD_SMALL,
				     DT_WORD_CAPITAL, DT_WORD_SMALL, DT_WORD_CAPITAL },
	[DT_ROW(DT_WORD_SMALL)] = { DT_PART_SPLIT, DT_PART_ESCAPE, DT_NUMBERED_1, DT_WORD_SMALL,
				    DT_WORD_MIXED, DT_WORD_SMALL, DT_WORD_MIXED },
	[DT_ROW(DT_WORD_CAPITAL)] = { DT_PART_SPLIT, DT_PART_ESCAPE, DT_NUMBERED_1, DT_WORD_MIXED,
				      DT_WORD_CAPITAL, DT_WORD_MIXED, DT_WORD_CAPITAL },
	[DT_ROW(DT_WORD_MIXED)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_NUMBERED_1,
				    DT_LETTERS(DT_WORD_MIXED) },
	[DT_ROW(DT_PART_GAP)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_NUMBER_1, DT_WORD_MIXED,
				  DT_WORD_MIXED, DT_INNER_V, DT_INNER_V },
	[DT_ROW(DT_BARE_1)] = { DT_BARE_GAP, DT_PART_ESCAPE, DT_BARE_2, DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_BARE_2)] = { DT_PART_IDENTIFIER, DT_PART_IDENTIFIER, DT_PART_IDENTIFIER,
				DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_BARE_GAP)] = { DT_BARE_GAP, DT_PART_ESCAPE, DT_BARE_1, DT_WORD_MIXED,
				  DT_WORD_MIXED, DT_INNER_V, DT_INNER_V },
	[DT_ROW(DT_NUMBER_1)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_NUMBER_2,
				  DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_NUMBER_2)] = { DT_PART_IDENTIFIER, DT_PART_IDENTIFIER, DT_PART_IDENTIFIER,
				  DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_MINOR_1)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_MINOR_2, DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_MINOR_2)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_PART_IDENTIFIER,
				 DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_NUMBERED_1)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_NUMBERED_2,
				    DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_NUMBERED_2)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_PART_IDENTIFIER,
				    DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_NUMBERED)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_PART_IDENTIFIER,
				  DT_LETTERS(DT_NUMBERED) },
	[DT_ROW(DT_V)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_V_1, DT_WORD_SMALL, DT_WORD_CAPITAL,
			   DT_WORD_SMALL, DT_WORD_CAPITAL },
	[DT_ROW(DT_INNER_V)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_V_1, DT_LETTERS(DT_WORD_MIXED) },
	[DT_ROW(DT_V_1)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_V_2, DT_LETTERS(DT_V_WORD) },
	[DT_ROW(DT_V_2)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_PART_IDENTIFIER,
			     DT_LETTERS(DT_V_WORD) },
	[DT_ROW(DT_V_WORD)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_V_WORD_1, DT_LETTERS(DT_V_WORD) },
	[DT_ROW(DT_V_WORD_1)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_V_WORD_2, DT_LETTERS(DT_V_WORD) },
	[DT_ROW(DT_V_WORD_2)] = { DT_PART_GAP, DT_PART_ESCAPE, DT_PART_IDENTIFIER,
				  DT_LETTERS(DT_V_WORD) },
	[DT_ROW(DT_PART_IDENTIFIER)] = DT_ALL(DT_PART_IDENTIFIER),
	[DT_ROW(DT_PART_ESCAPE)] = DT_ALL(DT_PART_ESCAPED),
	[DT_ROW(DT_PART_ESCAPED)] = DT_ALL(DT_PART_GAP),
};

#define DT_BIT(state) (1U << DT_ROW(state))
/* States in which a part that ends is an identifier. */
#define DT_IDENTIFIERS                                                                             \
	(DT_BIT(DT_BARE_1) | DT_BIT(DT_BARE_2) | DT_BIT(DT_BARE_GAP) | DT_BIT(DT_NUMBER_2) |       \
	 DT_BIT(DT_PART_IDENTIFIER))
/* States in which a dot makes what follows the smaller number of a version. */
#define DT_VERSIONS (DT_BIT(DT_V_1) | DT_BIT(DT_V_2) | DT_BIT(DT_MINOR_1) | DT_BIT(DT_MINOR_2))

/* A part's letters and digits, counted beside its state: how many, how often the next one is of
 * another kind than the one before it, and how many are digits. */
#define DT_SHAPE_ONE 1U
#define DT_SHAPE_TURN (1U << 12)
#define DT_SHAPE_DIGIT (1U << 24)

enum dt_shape {
	DT_SHAPE_LONG = 64,   /* names are shorter */
	DT_SHAPE_RANDOM = 14, /* from here on one that turns at every other letter is none */
};

#define DT_DIGIT_IS (DT_SHAPE_ONE + DT_SHAPE_DIGIT)
#define DT_DIGIT_TURNS (DT_DIGIT_IS + DT_SHAPE_TURN)
#define DT_LETTER_IS DT_SHAPE_ONE
#define DT_LETTER_TURNS (DT_SHAPE_ONE + DT_SHAPE_TURN)

/* By the class before and this one. */
static const __u32 dt_path_shapes[8][8] = {
	[DT_CLASS_MARK] = { 0, 0, DT_DIGIT_IS, DT_LETTERS(DT_LETTER_IS) },
	[DT_CLASS_PERCENT] = { 0, 0, DT_DIGIT_IS, DT_LETTERS(DT_LETTER_IS) },
	[DT_CLASS_DIGIT] = { 0, 0, DT_DIGIT_IS, DT_LETTERS(DT_LETTER_TURNS) },
	[DT_CLASS_LOWER] = { 0, 0, DT_DIGIT_TURNS, DT_LETTER_IS, DT_LETTER_TURNS, DT_LETTER_IS,
			     DT_LETTER_TURNS },
	[DT_CLASS_UPPER] = { 0, 0, DT_DIGIT_TURNS, DT_LETTER_TURNS, DT_LETTER_IS, DT_LETTER_TURNS,
			     DT_LETTER_IS },
	[DT_CLASS_V] = { 0, 0, DT_DIGIT_TURNS, DT_LETTER_IS, DT_LETTER_TURNS, DT_LETTER_IS,
			 DT_LETTER_TURNS },
	[DT_CLASS_LARGE_V] = { 0, 0, DT_DIGIT_TURNS, DT_LETTER_TURNS, DT_LETTER_IS, DT_LETTER_TURNS,
			       DT_LETTER_IS },
};

static __always_inline __u64 dt_hash_all(__u64 hash, __u64 more)
{
	hash = (hash ^ more) * DT_HASH_PRIME;
	return hash ^ hash >> 32;
}

static __always_inline int dt_path_is_identifier(const struct dt_path *p)
{
	__u32 count = p->shape & (DT_SHAPE_TURN - 1), turns = p->shape / DT_SHAPE_TURN & 0xfff;

	return DT_IDENTIFIERS & DT_BIT(p->state) || count > DT_SHAPE_LONG ||
	       (count >= DT_SHAPE_RANDOM && 2 * turns >= count && p->shape >= DT_SHAPE_DIGIT);
}

static __always_inline void dt_path_begin_part(struct dt_walker *m, __u8 state)
{
	m->hash = DT_HASH_START;
	m->path.shape = 0;
	m->path.state = state;
	m->path.last = DT_CLASS_MARK;
}

static __always_inline void dt_path_begin_segment(struct dt_walker *m)
{
	m->path.segment = m->path.text = DT_HASH_START;
	dt_path_begin_part(m, DT_PART_START);
}

/* hash: of what stands before the path. */
static __always_inline void dt_path_begin(struct dt_walker *m, __u64 hash)
{
	m->base = hash;
	dt_path_begin_segment(m);
}

/* A segment ends: its hashes as it counts, and as it is written. */
static __always_inline void dt_path_end_segment(struct dt_walker *m, __u64 segment, __u64 text)
{
	if (segment != text && bpf_map_lookup_elem(&kept_segments, &text))
		segment = text;
	m->base = dt_hash_all(m->base, segment);
	dt_path_begin_segment(m);
}

/* A part ends, by a byte of this class. */
static __always_inline void dt_path_end_part(struct dt_walker *m, __u32 class, __u8 c)
{
	struct dt_path *p = &m->path;
	__u64 text = dt_hash_all(p->text, m->hash);
	__u64 segment = dt_hash_all(p->segment, dt_path_is_identifier(p) ? DT_IDENTIFIER : m->hash);

	if (class >= DT_CLASS_SLASH) {
		dt_path_end_segment(m, segment, text);
		return;
	}
	if (class >= DT_CLASS_SPLIT) {
		text = dt_hash(text, c);
		segment = dt_hash(segment, c);
	}
	p->text = text;
	p->segment = segment;
	if (p->state == DT_PART_SPLIT)
		dt_path_begin_part(m, DT_PART_AFTER);
	else if (class == DT_CLASS_DOT && DT_VERSIONS & DT_BIT(p->state))
		dt_path_begin_part(m, DT_PART_VERSION);
	else
		dt_path_begin_part(m, DT_PART_START);
}

/* Up to the end of a part. Gives the class of the byte that ended it, which is still there; of a
 * part that goes on, or ended by a mark of its own, one below DT_CLASS_SPLIT. */
static __always_inline __u32 dt_path_walk(struct dt_walker *m, struct dt_scratch *s)
{
	__u32 pos = s->pos, end = s->end, shape = m->path.shape;
	__u8 state = m->path.state, last = m->path.last, class = DT_CLASS_MARK;
	__u64 hash = m->hash;

	for (int i = 0; i < DT_PATH_BYTES && pos < end; i++) {
		__u8 c = dt_byte(s, pos);

		class = dt_path_classes[c];
		if (class >= DT_CLASS_SPLIT)
			break;
		if (state >= DT_PART_ESCAPE)
			class = DT_CLASS_MARK;
		pos++;
		hash = dt_hash(hash, c);
		shape += dt_path_shapes[last & 7][class & 7];
		state = (&dt_path_states[0][class & 7])[state];
		last = class;
		if (state == DT_PART_SPLIT)
			break;
	}
	s->pos = pos;
	m->hash = hash;
	m->path.shape = shape;
	m->path.state = state;
	m->path.last = last;
	return class;
}
