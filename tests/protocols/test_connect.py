# SPDX-License-Identifier: Apache-2.0
"""Failed connects are errors named by their errno."""

from __future__ import annotations

import errno

from deetune_otel.model import End, Protocol, Role, SeriesKey
from deetune_otel.protocols import connect
from deetune_otel.protocols.routes import Routes


def test_outcome_is_the_errno_name() -> None:
    key = SeriesKey(1, Protocol.CONNECT, 0, errno.ECONNREFUSED, End.COMPLETE)
    outcome = connect.outcome(key, Role.CLIENT)
    assert outcome.error_type == "ECONNREFUSED"
    assert outcome.attributes == {"error.type": "ECONNREFUSED"}
    assert connect.outcome(key._replace(outcome=9999), Role.CLIENT).error_type == (
        "_OTHER"
    )


def test_operation() -> None:
    assert connect.operation(b"", Routes()).name == "CONNECT"
