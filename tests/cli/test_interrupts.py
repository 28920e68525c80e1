# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from deetune_otel.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def _heeded() -> Iterator[None]:
    """Who runs the tests behind nohup ignores a hang-up, and that is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait_and_raises_only_where_asked_for(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        interrupts.check()
        assert not interrupts.wait(0)
        os.kill(os.getpid(), number)
        assert interrupts.wait(10)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.wait(0)
    finally:
        signal.signal(signal.SIGHUP, before)
