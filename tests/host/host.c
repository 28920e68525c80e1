// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the kernel's code in user space: reads a script of operations on sockets from standard
 * input, passes each through the doors of deetune.bpf.c, and writes what the maps and the ring
 * hold. tests/host/engine.py is the other end. After each operation the ledger must balance.
 */
#include "shim.h"
#include "deetune.bpf.c"

enum host_code {
	HOST_OPEN = 'O',    /* what: HOST_MIDSTREAM or 0; to: role; bytes: transport */
	HOST_IO = 'I',	    /* what: enum host_call; to: 1 is a send, 2 more: a visit comes
			       between TCP and the door; bytes and iovecs follow */
	HOST_UNSEEN = 'B',  /* bytes that TCP counts and no door brings */
	HOST_END = 'E',	    /* a read says that the peer has ended its stream */
	HOST_CLOSE = 'C',   /* the socket is destroyed */
	HOST_REFUSED = 'F', /* a connect fails; bytes: errno; what: HOST_AGAIN, or a new socket */
	HOST_LIMIT = 'L',   /* what: enum host_limit; bytes: how many entries, or bytes */
	HOST_THREAD = 'T',  /* who does what follows; bytes: its number; what: born later */
	HOST_WATCH = 'R',   /* a socket is registered in an epoll instance */
	HOST_WAIT = 'W',    /* the thread sleeps; what: enum host_wait; descriptors follow */
	HOST_JUDGE = 'J',   /* says which outcomes are errors; bytes: how many */
	HOST_KEEP = 'K',    /* a segment of paths that is no identifier; its hash follows */
};

enum host_call {
	HOST_PLAIN = 0,	   /* read, write */
	HOST_VECTOR = 1,   /* readv, writev */
	HOST_MESSAGE = 2,  /* recvmsg, sendmsg */
	HOST_OPAQUE = 3,   /* sendfile, splice */
	HOST_UNMAPPED = 4, /* read, write from pages that are not resident */
};

enum host_wait {
	HOST_WAIT_LOCK = 0,
	HOST_WAIT_READ = 1,
	HOST_WAIT_POLL = 2,
	HOST_WAIT_SELECT = 3,
	HOST_WAIT_EPOLL = 4,
};

/* Descriptors: the sockets by their number, then these. */
enum host_descriptor {
	HOST_LISTENS = 4,
	HOST_PIPE = 5,
	HOST_EPOLL = 6, /* what is waited for in it */
	HOST_DESCRIPTORS = 7,
};

enum host_limit {
	HOST_LIMIT_SERIES = 0,
	HOST_LIMIT_SPILL = 1,
	HOST_LIMIT_OPERATIONS = 2,
	HOST_LIMIT_RING = 3,
	HOST_LIMIT_FLIGHTS = 4,
	HOST_LIMIT_CONNS = 5,
	HOST_LIMIT_HASHED = 6,
	HOST_LIMIT_KEPT = 7, /* of 100 exchanges, by hash */
};

enum host_size {
	HOST_SOCKS = 4,
	HOST_MIDSTREAM = 1,
	HOST_AGAIN = 1,
	HOST_CLIENT_SEQ = 0xfffffe00, /* of the first data byte; wraps soon */
	HOST_SERVER_SEQ = 0xffffff00,
	HOST_APART = 0x10000000, /* between those of two connections */
	HOST_MAX_IOVS = 64,
};

struct host_op {
	__u8 code;
	__u8 sock;
	__u8 to;
	__u8 what;
	__u32 flags;
	__u32 bytes;
	__u32 spare; /* of the buffer, behind the bytes */
	__u32 iovs;
	__u32 points; /* until the next operation runs inside this one; 0: after it */
	__u64 ns;     /* since the last operation */
};

/* What a Unix socket knows of its peer: the kernel's casts are by address. */
union host_peer {
	struct sock sk;
	struct unix_sock unix_sk;
};

