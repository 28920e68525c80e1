/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What is remembered of a connection. The engine takes pointers to it and never asks where it
 * lives: socket storage for TCP, a hash for sockets of which nothing tells the end.
 *
 * The two directions may run on two CPUs at once, and a response may be walked before the request
 * that it answers (a reader thread is faster than the writer's return). So each direction owns its
 * walker, and they meet only in the slots, by compare-and-exchange of a slot's tag.
 */
#pragma once

#include "events.h"

enum dt_bound {
	/* Requests in flight held beside the connection; deeper pipelines go to the spill map. */
	DT_SLOTS = 16,
	/* Responses that came before their request was seen. One is usual, more need a client
	 * that pipelines and reads in another thread. */
	DT_EARLY = 4,
	/* A token's beginning, kept until the next chunk brings the rest. */
	DT_CARRY = 24,
	/* Connections that break their protocol's rules so often are counted by turns instead. */
	DT_DESYNCS = 4,
	DT_DESYNCS_MASK = 0x3f,
	/* Beside their number: its first request is an inline command of Redis. */
	DT_INLINE = 0x40,
	/* Beside their number: older than the agent, and answered: the next request begins a turn.
	 */
	DT_ANSWERED = 0x80,
};

#define DT_TOLD_BITS 48 /* 281 TB of one connection */

enum dt_phase {
	DT_PHASE_START = 0,	  /* between messages */
	DT_PHASE_BODY = 1,	  /* the message ends when skip is used up */
	DT_PHASE_UNTIL_CLOSE = 2, /* the message ends with the connection */
	DT_PHASE_LOST = 3,	  /* out of step until a request begins a chunk */
	DT_PHASE_STRAY = 4,	  /* requests: the same, once those that wait are answered */
	DT_PHASE_PROTOCOL = 8,	  /* from here on each protocol's own */
};

/* HTTP: the current segment of the path, and its current part. */
struct dt_path {
	__u64 segment; /* hash of the parts before, as they count */
	__u64 text;    /* as they are written */
	__u32 shape;   /* of the part: what it is made of */
	__u8 state;    /* enum dt_path_state */
	__u8 last;     /* class of the byte before */
	__u8 pad[2];
};

/* One direction's place in its stream: can stop and go on at any byte. */
struct dt_walker {
	__u64 skip;	  /* bytes to pass over unread */
	__u64 bytes;	  /* of the current message so far */
	__u64 body_bytes; /* of its body */
	__u64 offset;	  /* in the stream, of its first byte */
	__u64 first_ns;	  /* when that came */
	__u64 last_ns;	  /* when its newest byte came */
	__u64 hash;
	__u64 word; /* the last eight bytes of a token */
	union {
		__u64 number; /* being read */
		__u64 base;   /* HTTP: the hash before the current segment of the path */
	};
	__u32 ordinal; /* messages finished */
	__u32 left;    /* values still to come in it */
	__u16 outcome;
	__u8 phase;
	__u8 flags; /* the protocol's own */
	__u8 at;    /* place within a token */
	__u8 segment;
	__u8 carry_bytes;
	__u8 pad;
	union {
		__u8 carry[DT_CARRY];
		struct dt_path path;
	};
};

enum dt_conn_flag {
	DT_CONN_TENTATIVE = 1,	/* the protocol is taken, no exchange has confirmed it */
	DT_CONN_IGNORED = 2,	/* the agent's own, or a kernel socket */
	DT_CONN_MIDSTREAM = 4,	/* older than the agent: out of step until a request begins */
	DT_CONN_FIRST_SEQS = 8, /* the peer knows tx_first_seq and rx_first_seq, too */
	DT_CONN_ULP = 16,	/* TCP's counts are not the application's (kTLS) */
	DT_CONN_PUBSUB = 32,	/* Redis: messages may come that answer no request */
	DT_CONN_MONITOR = 64,	/* Redis: nothing that comes answers a request any more */
	DT_CONN_ESTABLISHED = 128,
};

/* Both ends of a connection, for its spans. */
struct dt_ends {
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
};

/* What a connection's edge has been told of it so far. Above DT_TOLD_BITS each number has the end
 * of the connection's cookie: where a number lies in a hash, its place may be another's by the time
 * that it is written, and that is then found out. */
struct dt_sampled {
	__u64 sent; /* of sent_bytes and sent_blind */
	__u64 received;
	__u64 retransmits;
};

/* Why the newest request of a client was made. */
struct dt_because {
	struct dt_wire cause; /* the server exchange that made it */
	__u64 offset;	      /* the request's */
	__u8 found;	      /* as in a record */
	__u8 trace_bytes;
	__u8 pad[6];
	__u8 trace[DT_TRACE_BYTES];
};

struct dt_conn {
	__u64 owner_start_ns;
	__u64 opened_ns;
	__u64 sent_bytes; /* as the doors saw them */
	__u64 received_bytes;
	__u64 sent_blind; /* counted by TCP, not seen by a door */
	__u64 received_blind;
	__u64 sent_before; /* the agent was there */
	__u64 received_before;
	__u64 settled_bytes; /* of both, in a series or in a line of the ledger */
	__u64 turn_start_ns;
	__u64 turn_offset;	   /* of the open turn's first byte, in the client's direction */
	__u64 turn_bytes;	   /* of the open turn's request, not yet settled */
	__u64 cookie;		   /* of its socket, never given twice */
	__u64 sk;		   /* its address */
	struct dt_sampled sampled; /* is_hashed: the others' is in live */
	__u64 batch;		   /* sendmmsg/recvmmsg: the vector last seen ... */
	__u32 batch_next;	   /* ... its next entry ... */
	__u32 batch_bytes;	   /* ... and what the entry before it carried */
	__u32 owner_tgid;
	__u32 owner_id;
	__u32 edge;
	__u32 tx_first_seq; /* first data sequence number; where there is none, of the cookie */
	__u32 rx_first_seq;
	__u32 netns;
	__u32 completed; /* exchanges */
	__u32 serving;	 /* thread that has this connection's request in hand; 0: none */
	__u8 is_hashed;	 /* lives in hashed_conns */
	__u8 is_connecting;
	__u8 is_apart; /* this end counts its bytes from another place than the peer */
	__u8 pad;
	__u32 opened_edge;    /* that counts this connection as opened; 0: none */
	__u32 retransmits;    /* before the agent was there */
	__u32 recorded_epoch; /* of the recording that decided about this connection */
	__u32 recorded_from;  /* the first exchange that is recorded, by its ordinal */
	__u8 role;
	__u8 transport;
	__u8 protocol;
	__u8 flags;
	__u8 turn_open;
	__u8 desyncs;
	__u8 edge_overflow;
	__u8 is_recorded;
	struct dt_ends ends;
	struct dt_because because;
	struct dt_walker request;
	struct dt_walker response;
	__u8 room[8]; /* verifiers before 6.18 let a carry go on here, never in truth */
};

/* A request that waits for its response. */
struct dt_request {
	__u64 start_ns;
	__u64 signature;
	__u64 offset;
	__u64 bytes;
	__u64 body_bytes;
};

/* A response that waits for its request, or has just met it. */
struct dt_response {
	__u64 first_ns;
	__u64 last_ns;
	__u64 bytes;
	__u64 body_bytes;
	__u16 outcome;
	__u8 end;
	__u8 pad[5];
};

/* Both, and where they are counted. */
struct dt_exchange {
	struct dt_series_key key;
	struct dt_request request;
	struct dt_response response;
	__u32 ordinal;
	__u32 pad;
};

/* tag: ordinal << 4 | state | flags */
enum dt_tag {
	DT_TAG_FREE = 0,
	DT_TAG_REQUEST = 1,
	DT_TAG_RESPONSE = 2,
	DT_TAG_STATE = 3,
	DT_TAG_HEAD = 4,    /* HTTP: the response has no body */
	DT_TAG_CONNECT = 8, /* HTTP: a 2xx makes it a tunnel */
	DT_TAG_SHIFT = 4,
};

struct dt_slot {
	struct dt_request request;
	__u32 tag;
	__u32 pad;
};

/* What a connection with a known protocol has besides. */
struct dt_flight {
	struct dt_slot slots[DT_SLOTS];
	struct dt_response early[DT_EARLY];
	/* the newest request, for its span */
	__u32 head_ordinal;
	__u16 head_bytes;
	__u8 trace_bytes;
	__u8 pad[5];
	__u32 spilled_responses;
	__u8 head[DT_HEAD_BYTES];
	__u8 trace[DT_TRACE_BYTES];
	__u8 room[184]; /* the verifier lets a piece of 256 bytes end here, never in truth */
};
