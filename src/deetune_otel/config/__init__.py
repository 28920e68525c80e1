# SPDX-License-Identifier: Apache-2.0
"""The configuration: what can be set (`schema`), and how a value gets there (`loader`).

Pure: text and a mapping of environment variables come in as arguments.
"""

from __future__ import annotations

from deetune_otel.config.loader import ConfigError, Loaded, Origin, Problem, load
from deetune_otel.config.schema import Config

__all__ = ["Config", "ConfigError", "Loaded", "Origin", "Problem", "load"]
