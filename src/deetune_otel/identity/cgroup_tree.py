# SPDX-License-Identifier: Apache-2.0
"""A cgroup's number -> its path, for processes that ended before anybody looked.

The kernel side gives the number of each process's v2 cgroup, and a cgroup outlives its processes
for a moment (a container's until its runtime removes it). The number is all of the handle that
`open_by_handle_at` takes in that file system, so that no folder is searched: 30 µs. Numbers are
not used again. Takes CAP_DAC_READ_SEARCH.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["CgroupTree"]

_HANDLE: Final = struct.Struct("=IiQ")  # bytes, type, cgroup's number
_FILEID_KERNFS: Final = 0xFE
_NUMBER_BYTES: Final = 8
_PATH_ONLY: Final = os.O_PATH | os.O_CLOEXEC


class CgroupTree:
    """The v2 hierarchy, alone or beside those of v1."""

    def __init__(self, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._open_handle = getattr(
            ctypes.CDLL(None, use_errno=True), "open_by_handle_at", None
        )
        self._root = _mount_point(mountinfo)

    def text(self, cgroup_id: int) -> str:
        """As /proc/PID/cgroup would have it; "" when it is gone, or may not be known."""
        if self._open_handle is None or not self._root or cgroup_id <= 0:
            return ""
        handle = ctypes.create_string_buffer(
            _HANDLE.pack(_NUMBER_BYTES, _FILEID_KERNFS, cgroup_id)
        )
        try:
            with _opened(self._root) as root:
                folder: int = self._open_handle(root, handle, _PATH_ONLY)
            if folder < 0:
                return ""
            try:
                path = str(Path(f"/proc/self/fd/{folder}").readlink())
            finally:
                os.close(folder)
        except OSError:
            return ""
        below = path.removeprefix(self._root)
        return "" if below == path else f"0::{below or '/'}\n"


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _mount_point(mountinfo: Path) -> str:
    try:
        lines = mountinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        place, _, kind = line.partition(" - ")
        if kind.split(" ")[0] == "cgroup2" and len(place.split(" ")) > 4:
            return place.split(" ")[4]
    return ""
