/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libbpf's headers and the kernel's helpers are to bpf/, for user space: maps whose values
 * are each allocated by themselves, so that the address sanitizer sees a write past one; user
 * memory that holds only what an operation was given; and a second processor, which may run
 * another operation whole at any helper call or atomic instruction of this one.
 */
#pragma once

/* libbpf's own headers stay empty */
#define __BPF_HELPERS__
#define __BPF_CORE_READ_H__
#define __BPF_TRACING_H__
#define __BPF_ENDIAN__

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>

#define __TARGET_ARCH_x86 /* names registers and system calls; they are set in host.c */
#define preserve_access_index annotate("relocated where there is BTF")
#define SEC(name) __attribute__((unused))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, ...) __VA_ARGS__ *value
#define BPF_PROG(name, args...) name(args)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohs(x) __builtin_bswap16(x)

/* ---- the other processor ------------------------------------------------------------------- */

static long host_points;      /* until the other one runs; 0: it does not */
static void host_other(void); /* what it runs */

static void host_point(void)
{
	if (host_points && !--host_points)
		host_other();
}

#define __sync_fetch_and_add(p, n) (host_point(), __sync_fetch_and_add(p, n))
#define __sync_fetch_and_or(p, n) (host_point(), __sync_fetch_and_or(p, n))
#define __sync_val_compare_and_swap(p, old, new)                                                   \
	(host_point(), __sync_val_compare_and_swap(p, old, new))

/* ---- memory -------------------------------------------------------------------------------- */

enum host_bound {
	HOST_REGIONS = 8,
	HOST_MAPS = 64,
	HOST_BUCKETS = 512, /* a power of two */
	HOST_EFAULT = 14,
};

struct host_region {
	__u64 from;
	__u64 bytes;
};

static struct host_region host_user[HOST_REGIONS];

static long host_read_user(void *to, __u64 bytes, __u64 from)
{
	host_point();
	for (int i = 0; i < HOST_REGIONS; i++) {
		const struct host_region *r = &host_user[i];

		if (from >= r->from && bytes <= r->bytes && from - r->from <= r->bytes - bytes) {
			memcpy(to, (const void *)from, bytes);
			return 0;
		}
	}
	memset(to, 0, bytes);
	return -HOST_EFAULT;
}

static long host_read_kernel(void *to, __u64 bytes, const void *from)
{
	host_point();
	memcpy(to, from, bytes);
	return 0;
}

static long host_read_kernel_str(void *to, __u32 bytes, const void *from)
{
	host_point();
	if (!from)
		return -HOST_EFAULT;
	strncpy(to, from, bytes - 1);
	((char *)to)[bytes - 1] = 0;
	return strlen(to) + 1;
}

#define bpf_probe_read_user(to, bytes, from) host_read_user(to, bytes, (__u64)(from))
#define bpf_probe_read_kernel(to, bytes, from) host_read_kernel(to, bytes, from)
#define bpf_probe_read_kernel_str(to, bytes, from) host_read_kernel_str(to, bytes, from)

/* As the real one: a null on the way reads as zero. */
#define host_read_1(from, a)                                                                       \
	({                                                                                         \
		__auto_type from_ = (from);                                                        \
		typeof(from_->a) to_ = 0;                                                          \
		if (from_)                                                                         \
			to_ = from_->a;                                                            \
		to_;                                                                               \
	})
