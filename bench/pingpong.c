/* SPDX-License-Identifier: Apache-2.0 */
/* A client and a server pass one HTTP request of 1 KB and one response of 1 KB back and forth
 * over loopback, so that nothing but four socket calls stands in a request's time. Two processes,
 * one connection, on whatever CPU the caller has pinned them to.
 *
 *   pingpong SECONDS [REQUESTS_PER_SECOND]      without a rate: as fast as it goes
 *
 * Prints one line of JSON: how many, how long, and the 50th and 99th percentile of the time from
 * before the write to after the read. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MESSAGE_BYTES = 1024,
	MOST_REQUESTS = 4 << 20, /* 16 MB of latencies: 20 s at 5 us */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void no_delay(int socket_fd)
{
	int one = 1;

	if (setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		die("setsockopt");
}

static void write_message(int fd, const char *message)
{
	if (write(fd, message, MESSAGE_BYTES) != MESSAGE_BYTES)
		die("write");
}

/* False at the end of the connection. */
static int read_message(int fd, char *buffer)
{
	size_t got = 0;

	while (got < MESSAGE_BYTES) {
		ssize_t n = read(fd, buffer + got, MESSAGE_BYTES - got);

		if (n < 0)
			die("read");
		if (n == 0)
			return 0;
		got += n;
	}
	return 1;
}

/* A request as browsers send it: most of its bytes are a cookie. */
static void make_request(char *message)
{
	static const char head[] = "GET /users/12345/orders?page=2 HTTP/1.1\r\n"
				   "Host: localhost\r\n"
				   "User-Agent: deetune-bench\r\n"
				   "Accept: */*\r\n"
				   "Cookie: session=";

	memset(message, 'c', MESSAGE_BYTES);
	memcpy(message, head, sizeof(head) - 1);
	memcpy(message + MESSAGE_BYTES - 4, "\r\n\r\n", 4);
}

static void make_response(char *message)
{
	char head[128];
	int body_bytes = MESSAGE_BYTES;
	int head_bytes = 0;

	/* the length's own digits change the head's length once, never twice */
	for (int i = 0; i < 3; i++) {
		head_bytes = snprintf(head, sizeof(head),
				      "HTTP/1.1 200 OK\r\n"
				      "Content-Type: text/plain\r\n"
				      "Content-Length: %d\r\n\r\n",
				      body_bytes);
		body_bytes = MESSAGE_BYTES - head_bytes;
	}
	memset(message, 'b', MESSAGE_BYTES);
	memcpy(message, head, head_bytes);
}

static void serve(int listener)
{
	char request[MESSAGE_BYTES], response[MESSAGE_BYTES];
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		die("accept");
	no_delay(fd);
	make_response(response);
	while (read_message(fd, request))
		write_message(fd, response);
	exit(0);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void sleep_until(uint64_t at_ns)
{
	struct timespec t = { .tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	double rate = argc > 2 ? atof(argv[2]) : 0;
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	char request[MESSAGE_BYTES], response[MESSAGE_BYTES];
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	uint32_t *took_ns = malloc(MOST_REQUESTS * sizeof(*took_ns));
	uint64_t start_ns, before_ns, end_ns;
	long count = 0;
	pid_t server;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!took_ns || bind(listener, (void *)&address, size) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &size))
		die("listen");
	server = fork();
	if (server < 0)
		die("fork");
	if (server == 0) {
		close(fd);
		serve(listener);
	}
	if (connect(fd, (void *)&address, size))
		die("connect");
	no_delay(fd);
	make_request(request);
	prctl(PR_SET_TIMERSLACK,
	      1000); /* ns; the default's 50 us are a whole interval at 20,000/s */

	start_ns = before_ns = now_ns();
	end_ns = start_ns + (uint64_t)(seconds * 1e9);
	while (before_ns < end_ns && count < MOST_REQUESTS) {
		uint64_t after_ns;

		write_message(fd, request);
		if (!read_message(fd, response))
			die("the server ended");
		after_ns = now_ns();
		took_ns[count++] = after_ns - before_ns;
		before_ns = after_ns;
		if (rate > 0) {
			sleep_until(start_ns + (uint64_t)(count * 1e9 / rate));
			before_ns = now_ns();
		}
	}
	seconds = (now_ns() - start_ns) / 1e9;
	close(fd);
	waitpid(server, NULL, 0);
	qsort(took_ns, count, sizeof(*took_ns), by_size);
	printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50_ns\": %u, \"p99_ns\": %u}\n", count,
	       seconds, took_ns[count / 2], took_ns[count * 99 / 100]);
	return 0;
}
