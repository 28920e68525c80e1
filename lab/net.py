# SPDX-License-Identifier: Apache-2.0
"""Hosts and networks out of network namespaces, gone again whatever ends us.

A host is a namespace; a network is a bridge in one more namespace, the fabric, so that nothing at
all is changed outside of ours. The fabric has an address in the first network, "management", over
which the agents are asked. Everything that was made goes with the namespaces: links, addresses,
rules, tracked connections.

A name carries the process that made it, with its start time. A small shell that outlives us does
the same as `close` when we are killed; `remove_stale` is for the end of both.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.request import urlopen

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Host", "LabError", "Net", "fetch", "inside", "remove_stale", "tool"]

PREFIX: Final = "deetune-lab"
_FOLDER: Final = Path("/run/netns")
_MANAGEMENT: Final = "management"
_FABRIC_HOST: Final = 254
_CLONE_NEWNET: Final = 0x40000000
_PATIENCE_S: Final = 20
_numbers = count(1)

# Waits for the end of a pipe that only we hold open. A program that is being killed may have left
# its namespace's list a moment before: twice.
_JANITOR: Final = """
trap '' INT TERM HUP
read -r _
for round in 1 2; do
    for file in "$2/$1"*; do
        [ -e "$file" ] || continue
        "$3" netns pids "${file##*/}" | xargs -r kill -9
    done
done
for file in "$2/$1"*; do
    [ ! -e "$file" ] || "$3" netns del "${file##*/}"
done
"""


class LabError(Exception):
    """The lab cannot be built; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One namespace; the first address is of the first network that was named."""

    name: str
    namespace: str
    management: str
    addresses: dict[str, str] = field(default_factory=dict)  # by network

    @property
    def address(self) -> str:
        return next(iter(self.addresses.values()))


class Net:
    """All hosts and networks of one lab; a context manager that removes them."""

    def __init__(self) -> None:
        _need_root()
        self._prefix: Final = f"{PREFIX}-{_life(os.getpid())}-{next(_numbers)}-"
        self.fabric: Final = f"{self._prefix}fabric"
        self._networks: dict[str, IPv4Network] = {}
        self._hosts: dict[str, Host] = {}
        self._janitor = subprocess.Popen(
            [
                *("/bin/sh", "-c", _JANITOR, "janitor"),
                self._prefix,
                _FOLDER,
                tool("ip"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._add_namespace(self.fabric)
            self.network(_MANAGEMENT, "10.213.0.0/24")
            self._ip_in(
                self.fabric, f"addr add 10.213.0.{_FABRIC_HOST}/24 dev {_MANAGEMENT}"
            )
        except BaseException:
            self.close()
            raise

    def network(self, name: str, addresses: str) -> None:
        """A bridge; `addresses` such as "10.61.1.0/24"."""
        self._networks[name] = IPv4Network(addresses)
        self._ip_in(
            self.fabric,
            f"link add {name} type bridge forward_delay 0",
            f"link set {name} up",
        )

    def host(self, name: str, **numbers: int) -> Host:
        """One more host, with its number in each network: `host("web", left=11)`.

        It has no route but those to its networks; `route` adds others.
        """
        namespace = f"{self._prefix}{name}"
        self._add_namespace(namespace)
        own = len(self._hosts) + 1
        addresses = {
            network: str(self._networks[network][number])
            for network, number in numbers.items()
        }
        management = str(self._networks[_MANAGEMENT][own])
        for network, address in {_MANAGEMENT: management, **addresses}.items():
            here = "mgmt" if network == _MANAGEMENT else network
            port = f"{network[:8]}{own}"  # 15 characters at most
            length = self._networks[network].prefixlen
            self._ip_in(
                self.fabric,
                f"link add {port} type veth peer name {here} netns {namespace}",
                f"link set {port} master {network} up",
            )
            self._ip_in(
                namespace,
                f"addr add {address}/{length} dev {here}",
                f"link set {here} up",
            )
        host = Host(
            name=name, namespace=namespace, management=management, addresses=addresses
        )
        self._hosts[name] = host
        return host

    def route(self, host: Host, *, to: str, via: str) -> None:
        self._ip_in(host.namespace, f"route add {to} via {via}")

    def forward(self, host: Host) -> None:
        """Make it a router."""
        command = "echo 1 >/proc/sys/net/ipv4/ip_forward"
        _run([*inside(host.namespace), "/bin/sh", "-c", command])

    def rules(self, host: Host, text: str) -> None:
        """Load nftables' rules."""
        _run([*inside(host.namespace), tool("nft"), "-f", "-"], text)

    def link(self, host: Host, *commands: str) -> None:
        """`ip` commands inside a host."""
        self._ip_in(host.namespace, *commands)

    def inner(self, host: Host, name: str, *, address: str, gateway: str) -> Host:
        """A container of a host: a namespace of its own, behind the host's bridge `inner`."""
        namespace = f"{self._prefix}{name}"
        self._add_namespace(namespace)
        port = f"v-{name}"[:15]
        self._ip_in(
            host.namespace,
            f"link add {port} type veth peer name eth0 netns {namespace}",
            f"link set {port} master inner up",
        )
        self._ip_in(
            namespace,
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {gateway}",
        )
        inner = Host(
            name=name,
            namespace=namespace,
            management=host.management,
            addresses={"inner": address},
        )
        self._hosts[name] = inner
        return inner

    def close(self) -> None:
        """Remove every namespace, and end what still runs in it."""
        with suppress(subprocess.TimeoutExpired):
            self._janitor.communicate(timeout=_PATIENCE_S)
        _remove(self._prefix)

    def _add_namespace(self, name: str) -> None:
        _run([tool("ip"), "netns", "add", name])
        self._ip_in(name, "link set lo up")

    def _ip_in(self, namespace: str, *commands: str) -> None:
        # not `ip -n`: that wants / to be a mount
        enter = [tool("nsenter"), f"--net={_FOLDER / namespace}", "--"]
        _run([*enter, tool("ip"), "-batch", "-"], "\n".join(commands))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def inside(namespace: str) -> list[str]:
    """The start of a command that runs there, and ends with us.

    Only the network is another one: what `ip netns exec` does to /sys hides control groups.
    """
    return [
        *(tool("nsenter"), f"--net={_FOLDER / namespace}", "--"),
        *(tool("setpriv"), "--pdeathsig", "KILL", "--"),
    ]


