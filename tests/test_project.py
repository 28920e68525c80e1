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
    "archive/errors.py",  # exceptions without behaviour
    "cli/errors.py",
    "kernel/errors.py",
    "protocols/contract.py",  # a Protocol
    "recording/errors.py",
    "topology/far.py",  # values without behaviour
    "topology/model.py",
}

# Parts that only mean something together: the test of the whole is theirs.
TESTED_WITH: Final = {
    "archive/dialogues.py": "archive/test_reading.py",
    "cli/taking.py": "cli/test_record.py",
    "cli/replaying.py": "cli/test_replay.py",
    "demo/servers.py": "demo/test_stack.py",
    "demo/services/orders.py": "demo/test_stack.py",
    "demo/services/shop.py": "demo/test_stack.py",
    "demo/services/shop_next.py": "e2e/test_readme.py",
    "agent/downstream.py": "e2e/test_readme.py",
    "export/otlp_grpc.py": "export/test_otlp.py",
    "export/otlp_http.py": "export/test_otlp.py",
    "export/otlp_sender.py": "export/test_otlp.py",
    "replay/given.py": "replay/test_carry.py",
    "replay/used.py": "replay/test_carry.py",
    "kernel/libbpf.py": "kernel/test_features.py",
    "topology/drawing.py": "topology/test_graph.py",
    "topology/drawn.py": "topology/test_graph.py",
}


def sources() -> Iterator[Path]:
    for folder in ("src", "bpf", "bench", "lab", "tests", "script", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            text = path.suffix in {".py", ".c", ".h", ".sh"} or not path.suffix
            if path.is_file() and text and path.name != "LICENSE":
                yield path


def defines_something(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(one, kinds) for one in ast.parse(path.read_text()).body)


def test_each_source_says_its_licence() -> None:
    wrong = [path for path in sources() if licence_of(path) not in licences_for(path)]
    assert not wrong, "\n".join(map(str, wrong))


def licence_of(path: Path) -> str:
    """ "" where its first two lines name none."""
    head = "\n".join(path.read_text().splitlines()[:2])
    found = re.search(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", head, re.MULTILINE)
    return found[1] if found else ""


def licences_for(path: Path) -> set[str]:
    """Another one for what runs in the kernel, and for the tests' C that includes it."""
    part = path.relative_to(ROOT).parts[0]
    if part == "bpf":
        return {KERNEL_LICENCE}
    if part == "tests" and path.suffix in {".c", ".h"}:
        return {"Apache-2.0", KERNEL_LICENCE}
    return {"Apache-2.0"}


def own_test(module: str) -> bool:
    """tests/x/**/test_y.py for x/y.py."""
    path = SOURCE / module
    stem = path.parent.name if path.name == "__init__.py" else path.stem
    package, slash, _ = module.partition("/")
    folder = ROOT / "tests" / (package if slash else "")
    return any((folder.rglob if slash else folder.glob)(f"test_{stem}.py"))


def test_each_module_has_its_test() -> None:
    lacking = [
        module
        for path in sorted(SOURCE.rglob("*.py"))
        if (module := str(path.relative_to(SOURCE))) not in WITHOUT_TEST
        and module not in TESTED_WITH
        and (path.name != "__init__.py" or defines_something(path))
        and not own_test(module)
    ]
    assert not lacking, "\n".join(lacking)


def test_the_exceptions_from_that_are_still_needed() -> None:
    for test in TESTED_WITH.values():
        assert (ROOT / "tests" / test).is_file(), test
    for module in (*WITHOUT_TEST, *TESTED_WITH):
        assert (SOURCE / module).is_file(), module
        assert not own_test(module), f"{module} has a test of its own"


def test_one_name_at_every_station() -> None:
    # a protocol's further parts have its name first: http.h, http_line.h
    files = (ROOT / "bpf" / "l7").glob("*.h")
    headers = {path.stem.partition("_")[0] for path in files}
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


@pytest.mark.parametrize(
    "script",
    [
        *("setup", "test", "build-bpf", "demo", "bench", "lab"),
        *("fetch-kernel", "run-on-kernel"),
    ],
)
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / "script" / script
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/")
