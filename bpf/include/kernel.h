/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The few kernel types that we read, relocated to the running kernel (CO-RE). A whole vmlinux.h
 * would tie the build to one kernel's and compile four times as long. Fields are found by name, so
 * only those that are read stand here.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

struct in6_addr___k {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	atomic64_t skc_cookie;
	refcount_t skc_refcnt;
	struct in6_addr___k skc_v6_daddr;
	struct in6_addr___k skc_v6_rcv_saddr;
};

struct inode;

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct fs_struct {
	struct path pwd;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
	void *f_ep; /* epoll instances that it is registered in; 0: none */
};

struct rb_node {
	struct rb_node *rb_right;
	struct rb_node *rb_left;
};

struct rb_root {
	struct rb_node *rb_node;
};

struct rb_root_cached {
	struct rb_root rb_root;
};

struct epoll_filefd {
	struct file *file;
};

/* one descriptor of an epoll instance */
struct epitem {
	struct rb_node rbn; /* first: the instance's tree is one of these */
	struct epoll_filefd ffd;
};

struct eventpoll {
	struct rb_root_cached rbr;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

struct sock {
	struct sock_common __sk_common;
	__u8 sk_shutdown;
	__u8 sk_userlocks : 4;
	__u16 sk_type;
	__u16 sk_protocol;
	int sk_err;
	struct socket *sk_socket;
};

struct tcp_ulp_ops;

struct inet_connection_sock {
	const struct tcp_ulp_ops *icsk_ulp_ops;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 snd_una;
	__u32 write_seq;
	__u32 srtt_us; /* times 8 */
	__u32 total_retrans;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

/* x86 only: says whether the system call came by the 32-bit entry */
struct thread_info {
	__u32 status;
};

struct io_uring_task;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct pid_namespace;

/* a process's number in one pid namespace; numbers[0] of struct pid is the root namespace's */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state; /* 0: it would run on */
	unsigned int flags;
	int pid;
	int tgid;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct io_uring_task *io_uring;
	struct css_set *cgroups;
	char comm[16];
};

struct seq_file;

struct bpf_map;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r8;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "this architecture needs its registers and its table of system calls"
#endif

#pragma clang attribute pop
#pragma clang diagnostic pop

/* The registers of a system call and its numbers: the only part that knows the machine. */
#if defined(__TARGET_ARCH_x86)
#define dt_syscall(regs) ((long)(regs)->orig_ax)
#define dt_arg1(regs) ((regs)->di)
#define dt_arg2(regs) ((regs)->si)
#define dt_arg3(regs) ((regs)->dx)
#define dt_arg4(regs) ((regs)->r10)
#define dt_arg5(regs) ((regs)->r8)
#define DT_TS_COMPAT 2
#define dt_is_compat(task) ((task)->thread_info.status & DT_TS_COMPAT)
enum dt_syscall {
	DT_READ = 0,
	DT_WRITE = 1,
	DT_POLL = 7,
	DT_READV = 19,
	DT_WRITEV = 20,
	DT_SELECT = 23,
	DT_SENDTO = 44,
	DT_RECVFROM = 45,
	DT_SENDMSG = 46,
	DT_RECVMSG = 47,
	DT_EPOLL_WAIT = 232,
	DT_PSELECT6 = 270,
	DT_PPOLL = 271,
	DT_EPOLL_PWAIT = 281,
	DT_RECVMMSG = 299,
	DT_SENDMMSG = 307,
	DT_PREADV2 = 327,
	DT_PWRITEV2 = 328,
	DT_IO_URING_ENTER = 426,
	DT_EPOLL_PWAIT2 = 441,
};
#else
#define dt_syscall(regs) ((long)(regs)->syscallno)
#define dt_arg1(regs) ((regs)->orig_x0)
#define dt_arg2(regs) ((regs)->regs[1])
#define dt_arg3(regs) ((regs)->regs[2])
#define dt_arg4(regs) ((regs)->regs[3])
#define dt_arg5(regs) ((regs)->regs[4])
#define DT_TIF_32BIT (1UL << 22)
struct thread_info___arm64 {
	unsigned long flags;
} __attribute__((preserve_access_index));
#define dt_is_compat(task)                                                                         \
	(((struct thread_info___arm64 *)&(task)->thread_info)->flags & DT_TIF_32BIT)
enum dt_syscall {
	DT_EPOLL_PWAIT = 22,
	DT_READ = 63,
	DT_WRITE = 64,
	DT_READV = 65,
	DT_WRITEV = 66,
	DT_PSELECT6 = 72,
	DT_PPOLL = 73,
	DT_SENDTO = 206,
	DT_RECVFROM = 207,
	DT_SENDMSG = 211,
	DT_RECVMSG = 212,
	DT_RECVMMSG = 243,
	DT_SENDMMSG = 269,
	DT_PREADV2 = 286,
	DT_PWRITEV2 = 287,
	DT_IO_URING_ENTER = 426,
	DT_EPOLL_PWAIT2 = 441,
};
#endif

/* Constants of the kernel that its BTF does not carry. */
enum dt_kernel_constant {
	DT_AF_UNIX = 1,
	DT_AF_INET = 2,
	DT_AF_INET6 = 10,
	DT_SOCK_STREAM = 1,
	DT_SOCK_DGRAM = 2,
	DT_SOCK_SEQPACKET = 5,
	DT_IPPROTO_TCP = 6,
	DT_IPPROTO_UDP = 17,
	DT_IPPROTO_MPTCP = 262,
	DT_MSG_OOB = 0x1,
	DT_MSG_PEEK = 0x2,
	DT_MSG_TRUNC = 0x20,
	DT_MSG_DONTWAIT = 0x40, /* the descriptor's own O_NONBLOCK is told so, too */
	DT_MSG_ERRQUEUE = 0x2000,
	DT_RCV_SHUTDOWN = 1,
	DT_SOCK_BINDPORT_LOCK = 8, /* the program chose the port */
	DT_PF_IO_WORKER = 0x10,
	DT_PF_FORKNOEXEC = 0x40,
	DT_PF_KTHREAD = 0x200000,
	DT_TCP_ESTABLISHED = 1,
	DT_TCP_SYN_SENT = 2,
	DT_TCP_SYN_RECV = 3,
	DT_TCP_CLOSE = 7,
	DT_TCP_LISTEN = 10,
	DT_ECANCELED = 125,
};
