# SPDX-License-Identifier: Apache-2.0
"""`deetune map`: where maps come from, which part is shown, in which form, with which code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.process import free_port
from tests.topology.maps import Flow, calls, edge, node, seen_by, service_map
from tests.web.serving import serving

from deetune_otel.cli import ExitCode, main, watching
from deetune_otel.topology.carry import from_json, to_json
from deetune_otel.topology.model import Instance, ServiceMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.web.serving import Answer

    Said = Callable[..., tuple[int, str, str]]

WEB, API, JOB = "service:shop/web", "service:shop/api", "service:shop/job"
MAP = service_map(
    [
        edge(WEB, API, calls(600)),
        edge(API, "name:db.internal:5432", calls(1200)),
        edge(JOB, "address:10.0.0.1:80", calls(60)),
    ],
    [
        node(one, instances=(Instance(id=one, host="a", pid=1),))
        for one in (WEB, API, JOB)
    ],
)


def answering(one: ServiceMap) -> Callable[[str], Answer]:
    def answer(target: str) -> Answer:
        with_pairs = "connections=1" in target
        body = (
            {"ledger": {}}
            if target == "/status"
            else to_json(one, with_pairs=with_pairs)
        )
        return 200, json.dumps(body).encode()

    return answer


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What runs at the default address."""
    with serving(answering(MAP)) as url:
        monkeypatch.setattr(watching, "DEFAULT_URL", url)
        yield url


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*argv: object) -> tuple[int, str, str]:
        code = main(["map", *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def kept(folder: Path, name: str, one: ServiceMap) -> Path:
    file = folder / name
    file.write_text(json.dumps(to_json(one)))
    return file


@pytest.mark.usefixtures("agent")
def test_the_running_agents_map_as_text(said: Said) -> None:
    code, out, err = said()
    assert (code, err) == (0, "")
    assert "shop/web\n  → shop/api" in out
    assert "\x1b" not in out  # no colour: this is no terminal


def test_as_json_it_can_be_read_again(agent: str, said: Said) -> None:
    code, out, _ = said("--url", agent, "--format", "json")
    assert code == 0
    assert from_json(ServiceMap, json.loads(out)) == MAP


@pytest.mark.parametrize(
    ("form", "first"), [("dot", "digraph deetune {"), ("mermaid", "flowchart LR")]
)
@pytest.mark.usefixtures("agent")
def test_drawings(form: str, first: str, said: Said) -> None:
    assert said("--format", form)[1].splitlines()[0] == first


@pytest.mark.usefixtures("agent")
def test_into_a_file(tmp_path: Path, said: Said) -> None:
    file = tmp_path / "map.txt"
    assert said("-o", file) == (0, "", "")
    assert "shop/web\n  → shop/api" in file.read_text()
    code, _, err = said("-o", tmp_path)
    assert code == 1
    assert "cannot write" in err


# ---- which part ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "edges"),
    [
        (["web"], [0]),
        (["shop/api"], [0, 1]),
        (["w*"], [0]),
        (["web", "job"], [0, 2]),
        (["db.internal:5432"], [1]),
        ([API], [0, 1]),
    ],
)
def test_services_with_their_neighbours(
    patterns: list[str], edges: list[int], tmp_path: Path, said: Said
) -> None:
    file = kept(tmp_path, "map.json", MAP)
    code, out, _ = said("--from", file, "--format", "json", "--service", *patterns)
    assert code == 0
    found = from_json(ServiceMap, json.loads(out))
    ids = [f"{WEB}→{API}", f"{API}→name:db.internal:5432", f"{JOB}→address:10.0.0.1:80"]
    assert {one.id for one in found.edges} == {ids[i] for i in edges}
    ends = {end for one in found.edges for end in (one.client, one.server)}
    assert {one.id for one in found.nodes} == ends


@pytest.mark.usefixtures("agent")
def test_a_service_that_was_not_seen(said: Said) -> None:
    code, out, err = said("--service", "wbe")
    assert (code, out) == (1, "")
    assert "no service 'wbe' was seen" in err
    assert "hint: seen: shop/api, shop/job, shop/web" in err


# ---- several agents --------------------------------------------------------------------------

FLOWS = [
    Flow("u", "a", "x", "b", 3, 10, called="10.96.0.1:80"),
    Flow("x", "b", "y", "c", 2, 10),
]


def test_agents_and_files_are_merged(tmp_path: Path, said: Said) -> None:
    a, b, c = (seen_by(host, FLOWS) for host in "abc")
    with serving(answering(a)) as url_a, serving(answering(b)) as url_b:
        code, out, _ = said(
            *("--from", url_a, "--from", url_b, kept(tmp_path, "c.json", c)),
            *("--format", "json"),
        )
    assert code == 0
    made = json.loads(out)
    assert [one["id"] for one in made["edges"]] == [
        "service:/u→service:/x",
        "service:/x→service:/y",
    ]
    assert [one["host"] for one in made["agents"]] == ["a", "b", "c"]


def test_one_agent_that_does_not_answer_is_no_smaller_map(
    tmp_path: Path, said: Said
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, out, err = said("--from", kept(tmp_path, "a.json", MAP), url)
    assert (code, out) == (1, "")
    assert f"{url}: nothing listens there" in err


def test_maps_that_cannot_be_told_apart(tmp_path: Path, said: Said) -> None:
    files = {}
    for hosts in ("ab", "bc"):
        one = kept(tmp_path, "one.json", seen_by(hosts[0], FLOWS))
        other = kept(tmp_path, "other.json", seen_by(hosts[1], FLOWS))
        files[hosts] = tmp_path / f"{hosts}.json"
        said("--from", one, other, "--format", "json", "-o", files[hosts])
    code, _, err = said("--from", *files.values())
    assert code == 1
    assert "b: in two maps that were merged before" in err


# ---- two times -------------------------------------------------------------------------------


def failing() -> ServiceMap:
    return service_map([edge(WEB, API, calls(600, errors=300))], MAP.nodes)


def test_nothing_changed(agent: str, tmp_path: Path, said: Said) -> None:
    code, out, _ = said("--url", agent, "--diff", kept(tmp_path, "old.json", MAP))
    assert code == 0
    assert out.startswith("nothing changed since 20")


@pytest.mark.usefixtures("agent")
def test_something_changed(tmp_path: Path, said: Said) -> None:
    file = kept(tmp_path, "old.json", failing())
    code, out, _ = said("--diff", file)
    assert code == 1
    first, *rest = out.splitlines()
    assert first.startswith("3 changes since ")
    assert rest == [
        "new       shop/api → db.internal:5432",
        "new       shop/job → 10.0.0.1:80",
        "recovers  shop/web → shop/api (http failed calls: 50.0 % → 0 %)",
    ]
    code, out, _ = said("--diff", file, "--service", "web", "--format", "json")
    assert code == 1
    made: dict[str, Any] = json.loads(out)
    assert [one["kind"] for one in made["changes"]] == ["stopped_failing"]


@pytest.mark.usefixtures("agent")
def test_other_agents_are_mentioned(tmp_path: Path, said: Said) -> None:
    other = service_map(MAP.edges, MAP.nodes, host="b")
    code, out, _ = said("--diff", kept(tmp_path, "old.json", other))
    assert code == 0
    assert out.splitlines()[1] == "compared are different agents: b, then a"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("{}", "format: is missing"),
        ('{"format": 9}', "format 9, and this version of deetune reads 2"),
    ],
)
def test_trouble_is_not_a_change(
    content: str | None, problem: str, tmp_path: Path, said: Said
) -> None:
    file = tmp_path / "old.json"
    if content is not None:
        file.write_text(content, errors="surrogateescape")
    code, out, err = said("--diff", file)
    assert (code, out) == (2, "")
    assert problem in err
    assert said("--from", file)[0] == 1


