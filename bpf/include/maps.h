/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Every map: who inserts, who deletes, what the key is. Sizes are the defaults; user space sets
 * those that have a setting before it loads. What user space reads is described in events.h.
 */
#pragma once

#include "chunk.h"

/* Knobs, set between open and load. */
const volatile __u64 dt_slow_ns = 1000000000;
const volatile __u32 dt_default_budget = 100;
const volatile __u32 dt_operation_cap = 500;
const volatile __u32 dt_edge_cap_per_owner = 4096;
const volatile __u32 dt_max_edges = 32768;  /* of all owners, but for overflow edges */
const volatile __u32 dt_max_series = 65536; /* likewise */
const volatile __u32 dt_only_netns;	    /* inode number; 0: all */
const volatile __u8 dt_observe_unix = 1;
const volatile __u8 dt_observe_udp = 1;
const volatile __u8 dt_observe_own; /* calls of the agent's endpoint */

/* The agent's thread group, in the numbers of the root pid namespace: written by the first
 * iterator, which runs in the agent's own context. */
__u32 dt_own_tgid;
__u32 dt_own_pid_level;	    /* how deep the agent's pid namespace is; 0: the root's */
__u64 dt_own_pid_namespace; /* its address */

/* Where the agent listens: its endpoint. */
__u32 dt_own_netns;
__u16 dt_own_port;

/* Visits of all sockets that have ended. Before the first, whoever is met may be older than the
 * agent. */
static __u32 dt_visits;

/* There was no room for a Unix connection's state: until so many visits have ended, whoever is met
 * may have been there before. */
static __u8 dt_unix_lost;

/* Sockets without sequence numbers are named by cookies, which other hosts have too: this tells
 * them apart. */
__u32 dt_cookie_salt;

struct { /* owner_key -> owner; kernel inserts, user space deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct dt_owner_key);
	__type(value, struct dt_owner);
} owners SEC(".maps");

struct { /* free owner ids; user space pushes, kernel pops */
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16384);
	__type(value, __u32);
} owner_ids SEC(".maps");

struct { /* owner id -> limits */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct dt_owner_limit);
} owner_limits SEC(".maps");

struct { /* enum dt_shared -> how much of it there is */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_SHARED_KINDS);
	__type(key, __u32);
	__type(value, struct dt_share);
} shares SEC(".maps");

struct { /* edge_key -> edge; kernel inserts, user space deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct dt_edge_key);
	__type(value, struct dt_edge);
} edges SEC(".maps");

struct { /* edge id -> traffic; kernel inserts, user space deletes with the edge */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct dt_traffic);
} traffic SEC(".maps");

struct { /* connection -> the edges of its ends; the oldest makes room */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct dt_pair);
	__type(value, struct dt_link);
} links SEC(".maps");

struct { /* two edges -> connections that are of both; kernel inserts, user space deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct dt_join);
	__type(value, __u64);
} joins SEC(".maps");

struct dt_lookup_key {
	__u64 conn; /* address of the socket's state */
	__u64 signature;
	__u32 id;
	__u32 pad;
};

struct dt_lookup {
	__u64 start_ns;
	__u32 number; /* on its socket */
	__u32 bytes;
	struct dt_series_key key;
	__u32 owner_id;
	__u16 port; /* of the server, for one whose client is not known */
	__u8 role;
	__u8 pad;
};

struct { /* DNS look-ups without an answer so far; kernel inserts and deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct dt_lookup_key);
	__type(value, struct dt_lookup);
} lookups SEC(".maps");

struct { /* owner and question -> when user space was last told the answer */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} answers SEC(".maps");

struct { /* series_key -> series; kernel inserts, user space deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct dt_series_key);
	__type(value, struct dt_series);
} series SEC(".maps");

enum dt_overflow_size {
	/* protocol * 4 + role */
	DT_SERIES_OVERFLOWS = 64,
};

struct { /* where exchanges are counted when there is no memory for a series */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_SERIES_OVERFLOWS);
	__type(key, __u32);
	__type(value, struct dt_series);
} series_overflow SEC(".maps");

struct { /* ledger_line -> ledger */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_LEDGER_LINES);
	__type(key, __u32);
	__type(value, struct dt_ledger);
} ledger SEC(".maps");

struct { /* struct dt_exchange_record */
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

struct { /* the other records: few, and no flood of spans may keep a name from coming */
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} news SEC(".maps");

struct { /* client request -> why it was made; the oldest makes room */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dt_wire);
	__type(value, struct dt_cause);
} causes SEC(".maps");

struct { /* TCP sockets; kernel inserts, freed with the socket */
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dt_conn);
} conns SEC(".maps");

struct { /* TCP sockets with a known protocol; kernel inserts, freed with the socket */
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dt_flight);
} flights SEC(".maps");

/* Where a connection with storage is, for visits, which have no socket to ask for it. */
struct dt_live {
	__u64 conn; /* address of its state */
	struct dt_sampled sampled;
	__u32 opened_edge; /* that counts it as opened; 0: none */
	__u32 pad;
};

struct { /* cookie -> place; kernel inserts and deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct dt_live);
} live SEC(".maps");

struct { /* a connection's state, copied by a visit */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dt_conn);
} seen_conn SEC(".maps");

