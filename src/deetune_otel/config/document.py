# SPDX-License-Identifier: Apache-2.0
"""A YAML text, with the line of every key, and without YAML's silent traps.

PyYAML keeps the last of two equal keys without a word, and follows aliases into themselves; both
are refused here. Paths are written as in error messages: `services.rules[0].match.port`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Document", "DocumentError", "read"]


class DocumentError(ValueError):
    """The text is no YAML that we take. `line` counts from 1; 0: not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The values, and where and how they were written."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    written: dict[str, str] = field(
        default_factory=dict
    )  # scalars as the text has them


def read(text: str) -> Document:
    """Raises DocumentError for what is not YAML, a key that stands twice, or an endless alias."""
    try:
        return _read(yaml.SafeLoader(text))
    except DocumentError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not understood"
        raise DocumentError(
            f"not valid YAML: {problem}", mark.line + 1 if mark else 0
        ) from None
    except RecursionError:
        raise DocumentError("nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a scalar that looks like a date and is none
        problem = " ".join(str(error).split())
        raise DocumentError(f"not valid YAML: {problem}") from None


def _read(loader: yaml.SafeLoader) -> Document:
    root = loader.get_single_node()
    if root is None:
        return Document(value=None)
    lines: dict[str, int] = {}
    for path, line in _walk(root, "", ()):
        lines.setdefault(path, line)
    return Document(value=loader.construct_document(root), lines=lines)


def _walk(
    node: yaml.Node, path: str, above: tuple[int, ...]
) -> Iterator[tuple[str, int]]:
    """Each node as path and line; a mapping's entry has the line of its key."""
    line = node.start_mark.line + 1
    if id(node) in above:
        raise DocumentError("an alias refers to what it stands in", line)
    above = (*above, id(node))
    yield path, line
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, f"{path}[{index}]", above)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            here = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError("a key must be plain text", here)
            if key.value in first:
                raise DocumentError(
                    f"{key.value!r} stands twice (first on line {first[key.value]})",
                    here,
                )
            first[key.value] = here
            inner = f"{path}.{key.value}" if path else key.value
            yield inner, here
            yield from _walk(value, inner, above)
