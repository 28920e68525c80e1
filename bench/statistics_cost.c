/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's BPF statistics say of a program that does nothing, and what they cost.
 *
 * The kernel reads its clock before and after a run, so that a part of the clock's own cost is in
 * every program's time: `floor_ns`, to be subtracted. `cost_ns` is what a run takes longer with
 * the statistics than without.
 *
 * Prints one line of JSON. */
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	RUNS = 200000,
	PACKET_BYTES = 64, /* the least that a test run takes, and more */
};

static int bpf(int command, union bpf_attr *attr)
{
	int result = syscall(SYS_bpf, command, attr, sizeof(*attr));

	if (result < 0) {
		perror("bpf");
		exit(1);
	}
	return result;
}

static int load_empty(void)
{
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (uint64_t)(uintptr_t)code;
	attr.insn_cnt = sizeof(code) / sizeof(*code);
	attr.license = (uint64_t)(uintptr_t)"GPL";
	return bpf(BPF_PROG_LOAD, &attr);
}

/* ns a run, by the caller's clock */
static double run(int program)
{
	static char packet[PACKET_BYTES];
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = program;
	attr.test.data_in = (uint64_t)(uintptr_t)packet;
	attr.test.data_size_in = sizeof(packet);
	attr.test.repeat = RUNS;
	bpf(BPF_PROG_TEST_RUN, &attr);
	return attr.test.duration;
}

static double counted_ns_a_run(int program)
{
	struct bpf_prog_info info;
	union bpf_attr attr;

	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = program;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uint64_t)(uintptr_t)&info;
	bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	return info.run_cnt ? (double)info.run_time_ns / info.run_cnt : 0;
}

int main(void)
{
	union bpf_attr attr;
	int program = load_empty();
	double without_ns, with_ns;

	run(program); /* warms up */
	without_ns = run(program);
	memset(&attr, 0, sizeof(attr));
	attr.enable_stats.type = BPF_STATS_RUN_TIME;
	bpf(BPF_ENABLE_STATS, &attr);
	with_ns = run(program);
	printf("{\"floor_ns\": %.1f, \"cost_ns\": %.1f}\n", counted_ns_a_run(program),
	       with_ns - without_ns);
	return 0;
}
