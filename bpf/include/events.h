/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The only contract between the kernel side and user space: keys and values of the maps that user
 * space reads, and the records of the ring. User space reads sizes, offsets and enum values from
 * the object's BTF (src/deetune_otel/kernel/btf.py); nothing here is mirrored by hand.
 *
 * Units are in the names. Addresses are in network order, IPv4 as v4-mapped IPv6. Nothing is
 * padded in silence: -Wpadded -Werror.
 */
#pragma once

enum dt_role {
	DT_ROLE_UNKNOWN = 0,
	DT_ROLE_CLIENT = 1,
	DT_ROLE_SERVER = 2,
};

enum dt_transport {
	DT_TRANSPORT_TCP = 1,
	DT_TRANSPORT_UNIX = 2,
	DT_TRANSPORT_UDP = 3,
};

/* DT_PROTOCOL_UNDECIDED never reaches user space. */
enum dt_protocol {
	DT_PROTOCOL_UNKNOWN = 0, /* counted by turn-taking */
	DT_PROTOCOL_HTTP = 1,
	DT_PROTOCOL_REDIS = 2,
	DT_PROTOCOL_CONNECT = 3, /* a TCP connect that failed: outcome is the errno */
	DT_PROTOCOL_DNS = 4,	 /* over UDP */
	DT_PROTOCOL_UNDECIDED = 15,
};

/* How an exchange ended. */
enum dt_end {
	DT_END_COMPLETE = 0,
	DT_END_CLOSED = 1, /* the connection ended before the response did */
};

/* outcome: HTTP status; DT_REDIS_* for Redis; errno for CONNECT; the response code for
 * DNS; 0 when there was no response. */
enum dt_redis_outcome {
	DT_REDIS_OK = 0,
	DT_REDIS_ERR = 1, /* generic -ERR */
	DT_REDIS_WRONGTYPE = 2,
	DT_REDIS_MOVED = 3,
	DT_REDIS_ASK = 4,
	DT_REDIS_NOAUTH = 5,
	DT_REDIS_WRONGPASS = 6,
	DT_REDIS_NOPERM = 7,
	DT_REDIS_OOM = 8,
	DT_REDIS_BUSY = 9, /* BUSY, BUSYGROUP, BUSYKEY */
	DT_REDIS_LOADING = 10,
	DT_REDIS_NOSCRIPT = 11,
	DT_REDIS_EXECABORT = 12,
	DT_REDIS_READONLY = 13,
	DT_REDIS_MISCONF = 14,
	DT_REDIS_CLUSTERDOWN = 15,
	DT_REDIS_TRYAGAIN = 16,
	DT_REDIS_MASTERDOWN = 17,
	DT_REDIS_OTHER = 18, /* an error code that is not in this list */
};

enum dt_dns_outcome {
	DT_DNS_NXDOMAIN = 3,
};

/* Signatures that are no hash. */
enum dt_signature {
	DT_SIGNATURE_NONE = 0,	   /* the protocol names no operation */
	DT_SIGNATURE_OVERFLOW = 1, /* over the cap of operations: otel.metric.overflow */
	/* of HTTP, by method */
	DT_SIGNATURE_OVERFLOW_GET = 2,
	DT_SIGNATURE_OVERFLOW_PUT = 3,
	DT_SIGNATURE_OVERFLOW_HEAD = 4,
	DT_SIGNATURE_OVERFLOW_POST = 5,
	DT_SIGNATURE_OVERFLOW_PATCH = 6,
	DT_SIGNATURE_OVERFLOW_TRACE = 7,
	DT_SIGNATURE_OVERFLOW_QUERY = 8,
	DT_SIGNATURE_OVERFLOW_DELETE = 9,
	DT_SIGNATURE_OVERFLOW_OPTIONS = 10,
	DT_SIGNATURE_HASHES = 16, /* from here on */
};

enum dt_limit {
	DT_DURATION_BOUNDS = 14,
	DT_DURATION_BUCKETS = 15,
	DT_SIZE_BOUNDS = 10,
	DT_SIZE_BUCKETS = 11,
	DT_HEAD_BYTES = 256, /* of a request's head kept for its span and its name */
	DT_TRACE_BYTES =
		72, /* of the header line that carries the trace context: a traceparent is 68 */
	DT_COMM_BYTES = 16,
	DT_COMMAND_BYTES = 512,	 /* of a new process's command line */
	DT_FILE_NAME_BYTES = 64, /* of its executable's and its directory's name */
	DT_RTT_BOUNDS = 11,
	DT_RTT_BUCKETS = 12,
	DT_ANSWER_BYTES = 512, /* of a DNS response: what a resolver without EDNS takes */
};