/* Two neighbours are the ends of one connection, if both are opened. */
struct host_sock {
	struct sock sk; /* first: the kernel's casts are by address */
	struct tcp_sock tcp;
	struct unix_sock unix_sk;
	struct unix_address address;
	struct socket socket;
	struct file file;
	union host_peer peer;
	int is_open;
};

static struct net host_net = { .ns.inum = 4026531840 };
static struct task_struct host_leader = { .pid = 100, .tgid = 100, .start_boottime = 7 };
static struct task_struct host_process = { .pid = 101, .tgid = 100, .start_boottime = 7 };
static struct host_sock host_listener;
static struct eventpoll host_instance;
static struct file host_epoll = { .private_data = &host_instance };
static struct file host_pipe, *host_files[HOST_DESCRIPTORS];
static struct fdtable host_table = { .max_fds = HOST_DESCRIPTORS, .fd = host_files };
static struct files_struct host_open_files = { .fdt = &host_table };
static struct pt_regs host_regs;
static struct host_sock host_socks[HOST_SOCKS];
static struct dt_ledger host_open;
static const __u8 *host_script, *host_script_end;
static int host_unbalanced;
static __u64 host_cookies; /* never given twice */

static struct task_struct *host_task(void)
{
	return &host_process;
}

static struct tcp_sock *host_tcp(struct sock *sk)
{
	return sk->__sk_common.skc_family == DT_AF_INET ? &((struct host_sock *)sk)->tcp : 0;
}

static struct unix_sock *host_unix(struct sock *sk)
{
	return sk->__sk_common.skc_family == DT_AF_UNIX ? &((struct host_sock *)sk)->unix_sk : 0;
}

static void *host_registers(void)
{
	return &host_regs;
}

static __u64 host_cookie(struct sock *sk)
{
	return sk->__sk_common.skc_cookie.counter;
}

static __u64 host_pid_tgid(void)
{
	return (__u64)host_process.tgid << 32 | host_process.pid;
}

/* ---- operations ---------------------------------------------------------------------------- */

static void host_listen(struct sock *sk)
{
	struct dt_listener_key key = { .netns = host_net.ns.inum, .port = sk->__sk_common.skc_num };
	__u32 one = 1;

	bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
}

static void host_do_open_unix(const struct host_op *op, struct host_sock *s)
{
	int is_client = op->to == DT_ROLE_CLIENT;
	struct host_sock *other = &host_socks[op->sock ^ 1];
	struct sock *sk = &s->sk;

	s->address.len = 2;
	sk->__sk_common.skc_family = DT_AF_UNIX;
	s->unix_sk.addr = is_client ? 0 : &s->address;
	s->unix_sk.peer = &s->peer.sk;
	s->peer.sk.__sk_common.skc_cookie.counter = ++host_cookies;
	if (other->is_open && other->unix_sk.peer) { /* each has the other's */
		sk->__sk_common.skc_cookie = other->peer.sk.__sk_common.skc_cookie;
		s->peer.sk.__sk_common.skc_cookie = other->sk.__sk_common.skc_cookie;
	}
	s->peer.unix_sk.addr = is_client ? &s->address : 0;
	if (op->what & HOST_MIDSTREAM) {
		dt_visits = 0;
		dt_unix_conn(sk);
		dt_visits = 1;
	}
}