/* Nothing tells of the end of a Unix socket, or of one of MPTCP. So their state lives in hashes,
 * and the sweep looks whether the socket is still there. */
struct { /* cookie -> connection; kernel inserts, the sweep deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct dt_conn);
} hashed_conns SEC(".maps");

struct { /* the same with a known protocol */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct dt_flight);
} hashed_flights SEC(".maps");

struct dt_spill_key {
	__u64 conn; /* address of its state: unique while it lives, entries end with it */
	__u32 ordinal;
	__u32 state; /* DT_TAG_REQUEST or DT_TAG_RESPONSE */
};

struct dt_spill {
	struct dt_request request;
	struct dt_response response;
	__u32 tag;
	__u32 pad;
};

struct { /* requests and early responses beyond a connection's slots; kernel inserts and deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct dt_spill_key);
	__type(value, struct dt_spill);
} spill SEC(".maps");

struct dt_operation_key {
	__u64 signature;
	__u32 owner_id;
	__u32 protocol;
};

struct { /* operations that have been sampled; kernel inserts, user space deletes with the owner */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct dt_operation_key);
	__type(value, __u32);
} operations SEC(".maps");

enum dt_operation_cache_size {
	DT_OPERATION_CACHE = 4096, /* a power of two */
};

struct { /* direct-mapped cache of operations: a hit costs 3 ns instead of 40 */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_OPERATION_CACHE);
	__type(key, __u32);
	__type(value, __u64);
} operation_cache SEC(".maps");

struct { /* hash of a path's segment that is no identifier -> nothing; user space inserts before the
	    doors open */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} kept_segments SEC(".maps");

enum dt_serving_size {
	DT_SERVING = 16384, /* a power of two: threads, by the low bits of their id */
};

/* What a thread was seen to do. */
enum dt_habit {
	DT_HABIT_POLLS = 1,    /* it waits for several things at once, or hands requests on */
	DT_HABIT_ALONE = 2,    /* it waited for an answer alone since it read what it has in hand */
	DT_HABIT_ANSWERED = 4, /* it did so, and answered, and has not slept since */
};

/* The server exchange that a thread has in hand. */
struct dt_serving {
	__u64 born_ns; /* the thread: its number may have been another's */
	__u64 conn;    /* addresses: of its connection's state, and of its open file */
	__u64 file;
	__u64 asked; /* of the open file of the last client request sent meanwhile */
	struct dt_wire wire;
	__u32 tid;
	__u32 owner_id;
	__u32 open;  /* server exchanges read by this thread and not answered */
	__u8 known;  /* wire is that of the only one since there was none */
	__u8 way;    /* how it was read: bits of enum dt_way */
	__u8 habits; /* bits of enum dt_habit */
	__u8 trace_bytes;
	__u8 trace[DT_TRACE_BYTES];
};

struct { /* thread -> what it serves; taken and released by the kernel */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DT_SERVING);
	__type(key, __u32);
	__type(value, struct dt_serving);
} serving SEC(".maps");

/* A process that forks workers. */
struct dt_family_key {
	__u64 start_ns; /* as in dt_owner_key */
	__u32 pid;
	__u32 pad;
};

struct { /* parent -> bits of enum dt_trust of children that run on in its program; kernel inserts,
	    the oldest makes room */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct dt_family_key);
	__type(value, __u32);
} families SEC(".maps");

struct dt_listener_key {
	__u32 netns;
	__u16 port;
	__u16 pad;
};

struct { /* ports that listen or did: tells a role where no handshake was seen; the oldest makes
	    room */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dt_listener_key);
	__type(value, __u32);
} listeners SEC(".maps");

struct { /* context -> what it works with */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_CONTEXTS);
	__type(key, __u32);
	__type(value, struct dt_scratch);
} scratch SEC(".maps");

struct { /* 0 -> rules; written by user space */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dt_recording_rules);
} recording_rules SEC(".maps");

struct { /* 0 -> struct dt_piece; user space puts the ring there and takes it away */
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_RINGBUF);
			__uint(max_entries, 4096);
		});
} recording SEC(".maps");

struct { /* recorded connection -> its count; kernel inserts, user space deletes */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct dt_recorded_key);
	__type(value, struct dt_recorded);
} recorded SEC(".maps");

struct { /* recording_line -> ledger */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_RECORDING_LINES);
	__type(key, __u32);
	__type(value, struct dt_ledger);
} recording_ledger SEC(".maps");

/* A piece in the making, and where its bytes still are. */
struct dt_copy {
	struct dt_piece piece;
	__u8 data[2 * DT_PIECE_BYTES]; /* the verifier lets a read of one half begin at its end */
	__u64 segment;		       /* as in dt_scratch */
	__u64 segment_left;
	__u64 iov;
	__u32 iovs;
	__u32 left;
	__u32 have;   /* bytes in data */
	__u32 hidden; /* bytes to pass over uncopied */
	__u8 opaque;
	__u8 fault;
	__u8 pad[6];
};

struct { /* context -> the piece that it makes */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DT_CONTEXTS);
	__type(key, __u32);
	__type(value, struct dt_copy);
} copies SEC(".maps");