def test_an_agent_that_is_away_is_no_change_either(tmp_path: Path, said: Said) -> None:
    file = kept(tmp_path, "old.json", MAP)
    code, _, _ = said("--url", f"http://127.0.0.1:{free_port()}", "--diff", file)
    assert code == ExitCode.USAGE


# ---- the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--window", "0"], "expected a time such as 30s, 5m or 1h, got '0'"),
        (["--window", "2d"], "expected a time such as"),
        (["--for", "-1"], "expected"),
        (["--format", "svg"], "invalid choice: 'svg'"),
        (["--diff", "x", "--format", "dot"], "--diff has no form dot"),
        (["--url", "http://h", "--from", "http://h"], "either --url or --from"),
    ],
)
def test_what_makes_no_sense(argv: list[str], problem: str, said: Said) -> None:
    code, out, err = said(*argv)
    assert (code, out) == (2, "")
    assert problem in err


def test_a_url_that_is_none(said: Said) -> None:
    code, _, err = said("--from", "127.0.0.1:8127")
    assert code == 1
    assert "an agent's URL begins with http://" in err


def test_windows_are_passed_on(said: Said) -> None:
    asked: list[str] = []

    def answer(target: str) -> Answer:
        asked.append(target)
        return answering(MAP)(target)

    with serving(answer) as url:
        for window in ("90", "5s", "10m", "1.5h"):
            assert said("--url", url, "--window", window)[0] == 0
    assert [one for one in asked if one != "/status"] == [
        f"/api/map?window={seconds}" for seconds in (90, 5, 600, 5400)
    ]
