# SPDX-License-Identifier: Apache-2.0
"""Containers as runtimes make them: runc, namespaces, a bridge, a published port.

A container sees the machine's own programs, read-only. What a runtime calls it stands in the
path of its control group, which the test chooses. The bridge and the translation of ports are
in a network namespace that plays the host, so that the machine's own network stays as it is.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.process import wait_until
from tests.programs import APPS, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

__all__ = ["PYTHON", "Container", "Host", "new_id"]

CGROUPS: Final = Path("/sys/fs/cgroup")
PYTHON: Final = Path(sys.executable).resolve()
SHARED: Final = [Path("/usr"), Path("/etc"), APPS, Path(sys.base_prefix)]
SUBNET: Final = (
    "10.213.7"  # nobody else's: the namespaces are not connected to anything
)
NAT: Final = """\
table ip nat {{
    chain prerouting {{
        type nat hook prerouting priority -100;
        ip daddr {subnet}.1 tcp dport {port} dnat to {to}
    }}
    chain output {{
        type nat hook output priority -100;
        ip daddr {subnet}.1 tcp dport {port} dnat to {to}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        ip saddr {subnet}.0/24 ip daddr {subnet}.0/24 masquerade
    }}
}}
"""


def new_id() -> str:
    """As docker, containerd, CRI-O and podman make them."""
    return secrets.token_hex(32)


class Container:
    """One that runs; `runc delete` ends it."""

    def __init__(self, runc: Sequence[str | Path], name: str, folder: Path) -> None:
        self._runc = runc
        self._name = name
        self.folder: Final = folder
        self.address = ""

    @property
    def pid(self) -> int:
        """Of its first process, as the host numbers it."""
        return int((self.folder / "pid").read_text())

    def log_text(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait_for_lines(self, count: int) -> None:
        """Wait until its programs have written so many lines."""
        wait_until(
            lambda: len(self.log_text().splitlines()) >= count,
            f"{count} lines of {self._name}: {self.log_text()!r}",
        )

    def delete(self) -> None:
        _run([*self._runc, "delete", "--force", self._name])


class Host:
    """A network namespace with a bridge, and the containers behind it.

    Everything has a name that nobody else uses, and is gone after the block.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"dt{secrets.token_hex(4)}"
        self._addresses = iter(range(2, 255))
        self._runc: list[str | Path] = [program("runc", "runc")]
        self._runc += ["--root", folder / "runc"]
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._undo = stack
            stack.callback(self._remove_cgroups)
            self._add_netns(self._name)
            self._ip("link", "add", "br0", "type", "bridge", netns=self._name)
            self._ip("addr", "add", f"{SUBNET}.1/24", "dev", "br0", netns=self._name)
            for link in ("lo", "br0"):
                self._ip("link", "set", link, "up", netns=self._name)
            self.run_here(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
            self._undo = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    @property
    def address(self) -> str:
        return f"{SUBNET}.1"

    def cgroup(self, path: str) -> str:
        """This path below a control group of the test's own."""
        return f"/{self._name}/{path}"

    def run(
        self, argv: Sequence[str | Path | int], *, cgroup: str, service: str
    ) -> Container:
        """Start a container whose control group is at this path of `cgroup`.

        `service` is in its environment, as OTEL_SERVICE_NAME.
        """
        number = next(self._addresses)
        name = f"{self._name}-{number}"
        folder = self._folder / name
        (folder / "rootfs").mkdir(parents=True)
        address = self._connect(name, number)
        config = _config(argv, self.cgroup(cgroup), netns=name, service=service)
        (folder / "config.json").write_text(json.dumps(config))
        container = Container(self._runc, name, folder)
        container.address = address
        self._undo.callback(container.delete)
        run = [*self._at_a_mount(), *self._runc, "run", "--detach", "--bundle", folder]
        with (folder / "log").open("wb") as log:
            _run([*run, "--pid-file", folder / "pid", name], output=log.fileno())
        return container

    def publish(self, port: int, container: Container, to: int) -> None:
        """Let the host's port lead to a container's, for its neighbours and the host."""
        rules = NAT.format(subnet=SUBNET, port=port, to=f"{container.address}:{to}")
        _run([*self._enter, program("nft", "nftables"), "-f", "-"], told=rules)

    def run_here(self, argv: Sequence[str | Path | int]) -> str:
        """Run a program of the host's, in no container."""
        return _run([*self._enter, *(str(word) for word in argv)])

    def move(self, pid: int, path: str) -> None:
        """Put a process into another control group, in every hierarchy."""
        for mount in _hierarchies():
            folder = mount / self.cgroup(path).lstrip("/")
            if mount.name == "cpuset" and not folder.exists():
                _make_cpuset(mount, folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def _enter(self) -> list[str | Path]:
        nsenter = program("nsenter", "util-linux")
        return [nsenter, f"--net=/run/netns/{self._name}"]

    def _connect(self, name: str, number: int) -> str:
        """Make a network namespace at the bridge."""
        self._add_netns(name)
        outer, inner, address = f"v{number}", "eth0", f"{SUBNET}.{number}"
        self._ip(
            *("link", "add", outer, "type", "veth"),
            *("peer", "name", inner, "netns", name),
            netns=self._name,
        )
        self._ip("link", "set", outer, "master", "br0", "up", netns=self._name)
        self._ip("addr", "add", f"{address}/24", "dev", inner, netns=name)
        for link in ("lo", inner):
            self._ip("link", "set", link, "up", netns=name)
        self._ip("route", "add", "default", "via", self.address, netns=name)
        return address

    def _at_a_mount(self) -> list[str | Path]:
        """The start of a command for which / is a mount, as runc wants it: in a chroot it is not."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        if any(line.split()[4] == "/" for line in mounts):
            return []
        view = self._folder / "view"
        view.mkdir(exist_ok=True)
        enter = f'mount --rbind / {view} && exec chroot {view} "$@"'
        return [
            *("unshare", "--mount", "--propagation", "unchanged"),
            *("sh", "-c", enter, "sh"),
        ]

    def _add_netns(self, name: str) -> None:
        self._ip("netns", "add", name)
        self._undo.callback(self._ip, "netns", "delete", name)

    def _ip(self, *words: str, netns: str = "") -> None:
        # not `ip -n`: that wants / to be a mount
        enter = ["nsenter", f"--net=/run/netns/{netns}", "--"] if netns else []
        _run([*enter, program("ip", "iproute2"), *words])

    def _remove_cgroups(self) -> None:
        for mount in _hierarchies():
            top = mount / self._name
            for folder in sorted([top, *top.rglob("*/")], reverse=True):
                wait_until(_remover(folder), f"{folder} to be empty")


def _config(
    argv: Sequence[str | Path | int], cgroup: str, *, netns: str, service: str
) -> dict[str, object]:
    """Give what runc is to do, in the words of the OCI runtime specification."""
    namespaces: list[dict[str, str]] = [
        {"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [str(word) for word in argv],
            "env": [
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                f"OTEL_SERVICE_NAME={service}",
            ],
            "cwd": "/",
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            *(_bind(path, path) for path in SHARED),
            *(
                _bind(Path(name).resolve(), Path(name))
                for name in ("/bin", "/sbin", "/lib", "/lib64")
                if Path(name).exists()
            ),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                *namespaces,
                {"type": "network", "path": f"/run/netns/{netns}"},
            ],
            "resources": {},
        },
    }


def _bind(source: Path, target: Path) -> dict[str, object]:
    return {
        "destination": str(target),
        "source": str(source),
        "type": "bind",
        "options": ["rbind", "ro"],
    }


def _hierarchies() -> Iterator[Path]:
    """Of this machine: v2 alone, or one a controller beside it."""
    if (CGROUPS / "cgroup.controllers").exists():
        yield CGROUPS
        return
    for mount in CGROUPS.iterdir():
        if (mount / "cgroup.procs").exists() and not mount.is_symlink():
            yield mount


def _make_cpuset(mount: Path, folder: Path) -> None:
    """A cpuset of v1 takes nobody before it has processors and memory."""
    for parent in reversed([folder, *folder.parents]):
        if mount in parent.parents and not parent.exists():
            parent.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                (parent / file).write_text((parent.parent / file).read_text())


def _remover(folder: Path) -> Callable[[], bool]:
    def removed() -> bool:
        with suppress(FileNotFoundError):
            folder.rmdir()  # fails as long as there is somebody in it
        return True

    return removed


def _run(
    argv: Sequence[str | Path], *, told: str = "", output: int | None = None
) -> str:
    done = subprocess.run(
        argv,
        input=told,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE if output is None else output,
        env={"PATH": os.environ["PATH"]},
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, f"{argv}:\n{done.stdout or ''}{done.stderr or ''}"
    return done.stdout or ""
