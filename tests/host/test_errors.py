# SPDX-License-Identifier: Apache-2.0
"""What is an error to the kernel, which keeps errors first, is one to whoever reads the span."""

from __future__ import annotations

from itertools import product

from tests.host.engine import Host, judge

from deetune_otel.model import End, Protocol, Role, SeriesKey
from deetune_otel.protocols import PROTOCOLS

# HTTP statuses have three digits; response codes, Redis errors and errnos are less.
OUTCOMES = 1000


def test_the_kernel_and_user_space_agree_about_every_outcome(host: Host) -> None:
    told = host.run([judge(OUTCOMES)]).errors
    assert told.keys() == set(product(Protocol, Role, End))
    for (protocol, role, end), is_error in told.items():
        meant = [
            PROTOCOLS[protocol].outcome(SeriesKey(1, protocol, 0, n, end), role)
            for n in range(OUTCOMES)
        ]
        wrong = [n for n in range(OUTCOMES) if is_error[n] != bool(meant[n].error_type)]
        assert not wrong, (protocol, role, end)


def test_a_name_that_is_not_there_is_an_answer(host: Host) -> None:
    told = host.run([judge(OUTCOMES)]).errors
    codes = told[Protocol.DNS, Role.CLIENT, End.COMPLETE]
    assert [n for n in range(16) if not codes[n]] == [0, 3]