static void host_do_open(const struct host_op *op, struct host_sock *s)
{
	int is_client = op->to == DT_ROLE_CLIENT;
	__u32 apart = (op->sock >> 1) * HOST_APART;
	struct sock *sk = &s->sk;

	memset(s, 0, sizeof(*s));
	s->is_open = 1;
	sk->__sk_common.skc_cookie.counter = ++host_cookies;
	sk->__sk_common.skc_refcnt.refs.counter = 1;
	sk->sk_socket = &s->socket;
	s->socket.sk = sk;
	s->socket.file = &s->file;
	s->file.private_data = &s->socket;
	sk->sk_type = DT_SOCK_STREAM;
	sk->__sk_common.skc_net.net = &host_net;
	if (op->bytes == DT_TRANSPORT_UNIX) {
		host_do_open_unix(op, s);
		return;
	}
	sk->__sk_common.skc_family = DT_AF_INET;
	sk->sk_protocol = DT_IPPROTO_TCP;
	sk->__sk_common.skc_num = is_client ? 40000 + op->sock : 80;
	sk->__sk_common.skc_dport = __builtin_bswap16(is_client ? 80 : 40000 + op->sock);
	sk->__sk_common.skc_daddr = sk->__sk_common.skc_rcv_saddr = 0x0100007f;
	s->tcp.bytes_acked = is_client; /* the SYN */
	s->tcp.snd_una = s->tcp.write_seq = (is_client ? HOST_CLIENT_SEQ : HOST_SERVER_SEQ) + apart;
	s->tcp.rcv_nxt = s->tcp.copied_seq =
		(is_client ? HOST_SERVER_SEQ : HOST_CLIENT_SEQ) + apart;
	if (op->what & HOST_MIDSTREAM) {
		if (!is_client)
			host_listen(sk);
		return;
	}
	if (is_client)
		dt_tcp_connect(sk, DT_TCP_CLOSE, DT_TCP_SYN_SENT);
	dt_tcp_state(sk, is_client ? DT_TCP_SYN_SENT : DT_TCP_SYN_RECV, DT_TCP_ESTABLISHED);
}

static void host_moved(struct host_sock *s, int is_send, __u32 bytes)
{
	if (is_send) {
		s->tcp.write_seq += bytes;
		s->tcp.snd_una += bytes;
		s->tcp.bytes_acked += bytes;
	} else {
		s->tcp.copied_seq += bytes;
		s->tcp.rcv_nxt += bytes;
		s->tcp.bytes_received += bytes;
	}
}

/* The bytes in iovecs of their own, the last one with the spare. */
static __u32 host_iovecs(const struct host_op *op, const __u32 *lengths, __u8 *buffer,
			 struct dt_iovec *iovs)
{
	__u64 at = 0, all = op->bytes + op->spare;

	for (__u32 i = 0; i < op->iovs; i++) {
		__u64 n = lengths[i] < all - at ? lengths[i] : all - at;

		iovs[i].base = (__u64)buffer + at;
		iovs[i].len = n;
		at += n;
	}
	iovs[op->iovs].base = (__u64)buffer + at;
	iovs[op->iovs].len = all - at;
	return op->iovs + 1;
}

/* As dt_iter_sockets, which needs a kernel. */
static void host_visit(struct sock *sk)
{
	struct dt_conn *c = dt_tcp_conn(sk, dt_role_by_listener(sk), DT_CONN_MIDSTREAM);

	if (!(c->flags & DT_CONN_ESTABLISHED))
		dt_established(c, sk);
}

