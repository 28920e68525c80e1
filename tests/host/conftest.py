# SPDX-License-Identifier: Apache-2.0
"""The kernel's code for user space: compiled once a session, one process a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.host.engine import Host, build


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(build(tmp_path_factory.mktemp("host"))) as made:
        yield made