/* map owners: HASH dt_owner_key -> dt_owner. Inserted by the kernel at a process's first socket
 * operation; deleted by user space after the process ended. */
struct dt_owner_key {
	__u64 start_ns; /* start_boottime of the thread group's leader: tells a reused pid apart */
	__u32 pid;	/* thread group id in the root pid namespace */
	__u32 netns;	/* inode number of the network namespace */
};

struct dt_owner {
	__u64 cgroup_id;  /* cgroup v2 id */
	__u32 id;	  /* small number, index into owner_limits */
	__u32 local_pid;  /* thread group id in the agent's pid namespace; 0: not in it */
	__u32 parent_pid; /* likewise, of the process's parent */
	__u32 pad;
	char comm[DT_COMM_BYTES];
};

/* map owner_limits: ARRAY owner id -> dt_owner_limit. budget, drop_below and recorded are written
 * by user space, the rest by the kernel. */
struct dt_owner_limit {
	__u64 window_ns;     /* start of the current second */
	__u32 window_spans;  /* spans emitted in it, by hash */
	__u32 window_errors; /* spans emitted in it, because of an error or slowness */
	__u32 budget;	     /* spans a second; 0: the default */
	__u32 drop_below;    /* by hash: upper 32 bits of the identity's hash; 0: keep all */
	__u32 operations;    /* distinct operations seen */
	__u32 edges;	     /* of its own, without overflow edges */
	__u32 trust;	     /* bits of enum dt_trust */
	__u32 recorded;	     /* enum dt_owner_recorded, written by user space */
	__u32 wondered;	     /* client requests whose cause is not told before there is trust */
	__u32 series;	     /* of its own */
	__u32 overflow_edges;
	__u32 overflow_series;
};

/* map shares: ARRAY enum dt_shared -> dt_share. What all owners share: one may have a quarter of
 * what is left, so that the next finds room as well. */
enum dt_shared {
	DT_SHARED_EDGES = 0,
	DT_SHARED_SERIES = 1,
	DT_SHARED_KINDS = 2,
};

struct dt_share {
	__u64 made; /* written by the kernel; without overflow edges and series */
	__u64 gone; /* written by user space: those of owners that it forgot */
};

/* What an owner's threads were seen to do with requests in hand. One that waits for one thing at a
 * time from the read to its own answer makes its client requests for what it has in hand. */
enum dt_trust {
	DT_TRUST_BLOCKING = 1,	     /* that, with requests read from sockets that block */
	DT_TRUST_NONBLOCKING = 2,    /* and from sockets that do not */
	DT_DISTRUST_NONBLOCKING = 4, /* such a thread waits for several things at once */
	DT_TRUST_POLLS = 8,	     /* any thread that reads requests does, or hands them on */
};

/* map owner_ids: QUEUE of __u32. User space fills it with the free owner ids at start and gives
 * back those of owners that it forgets; the kernel takes. Empty: owner 0, "other processes". */

/* map edges: HASH dt_edge_key -> dt_edge. Inserted by the kernel; deleted by user space after
 * its owner ended. */
struct dt_edge_key {
	__u8 address[16]; /* the peer: the server's address for a client, the client's for a server;
			     for Unix sockets a hash of the server's path */
	__u32 owner_id;
	__u16 port; /* host order; the server's port, at both ends */
	__u8 role;
	__u8 transport;
};

struct dt_edge {
	__u64 first_ns; /* CLOCK_MONOTONIC: its first connection */
	__u8 local_address[16];
	__u32 id;
	__u32 overflow; /* 1: stands for all peers that have no edge; address is zero */
	char path[64];	/* Unix sockets: the server's path, first byte 0x40 for abstract */
};

/* map traffic: HASH edge id -> dt_traffic. What TCP itself says of an edge's connections, added
 * when they open, when they close, and for those that live whenever user space runs
 * dt_iter_traffic. Inserted by the kernel; deleted by user space with the edge. */
struct dt_traffic {
	__u64 opened; /* connections established, or found so; none of UDP */
	__u64 closed;
	__u64 connect_sum_ns; /* SYN to established; clients only */
	__u64 rtt_sum_ns;     /* of smoothed RTTs */
	__u64 retransmits;
	__u64 sent_bytes;
	__u64 received_bytes;
	__u64 connect_buckets[DT_DURATION_BUCKETS];
	__u64 rtt_buckets[DT_RTT_BUCKETS];
};

