# SPDX-License-Identifier: Apache-2.0
"""`password=…`, `password: …` in any text: query strings, logs, properties, YAML, code.

Also the two lines `name: DB_PASSWORD` and `value: …` of YAML, wherever they stand in their entry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["in_code", "may_be_in", "redact"]

MAX_ENTRY: Final = 8  # lines of an entry of YAML that are looked at
_QUOTE: Final = r"""(?:\\?["']|&quot;|&\#3[49];)"""
_NAMED: Final = re.compile(
    rf"""(?<![\w.])(?<!\w-)([A-Za-z_][\w.\[\]-]{{0,63}}+){_QUOTE}?\]?[ \t]{{0,4}}+"""
    rf"""(?:(=>?|:=)|:(?!//))[ \t]{{0,4}}+(\\["']|&quot;|&\#3[49];)?""",
)
# The usual text with a colon, and slow to be searched for names: 0.4 µs rather than 1.1.
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]*+(?:Z|[+-][0-9:]*+)?")
_QUOTED: Final = re.compile(r""""((?:[^"\\]|\\.)*)|'((?:[^'\\]|\\.)*)""", re.DOTALL)
_TRIPLE: Final = re.compile(
    r"""\"{3}(.*?)(?:\"{3}|\Z)|'{3}(.*?)(?:'{3}|\Z)""", re.DOTALL
)
_END: Final = re.compile(r"\r?\n")
_WORD: Final = re.compile(r"""[^\s&;"'<>]++""")
_LINE: Final = re.compile(r"""[^\r\n"'<>]++""")
_REST: Final = re.compile(r"""[^\r\n"'<>&;]++""")
_ESCAPED: Final = re.compile(r"""[^\\"'&<>\r\n]++""")
_BLOCK: Final = re.compile(r"[|>][+-]?[0-9]?[ \t]*+(?=\r?\n)")
_LEAF: Final = re.compile(r"\r?\n([ \t]++)(?:- )?([^\r\n]++)")
_AT_BEGIN: Final = re.compile(r"[ \t]*+(?:export[ ]|set[ ]|-[ ])?", re.IGNORECASE)
_LITERAL: Final = re.compile(r"""["'`]([^\s"'`\\]{6,256}+)["'`]""")
_LETTERS: Final = re.compile(r"[A-Za-z._:/-]+")
_VALUE: Final = re.compile(
    r"(?:value|val)[\"']?[ \t]{0,4}+[:=]|content[ \t]{0,4}+[:=]", re.IGNORECASE
)
_PAIR: Final = re.compile(
    r"""[ \t]*+(-[ ]++)?(name|key|value|val|content)[ \t]*+[:=][ \t]*+["']?([^\r\n"']++)""",
    re.IGNORECASE,
)
# `{name: password, value: …}`, `name=password type=x value=…` in one line.
_INLINE: Final = re.compile(
    r"""(?<![\w.-])(?:name|key|field)["']?[ ]{0,4}+[:=][ ]{0,4}+["']?([\w.-]{1,64}+)["']?[ ,;&]"""
    r"""[^\r\n{}<>]{0,128}?(?<![\w.-])(?:value|val)["']?[ ]{0,4}+[:=][ ]{0,4}+"""
    r"""(?:"([^"\r\n]++)"|'([^'\r\n]++)'|([^\s"',;&{}<>]++))""",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[\w.\[\]-]{1,64}")


def may_be_in(text: str, censor: Censor) -> bool:
    if _TIME.fullmatch(text):
        return False
    if any(found[1] in censor.names for found in _NAMED.finditer(text)):
        return True
    return any(found[1] in censor.names for found in _INLINE.finditer(text))


def redact(text: str, censor: Censor) -> str:
    if _VALUE.search(text):
        text = _inline(text, censor)
        if "\n" in text:
            text = _entries(text, censor)
    names = censor.names
    parts = []
    done = 0
    for found in _NAMED.finditer(text):
        if found[1] not in names or found.start() < done:
            continue
        start, end = _bounds(text, found)
        if start < end:
            parts += [text[done:start], censor.value(text[start:end], "name", found[1])]
            done = end
    return "".join((*parts, text[done:])) if parts else text


def in_code(text: str, censor: Censor) -> str:
    """In code `password: e.password` is no secret, and `password: "Your password"` is none."""
    parts = []
    done = 0
    for found in _NAMED.finditer(text):
        if found.start() < done or found[1] not in censor.names:
            continue
        literal = _LITERAL.match(text, found.end())
        if literal is not None and not _LETTERS.fullmatch(literal[1]):
            value = censor.value(literal[1], "name", found[1])
            parts += [text[done : literal.start(1)], value]
            done = literal.end(1)
    return "".join((*parts, text[done:])) if parts else text


def _bounds(text: str, found: re.Match[str]) -> tuple[int, int]:
    at = found.end()
    if found[
        3
    ]:  # \"password\":\"…\" of JSON in a log line, &quot;password&quot;: in HTML
        value = _ESCAPED.match(text, at)
        return value.span() if value else (at, at)
    if block := _BLOCK.match(text, at):
        return _block(text, found, block.end())
    if not found[2] and (end_of_line := _END.match(text, at)):
        return _folded(text, found, end_of_line.start())
    if value := _TRIPLE.match(text, at):
        return value.span(value.lastindex or 0)
    if value := _QUOTED.match(text, at):
        return value.span(value.lastindex or 0)
    value = _behind(text, found).match(text, at)
    return value.span() if value else (at, at)


def _behind(text: str, found: re.Match[str]) -> re.Pattern[str]:
    """Where an unquoted value ends: `a = b c` of properties is not `x a=b c` of a log."""
    if not found[2]:
        return _LINE
    is_spaced = text[found.start(2) - 1] in " \t" and found.end() > found.end(2)
    begin = text.rfind("\n", max(0, found.start() - 16), found.start()) + 1
    is_first = begin > 0 or found.start() < 16
    if is_spaced and is_first and found[2] == "=":
        before = _AT_BEGIN.match(text, begin)
        if before is not None and before.end() >= found.start():
            return _REST
    return _WORD


def _folded(text: str, found: re.Match[str], at: int) -> tuple[int, int]:
    """What stands on the next lines, further in, and is no mapping: a text or a list."""
    first = _LEAF.match(text, at)
    if first is None or ":" in first[2]:
        return at, at
    return _block(text, found, at)


def _block(text: str, found: re.Match[str], at: int) -> tuple[int, int]:
    """The lines of a block scalar, from its first word to the end of its last line."""
    line = text.rfind("\n", max(0, found.start() - 128), found.start()) + 1
    indent = found.start() - line
    start = end = at
    while leaf := _LEAF.match(text, end):
        if len(leaf[1]) <= indent:
            break
        if start == at:
            start = leaf.end(1)
        end = leaf.end()
    return start, end


def _inline(text: str, censor: Censor) -> str:
    parts = []
    done = 0
    for found in _INLINE.finditer(text):
        if found[1] in censor.names:
            start, end = found.span(found.lastindex or 0)
            parts += [text[done:start], censor.value(text[start:end], "name", found[1])]
            done = end
    return "".join((*parts, text[done:])) if parts else text


def _entries(text: str, censor: Censor) -> str:
    """`- name: X` with `value: …` within the same entry, before it or behind it."""
    lines = text.split("\n")
    if len(lines) > 1:
        for index, line in enumerate(lines):
            pair = _PAIR.match(line)
            if pair is None or pair[2].lower() not in {"name", "key"}:
                continue
            name = pair[3].strip()
            if _NAME.fullmatch(name) and name in censor.names:
                _redact_entry(lines, index, name, censor)
    return "\n".join(lines)


def _redact_entry(lines: list[str], index: int, name: str, censor: Censor) -> None:
    column = _column(lines[index])
    for step in (1, -1):
        at = index
        for _ in range(MAX_ENTRY):
            if step < 0 and _begins(lines[at]):
                break
            at += step
            if not 0 <= at < len(lines) or not lines[at].strip():
                break
            if step > 0 and _begins(lines[at]) and _column(lines[at]) <= column:
                break
            pair = _PAIR.match(lines[at])
            if pair is None or pair[2].lower() in {"name", "key"}:
                continue
            if _column(lines[at]) == column:
                changed = censor.value(pair[3].rstrip(), "name", name)
                lines[at] = (
                    lines[at][: pair.start(3)]
                    + changed
                    + (lines[at][pair.start(3) + len(pair[3].rstrip()) :])
                )


def _begins(line: str) -> bool:
    return line.lstrip(" \t").startswith("- ")


def _column(line: str) -> int:
    """Where the key begins: behind the mark of an entry."""
    bare = line.lstrip(" \t")
    return len(line) - len(bare.removeprefix("- ").lstrip(" "))
