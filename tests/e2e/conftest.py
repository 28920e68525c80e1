# SPDX-License-Identifier: Apache-2.0
"""The backends of the end-to-end tests: built before the first test, one set for a module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.backends.build import BACKENDS, BuildFailed, binary
from tests.backends.collector import Collector
from tests.backends.jaeger import Jaeger

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG: Final = Path(__file__).resolve().parents[2] / "config"
HERE: Final = Path(__file__).resolve().parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build, or wait for script/build-backends, outside of any test's time limit."""
    if session.config.option.collectonly:
        return
    if any(HERE in item.path.parents for item in session.items):
        try:
            for name in BACKENDS:
                binary(name)
        except BuildFailed as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="module")
def config() -> Path:
    """Give the folder of the configurations that are shipped."""
    return CONFIG


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[Jaeger]:
    with Jaeger.start(
        tmp_path_factory.mktemp("jaeger"), config / "jaeger.yaml"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def collector(
    tmp_path_factory: pytest.TempPathFactory, config: Path, jaeger: Jaeger
) -> Iterator[Collector]:
    with Collector.start(
        tmp_path_factory.mktemp("collector"),
        config / "collector.yaml",
        jaeger_grpc_port=jaeger.grpc_port,
    ) as running:
        yield running