static void host_do_io(const struct host_op *op, struct host_sock *s, const __u8 *data)
{
	static const long calls[][2] = {
		[HOST_PLAIN] = { DT_READ, DT_WRITE },
		[HOST_VECTOR] = { DT_READV, DT_WRITEV },
		[HOST_MESSAGE] = { DT_RECVMSG, DT_SENDMSG },
		[HOST_OPAQUE] = { -1, -1 },
		[HOST_UNMAPPED] = { DT_READ, DT_WRITE },
	};
	struct host_region user[HOST_REGIONS];
	struct dt_iovec iovs[HOST_MAX_IOVS + 1];
	struct dt_iovec message[DT_MSG_IOV / sizeof(struct dt_iovec) + 1] = {};
	struct pt_regs regs = host_regs;
	__u64 all = op->bytes + op->spare;
	__u8 *buffer = malloc(all ?: 1);
	__u32 n;

	if (op->iovs > HOST_MAX_IOVS || op->what >= sizeof(calls) / sizeof(calls[0]))
		abort();
	memcpy(buffer, data + op->iovs * sizeof(__u32), op->bytes);
	memset(buffer + op->bytes, 'Z', op->spare);
	n = host_iovecs(op, (const __u32 *)data, buffer, iovs);
	memcpy(user, host_user, sizeof(user));
	memset(host_user, 0, sizeof(host_user));
	host_regs.orig_ax = calls[op->what][op->to & 1];
	host_regs.di = 5;
	host_regs.si = (__u64)buffer;
	host_regs.dx = all;
	if (op->what != HOST_UNMAPPED)
		host_user[0] = (struct host_region){ (__u64)buffer, all };
	if (op->what == HOST_VECTOR || op->what == HOST_MESSAGE) {
		host_user[1] = (struct host_region){ (__u64)iovs, n * sizeof(iovs[0]) };
		host_regs.si = (__u64)iovs;
		host_regs.dx = n;
	}
	if (op->what == HOST_MESSAGE) {
		message[DT_MSG_IOV / sizeof(struct dt_iovec)] = (struct dt_iovec){ (__u64)iovs, n };
		host_user[2] = (struct host_region){ (__u64)message, sizeof(message) };
		host_regs.si = (__u64)message;
	}
	host_moved(s, op->to & 1, op->bytes);
	if (op->to & 2)
		host_visit(&s->sk);
	if (op->to & 1)
		dt_sock_send(&s->sk, op->bytes, op->flags);
	else
		dt_sock_recv(&s->sk, op->bytes, op->flags);
	memcpy(host_user, user, sizeof(user));
	host_regs = regs;
	free(buffer);
}

/* User space runs one sweep at a time: a second one waits. */
static void host_sweep(void)
{
	static int waiting;

	if (waiting++)
		return;
	do {
		waiting = 1;
		dt_sweep(0);
	} while (waiting > 1);
	waiting = 0;
}

static void host_do_close(struct host_sock *s)
{
	const void *key = s;

	s->is_open = 0;
	if (s->sk.__sk_common.skc_family == DT_AF_UNIX) {
		s->sk.sk_socket = 0;
		host_sweep();
		return;
	}
	s->sk.sk_shutdown = 3;
	s->tcp.bytes_acked++; /* the FINs */
	s->tcp.copied_seq++;
	dt_tcp_destroy(&s->sk);
	s->sk.__sk_common.skc_refcnt.refs.counter = 0;
	host_delete(&flights, &key, sizeof(key));
	host_delete(&conns, &key, sizeof(key));
}

static void host_do_refused(const struct host_op *op, struct host_sock *s)
{
	struct host_op open = { .to = DT_ROLE_CLIENT, .what = HOST_MIDSTREAM };

	if (!(op->what & HOST_AGAIN))
		host_do_open(&open, s);
	dt_tcp_connect(&s->sk, DT_TCP_CLOSE, DT_TCP_SYN_SENT);
	s->sk.sk_err = op->bytes;
	dt_tcp_state(&s->sk, DT_TCP_SYN_SENT, DT_TCP_CLOSE);
}

static void host_do_limit(const struct host_op *op)
{
	static const void *const maps[] = {
		[HOST_LIMIT_SERIES] = &series,	       [HOST_LIMIT_SPILL] = &spill,
		[HOST_LIMIT_OPERATIONS] = &operations, [HOST_LIMIT_FLIGHTS] = &flights,
		[HOST_LIMIT_CONNS] = &conns,	       [HOST_LIMIT_HASHED] = &hashed_conns,
	};
	__u32 owner = 1;

	if (op->what == HOST_LIMIT_RING)
		host_ring_left = op->bytes;
	else if (op->what == HOST_LIMIT_KEPT)
		dt_limit_of(owner)->drop_below = (100 - op->bytes) * (~0U / 100);
	else
		host_map_of(maps[op->what])->limit = op->bytes;
}

static void host_do_keep(const __u8 *data)
{
	__u32 none = 0;
	__u64 hash;

	memcpy(&hash, data, sizeof(hash));
	bpf_map_update_elem(&kept_segments, &hash, &none, BPF_ANY);
}

static void host_do_thread(const struct host_op *op)
{
	host_process.pid = op->bytes;
	host_process.start_boottime = 7 + op->bytes + op->what;
}

