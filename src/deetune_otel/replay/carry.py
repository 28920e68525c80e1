# SPDX-License-Identifier: Apache-2.0
"""Values that a recorded answer introduced and a later request used: ids, cookies, CSRF tokens.

Where the test instance gives another value at the same place of the same answer, later requests
carry that one. Pure. Only whole values are replaced, and only those that no request had before an
answer gave them: a wrong one is worse than none. Redacted values are tokens that are equal where
the values were, so they are found as any others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Message,
    RecordedExchange,
)
from deetune_otel.replay.given import SECRET_NAME, Place, given, plain, set_cookies
from deetune_otel.replay.used import (
    SHORTEST,
    Replacing,
    Seeing,
    collection,
    cookies_of,
    key_of,
    noun,
)

__all__ = ["Carrier", "Links", "learn"]

MOST_KNOWN: Final = 1_000_000  # values of a recording: about a hundred bytes each
# Of one value: where the newest is silent, an older one may know.
MOST_ORIGINS: Final = 4
_ID_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:id|key|token|uuid|number|no)s?|.*(?:Id|ID|Key|Token|Uuid|Number)s?"
)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ].*)?|\d\d?:\d\d.*|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*, \d.*"
)
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class _Origin(NamedTuple):
    """Where a value came from."""

    exchange_id: str
    place: Place


@dataclass(frozen=True, slots=True)
class Links:
    """`uses`: by exchange, the recorded values in its request and where each came from, the
    newest first. `sources`: by exchange, what its answer gave for later ones.
    """

    uses: Mapping[str, Mapping[str, tuple[_Origin, ...]]] = field(default_factory=dict)
    sources: Mapping[str, Mapping[Place, str]] = field(default_factory=dict)


def learn(exchanges: Iterable[RecordedExchange]) -> Links:
    """In any order; an answer can only be used after its end."""
    events: list[tuple[int, bool, RecordedExchange]] = []
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            events.append((one.request_start_ns, True, one))
            if isinstance(one.response, HttpResponse) and one.response_end_ns:
                events.append((one.response_end_ns, False, one))
    # At the same time answers come first: who asked then may have read them.
    events.sort(key=lambda event: event[:2])
    learning = _Learning()
    for _, is_request, one in events:
        (learning.asked if is_request else learning.answered)(one)
    return Links(learning.uses, learning.sources)


class _Learning:
    """Requests and answers, as time goes on."""

    def __init__(self) -> None:
        self._own: set[str] = set()  # values that a request brought itself
        self._given: dict[str, tuple[_Origin, ...]] = {}
        self.uses: dict[str, dict[str, tuple[_Origin, ...]]] = {}
        self.sources: dict[str, dict[Place, str]] = {}

    def asked(self, exchange: RecordedExchange) -> None:
        seen = Seeing()
        seen.request(exchange.request)
        for value in seen.values:
            if origins := self._given.get(value):
                self.uses.setdefault(exchange.id, {})[value] = origins
                for source, place in origins:
                    self.sources.setdefault(source, {})[place] = _text(value)
            elif len(self._own) < MOST_KNOWN:
                self._own.add(value)

    def answered(self, exchange: RecordedExchange) -> None:
        request = exchange.request
        is_write = isinstance(request, HttpRequest) and request.method not in _READS
        found = given(exchange.response)
        for place, raw in found.items():
            text = plain(place, raw)
            value = key_of(text, _about(request, found, place))
            if value in self._own or len(self._given) >= MOST_KNOWN:
                continue
            if _is_distinctive(text, place, is_write=is_write):
                older = self._given.get(value, ())[: MOST_ORIGINS - 1]
                self._given[value] = (_Origin(exchange.id, place), *older)


class Carrier:
    """Of one replay. `carried` counts values that were replaced, `missing` those that the test
    instance did not give; `aliases` are its values for the recorded ones.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._answers: dict[str, dict[Place, str]] = {}  # only at places of `sources`
        # By connection, name and recorded value: what the test instance set instead.
        self._jar: dict[tuple[str, str, str], str] = {}
        self.carried = 0
        self.missing = 0
        self.aliases: dict[str, str] = {}

    def request(self, exchange: RecordedExchange, request: HttpRequest) -> HttpRequest:
        """With the test instance's values; the same one when there are none."""
        new: dict[str, str] = {}
        cookies = self._set_since(exchange)
        for value, origins in self._links.uses.get(exchange.id, {}).items():
            found = next(filter(None, map(self._live, origins)), None)
            if found is None:
                self.missing += 1
                continue
            place, raw = found
            live, text = plain(place, raw), _text(value)
            if place[0] == "cookie" and live != text:
                cookies |= {(str(place[1]), text): raw}
            if live and live != text:
                new[value] = live
        if not new and not cookies:
            return request
        self.aliases |= {_text(value): live for value, live in new.items()}
        changing = Replacing(new, cookies)
        changed = changing.request(request)
        self.carried += changing.count
        return changed if changing.count else request

    def answered(self, exchange: RecordedExchange, answer: Message | None) -> None:
        self._answers.pop(exchange.id, None)
        wanted = self._links.sources.get(exchange.id, {})
        if not isinstance(answer, HttpResponse):
            return
        found = given(answer) if wanted else dict(set_cookies(answer))
        there = set(found.values())
        # What is at another place now only moved.
        self._answers[exchange.id] = {
            place: value if value in there else found[place]
            for place, value in wanted.items()
            if place in found
        }
        for (name, old), _ in cookies_of(exchange.request):
            if (live := found.get(("cookie", name))) is not None:
                self._jar[exchange.connection.id, name, old] = live

    def _live(self, origin: _Origin) -> tuple[Place, str] | None:
        live = self._answers.get(origin.exchange_id, {}).get(origin.place)
        return None if live is None else (origin.place, live)

    def _set_since(self, exchange: RecordedExchange) -> dict[tuple[str, str], str]:
        session = exchange.connection.id
        found: dict[tuple[str, str], str] = {}
        for (name, old), raw in cookies_of(exchange.request):
            live = self._jar.get((session, name, old))
            if live is not None and live != raw:
                found[name, old] = live
        return found


def _text(value: str) -> str:
    """Of what `key_of` gave."""
    return value.rpartition("\0")[2]


def _about(request: Message, found: Mapping[Place, str], place: Place) -> str:
    """What a small number is of: `id` in the answer to /orders is an order's."""
    if place[0] == "location" and isinstance(place[1], int):
        return noun(found.get(("location", place[1] + 1), ""))
    names = (noun(one) for one in reversed(place[1:]) if isinstance(one, str))
    if named := next(filter(None, names), ""):
        return named
    if not isinstance(request, HttpRequest):
        return ""
    return collection(request.target.partition("?")[0])


def _is_distinctive(value: str, place: Place, *, is_write: bool) -> bool:
    """Whether finding it again means that it is the same thing."""
    name = next((one for one in reversed(place) if isinstance(one, str)), "")
    if _TIME.fullmatch(value):
        return False
    if value.isdecimal():
        is_id = place[0] != "json" or bool(_ID_NAME.fullmatch(name))
        # What was just made has a new number, and its next use is no chance.
        is_new = is_write and place[0] in ("json", "location")
        return is_id and (is_new or int(value) >= 1_000)
    if len(value) < SHORTEST:
        return False
    is_named = place[0] == "cookie" or bool(
        SECRET_NAME.search(name) or _ID_NAME.fullmatch(name)
    )
    return is_named or any(c.isdigit() for c in value)  # `in_progress` is a word
