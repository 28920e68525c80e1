# SPDX-License-Identifier: Apache-2.0
"""The ledger's arithmetic."""

from __future__ import annotations

from deetune_otel.model import Ledger, LedgerLine


def ledger(*, seen: LedgerLine, lost: dict[str, LedgerLine]) -> Ledger:
    return Ledger(
        seen=seen,
        counted=LedgerLine(7, 700),
        open=LedgerLine(2, 30),
        lost=lost,
        noted={"blind": LedgerLine(1000, 1000)},
    )


def test_it_balances_when_everything_is_somewhere() -> None:
    lost = {"midstream": LedgerLine(1, 5), "unparsed": LedgerLine(0, 40)}
    assert ledger(seen=LedgerLine(10, 775), lost=lost).difference == (0, 0)


def test_what_is_missing_is_positive_and_what_is_there_twice_negative() -> None:
    assert ledger(seen=LedgerLine(10, 700), lost={}).difference == (1, -30)
