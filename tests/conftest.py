# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: a skip is no success where the kernel is required."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cache

import pytest
from hypothesis import settings

from deetune_otel.kernel.features import probe

# Helpers that assert: their failures show both sides too.
pytest.register_assert_rewrite("tests.kernel.observe")

settings.register_profile("ci", print_blob=True, derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@cache
def _missing() -> str:
    """Why nothing can be loaded here; "" when it can: then a program refused is a failure."""
    return "; ".join(f"{m.what} {m.remedy}" for m in probe().missing if m.fatal)


def _is_any(item: pytest.Item, *names: str) -> bool:
    return any(item.get_closest_marker(name) for name in names)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this kernel, or the rights that we have in it, do not allow."""
    if _is_any(item, "kernel", "e2e", "lab") and _missing():
        pytest.skip(_missing())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With DEETUNE_REQUIRE_KERNEL=1 a kernel, kernels, e2e or lab test that skips has failed.

    Otherwise a green run could mean that nothing was loaded.
    """
    report = yield
    required = os.environ.get("DEETUNE_REQUIRE_KERNEL") == "1"
    marked = _is_any(item, "kernel", "kernels", "e2e", "lab")
    if required and marked and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where the kernel is required: {report.longrepr}"
    return report
