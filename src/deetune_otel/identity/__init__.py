# SPDX-License-Identifier: Apache-2.0
"""Who a process is: from pid and start time to the service that telemetry names."""
