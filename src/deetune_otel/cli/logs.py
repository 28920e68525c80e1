# SPDX-License-Identifier: Apache-2.0
"""Log lines as key=value pairs, one line each, on one stream."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deetune_otel.cli.output import visible

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["KeyValueFormatter", "start_logging"]


class KeyValueFormatter(logging.Formatter):
    """`time=… level=info source=agent msg="…"`; a traceback is one pair, too."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, tz=UTC)
        pairs = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "source": record.name.removeprefix("deetune_otel."),
            "msg": record.getMessage(),
        }
        if record.exc_info:
            pairs["error"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())


def start_logging(level: str, stream: TextIO) -> None:
    """Replaces what the process logged before. Libraries are heard from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(KeyValueFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("deetune_otel").setLevel(level.upper())


def _quoted(value: str) -> str:
    """Quoted and escaped as JSON does, where a blank, a quote or what is not printable is in it."""
    plain = value.isprintable() and not set(value) & set(' "=')
    return value if plain and value else visible(json.dumps(value, ensure_ascii=False))
