/* SPDX-License-Identifier: Apache-2.0 */
/* with_pid PID COMMAND...: runs a command as the process of this number, and waits for its end. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
	pid_t wanted;
	long pid;

	if (count < 3)
		return 2;
	wanted = atoi(words[1]);
	struct clone_args how = {
		.exit_signal = SIGCHLD,
		.set_tid = (unsigned long)&wanted,
		.set_tid_size = 1,
	};
	pid = syscall(SYS_clone3, &how, sizeof(how));
	if (pid < 0) {
		perror("clone3");
		return 1;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(words[2], words + 2);
		perror(words[2]);
		_exit(127);
	}
	waitpid(wanted, NULL, 0);
	return 0;
}
