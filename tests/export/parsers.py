# SPDX-License-Identifier: Apache-2.0
"""prometheus_client's own parsers of both formats, typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

__all__ = ["parse_openmetrics", "parse_text"]


def parse_text(text: str) -> Iterable[Metric]:
    untyped: Any = parser.text_string_to_metric_families
    families: Iterable[Metric] = untyped(text)
    return families


def parse_openmetrics(text: str) -> Iterable[Metric]:
    untyped: Any = openmetrics_parser.text_string_to_metric_families
    families: Iterable[Metric] = untyped(text)
    return families
