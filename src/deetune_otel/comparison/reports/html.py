# SPDX-License-Identifier: Apache-2.0
"""The report as one page that asks nobody for anything.

What was recorded is data in it, never markup: the script writes it as text, and the
page's policy lets only this script and this style run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any, Final

from deetune_otel.comparison.judging import Outcome
from deetune_otel.comparison.reports.document import document
from deetune_otel.comparison.reports.page import BODY, SCRIPT, STYLE
from deetune_otel.comparison.reports.report import Report, clean
from deetune_otel.comparison.reports.sides import rows

__all__ = ["html"]

# More than these nobody reads; the page says how many it leaves out.
MAX_LISTED: Final = 5000
MAX_BESIDE: Final = 300


def html(report: Report) -> str:
    policy = (
        f"default-src 'none'; script-src '{_digest(SCRIPT)}'; "
        f"style-src '{_digest(STYLE)}'; base-uri 'none'; form-action 'none'"
    )
    title = escape(clean(f"Replay of {report.recording}"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'{BODY}<script type="application/json" id="data">{_data(report)}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data(report: Report) -> str:
    data = document(report)
    listed: list[dict[str, Any]] = data["exchanges"]
    data["left_out"] = max(0, len(listed) - MAX_LISTED)
    differing = [one for one in report.verdicts if one.outcome is Outcome.DIFFERENT]
    beside = {one.exchange.id: rows(one) for one in differing[:MAX_BESIDE]}
    listed.sort(key=lambda one: one["outcome"] == Outcome.NOT_JUDGED)
    data["exchanges"] = listed[:MAX_LISTED]
    for one in data["exchanges"]:
        if one["outcome"] == Outcome.DIFFERENT:
            one["rows"] = beside.get(one["id"])
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")
