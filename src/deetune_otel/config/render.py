# SPDX-License-Identifier: Apache-2.0
"""A configuration as text: the reference file, and what is in effect with where it came from."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any, Final

import yaml

from deetune_otel.config.loader import Layer, Loaded
from deetune_otel.config.schema import Config, Setting, settings

__all__ = ["effective", "origins", "reference"]

WIDTH: Final = 100

HEAD: Final = """\
# SPDX-License-Identifier: Apache-2.0
# Every setting of deetune with its default. Copy what you change; an unknown key is an error.
# A value here is overridden by the environment (DEETUNE_<SECTION>_<KEY>, for example
# DEETUNE_AGENT_INTERVAL_S), and that by a flag (--set agent.interval_s=5).
"""


def plain(value: object) -> Any:
    """As YAML and JSON know it; of a rule, what is set."""
    if is_dataclass(value) and not isinstance(value, type):
        of = {one.name: getattr(value, one.name) for one in fields(value)}
        return {key: plain(part) for key, part in of.items() if part not in (None, "")}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return value


def shown(setting: Setting, value: object) -> Any:
    """`plain`, without secrets."""
    if setting.about.secret and isinstance(value, dict):
        return dict.fromkeys(value, "(not shown)")
    return plain(value)


def reference() -> str:
    """The text of config/deetune.yaml."""

    def lines(setting: Setting) -> Iterator[str]:
        about = setting.about
        facts = [about.sentence]
        if about.range:
            facts.append(f"{about.range[0].upper()}{about.range[1:]}.")
        if about.standard:
            facts.append(f"null: {about.standard} decides.")
        yield from _comment(" ".join(facts), "  ")
        yield _pair(setting.key, setting.default)

    return _document(HEAD, lines)


def effective(loaded: Loaded) -> str:
    """YAML of what is in effect; each value's origin beside it. Loads as it stands."""

    def lines(setting: Setting) -> Iterator[str]:
        pair = _pair(setting.key, shown(setting, loaded.value(setting.path)))
        origin = loaded.origins[setting.path]
        if origin.layer is Layer.DEFAULT:
            yield pair
        else:
            yield f"{pair}  # {origin}"

    return _document("", lines)


def origins(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Value, layer and place of every setting by its path, for JSON."""
    return {
        one.path: {
            "value": shown(one, loaded.value(one.path)),
            "layer": str(loaded.origins[one.path].layer),
            "where": loaded.origins[one.path].where,
        }
        for one in settings()
    }


def _document(head: str, lines: Callable[[Setting], Iterator[str]]) -> str:
    sections = {one.name: one.default_factory for one in fields(Config)}
    parts = [head] if head else []
    for name, group in groupby(settings(), key=lambda one: one.section):
        about = [*_comment(sections[name].__doc__ or "", "")] if head else []
        body = [line for setting in group for line in lines(setting)]
        parts.append("\n".join([*about, f"{name}:", *body, ""]))
    return "\n".join(parts)


def _comment(text: str, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        width=WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _pair(key: str, value: object) -> str:
    """One line, in flow style: what a person would write."""
    dumped = yaml.safe_dump(
        [plain(value)], default_flow_style=True, width=10_000, allow_unicode=True
    )
    return f"  {key}: {dumped.strip()[1:-1]}"
