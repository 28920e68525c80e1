/* SPDX-License-Identifier: Apache-2.0 */
/* What a system call costs that has nothing to do with sockets: read(/dev/zero), one byte.
 *
 *   file_read SECONDS
 *
 * Prints one line of JSON: the median over batches, which a few interruptions do not move. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
	READS_A_BATCH = 10000, /* 1 ms: short against the scheduler's turns */
	MOST_BATCHES = 10000,
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static double read_ns[MOST_BATCHES];
	double end_ns = now_ns() + (argc > 1 ? atof(argv[1]) : 0.3) * 1e9;
	int fd = open("/dev/zero", O_RDONLY);
	int batches = 0;
	char byte;

	if (fd < 0) {
		perror("/dev/zero");
		return 1;
	}
	while (batches < MOST_BATCHES && (!batches || now_ns() < end_ns)) {
		double start_ns = now_ns();

		for (int i = 0; i < READS_A_BATCH; i++)
			if (read(fd, &byte, 1) != 1)
				return 1;
		read_ns[batches++] = (now_ns() - start_ns) / READS_A_BATCH;
	}
	qsort(read_ns, batches, sizeof(*read_ns), by_size);
	printf("{\"reads\": %ld, \"read_ns\": %.2f}\n", (long)batches * READS_A_BATCH,
	       read_ns[batches / 2]);
	return 0;
}
