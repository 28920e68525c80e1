# SPDX-License-Identifier: Apache-2.0
"""--config and --set, and the file that they lead to."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from deetune_otel.cli import settings
from deetune_otel.cli.errors import UsageError
from deetune_otel.config import Loaded


def load(*argv: str, environ: dict[str, str] | None = None) -> Loaded:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    return settings.load_settings(parser.parse_args(argv), environ or {})


@pytest.fixture(autouse=True)
def default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "default.yaml"
    monkeypatch.setattr(settings, "DEFAULT_FILE", path)
    return path


def written(path: Path, port: int) -> Path:
    path.write_text(f"web: {{port: {port}}}\n")
    return path


def test_without_a_file_the_defaults_apply() -> None:
    assert load().config.web.port == 8127


def test_which_file(tmp_path: Path, default_file: Path) -> None:
    written(default_file, 1)
    environ = {"DEETUNE_CONFIG": str(written(tmp_path / "variable.yaml", 2))}
    given = written(tmp_path / "given.yaml", 3)
    assert load().config.web.port == 1
    assert load(environ=environ).config.web.port == 2
    loaded = load("--config", str(given), environ=environ)
    assert loaded.config.web.port == 3
    assert str(loaded.origins["web.port"]) == f"{given}:1"


def test_set_may_be_given_more_than_once() -> None:
    config = load("--set", "web.port=5", "--set", "otlp.endpoint=http://c/?a=b").config
    assert config.web.port == 5
    assert config.otlp.endpoint == "http://c/?a=b"


def test_set_without_a_value() -> None:
    with pytest.raises(UsageError, match=r"--set web\.port: no value"):
        load("--set", "web.port")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load("--config", str(tmp_path / "gone.yaml"))
    assert caught.value.message == (
        f"cannot read the configuration {tmp_path}/gone.yaml: no such file or directory"
    )
    assert "--print-config" in caught.value.hint


def test_a_file_named_by_the_variable_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load(environ={"DEETUNE_CONFIG": str(tmp_path / "gone.yaml")})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        load("--config", str(tmp_path))


def test_a_file_of_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "latin1.yaml"
    path.write_bytes(b"web: {host: \xe4}\n")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        load("--config", str(path))