/* Names one connection identically at both ends, through NAT: first data sequence numbers; for Unix
 * sockets their cookies. */
struct dt_pair {
	__u32 client_seq;
	__u32 server_seq;
};

/* map links: LRU_HASH dt_pair -> dt_link. Recent connections and the edges of their ends, as far as
 * this kernel saw them. */
struct dt_link {
	__u32 client_edge; /* 0: not seen here */
	__u32 server_edge;
	__u16 local_port; /* of the end that was seen; the client's where both were */
	__u16 peer_port;
	__u32 pad;
};

/* map joins: HASH dt_join -> __u64, connections of which both ends were seen here. Inserted by the
 * kernel; deleted by user space with either edge. */
struct dt_join {
	__u32 client_edge;
	__u32 server_edge;
};

/* map series: HASH dt_series_key -> dt_series. Inserted and added to by the kernel; deleted by
 * user space after its owner ended. An owner that has its share of them counts further operations
 * as DT_SIGNATURE_OVERFLOW, and of those beyond two for each of its edges all outcomes as 0.
 * map series_overflow: ARRAY (protocol * 4 + role) -> the same, for when there is no memory.
 * The count is the sum of duration_buckets. */
struct dt_series_key {
	__u64 signature;
	__u32 edge;
	__u16 outcome;
	__u8 protocol;
	__u8 end;
};

struct dt_series {
	__u64 duration_sum_ns;
	__u64 first_byte_sum_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 request_body_bytes;
	__u64 response_body_bytes;
	__u64 duration_buckets[DT_DURATION_BUCKETS];
	/* bucket 0 (empty bodies) is not written: it is the count less the others */
	__u64 request_body_buckets[DT_SIZE_BUCKETS];
	__u64 response_body_buckets[DT_SIZE_BUCKETS];
};

/* map ledger: PERCPU_ARRAY dt_ledger_line -> dt_ledger. What the doors saw, and where it went.
 *   SEEN = COUNTED + open on live connections + every line from DT_LOST_FIRST on
 */
enum dt_ledger_line {
	DT_SEEN = 0,	/* bytes: read or written on observed sockets; exchanges: requests opened */
	DT_COUNTED = 1, /* in a series (or series_overflow) */
	/* not lost, beside the balance */
	DT_OVERFLOW_SERIES = 2,	    /* counted with other operations: its owner had its share */
	DT_OVERFLOW_EDGES = 3,	    /* counted under an overflow edge */
	DT_OVERFLOW_OPERATIONS = 4, /* counted under DT_SIGNATURE_OVERFLOW and the like */
	DT_SPANS_BUDGET = 5,	    /* exchanges with no span: over the budget */
	DT_SPANS_RING_FULL = 6,	    /* exchanges with no span: the ring was full */
	DT_SAMPLES_RING_FULL = 7,   /* operations not yet named: the ring was full */
	DT_AMBIGUOUS_CAUSE = 8,	    /* client requests with more than one possible cause */
	DT_BLIND = 9,		    /* bytes that TCP counted and the doors did not see */
	DT_NOT_OBSERVED = 10, /* bytes on sockets out of scope: netlink, kernel, own, other hosts */
	DT_OPAQUE = 11,	      /* bytes without a readable buffer (sendfile, splice, io_uring) */
	DT_FAULT = 12,	      /* bytes whose buffer was not resident */
	DT_DEMOTED = 13,      /* connections that turned out not to speak the protocol taken */
	DT_DATAGRAMS = 14,    /* datagrams and their bytes, beside the balance but for DNS */
	DT_ANSWERS_DROPPED =
		15,		/* DNS answers that user space was not told of: the ring was full */
	DT_OVERFLOW_JOINS = 16, /* connections whose two edges were not joined: the map was full */
	DT_OVERFLOW_CONNECTIONS = 17, /* that visits do not find: the map was full */
	DT_UNSEEN_ENDS = 18,	      /* connections whose end no program saw */
	DT_UNSEEN_HANDSHAKES = 19,    /* connections whose begin no program saw */
	DT_POLLING = 20,  /* client requests of threads that have one in hand, and poll */
	DT_UNPROVEN = 21, /* the same of programs that are not known not to */
	/* lost: parts of the balance */
	DT_LOST_FIRST = 40,
	DT_LOST_STATE = 40,	 /* no memory for the connection's state */
	DT_LOST_MIDSTREAM = 41,	 /* belongs to an exchange that was open when the agent started */
	DT_LOST_NOT_A_CALL = 42, /* pub/sub and MONITOR messages, bytes between messages */
	DT_LOST_UNPARSED = 43,	 /* the protocol's rules were broken, or bytes were hidden */
	DT_LOST_STEPS = 44,	 /* one operation held more messages than the walker's bound */
	DT_LOST_PIPELINE = 45,	 /* more requests open than the map for them holds */
	DT_LOST_UNANSWERED = 46, /* response without a request */
	DT_LEDGER_LINES = 47,
};

