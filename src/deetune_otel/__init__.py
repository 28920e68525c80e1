# SPDX-License-Identifier: Apache-2.0
"""deetune-otel: OpenTelemetry spans, exact RED metrics and a service map from unmodified programs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("deetune-otel")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
