# SPDX-License-Identifier: Apache-2.0
"""XML and HTML: elements and attributes that have a secret's name, or stand beside one.

The text is read tag by tag, once; tags that are not closed, or closed in another order, are
taken as they come. Every look ahead ends at the next `<`.
"""

from __future__ import annotations

import html
import re
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from deetune_otel.redaction.censor import Censor

__all__ = ["redact"]

MAX_OPEN: Final = 256  # elements within each other that are remembered
_MAX_CLOSED: Final = 16  # how many a closing tag may close
_TAG: Final = re.compile(
    r"""<(?:(!\[CDATA\[)|(/?)(?:[\w.-]{1,64}:)?([\w.-]{1,64}+)"""
    r"""((?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*|[^<>]*+)>)"""
)
_ATTRIBUTE: Final = re.compile(
    r"""([\w:.-]{1,64}+)\s{0,4}+=\s{0,4}+(?:"([^"<]*+)|'([^'<]*+)|([^\s"'<>]++))"""
)
_NAMING: Final = ("name", "id", "property", "key", "field", "parameter", "k", "label")
_VALUES: Final = frozenset(
    {"value", "content", "val", "v", "data", "default", "text", "defaultvalue"}
)
_NAME_ELEMENTS: Final = frozenset({*_NAMING, "header", "variable", "param"})
_VALUE_ELEMENTS: Final = _VALUES | {"string", "stringvalue"}
_OF_PLIST: Final = frozenset(
    {"string", "data", "integer", "real", "date", "array", "dict"}
)
# `<dt>API key</dt><dd>…</dd>`; a row of headings has no cells between them.
_LABELS: Final = {"dt": frozenset({"dd"}), "th": frozenset({"td"})}
_PASSWORD_INPUT: Final = frozenset(
    {"password", "current-password", "new-password", "one-time-code"}
)
_VOID: Final = frozenset(
    {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}
)
# Parts of a page, which are named after what they show.
_PAGE: Final = frozenset(
    {
        "a",
        "article",
        "body",
        "button",
        "div",
        "fieldset",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "html",
        "iframe",
        "label",
        "li",
        "main",
        "map",
        "nav",
        "option",
        "p",
        "section",
        "select",
        "slot",
        "span",
        "table",
        "tbody",
        "td",
        "th",
        "tr",
        "ul",
        "element",
        "template",
    }
)
_NAME: Final = re.compile(r"[\w.:$\[\]-]{1,64}")


class _Element:
    """One that is open."""

    __slots__ = (
        "collects",
        "expects",
        "is_named",
        "is_secret",
        "spans",
        "tag",
        "values",
    )

    def __init__(self, tag: str, *, is_secret: bool, collects: bool) -> None:
        self.tag = tag
        self.is_secret = is_secret
        self.collects = collects  # its text may be a value
        self.is_named = False  # a child of it is a secret's name
        self.expects: Container[str] = ()  # the next child is the value, if it is one
        self.spans: list[tuple[int, int]] = []
        self.values: list[tuple[int, int]] = []


def redact(text: str, censor: Censor) -> str:
    spans = sorted(set(_Reader(text, censor).read()))
    parts = []
    done = 0
    for start, end in spans:
        if start < done:
            continue
        raw = text[start:end]
        plain = html.unescape(raw) if "&" in raw else raw
        changed = censor.value(plain, "name")
        parts += [text[done:start], raw if changed == plain else changed]
        done = end
    return "".join((*parts, text[done:])) if parts else text


class _Reader:
    def __init__(self, text: str, censor: Censor) -> None:
        self._text = text
        self._names = censor.names
        self._open: deque[_Element] = deque(maxlen=MAX_OPEN)
        self._hits: list[tuple[int, int]] = []

    def read(self) -> list[tuple[int, int]]:
        text, at = self._text, 0
        while tag := _TAG.search(text, at):
            self._content(at, tag.start())
            at = tag.end()
            if tag[1]:
                end = text.find("]]>", at)
                end = len(text) if end < 0 else end
                self._content(at, end)
                at = min(end + 3, len(text))
            elif tag[2]:
                self._close(tag[3].lower())
            else:
                self._begin(tag)
        self._content(at, len(text))
        for one in self._open:  # what was never closed
            if one.is_secret:
                self._hits += one.spans[:1]
        return self._hits

    def _begin(self, tag: re.Match[str]) -> None:
        name, attributes = tag[3].lower(), tag[4]
        there = {one[1].lower(): one for one in _ATTRIBUTE.finditer(attributes)}
        is_named = tag[3] in self._names or self._is_named(there)
        found = False
        for key in _VALUES & there.keys() if is_named else ():
            one = there[key]
            self._add(*(n + tag.start(4) for n in one.span(one.lastindex or 0)))
            found = True
        if attributes.endswith("/") or name in _VOID:
            return
        above = self._open[-1] if self._open else None
        is_secret = tag[3] in self._names or (
            is_named and not found and name not in _PAGE
        )
        if above is not None:
            is_secret = is_secret or above.is_secret or name in above.expects
            above.expects = ()
        collects = name in _VALUE_ELEMENTS or (above is not None and above.collects)
        self._open.append(_Element(name, is_secret=is_secret, collects=collects))

    def _is_named(self, there: dict[str, re.Match[str]]) -> bool:
        for key in ("type", "autocomplete"):
            if key in there and _value(there[key]).lower() in _PASSWORD_INPUT:
                return True
        return any(self._is_name(_value(there[key])) for key in _NAMING if key in there)

    def _is_name(self, text: str) -> bool:
        return _NAME.fullmatch(text) is not None and text in self._names

    def _content(self, start: int, end: int) -> None:
        if start >= end or not self._open:
            return
        content = self._text[start:end]
        bare = content.strip()
        if not bare:
            return
        one = self._open[-1]
        start += len(content) - len(content.lstrip())
        end = start + len(bare)
        if one.is_secret or one.collects:
            one.spans.append((start, end))
        if len(self._open) < 2:
            return
        above = self._open[-2]
        if one.tag in _NAME_ELEMENTS and self._is_name(bare):
            above.is_named = True
            if one.tag == "key":
                above.expects = _OF_PLIST
        elif one.tag in _LABELS and self._is_name(bare.rstrip(": ").replace(" ", "_")):
            above.expects = _LABELS[one.tag]

    def _close(self, tag: str) -> None:
        for number, one in enumerate(self._last(), 1):
            if one.tag == tag:
                for _ in range(number):
                    self._end(self._open.pop())
                return

    def _last(self) -> Iterator[_Element]:
        for number, one in enumerate(reversed(self._open)):
            if number == _MAX_CLOSED:
                return
            yield one

    def _end(self, one: _Element) -> None:
        if one.is_secret:
            self._hits += one.spans
        if one.is_named:
            self._hits += one.values
        if one.collects and self._open:
            above = self._open[-1]
            (above.spans if above.collects else above.values).extend(one.spans)

    def _add(self, start: int, end: int) -> None:
        if end > start:
            self._hits.append((start, end))


def _value(attribute: re.Match[str]) -> str:
    return attribute[attribute.lastindex or 0]