struct dt_ledger {
	__u64 exchanges;
	__u64 bytes;
};

/* Names one request, and no other one ever: identically at both ends of a connection, unless the
 * record says DT_EXCHANGE_ALONE. */
struct dt_wire {
	__u32 client_seq; /* as in dt_pair */
	__u32 server_seq;
	__u64 offset; /* of the request's first byte in the client's direction; of a look-up its
			 number on its socket; of a failed connect the time when it began */
};

/* The rings: records (exchanges) and news (the others). First field of every record: its type. */
enum dt_record_type {
	DT_RECORD_EXCHANGE = 1,
	DT_RECORD_OPERATION = 2,
	DT_RECORD_OWNER = 3,
	DT_RECORD_BLIND = 4,
	DT_RECORD_ANSWER = 5,
	DT_RECORD_UNPROVEN = 6,
};

enum dt_kept {
	DT_KEPT_HASH = 1,
	DT_KEPT_ERROR = 2,
	DT_KEPT_SLOW = 3,
};

enum dt_exchange_flag {
	/* wire is this end's own. UDP and a failed connect have no other end that would know it;
	 * those of a Unix connection that may be older than the agent do not know how much each
	 * has read of what the other had written by then. */
	DT_EXCHANGE_ALONE = 1,
};

struct dt_exchange_record {
	__u32 type;
	__u32 edge;
	__u32 owner_id;
	__u32 tid; /* thread that finished it, in the root pid namespace */
	struct dt_series_key key;
	struct dt_wire wire;
	struct dt_wire cause; /* the server exchange that made this client one; zero: not known */
	__u64 start_ns;	      /* CLOCK_MONOTONIC */
	__u64 first_byte_ns;
	__u64 end_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 request_body_bytes;
	__u64 response_body_bytes;
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
	__u16 head_bytes;
	__u8 trace_bytes;
	__u8 cause_trace_bytes;
	__u8 kept; /* enum dt_kept */
	__u8 transport;
	__u8 cause_found; /* 0 none, 1 thread, 2 ambiguous */
	__u8 cause_role_pad;
	__u32 flags; /* enum dt_exchange_flag */
	__u8 head[DT_HEAD_BYTES];
	__u8 trace[DT_TRACE_BYTES];
	__u8 cause_trace[DT_TRACE_BYTES];
};

/* An operation that user space has not named yet: the first bytes of one such request. */
struct dt_operation_record {
	__u32 type;
	__u32 owner_id;
	__u64 signature;
	__u8 protocol;
	__u8 pad;
	__u16 head_bytes;
	__u32 edge;
	__u8 head[DT_HEAD_BYTES];
};

/* A new process: user space reads its identity at once, before it may end. */
struct dt_owner_record {
	__u32 type;
	__u32 id;
	struct dt_owner_key key;
	struct dt_owner owner;
	__u32 command_bytes; /* 0: not known; DT_COMMAND_BYTES: there may be more */
	__u32 pad;
	__u8 command[DT_COMMAND_BYTES];	     /* arguments, each with a zero at its end */
	char executable[DT_FILE_NAME_BYTES]; /* its name, without its path */
	char directory[DT_FILE_NAME_BYTES];  /* likewise, the working directory's */
};

/* At a connection's close TCP had counted more than the doors saw. */
struct dt_blind_record {
	__u32 type;
	__u32 owner_id;
	__u64 sent_bytes;
	__u64 received_bytes;
};

/* A thread of this owner made a client request with a request in hand, and nobody knows yet what it
 * waits for: time to look (dt_task_switch). */
struct dt_unproven_record {
	__u32 type;
	__u32 owner_id;
};

/* A DNS response that a client received, for the names of addresses: one a second at most for the
 * same question of one process. */
