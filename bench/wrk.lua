-- SPDX-License-Identifier: Apache-2.0
-- wrk's own summary as one line of JSON; its latencies are in microseconds.
done = function(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format(
		'{"requests": %d, "seconds": %.6f, "p50_ns": %d, "p99_ns": %d, "errors": %d}\n',
		summary.requests, summary.duration / 1e6,
		latency:percentile(50) * 1000, latency:percentile(99) * 1000,
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
