# SPDX-License-Identifier: Apache-2.0
"""What must stay true of the project as a whole: a test, not a wish."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from deetune_otel.cli import COMMANDS, Command, load_command
from deetune_otel.config import Config, load
from deetune_otel.config.render import reference
from deetune_otel.config.schema import settings

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "deetune_otel"
KERNEL_LICENCE: Final = "(GPL-2.0-only OR Apache-2.0)"

# Nothing in them could go wrong by itself.
WITHOUT_TEST: Final = {
    "__init__.py",  # the version
    "__main__.py",  # one call
    "cli/errors.py",  # exceptions without behaviour
    "kernel/errors.py",
    "protocols/contract.py",  # a Protocol
}


def sources() -> Iterator[Path]:
    for folder in ("src", "bpf", "tests", "script", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            text = path.suffix in {".py", ".c", ".h", ".sh"} or not path.suffix
            if path.is_file() and text and path.name != "LICENSE":
                yield path


def defines_something(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(one, kinds) for one in ast.parse(path.read_text()).body)


@pytest.mark.parametrize(
    "path", list(sources()), ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_source_says_its_licence(path: Path) -> None:
    head = "\n".join(path.read_text().splitlines()[:2])
    found = re.search(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", head, re.MULTILINE)
    assert found is not None
    kernel_side = path.is_relative_to(ROOT / "bpf")
    assert found[1] == (KERNEL_LICENCE if kernel_side else "Apache-2.0")


def test_each_module_has_its_test() -> None:
    lacking = []
    for path in sorted(SOURCE.rglob("*.py")):
        inner = path.relative_to(SOURCE)
        if str(inner) in WITHOUT_TEST:
            continue
        if path.name == "__init__.py" and not defines_something(path):
            continue
        stem = path.parent.name if path.name == "__init__.py" else path.stem
        folder = ROOT / "tests" / (inner.parts[0] if len(inner.parts) > 1 else "")
        places = folder.rglob if len(inner.parts) > 1 else folder.glob
        if not any(places(f"test_{stem}.py")):
            lacking.append(str(inner))
    assert lacking == []


def test_what_is_excused_from_tests_exists() -> None:
    assert [one for one in WITHOUT_TEST if not (SOURCE / one).is_file()] == []


def test_one_name_at_every_station() -> None:
    headers = {path.stem for path in (ROOT / "bpf" / "l7").glob("*.h")}
    assert headers, "no protocols in bpf/l7"
    assert headers <= {path.stem for path in (SOURCE / "protocols").glob("*.py")}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_is_in_the_docs(name: str) -> None:
    command = load_command(name)
    assert isinstance(command, Command)
    first = (type(command).__doc__ or "").strip().partition("\n")[0]
    assert first.endswith("."), "a command's help is a sentence"
    assert f"| `deetune {name}` |" in (ROOT / "docs/configuration.md").read_text()


def test_the_reference_file_equals_the_code() -> None:
    assert (ROOT / "config" / "deetune.yaml").read_text() == reference(), (
        "write it anew: python -c 'from deetune_otel.config.render import reference; "
        'print(reference(), end="")\' >config/deetune.yaml'
    )


def test_the_docs_list_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| `(.*?)` \|", text, re.MULTILINE))
    listed = {path: yaml.safe_load(default) for path, default in rows.items()}
    for path in ("match.exe", "match.command", "match.cgroup", "match.port"):
        listed.pop(path, None)
    defaults = {
        one.path: list(one.default) if isinstance(one.default, tuple) else one.default
        for one in settings()
    }
    assert listed == defaults


def test_the_docs_explain_each_setting_with_the_codes_words() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [one.path for one in settings() if one.about.sentence not in text] == []


def test_the_examples_of_the_docs_load() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        assert load(example).config != Config()


def test_the_changelog_knows_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("script", ["setup", "test", "build-bpf", "demo"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / "script" / script
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/")
