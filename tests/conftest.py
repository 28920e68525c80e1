# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: a skip is no success where the kernel is required."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# Helpers that assert: their failures show both sides too.
pytest.register_assert_rewrite("tests.kernel.observe")

settings.register_profile("ci", print_blob=True, derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With DEETUNE_REQUIRE_KERNEL=1 a kernel or e2e test that skips has failed.

    Otherwise a green run could mean that nothing was loaded.
    """
    report = yield
    needs_kernel = any(item.get_closest_marker(name) for name in ("kernel", "e2e"))
    required = os.environ.get("DEETUNE_REQUIRE_KERNEL") == "1"
    if required and needs_kernel and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where the kernel is required: {report.longrepr}"
    return report
