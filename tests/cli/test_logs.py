# SPDX-License-Identifier: Apache-2.0
"""One line a record, whatever is in it."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from deetune_otel.cli.logs import start_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("deetune_otel")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = []
    stream = io.StringIO()
    start_logging("info", stream)
    yield stream
    root.handlers[:], root.level, ours.level = before


def test_pairs_on_one_line(stream: io.StringIO) -> None:
    log = logging.getLogger("deetune_otel.agent.agent")
    log.info('it said "no"\nand %s', "more")
    log.warning("short")
    log.debug("not asked for")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info source=agent.agent "
        r'msg="it said \\"no\\"\\nand more"',
        first,
    )
    assert second.endswith("level=warning source=agent.agent msg=short")


def test_a_traceback_is_one_pair(stream: io.StringIO) -> None:
    try:
        int("bad")
    except ValueError:
        logging.getLogger("deetune_otel").exception("failed")
    [line] = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in line


def test_libraries_are_heard_when_they_warn(stream: io.StringIO) -> None:
    logging.getLogger("urllib3").info("chatter")
    logging.getLogger("urllib3").warning("trouble")
    [line] = stream.getvalue().splitlines()
    assert line.endswith("source=urllib3 msg=trouble")
