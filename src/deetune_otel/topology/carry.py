# SPDX-License-Identifier: Apache-2.0
"""The map as JSON, for the page, for scripts and for other agents.

What is written is the model, field by field, with the numbers beside it that a reader would
otherwise compute: rates, ratios, means, quantiles. Reading takes the fields of the model and
nothing else; it is strict, because the bytes come from the network: what does not fit raises
MapFormatError, which names the place, and nothing else.

A field more is none of a reader's business; a field less, or another meaning, is another
`format`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import (
    Any,
    Final,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from deetune_otel.model import RTT_BOUNDS_S, Pair
from deetune_otel.topology.model import (
    MAP_FORMAT,
    EdgeDetails,
    Network,
    NodeDetails,
    ServiceMap,
    Tally,
)
from deetune_otel.topology.tally import error_ratio, mean_s, quantile, rate

__all__ = ["MapFormatError", "from_json", "to_json"]

Document = TypeVar("Document", ServiceMap, EdgeDetails, NodeDetails)

PAIR: Final = re.compile("([0-9a-f]{16})([0-9a-f]{16})")
# Nothing that is counted comes near it; a larger number is a mistake, or meant to hurt.
MAX_WHOLE: Final = 2**63 - 1
HAIR: Final = 1e-6


class MapFormatError(ValueError):
    """What was read is no map of this format; the message begins with the place."""

    def __init__(self, problem: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.problem = problem
        self.place = place

    def within(self, step: str) -> MapFormatError:
        """The same, seen from one level further out."""
        inner = self.place if self.place.startswith("[") or not self.place else ""
        rest = inner or (f".{self.place}" if self.place else "")
        return MapFormatError(self.problem, place=step + rest)


def to_json(
    value: ServiceMap | EdgeDetails | NodeDetails,
    *,
    window_s: float | None = None,
    with_pairs: bool = True,
) -> dict[str, Any]:
    """What `json.dumps` takes.

    `window_s` is what rates are of: a map knows its own, details need to be told.
    """
    window = value.window_s if isinstance(value, ServiceMap) else window_s
    if window is None:
        raise TypeError("details do not know the window that they are of")
    body: dict[str, Any] = _Writer(window, with_pairs=with_pairs).written(value)
    return {"format": MAP_FORMAT, "window_s": window, **body}


def from_json(kind: type[Document], document: object) -> Document:
    """Raises MapFormatError."""
    if not isinstance(document, dict):
        raise MapFormatError(f"expected an object, got {_shown(document)}")
    found = document.get("format")
    if found != MAP_FORMAT or isinstance(found, bool):
        raise MapFormatError(
            f"format {_shown(found)}, and this version of deetune reads {MAP_FORMAT}"
            if "format" in document
            else "is missing: this is no map",
            place="format",
        )
    value: Document = _reader(cast("Any", kind))(document)
    if isinstance(value, ServiceMap):
        _check_references(value)
    return value


# Writing


class _Writer:
    def __init__(self, window_s: float, *, with_pairs: bool) -> None:
        self._window_s = window_s
        self._with_pairs = with_pairs

    def written(self, value: Any) -> Any:
        match value:
            case StrEnum():
                return value.value
            case Pair():
                return f"{value.client_seq:016x}{value.server_seq:016x}"
            case (int() | float(), *_):  # buckets, and there are many
                return list(value)
            case tuple():
                return [self.written(one) for one in value]
        return self._object(value) if is_dataclass(value) else value

    def _object(self, value: Any) -> dict[str, Any]:
        names = _names(cast("Any", type(value)))
        made = {name: self.written(getattr(value, name)) for name in names}
        if isinstance(value, Tally):
            made |= _derived_tally(value, self._window_s)
        elif isinstance(value, Network):
            made |= _derived_network(value)
        elif "pairs" in made and not self._with_pairs:
            made["pairs"] = []
        return made


def _derived_tally(tally: Tally, window_s: float) -> dict[str, float | None]:
    return {
        "rate": rate(tally, window_s),
        "error_ratio": error_ratio(tally),
        "mean_s": mean_s(tally),
        "p50_s": quantile(tally.duration_buckets, 0.5),
        "p90_s": quantile(tally.duration_buckets, 0.9),
        "p99_s": quantile(tally.duration_buckets, 0.99),
    }


def _derived_network(network: Network) -> dict[str, float | None]:
    connects, rtt = network.connect_buckets, network.rtt_buckets
    samples = sum(rtt)
    return {
        "connect_p50_s": quantile(connects, 0.5),
        "connect_p99_s": quantile(connects, 0.99),
        "rtt_mean_s": network.rtt_sum_s / samples if samples else None,
        "rtt_p50_s": quantile(rtt, 0.5, bounds=RTT_BOUNDS_S),
        "rtt_p99_s": quantile(rtt, 0.99, bounds=RTT_BOUNDS_S),
    }


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cls))


# Reading: from the model's type hints, a function each

Reader = Callable[[object], Any]


@cache
def _reader(hint: Any) -> Reader:
    simple = _SIMPLE.get(hint)
    if simple is not None:
        return simple
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _optional_reader(hint)
    if origin is tuple:
        return _list_reader(_reader(get_args(hint)[0]))
    if origin is dict:
        return _dict_reader(_reader(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _word_reader(hint)
    return _object_reader(hint)


def _object_reader(cls: Any) -> Reader:
    hints = get_type_hints(cls)
    readers = [(one.name, _field_reader(one, hints[one.name])) for one in fields(cls)]

    def read(value: object) -> Any:
        if not isinstance(value, dict):
            raise MapFormatError(f"expected an object, got {_shown(value)}")
        made = {}
        for name, reader in readers:
            if name not in value:
                raise MapFormatError("is missing", place=name)
            try:
                made[name] = reader(value[name])
            except MapFormatError as error:
                raise error.within(name) from None
        return cls(**made)

    return read


def _field_reader(one: Field[Any], hint: Any) -> Reader:
    """Buckets have as many places as the model's."""
    reader = _reader(hint)
    if one.default is MISSING or not isinstance(one.default, tuple) or not one.default:
        return reader
    length = len(one.default)

    def read(value: object) -> Any:
        made = reader(value)
        if len(made) != length:
            raise MapFormatError(f"expected {length} numbers, got {len(made)}")
        return made

    return read