#define host_read_2(from, a, b) host_read_1(host_read_1(from, a), b)
#define host_read_3(from, a, b, c) host_read_1(host_read_2(from, a, b), c)
#define host_read_4(from, a, b, c, d) host_read_1(host_read_3(from, a, b, c), d)
#define host_read_n(from, a, b, c, d, n, ...) n
#define BPF_CORE_READ(from, ...)                                                                   \
	host_read_n(from, ##__VA_ARGS__, host_read_4, host_read_3, host_read_2,                    \
		    host_read_1)(from, ##__VA_ARGS__)
#define BPF_CORE_READ_BITFIELD(from, field) ((from)->field)
#define bpf_core_field_exists(field) 1

/* ---- maps ---------------------------------------------------------------------------------- */

struct host_entry {
	struct host_entry *next;
	__u8 *value;
	__u8 key[64];
};

struct host_map {
	const void *map;
	__u32 entries;
	__u32 limit; /* set by a test to less than the map's own; 0: not set */
	struct host_entry *buckets[HOST_BUCKETS];
};

static struct host_map host_maps[HOST_MAPS];

static struct host_map *host_map_of(const void *map)
{
	for (int i = 0; i < HOST_MAPS; i++) {
		if (!host_maps[i].map)
			host_maps[i].map = map;
		if (host_maps[i].map == map)
			return &host_maps[i];
	}
	abort();
}

static struct host_entry **host_place(struct host_map *m, const void *key, __u32 bytes)
{
	struct host_entry **place;
	__u32 hash = 2166136261;

	if (bytes > sizeof((*place)->key))
		abort();
	for (__u32 i = 0; i < bytes; i++)
		hash = (hash ^ ((const __u8 *)key)[i]) * 16777619;
	place = &m->buckets[hash & (HOST_BUCKETS - 1)];
	while (*place && memcmp((*place)->key, key, bytes))
		place = &(*place)->next;
	return place;
}

static void *host_insert(struct host_map *m, struct host_entry **place, const void *key,
			 __u32 key_bytes, __u32 value_bytes)
{
	struct host_entry *e = calloc(1, sizeof(*e));

	memcpy(e->key, key, key_bytes);
	e->value = calloc(1, value_bytes);
	*place = e;
	m->entries++;
	return e->value;
}

/* An array's values are there from the start. */
static void *host_lookup(const void *map, __u32 type, __u32 max, const void *key, __u32 key_bytes,
			 __u32 value_bytes)
{
	struct host_map *m = host_map_of(map);
	struct host_entry **place;

	host_point();
	place = host_place(m, key, key_bytes);
	if (*place)
		return (*place)->value;
	if (type != BPF_MAP_TYPE_ARRAY && type != BPF_MAP_TYPE_PERCPU_ARRAY)
		return 0;
	if (*(const __u32 *)key >= max)
		return 0;
	return host_insert(m, place, key, key_bytes, value_bytes);
}

static long host_update(const void *map, __u32 max, const void *key, const void *value, __u64 flags,
			__u32 key_bytes, __u32 value_bytes)
{
	struct host_map *m = host_map_of(map);
	struct host_entry **place;
	void *to;

	host_point();
	place = host_place(m, key, key_bytes);
	if (*place && flags == BPF_NOEXIST)
		return -1;
	if (!*place && m->entries >= (m->limit ?: max))
		return -1;
	to = *place ? (*place)->value : host_insert(m, place, key, key_bytes, value_bytes);
	memcpy(to, value, value_bytes);
	return 0;
}

static long host_delete(const void *map, const void *key, __u32 key_bytes)
{
	struct host_map *m = host_map_of(map);
	struct host_entry **place, *e;

	host_point();
	place = host_place(m, key, key_bytes);
	e = *place;
	if (!e)
		return -1;
	*place = e->next;
	free(e->value);
	free(e);
	m->entries--;
	return 0;
}

static void *host_storage(const void *map, const void *sk, __u64 flags, __u32 value_bytes)
{
	struct host_map *m = host_map_of(map);
	struct host_entry **place;

	host_point();
	place = host_place(m, &sk, sizeof(sk));
	if (*place)
		return (*place)->value;
	if (!(flags & BPF_SK_STORAGE_GET_F_CREATE) || (m->limit && m->entries >= m->limit))
		return 0;
	return host_insert(m, place, &sk, sizeof(sk), value_bytes);
}

static void host_clear_maps(void)
{
	for (int i = 0; i < HOST_MAPS; i++) {
		for (int j = 0; j < HOST_BUCKETS && host_maps[i].entries; j++) {
			while (host_maps[i].buckets[j]) {
				struct host_entry *e = host_maps[i].buckets[j];

				host_maps[i].buckets[j] = e->next;
				host_maps[i].entries--;
				free(e->value);
				free(e);
			}
		}
		host_maps[i].limit = 0;
	}
}

#define host_number(map, name) (sizeof(*(map)->name) / sizeof(int))
#define host_key(map, given)                                                                       \
	({                                                                                         \
		const typeof(*(map)->key) *key_ = (given);                                         \
		key_;                                                                              \
	})
#define bpf_map_lookup_elem(map, key_at)                                                           \
	((typeof((map)->value))host_lookup(map, host_number(map, type),                            \
					   host_number(map, max_entries), host_key(map, key_at),   \
					   sizeof(*(map)->key), sizeof(*(map)->value)))
#define bpf_map_update_elem(map, key_at, value_at, flags)                                          \
	host_update(map, host_number(map, max_entries), host_key(map, key_at), value_at, flags,    \
		    sizeof(*(map)->key), sizeof(*(map)->value))
#define bpf_map_delete_elem(map, key_at)                                                           \
	host_delete(map, host_key(map, key_at), sizeof(*(map)->key))
#define bpf_sk_storage_get(map, sk, value_at, flags)                                               \
	((typeof((map)->value))host_storage(map, sk, flags, sizeof(*(map)->value)))

/* A callback may delete the entry that it is given. */
#define bpf_for_each_map_elem(map, body, context, flags)                                           \
	({                                                                                         \
		struct host_map *visited_ = host_map_of(map);                                      \
		for (int bucket_ = 0; bucket_ < HOST_BUCKETS; bucket_++)                           \
			for (struct host_entry *e_ = visited_->buckets[bucket_], *next_; e_;       \
			     e_ = next_) {                                                         \
				next_ = e_->next;                                                  \
				body((void *)(map), (void *)e_->key, (void *)e_->value, context);  \
			}                                                                          \
	})

/* The only queue, of free owner ids. */
static __u32 host_owner;

static long host_pop(__u32 *id)
{
	*id = ++host_owner;
	return 0;
}

#define bpf_map_pop_elem(map, value_at) host_pop(value_at)
#define bpf_map_push_elem(map, value_at, flags) ((void)(value_at), host_owner--)

/* ---- the ring ------------------------------------------------------------------------------ */

struct host_record {
	struct host_record *next;
	__u64 bytes;
	__u8 data[];
};

static struct host_record *host_ring, **host_ring_end = &host_ring;
static __u64 host_ring_left;

/* As in the kernel, what was there before is still there. */
static void *host_reserve(__u64 bytes)
{
	struct host_record *r;

	host_point();
	if (host_ring_left < bytes)
		return 0;
	host_ring_left -= bytes;
	r = malloc(sizeof(*r) + bytes);
	memset(r, 0xaa, sizeof(*r) + bytes);
	r->next = 0;
	r->bytes = bytes;
	return r->data;
}

static struct host_record *host_record_of(void *data)
{
	return (struct host_record *)((__u8 *)data - sizeof(struct host_record));
}

static void host_submit(void *data)
{
	*host_ring_end = host_record_of(data);
	host_ring_end = &(*host_ring_end)->next;
}

#define bpf_ringbuf_reserve(ring, bytes, flags) host_reserve(bytes)
#define bpf_ringbuf_submit(data, flags) ((void)(flags), host_submit(data))
#define bpf_ringbuf_discard(data, flags) free(host_record_of(data))
#define bpf_ringbuf_query(ring, what) 0
/* nobody lends a ring here: what is recorded is tested in the kernel */
#define bpf_ringbuf_output(ring, data, bytes, flags) ((void)(ring), -1)

/* ---- loops and time ------------------------------------------------------------------------ */

static __u64 host_now, host_steps;

#define bpf_ktime_get_ns() host_now
#define bpf_loop(rounds, body, context, flags)                                                     \
	({                                                                                         \
		__u32 round_, rounds_ = (rounds);                                                  \
		for (round_ = 0; round_ < rounds_; round_++) {                                     \
			host_steps++;                                                              \
			if (body(round_, context))                                                 \
				break;                                                             \
		}                                                                                  \
	})

/* ---- tasks and sockets: set in host.c ------------------------------------------------------ */

struct task_struct;
struct sock;
struct tcp_sock;
struct unix_sock;
struct file;
struct socket;

static struct task_struct *host_task(void);
static struct tcp_sock *host_tcp(struct sock *sk);
static struct unix_sock *host_unix(struct sock *sk);
static void *host_registers(void);
static __u64 host_cookie(struct sock *sk);
static __u64 host_pid_tgid(void);

#define bpf_get_current_task_btf() host_task()
#define bpf_get_current_pid_tgid() host_pid_tgid()
#define bpf_get_prandom_u32() 4U
#define bpf_task_pt_regs(task) host_registers()
#define bpf_skc_to_tcp_sock(sk) host_tcp(sk)
#define bpf_skc_to_unix_sock(sk) host_unix(sk)
#define bpf_get_socket_cookie(sk) host_cookie(sk)
#define bpf_sock_from_file(file) ((struct socket *)0) /* the iterators over files need a kernel */
