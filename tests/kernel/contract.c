// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * One value of every struct that user space reads, laid out by the compiler: each in a section of
 * its own, for test_records.py. Everything else is the object itself, so its BTF is the object's.
 */
#include "deetune.bpf.c"

#define IN(name) __attribute__((section(name), used))
#define V4(a, b, c, d) { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d }
#define SERIES_KEY                                                                                 \
	{ .signature = 0x1122334455667788,                                                         \
	  .edge = 7,                                                                               \
	  .outcome = 404,                                                                          \
	  .protocol = DT_PROTOCOL_HTTP,                                                            \
	  .end = DT_END_CLOSED }

struct dt_owner_key
	sample_owner_key IN("owner_key") = { .start_ns = 99, .pid = 42, .netns = 4026531840 };
struct dt_owner sample_owner IN("owner") = {
	.cgroup_id = 5, .id = 3, .local_pid = 2, .parent_pid = 1, .comm = "nginx: worker p"
};

struct dt_edge_key sample_edge_key IN("edge_key") = { .address = V4(10, 0, 0, 7),
						      .owner_id = 3,
						      .port = 6379,
						      .role = DT_ROLE_CLIENT,
						      .transport = DT_TRANSPORT_TCP };
struct dt_edge sample_edge IN("edge") = { .local_address = { [0] = 0x20, [1] = 1, [15] = 1 },
					  .id = 7 };
struct dt_edge_key sample_unix_edge_key IN("unix_edge_key") = { .address = { 1, 2, 3 },
								.owner_id = 3,
								.role = DT_ROLE_SERVER,
								.transport = DT_TRANSPORT_UNIX };
struct dt_edge sample_unix_edge IN("unix_edge") = { .id = 8, .overflow = 1, .path = "@abstract" };

struct dt_series_key sample_series_key IN("series_key") = SERIES_KEY;
struct dt_series sample_series IN("series_value") = {
	.duration_sum_ns = 1,
	.first_byte_sum_ns = 2,
	.request_bytes = 3,
	.response_bytes = 4,
	.request_body_bytes = 5,
	.response_body_bytes = 6,
	.duration_buckets = { 10, 0, 3, [14] = 4 },
	.request_body_buckets = { [3] = 7 },
	.response_body_buckets = { [1] = 1, [10] = 16 },
};

struct dt_ledger sample_ledger_of_cpus[2] IN("ledger_of_cpus") = { { 1, 10 }, { 2, 20 } };
struct dt_wire sample_wire IN("wire") = { .client_seq = 11, .server_seq = 12, .offset = 13 };
struct dt_cause sample_cause IN("cause") = { .wire = { 21, 22, 23 },
					     .trace_bytes = 5,
					     .trace = "b3: 0 and what stood there before" };
struct dt_operation_key sample_operation_key IN("operation_key") = {
	.signature = 1, .owner_id = 3, .protocol = DT_PROTOCOL_REDIS
};

struct dt_exchange_record sample_exchange IN("exchange") = {
	.type = DT_RECORD_EXCHANGE,
	.edge = 7,
	.owner_id = 3,
	.tid = 43,
	.key = SERIES_KEY,
	.wire = { 11, 12, 13 },
	.cause = { 21, 22, 23 },
	.start_ns = 100,
	.first_byte_ns = 200,
	.end_ns = 300,
	.request_bytes = 1,
	.response_bytes = 2,
	.request_body_bytes = 3,
	.response_body_bytes = 4,
	.local_address = V4(127, 0, 0, 1),
	.peer_address = { [15] = 1 },
	.local_port = 40000,
	.peer_port = 8080,
	.head_bytes = 5,
	.trace_bytes = 4,
	.cause_trace_bytes = 3,
	.kept = DT_KEPT_SLOW,
	.transport = DT_TRANSPORT_TCP,
	.cause_found = 1,
	.flags = DT_EXCHANGE_ALONE,
	.head = "GET /users/7",
	.trace = "b3: 1-2",
	.cause_trace = "sw8: 1",
};
struct dt_operation_record sample_operation IN("operation") = { .type = DT_RECORD_OPERATION,
								.owner_id = 3,
								.signature = 9,
								.protocol = DT_PROTOCOL_REDIS,
								.head_bytes = 4,
								.edge = 7,
								.head = "*1\r\n$4\r\nPING" };
struct dt_owner_record sample_new_owner IN("new_owner") = {
	.type = DT_RECORD_OWNER,
	.id = 3,
	.key = { .start_ns = 99, .pid = 42, .netns = 4026531840 },
	.owner = { .cgroup_id = 5,
		   .id = 3,
		   .local_pid = 2,
		   .parent_pid = 1,
		   .comm = "redis-server" },
	.command_bytes = 20,
	.command = "redis-server\0--port",
	.executable = "redis-check-rdb",
	.directory = "redis",
};
struct dt_blind_record sample_blind IN("blind") = {
	.type = DT_RECORD_BLIND, .owner_id = 3, .sent_bytes = 1, .received_bytes = 2
};

enum contract_offset {
	CONTRACT_KEPT = __builtin_offsetof(struct dt_exchange_record, kept),
	CONTRACT_TRANSPORT = __builtin_offsetof(struct dt_exchange_record, transport),
	CONTRACT_PROTOCOL = __builtin_offsetof(struct dt_exchange_record, key.protocol),
	CONTRACT_CAUSE_FOUND = __builtin_offsetof(struct dt_exchange_record, cause_found),
};
enum contract_offset sample_offsets IN("offsets") = CONTRACT_KEPT;
