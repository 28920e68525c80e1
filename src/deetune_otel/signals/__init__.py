# SPDX-License-Identifier: Apache-2.0
"""From counts and exchanges to OpenTelemetry's metrics and spans. Pure: time is an argument."""

from __future__ import annotations