static void host_do_wait(const struct host_op *op, const __u32 *fds)
{
	static const long calls[] = {
		[HOST_WAIT_LOCK] = 202, /* futex */
		[HOST_WAIT_READ] = DT_RECVFROM,	  [HOST_WAIT_POLL] = DT_POLL,
		[HOST_WAIT_SELECT] = DT_PSELECT6, [HOST_WAIT_EPOLL] = DT_EPOLL_WAIT,
	};
	struct dt_pollfd polled[HOST_MAX_IOVS] = {};
	struct epitem items[HOST_MAX_IOVS] = {};
	struct pt_regs regs = host_regs;
	__u64 set = 0;

	if (op->iovs > HOST_MAX_IOVS || op->what >= sizeof(calls) / sizeof(calls[0]))
		abort();
	memset(&host_regs, 0, sizeof(host_regs));
	memset(host_user, 0, sizeof(host_user));
	for (__u32 i = 0; i < op->iovs; i++) {
		polled[i].fd = fds[i];
		set |= 1ULL << (fds[i] & 63);
		items[i].ffd.file = host_files[fds[i]];
		if (i % 2)
			items[i / 2].rbn.rb_left = &items[i].rbn;
		else if (i)
			items[i / 2 - 1].rbn.rb_right = &items[i].rbn;
	}
	host_instance.rbr.rb_root.rb_node = op->iovs ? &items[0].rbn : 0;
	host_user[0] = (struct host_region){ (__u64)polled, op->iovs * sizeof(polled[0]) };
	host_user[1] = (struct host_region){ (__u64)&set, sizeof(set) };
	host_regs.orig_ax = calls[op->what];
	if (op->what == HOST_WAIT_POLL) {
		host_regs.di = (__u64)polled;
		host_regs.si = op->iovs;
	} else if (op->what == HOST_WAIT_SELECT) {
		host_regs.di = HOST_DESCRIPTORS;
		host_regs.si = (__u64)&set;
	} else if (op->what == HOST_WAIT_EPOLL) {
		host_regs.di = HOST_EPOLL;
	} else if (op->iovs) {
		host_regs.di = fds[0];
	}
	host_process.__state = 1;
	dt_task_switch(0, &host_process);
	host_process.__state = 0;
	memset(host_user, 0, sizeof(host_user));
	host_regs = regs;
}

/* For each kind of exchange, by its outcome: 1 is an error. */
static void host_do_judge(const struct host_op *op)
{
	for (__u32 kind = 0; kind < DT_PROTOCOL_UNDECIDED * 8; kind++) {
		struct dt_series_key key = { .protocol = kind >> 3, .end = kind & 1 };
		__u32 role = kind >> 1 & 3;

		printf("errors %u %u %u ", key.protocol, role, key.end);
		for (__u32 outcome = 0; outcome < op->bytes; outcome++) {
			key.outcome = outcome;
			putchar('0' + dt_is_error(&key, role));
		}
		printf("\n");
	}
}

/* Takes the next operation off the script and does it. */
static void host_next(void)
{
	struct host_op op;
	struct host_sock *s;
	const __u8 *data;

	memcpy(&op, host_script, sizeof(op));
	data = host_script + sizeof(op);
	host_script = data;
	if (op.code == HOST_WAIT)
		host_script += op.iovs * sizeof(__u32);
	if (op.code == HOST_KEEP)
		host_script += sizeof(__u64);
	if (op.code == HOST_IO)
		host_script += op.iovs * sizeof(__u32) + op.bytes;
	if (op.sock >= HOST_SOCKS || host_script > host_script_end)
		abort();
	s = &host_socks[op.sock];
	host_now += op.ns;
	host_points = op.points;
	switch (op.code) {
	case HOST_OPEN:
		host_do_open(&op, s);
		break;
	case HOST_IO:
		host_do_io(&op, s, data);
		break;
	case HOST_UNSEEN:
		host_moved(s, op.to, op.bytes);
		break;
	case HOST_END:
		s->sk.sk_shutdown |= DT_RCV_SHUTDOWN;
		dt_sock_recv(&s->sk, 0, 0);
		break;
	case HOST_CLOSE:
		host_do_close(s);
		break;
	case HOST_REFUSED:
		host_do_refused(&op, s);
		break;
	case HOST_LIMIT:
		host_do_limit(&op);
		break;
	case HOST_THREAD:
		host_do_thread(&op);
		break;
	case HOST_WATCH:
		s->file.f_ep = s;
		break;
	case HOST_WAIT:
		host_do_wait(&op, (const __u32 *)data);
		break;
	case HOST_JUDGE:
		host_do_judge(&op);
		break;
	case HOST_KEEP:
		host_do_keep(data);
		break;
	default:
		abort();
	}
	host_points = 0;
}

