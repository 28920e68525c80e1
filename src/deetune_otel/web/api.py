# SPDX-License-Identifier: Apache-2.0
"""The service map for the page, for `deetune map` and for other agents.

    /api/map?window=SECONDS[&connections=1]    topology.model.ServiceMap
    /api/edge?id=EDGE&window=SECONDS           topology.model.EdgeDetails
    /api/node?id=NODE&window=SECONDS           topology.model.NodeDetails

As topology.carry writes them. A mistake is answered with `{"error": "a sentence"}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

from deetune_otel.topology.carry import to_json
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap
from deetune_otel.web.reply import Reply, as_json

if TYPE_CHECKING:
    from deetune_otel.topology.model import History

__all__ = ["API_PREFIX", "Api", "MapSources"]

API_PREFIX: Final = "/api/"
DEFAULT_WINDOW_S: Final = 60.0
# As far back as the map remembers.
MAX_WINDOW_S: Final = 24 * 3600.0
FLAGS: Final = {"0": False, "1": True}


class MapSources(NamedTuple):
    """The agent's answers; called from other threads, one at a time."""

    service_map: Callable[[float, bool], ServiceMap]  # window in s, with pairs
    edge_details: Callable[[str, float], EdgeDetails | None]  # id, window in s
    node_details: Callable[[str, float], NodeDetails | None]


class Api:
    def __init__(self, sources: MapSources) -> None:
        self._sources = sources

    def get(self, path: str, query: str) -> Reply:
        try:
            answer = self._answer(path, _Question(query))
        except _Refused as refused:
            return as_json(refused.status, {"error": str(refused)})
        return as_json(HTTPStatus.OK, answer, for_people=False)

    def _answer(self, path: str, question: _Question) -> dict[str, Any]:
        match path.removeprefix(API_PREFIX):
            case "map":
                with_pairs = question.flag("connections")
                one = self._sources.service_map(question.window_s(), with_pairs)
                return to_json(one, with_pairs=with_pairs)
            case "edge":
                return _details("edge", self._sources.edge_details, question)
            case "node":
                return _details("node", self._sources.node_details, question)
        raise _Refused(
            f"there is no {path}: here are /api/map, /api/edge and /api/node",
            HTTPStatus.NOT_FOUND,
        )


class _Refused(Exception):  # noqa: N818 - reads as what happened
    def __init__(self, sentence: str, status: HTTPStatus) -> None:
        super().__init__(sentence)
        self.status = status


class _Question:
    """The parameters; what it does not know it leaves alone."""

    def __init__(self, query: str) -> None:
        self._values = parse_qs(query, keep_blank_values=True)

    def window_s(self) -> float:
        text = self._one("window")
        if text is None:
            return DEFAULT_WINDOW_S
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 1 <= seconds <= MAX_WINDOW_S:  # false for NaN
            raise _bad(f"window is a number of seconds from 1 to {MAX_WINDOW_S:.0f}")
        return seconds

    def flag(self, name: str) -> bool:
        text = self._one(name)
        if text is None:
            return False
        if text not in FLAGS:
            raise _bad(f"{name} is 0 or 1")
        return FLAGS[text]

    def id(self, what: str) -> str:
        text = self._one("id")
        if not text:
            raise _bad(f"id is missing: the {what}'s, as /api/map tells it")
        return text

    def _one(self, name: str) -> str | None:
        found = self._values.get(name, [])
        if len(found) > 1:
            raise _bad(f"{name} is given {len(found)} times")
        return found[0] if found else None


def _bad(sentence: str) -> _Refused:
    return _Refused(sentence, HTTPStatus.BAD_REQUEST)


def _details(
    what: str,
    ask: Callable[[str, float], EdgeDetails | NodeDetails | None],
    question: _Question,
) -> dict[str, Any]:
    one_id, window_s = question.id(what), question.window_s()
    found = ask(one_id, window_s)
    if found is None:
        raise _Refused(f"no {what} has this id, or not any more", HTTPStatus.NOT_FOUND)
    return to_json(found, window_s=_known(found.history, window_s), with_pairs=False)


def _known(history: History, window_s: float) -> float:
    """What rates are of: less than the window while the agent is younger than it."""
    known = history.step_s * len(history.rate)
    return min(window_s, known) if known else window_s
