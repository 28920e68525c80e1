# SPDX-License-Identifier: Apache-2.0
"""Where telemetry leaves: bounded queues in front of OTLP or the console, and /metrics."""
