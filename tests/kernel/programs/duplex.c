// SPDX-License-Identifier: Apache-2.0
/*
 * Requests and responses of fixed bytes, each direction of a connection in a thread of its own, so
 * that a response may be read before the write of its request has returned.
 *
 *   duplex server REQUEST RESPONSE
 *   duplex client REQUEST RESPONSE PORT CONNECTIONS COUNT IN_FLIGHT
 *
 * The server prints its port. The client ends when every response has come, and prints nothing.
 */
#include <arpa/inet.h>
#include <err.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *request, *response;
static long count, in_flight;

struct connection {
	int fd;
	int is_server;
	int ended;
	sem_t may_send;
};

static void send_all(int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n <= 0)
			err(1, "write");
		data += n;
		bytes -= n;
	}
}

static void *write_all(void *argument)
{
	struct connection *c = argument;
	const char *message = c->is_server ? response : request;

	for (long i = 0; c->is_server || i < count; i++) {
		sem_wait(&c->may_send);
		if (c->is_server && c->ended)
			break;
		send_all(c->fd, message, strlen(message));
	}
	return 0;
}

static void *read_all(void *argument)
{
	struct connection *c = argument;
	long bytes = 0, each = strlen(c->is_server ? request : response);
	char buffer[1000]; /* cuts messages anywhere */

	for (;;) {
		ssize_t n = read(c->fd, buffer, sizeof(buffer));

		if (n < 0)
			err(1, "read");
		if (!n)
			break;
		for (long whole = bytes / each; whole < (bytes + n) / each; whole++)
			sem_post(&c->may_send);
		bytes += n;
		if (!c->is_server && bytes == count * each)
			break;
	}
	c->ended = 1;
	sem_post(&c->may_send);
	return 0;
}

static void *converse(void *argument)
{
	struct connection *c = argument;
	pthread_t writer;

	if (pthread_create(&writer, 0, write_all, c))
		errx(1, "no thread");
	read_all(c);
	pthread_join(writer, 0);
	close(c->fd);
	return 0;
}

static struct connection *connection(int fd, int is_server)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		errx(1, "no memory");
	c->fd = fd;
	c->is_server = is_server;
	sem_init(&c->may_send, 0, is_server ? 0 : in_flight);
	return c;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int is_server = argc == 4, connections, fd;
	pthread_t threads[64];

	if (argc != 4 && argc != 8)
		errx(2, "usage: see the source");
	request = argv[2];
	response = argv[3];
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (is_server) {
		if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 64) ||
		    getsockname(fd, (struct sockaddr *)&address, &length))
			err(1, "listen");
		printf("%d\n", ntohs(address.sin_port));
		fflush(stdout);
		for (;;) {
			int one = accept(fd, 0, 0);

			if (one < 0)
				err(1, "accept");
			if (pthread_create(&threads[0], 0, converse, connection(one, 1)))
				errx(1, "no thread");
			pthread_detach(threads[0]);
		}
	}
	close(fd);
	address.sin_port = htons(atoi(argv[4]));
	connections = atoi(argv[5]);
	count = atol(argv[6]);
	in_flight = atol(argv[7]);
	for (int i = 0; i < connections && i < 64; i++) {
		int one = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(one, (struct sockaddr *)&address, sizeof(address)))
			err(1, "connect");
		if (pthread_create(&threads[i], 0, converse, connection(one, 0)))
			errx(1, "no thread");
	}
	for (int i = 0; i < connections && i < 64; i++)
		pthread_join(threads[i], 0);
	return 0;
}
