// SPDX-License-Identifier: Apache-2.0
/*
 * Ways into a socket that Python has no name for. All have one shape: a buffer, its length, in how
 * many parts. They give the bytes moved, or the negative errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	MAX_PARTS = 64,
};

static long result(long r)
{
	return r < 0 ? -errno : r;
}

/* Each message in two pieces with an empty one between. */
static void split(struct mmsghdr *messages, struct iovec *pieces, char *buffer, size_t bytes,
		  int parts)
{
	size_t each = bytes / parts;

	for (int i = 0; i < parts; i++) {
		size_t here = i == parts - 1 ? bytes - each * i : each;
		struct iovec *v = &pieces[i * 3];

		v[0] = (struct iovec){ buffer + each * i, here / 2 };
		v[1] = (struct iovec){ buffer, 0 };
		v[2] = (struct iovec){ buffer + each * i + here / 2, here - here / 2 };
		memset(&messages[i], 0, sizeof(messages[i]));
		messages[i].msg_hdr.msg_iov = v;
		messages[i].msg_hdr.msg_iovlen = 3;
	}
}

static long total(const struct mmsghdr *messages, int count)
{
	long bytes = 0;

	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++)
		bytes += messages[i].msg_len;
	return bytes;
}

long send_batch(int fd, char *buffer, size_t bytes, int parts)
{
	struct mmsghdr messages[MAX_PARTS];
	struct iovec pieces[MAX_PARTS * 3];

	split(messages, pieces, buffer, bytes, parts);
	return total(messages, sendmmsg(fd, messages, parts, 0));
}

long recv_batch(int fd, char *buffer, size_t bytes, int parts)
{
	struct mmsghdr messages[MAX_PARTS];
	struct iovec pieces[MAX_PARTS * 3];

	split(messages, pieces, buffer, bytes, parts);
	return total(messages, recvmmsg(fd, messages, parts, MSG_WAITFORONE, 0));
}

/* TCP gives the bytes away without copying them. */
long recv_trunc(int fd, char *buffer, size_t bytes, int parts)
{
	(void)parts;
	return result(recv(fd, buffer, bytes, MSG_TRUNC | MSG_WAITALL));
}

long send_more(int fd, char *buffer, size_t bytes, int parts)
{
	size_t each = bytes / parts;

	for (int i = 0; i < parts; i++) {
		int last = i == parts - 1;
		long r = send(fd, buffer + each * i, last ? bytes - each * i : each,
			      last ? 0 : MSG_MORE);

		if (r < 0)
			return -errno;
	}
	return bytes;
}

/* One operation through a ring of its own. */
static long through_ring(int op, int fd, char *buffer, size_t bytes)
{
	struct io_uring_params p = { 0 };
	int ring = syscall(SYS_io_uring_setup, 4, &p);
	size_t sq_bytes, cq_bytes;
	struct io_uring_sqe *entry;
	struct io_uring_cqe *done;
	unsigned *tail, *head, mask, index;
	char *sq, *cq;
	long r;

	if (ring < 0)
		return -errno;
	sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(*done);
	sq = mmap(0, sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(0, cq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	entry = mmap(0, p.sq_entries * sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQES);
	memset(entry, 0, sizeof(*entry));
	entry->opcode = op;
	entry->fd = fd;
	entry->addr = (uintptr_t)buffer;
	entry->len = bytes;
	tail = (unsigned *)(sq + p.sq_off.tail);
	((unsigned *)(sq + p.sq_off.array))[*tail & (p.sq_entries - 1)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	r = syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
	if (r < 0) {
		r = -errno;
	} else {
		head = (unsigned *)(cq + p.cq_off.head);
		mask = *(unsigned *)(cq + p.cq_off.ring_mask);
		index = *head & mask;
		done = (struct io_uring_cqe *)(cq + p.cq_off.cqes) + index;
		r = done->res;
		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	}
	munmap(entry, p.sq_entries * sizeof(*entry));
	munmap(cq, cq_bytes);
	munmap(sq, sq_bytes);
	close(ring);
	return r;
}

long uring_send(int fd, char *buffer, size_t bytes, int parts)
{
	(void)parts;
	return through_ring(IORING_OP_SEND, fd, buffer, bytes);
}

long uring_recv(int fd, char *buffer, size_t bytes, int parts)
{
	(void)parts;
	return through_ring(IORING_OP_RECV, fd, buffer, bytes);
}

#ifdef __x86_64__
/* As a 32-bit program does it: other numbers, arguments in other registers. */
static long compat(int number, int fd, char *buffer, size_t bytes, int is_write)
{
	char *low = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
			 -1, 0);
	long r;

	if (low == MAP_FAILED)
		return -errno;
	if (is_write)
		memcpy(low, buffer, bytes);
	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"((long)number), "b"((long)fd), "c"(low), "d"(bytes)
			 : "memory", "r8", "r9", "r10", "r11");
	if (!is_write && r > 0)
		memcpy(buffer, low, r);
	munmap(low, bytes);
	return r;
}

long compat_write(int fd, char *buffer, size_t bytes, int parts)
{
	(void)parts;
	return compat(4, fd, buffer, bytes, 1);
}

long compat_read(int fd, char *buffer, size_t bytes, int parts)
{
	(void)parts;
	return compat(3, fd, buffer, bytes, 0);
}
#endif