/* One more processor, not two. */
static void host_other(void)
{
	if (host_script < host_script_end)
		host_next();
}

/* ---- what came of it ----------------------------------------------------------------------- */

static struct dt_ledger host_line(__u32 line)
{
	struct host_entry *e = *host_place(host_map_of(&ledger), &line, sizeof(line));

	return e ? *(struct dt_ledger *)e->value : (struct dt_ledger){};
}

static void host_balance(int operation)
{
	struct dt_ledger difference = host_line(DT_SEEN), counted = host_line(DT_COUNTED);

	dt_read_open(&host_open);
	difference.exchanges -= counted.exchanges + host_open.exchanges;
	difference.bytes -= counted.bytes + host_open.bytes;
	for (__u32 i = DT_LOST_FIRST; i < DT_LEDGER_LINES; i++) {
		struct dt_ledger lost = host_line(i);

		difference.exchanges -= lost.exchanges;
		difference.bytes -= lost.bytes;
	}
	if (!host_unbalanced && (difference.exchanges || difference.bytes)) {
		host_unbalanced = 1;
		printf("unbalanced %d %lld %lld\n", operation, (long long)difference.exchanges,
		       (long long)difference.bytes);
	}
}

static void host_print_hex(const __u8 *data, __u32 bytes)
{
	printf(" x");
	for (__u32 i = 0; i < bytes; i++)
		printf("%02x", data[i]);
}

static void host_print_series(const char *what, const struct dt_series_key *key,
			      const struct dt_series *v)
{
	__u64 count = 0;

	for (int i = 0; i < DT_DURATION_BUCKETS; i++)
		count += v->duration_buckets[i];
	printf("%s %u %llu %u %u %llu %llu %llu %llu %llu\n", what, key->protocol, key->signature,
	       key->outcome, key->end, count, v->request_bytes, v->response_bytes,
	       v->request_body_bytes, v->response_body_bytes);
}

static __u32 host_role_of(__u32 edge)
{
	struct host_map *all = host_map_of(&edges);

	for (int i = 0; i < HOST_BUCKETS; i++)
		for (struct host_entry *e = all->buckets[i]; e; e = e->next)
			if (((const struct dt_edge *)e->value)->id == edge)
				return ((const struct dt_edge_key *)e->key)->role;
	return DT_ROLE_UNKNOWN;
}

static void host_print_record(const struct host_record *r)
{
	const struct dt_exchange_record *x = (const void *)r->data;
	const struct dt_operation_record *o = (const void *)r->data;
	const struct dt_blind_record *b = (const void *)r->data;

	switch (x->type) {
	case DT_RECORD_EXCHANGE:
		printf("exchange %u %llu %u %u %llu %llu %llu %llu %llu %llu %llu %u %u %llu %u %u "
		       "%u %u %u %llu",
		       x->key.protocol, x->key.signature, x->key.outcome, x->key.end,
		       x->request_bytes, x->response_bytes, x->request_body_bytes,
		       x->response_body_bytes, x->start_ns, x->first_byte_ns, x->end_ns,
		       x->wire.client_seq, x->wire.server_seq, x->wire.offset,
		       x->flags & DT_EXCHANGE_ALONE, host_role_of(x->edge), x->cause_found,
		       x->cause.client_seq, x->cause.server_seq, x->cause.offset);
		host_print_hex(x->head, x->head_bytes);
		host_print_hex(x->trace, x->trace_bytes);
		printf("\n");
		break;
	case DT_RECORD_OPERATION:
		printf("operation %u %llu", o->protocol, o->signature);
		host_print_hex(o->head, o->head_bytes);
		printf("\n");
		break;
	case DT_RECORD_UNPROVEN:
		printf("unproven\n");
		break;
	case DT_RECORD_BLIND:
		printf("blind %llu %llu\n", b->sent_bytes, b->received_bytes);
		break;
	}
}