def _optional_reader(hint: Any) -> Reader:
    (inner,) = (one for one in get_args(hint) if one is not types.NoneType)
    reader = _reader(inner)
    return lambda value: None if value is None else reader(value)


def _list_reader(reader: Reader) -> Reader:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise MapFormatError(f"expected a list, got {_shown(value)}")
        return tuple(_steps(reader, value))

    return read


def _steps(reader: Reader, values: list[object]) -> Iterator[Any]:
    for index, value in enumerate(values):
        try:
            yield reader(value)
        except MapFormatError as error:
            raise error.within(f"[{index}]") from None


def _dict_reader(reader: Reader) -> Reader:
    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise MapFormatError(f"expected an object, got {_shown(value)}")
        made = {}
        for key, inner in value.items():
            try:
                made[_text(key)] = reader(inner)
            except MapFormatError as error:
                raise error.within(f"[{_shown(key)}]") from None
        return made

    return read


def _word_reader(words: type[StrEnum]) -> Reader:
    known = {one.value: one for one in words}

    def read(value: object) -> StrEnum:
        if not isinstance(value, str) or value not in known:
            raise MapFormatError(
                f"expected one of {', '.join(known)}, got {_shown(value)}"
            )
        return known[value]

    return read


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise MapFormatError(f"expected a whole number, got {_shown(value)}")
    if not 0 <= value <= MAX_WHOLE:
        raise MapFormatError(f"expected a whole number from 0, got {_shown(value)}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MapFormatError(f"expected a number, got {_shown(value)}")
    # The comparison is false for NaN; a difference of two sums may come to a hair below 0.
    if not -HAIR <= value <= MAX_WHOLE:
        raise MapFormatError(f"expected a number from 0, got {_shown(value)}")
    return max(0.0, float(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MapFormatError(f"expected text, got {_shown(value)}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise MapFormatError(f"expected true or false, got {_shown(value)}")
    return value


def _pair(value: object) -> Pair:
    found = PAIR.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MapFormatError(f"expected 32 hex digits, got {_shown(value)}")
    return Pair(int(found[1], 16), int(found[2], 16))


_SIMPLE: Final[dict[Any, Reader]] = {
    int: _whole,
    float: _number,
    str: _text,
    bool: _flag,
    Pair: _pair,
}


def _check_references(one: ServiceMap) -> None:
    """Who reads a map may look up an edge's ends, and count on an id being there once."""
    nodes: set[str] = set()
    for index, node in enumerate(one.nodes):
        if node.id in nodes:
            raise MapFormatError(f"{node.id!r} twice", place=f"nodes[{index}].id")
        nodes.add(node.id)
    edges: set[str] = set()
    for index, edge in enumerate(one.edges):
        for end in (edge.client, edge.server):
            if end not in nodes:
                raise MapFormatError(f"no node {end!r}", place=f"edges[{index}]")
        if edge.id in edges:
            raise MapFormatError(f"{edge.id!r} twice", place=f"edges[{index}].id")
        edges.add(edge.id)


def _shown(value: object) -> str:
    """A few words at most: it may be anything, of any size."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "a list"
        case int() if abs(value) > MAX_WHOLE:
            return "a number that is too large"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
