# SPDX-License-Identifier: Apache-2.0
"""What a replay found, written down: for programs, people, CI and pull requests."""

from __future__ import annotations

from deetune_otel.comparison.reports.document import document
from deetune_otel.comparison.reports.html import html
from deetune_otel.comparison.reports.junit import junit
from deetune_otel.comparison.reports.markdown import markdown
from deetune_otel.comparison.reports.report import Report

__all__ = ["Report", "document", "html", "junit", "markdown"]