static __u32 host_trust(void)
{
	__u32 owner = 1;

	return dt_limit_of(owner)->trust;
}

static void host_print(void)
{
	struct host_map *all = host_map_of(&series), *over = host_map_of(&series_overflow);

	for (int i = 0; i < HOST_BUCKETS; i++) {
		for (struct host_entry *e = all->buckets[i]; e; e = e->next)
			host_print_series("series", (const void *)e->key, (const void *)e->value);
		for (struct host_entry *e = over->buckets[i]; e; e = e->next) {
			struct dt_series_key key = { .protocol = *(__u32 *)e->key / 4 };

			host_print_series("overflow", &key, (const void *)e->value);
		}
	}
	for (__u32 i = 0; i < DT_LEDGER_LINES; i++) {
		struct dt_ledger l = host_line(i);

		if (l.exchanges || l.bytes)
			printf("ledger %u %llu %llu\n", i, l.exchanges, l.bytes);
	}
	printf("trust %u\n", host_trust());
	dt_read_open(&host_open);
	printf("open %llu %llu\n", host_open.exchanges, host_open.bytes);
	printf("spilled %u\n", host_map_of(&spill)->entries);
	printf("steps %llu\n", host_steps);
	while (host_ring) {
		struct host_record *r = host_ring;

		host_ring = r->next;
		host_print_record(r);
		free(r);
	}
	host_ring_end = &host_ring;
	printf("end\n");
	fflush(stdout);
}

static void host_begin(void)
{
	__u32 owner = 1;
	struct dt_owner_limit *limit;

	host_clear_maps();
	for (int i = 0; i < HOST_SOCKS; i++)
		host_files[i] = &host_socks[i].file;
	host_files[HOST_LISTENS] = &host_listener.file;
	host_files[HOST_PIPE] = &host_pipe;
	host_files[HOST_EPOLL] = &host_epoll;
	host_listener.file.private_data = &host_listener.socket;
	host_listener.socket.file = &host_listener.file;
	host_listener.socket.sk = &host_listener.sk;
	host_listener.sk.__sk_common.skc_state = DT_TCP_LISTEN;
	host_process.files = &host_open_files;
	host_process.pid = 101;
	host_process.start_boottime = 7;
	memset(host_socks, 0, sizeof(host_socks));
	host_leader.real_parent = host_leader.group_leader = &host_leader;
	host_process.real_parent = host_process.group_leader = &host_leader;
	host_owner = 0;
	host_now = 1000000000;
	host_steps = 0;
	host_cookies = 0;
	host_points = 0;
	host_unbalanced = 0;
	host_ring_left = 1 << 30;
	dt_last_edge = 0;
	dt_visits = 1; /* who is met is new, unless it is opened as older */
	dt_unix_lost = 0;
	limit = bpf_map_lookup_elem(&owner_limits, &owner);
	limit->budget = ~0U >> 1; /* every exchange gets its span: tests read them */
}

int main(void)
{
	__u32 bytes;

	while (fread(&bytes, sizeof(bytes), 1, stdin) == 1) {
		__u8 *script = malloc(bytes ?: 1);

		if (fread(script, 1, bytes, stdin) != bytes)
			return 1;
		host_begin();
		host_script = script;
		host_script_end = script + bytes;
		for (int i = 0; host_script < host_script_end; i++) {
			host_next();
			host_balance(i);
		}
		host_print();
		free(script);
	}
	return 0;
}
