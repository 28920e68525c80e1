# SPDX-License-Identifier: Apache-2.0
"""Fields of the type that was asked for, or an error with their place."""

from __future__ import annotations

import pytest

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.har_fields import Fields


def test_each_answer_is_of_its_type() -> None:
    fields = Fields({"a": "x", "n": 3, "o": {"b": "y"}, "l": [{"c": "z"}]}, "log")
    assert (fields.text("a"), fields.size("n")) == ("x", 3)
    assert fields.inner("o").text("b") == "y"
    assert fields.inners("l")[0].text("c") == "z"
    assert (fields.optional("n"), fields.inners("none"), fields.texts("none")) == (
        "",
        [],
        (),
    )
    assert fields.inner("none", is_needed=False).found == {}


@pytest.mark.parametrize("value", [-1, True, None, "3", 1 << 60])
def test_a_size_that_is_none_is_not_known(value: object) -> None:
    assert Fields({"n": value}, "log").size("n") == 0


def test_the_place_is_said() -> None:
    with pytest.raises(BadInput, match=r"^log\.l\[1\]\.c: no text$"):
        Fields({"l": [{}, {"c": 1}]}, "log").inners("l")[1].text("c")
