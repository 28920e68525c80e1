/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd ADDRESS PORT COUNT: so many small programs at once, each a service of its own name
 * (one-0000, one-0001, ...) that calls an HTTP server 1 to 7 times over one connection. Says "done"
 * when all have, and ends with its input.
 *
 * Each is a program that was started, not a mere fork: its name stands in the environment that it
 * was started with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DONE_FD = 9, AT_A_TIME = 32 };

static void call(int fd, const char *name)
{
	char text[512];
	int length = 0, got;
	const char *body;

	dprintf(fd, "GET / HTTP/1.1\r\nHost: crowd\r\nX-Lab-Caller: %s\r\n\r\n", name);
	do {
		got = read(fd, text + length, sizeof(text) - 1 - length);
		if (got <= 0)
			exit(1);
		length += got;
		text[length] = 0;
		body = strstr(text, "\r\n\r\n");
	} while (!body || text + length - (body + 4) < 3);
}

static int one(char **words)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(words[2])) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int calls = atoi(words[3]) % 7 + 1;
	char byte = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	inet_pton(AF_INET, words[1], &to.sin_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return 1;
	while (calls--)
		call(fd, getenv("OTEL_SERVICE_NAME"));
	close(fd);
	if (write(DONE_FD, &byte, 1) != 1)
		return 1;
	return read(STDIN_FILENO, &byte, 1) < 0; /* the end of our input */
}

int main(int count, char **words)
{
	int done[2], number, finished = 0, total;
	char byte;

	if (count == 5)
		return one(words);
	if (count != 4 || pipe(done) || dup2(done[1], DONE_FD) < 0)
		return 2;
	close(done[1]);
	total = atoi(words[3]);
	for (number = 0; number < total; number++) {
		if (number - finished >= AT_A_TIME)
			finished += read(done[0], &byte, 1) == 1;
		if (!fork()) {
			char name[64], digits[16];
			char *environment[] = { name, NULL };

			snprintf(name, sizeof(name), "OTEL_SERVICE_NAME=one-%04d", number);
			snprintf(digits, sizeof(digits), "%d", number);
			execle("/proc/self/exe", "one", words[1], words[2], digits, "one", NULL,
			       environment);
			_exit(127);
		}
	}
	close(DONE_FD);
	while (finished < total && read(done[0], &byte, 1) == 1)
		finished++;
	printf("%s\n", finished == total ? "done" : "failed");
	fflush(stdout);
	return read(STDIN_FILENO, &byte, 1) < 0;
}