def fetch(namespace: str, url: str) -> bytes:
    """GET from there. Raises OSError."""

    def get() -> bytes:
        with urlopen(url, timeout=_PATIENCE_S) as response:
            return bytes(response.read())

    # A thread can be in another network than its process; it ends afterwards.
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(namespace,)) as pool:
        return pool.submit(get).result()


def remove_stale() -> list[str]:
    """Remove the namespaces of labs whose process is gone, and give their names."""
    stale = []
    for path in sorted(_FOLDER.glob(f"{PREFIX}-*")):
        life = "-".join(path.name.removeprefix(f"{PREFIX}-").split("-")[:2])
        pid = life.partition("-")[0]
        if not pid.isdecimal() or _life(int(pid)) != life:
            stale.append(path.name)
            _remove(path.name)
    return stale


@cache
def tool(name: str) -> str:
    """The path of an installed program. Raises LabError."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if found is None:
        raise LabError(f"{name} is not installed: script/setup lab installs it")
    return found


def _remove(prefix: str) -> None:
    names = [path.name for path in _FOLDER.glob(f"{prefix}*")]
    for _ in range(2):  # one may have been forked while the others were killed
        for name in names:
            listed = subprocess.run(
                [tool("ip"), "netns", "pids", name],
                capture_output=True,
                text=True,
                check=False,
            )
            for pid in listed.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    for name in names:
        # The janitor may have been faster.
        subprocess.run(
            [tool("ip"), "netns", "del", name], capture_output=True, check=False
        )


def _life(pid: int) -> str:
    """A process, told apart from a later one with its pid; "" when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{pid}-{fields[19]}"


def _enter(namespace: str) -> None:
    with (_FOLDER / namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


def _need_root() -> None:
    if os.geteuid() != 0:
        raise LabError("network namespaces need root: sudo script/lab")


def _run(command: list[str], text: str = "") -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    if done.returncode:
        raise LabError(f"{' '.join(command)}\n{text}\n{done.stderr.strip()}")
    return done.stdout