struct dt_answer_record {
	__u32 type;
	__u32 owner_id;
	__u64 at_ns;
	__u32 netns;
	__u32 message_bytes;
	__u8 message[DT_ANSWER_BYTES];
};

/* map causes: LRU_HASH dt_wire -> dt_cause. Why a client request was made, written when it is
 * sent, so that user space can follow a trace upwards before its parents have finished. */
struct dt_cause {
	struct dt_wire wire;
	__u32 trace_bytes;
	__u32 pad;
	__u8 trace[DT_TRACE_BYTES];
};

/* Is what this owner sends and receives recorded? What nobody has decided yet is copied: its first
 * exchange is not missed, and user space drops it when its owner is not chosen. */
enum dt_owner_recorded {
	DT_OWNER_UNDECIDED = 0,
	DT_OWNER_CHOSEN = 1,
	DT_OWNER_NOT_CHOSEN = 2,
};

enum dt_recording_bound {
	DT_RECORDING_PORTS = 8,
	DT_RECORDING_PEERS = 8,
	DT_PIECE_BYTES = 8192, /* of one piece */
};

/* map recording_rules: ARRAY 0 -> dt_recording_rules, written by user space. Which connections are
 * recorded; each is asked once, when nothing is open on it. */
struct dt_recording_rules {
	__u64 begun_ns;	  /* CLOCK_MONOTONIC */
	__u64 body_limit; /* bytes of a message behind it need not be copied */
	__u32 epoch;	  /* another for each recording; 0: nothing is recorded */
	__u32 keep_below; /* by a hash of the pair; all ones: all */
	__u16 roles;	  /* 1 << enum dt_role */
	__u16 protocols;  /* 1 << enum dt_protocol; DT_PROTOCOL_UNKNOWN: what has no known one */
	__u16 ports;	  /* how many, 0: all */
	__u16 peers;	  /* likewise */
	__u16 port[DT_RECORDING_PORTS];	       /* the server's */
	__u64 address[2 * DT_RECORDING_PEERS]; /* two words each, as in dt_ends */
	__u64 mask[2 * DT_RECORDING_PEERS];
};

/* map recording: ARRAY_OF_MAPS 0 -> the ring of dt_piece. It is there only while something is
 * recorded. */
enum dt_piece_flag {
	DT_PIECE_FROM_CLIENT = 1,
	DT_PIECE_START = 2, /* nothing is open, and a request begins here */
	DT_PIECE_OPAQUE = 4,
	DT_PIECE_FAULT = 8,
	DT_PIECE_LIMIT = 16, /* behind the body limit */
	DT_PIECE_LAST = 32,  /* the connection has ended; offsets are those of its ends */
};

/* Bytes of one direction of a connection, or how many are missing. Says all of itself, so that any
 * other may be lost. */
struct dt_piece {
	__u64 offset;	    /* in that direction's stream */
	__u64 other_offset; /* where the other direction is */
	__u64 at_ns;	    /* CLOCK_MONOTONIC */
	struct dt_pair pair;
	__u32 owner_id;
	__u32 edge;
	__u32 bytes;   /* that follow the header */
	__u32 missing; /* when none do */
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
	__u8 role;
	__u8 transport;
	__u8 protocol;
	__u8 flags; /* enum dt_piece_flag */
};

/* map recorded: HASH dt_recorded_key -> dt_recorded. What was counted on recorded connections since
 * their recording began. Inserted by the kernel; deleted by user space after the end of the
 * connection, or of the recording. */
struct dt_recorded_key {
	struct dt_pair pair;
	__u32 role;
};

struct dt_recorded {
	__u64 exchanges;
	__u32 owner_id;
	__u32 is_closed;
};

/* map recording_ledger: PERCPU_ARRAY dt_recording_line -> dt_ledger, pieces (or exchanges where it
 * is said) and their bytes; since the programs were loaded. */
enum dt_recording_line {
	DT_RECORDING_COPIED = 0,
	DT_RECORDING_RING_FULL = 1,
	DT_RECORDING_OPAQUE = 2,
	DT_RECORDING_FAULT = 3,
	DT_RECORDING_LIMITED = 4,
	DT_RECORDING_OPEN = 5,	   /* exchanges that were open when the recording began */
	DT_RECORDING_MISSED = 6,   /* exchanges of connections on which something was always open */
	DT_RECORDING_OVERFLOW = 7, /* exchanges that the map recorded had no room for */
	DT_RECORDING_LINES = 8,
};
