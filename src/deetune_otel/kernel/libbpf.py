# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1 through ctypes: as much of it as the agent uses, in Python's manner.

An Object owns everything that it gives out (programs, maps): use nothing of it after close().
Links, iterators and the ring are closed by their makers, before the object. Errors are OSError
with what was tried; the C library's own words, which say much more when a program is refused,
are collected by `Libbpf.log_tail`.

Raising RLIMIT_MEMLOCK is left to libbpf: it does so where the kernel still charges BPF memory to
it (before 5.11), and goes on when it may not.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deetune_otel.kernel.btf import Btf
from deetune_otel.kernel.errors import KernelUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "BpfIterator",
    "BpfMap",
    "BpfObject",
    "LentRing",
    "Libbpf",
    "LibbpfMissing",
    "MapType",
    "Program",
    "ProgramStatistics",
    "RingBuffer",
]

_SONAME: Final = "libbpf.so.1"
_RODATA: Final = ".rodata"
_BPF_ANY: Final = 0
_BPF_STATS_RUN_TIME: Final = 0
_WARNINGS_AND_INFO: Final = 1  # enum libbpf_print_level: 2 is debug
_LOG_LINES: Final = 30
# va_list: 24 bytes on x86-64, 32 on arm64; both pass it by reference to a callback.
_VA_LIST_BYTES: Final = 32
# One read of an iterator; the kernel's own buffer is 8 pages.
_ITERATOR_CHUNK_BYTES: Final = 1 << 16
# Elements of a map copied by one system call, to start with: 360 KB of series.
_BATCH: Final = 1024

_PRINT: Final = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
_SAMPLE: Final = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)
_POINTER: Final = ct.c_void_p
_TEXT: Final = ct.c_char_p
_INT: Final = ct.c_int
_U32: Final = ct.c_uint32
_SIZE: Final = ct.c_size_t

_PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "libbpf_version_string": (_TEXT, ()),
    "libbpf_set_print": (_POINTER, (_PRINT,)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "bpf_object__open_mem": (_POINTER, (_TEXT, _SIZE, _POINTER)),
    "bpf_object__load": (_INT, (_POINTER,)),
    "bpf_object__close": (None, (_POINTER,)),
    "bpf_object__btf": (_POINTER, (_POINTER,)),
    "bpf_object__next_program": (_POINTER, (_POINTER, _POINTER)),
    "bpf_object__next_map": (_POINTER, (_POINTER, _POINTER)),
    "bpf_object__find_map_by_name": (_POINTER, (_POINTER, _TEXT)),
    "btf__raw_data": (_POINTER, (_POINTER, ct.POINTER(_U32))),
    "bpf_program__name": (_TEXT, (_POINTER,)),
    "bpf_program__section_name": (_TEXT, (_POINTER,)),
    "bpf_program__fd": (_INT, (_POINTER,)),
    "bpf_program__autoload": (ct.c_bool, (_POINTER,)),
    "bpf_program__set_autoload": (_INT, (_POINTER, ct.c_bool)),
    "bpf_program__attach": (_POINTER, (_POINTER,)),
    "bpf_program__attach_iter": (_POINTER, (_POINTER, _POINTER)),
    "bpf_prog_test_run_opts": (_INT, (_INT, _POINTER)),
    "bpf_link__fd": (_INT, (_POINTER,)),
    "bpf_link__destroy": (_INT, (_POINTER,)),
    "bpf_iter_create": (_INT, (_INT,)),
    "bpf_map__name": (_TEXT, (_POINTER,)),
    "bpf_map__type": (_INT, (_POINTER,)),
    "bpf_map__fd": (_INT, (_POINTER,)),
    "bpf_map__key_size": (_U32, (_POINTER,)),
    "bpf_map__value_size": (_U32, (_POINTER,)),
    "bpf_map__max_entries": (_U32, (_POINTER,)),
    "bpf_map__set_max_entries": (_INT, (_POINTER, _U32)),
    "bpf_map__map_flags": (_U32, (_POINTER,)),
    "bpf_map__set_map_flags": (_INT, (_POINTER, _U32)),
    "bpf_map__initial_value": (_POINTER, (_POINTER, ct.POINTER(_SIZE))),
    "bpf_map_lookup_elem": (_INT, (_INT, _TEXT, _POINTER)),
    "bpf_map_lookup_and_delete_elem": (_INT, (_INT, _TEXT, _POINTER)),
    "bpf_map_update_elem": (_INT, (_INT, _TEXT, _TEXT, ct.c_uint64)),
    "bpf_map_delete_elem": (_INT, (_INT, _TEXT)),
    "bpf_map_lookup_batch": (
        _INT,
        (_INT, _POINTER, _POINTER, _POINTER, _POINTER, ct.POINTER(_U32), _POINTER),
    ),
    "bpf_map_create": (_INT, (_INT, _TEXT, _U32, _U32, _U32, _POINTER)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _POINTER, ct.POINTER(_U32))),
    "bpf_enable_stats": (_INT, (_INT,)),
    "ring_buffer__new": (_POINTER, (_INT, _SAMPLE, _POINTER, _POINTER)),
    "ring_buffer__add": (_INT, (_POINTER, _INT, _SAMPLE, _POINTER)),
    "ring_buffer__free": (None, (_POINTER,)),
    "ring_buffer__poll": (_INT, (_POINTER, _INT)),
    "ring_buffer__consume": (_INT, (_POINTER,)),
}


class LibbpfMissing(KernelUnavailable):
    """libbpf.so.1 is not installed, or too old to be 1.0."""

    HINT: Final = "apt-get install libbpf1 (Fedora, RHEL: dnf install libbpf)"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{_SONAME} cannot be used: {reason}", self.HINT)


class MapType:
    """Of enum bpf_map_type, those that are used or told apart here."""

    HASH: Final = 1
    ARRAY: Final = 2
    PERCPU_HASH: Final = 5
    PERCPU_ARRAY: Final = 6
    LRU_HASH: Final = 9
    LRU_PERCPU_HASH: Final = 10
    ARRAY_OF_MAPS: Final = 12
    QUEUE: Final = 22
    SK_STORAGE: Final = 24
    RINGBUF: Final = 27


_PER_CPU: Final = {MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH}


class _OpenOptions(ct.Structure):
    """The first fields of struct bpf_object_open_opts; libbpf goes by the size."""

    _fields_ = (("size", _SIZE), ("object_name", _TEXT))


class _RunOptions(ct.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("size", _SIZE),
        ("data_in", _POINTER),
        ("data_out", _POINTER),
        ("data_size_in", _U32),
        ("data_size_out", _U32),
        ("ctx_in", _POINTER),
        ("ctx_out", _POINTER),
        ("ctx_size_in", _U32),
        ("ctx_size_out", _U32),
        ("retval", _U32),
        ("repeat", ct.c_int),
        ("duration", _U32),
        ("flags", _U32),
        ("cpu", _U32),
        ("batch_size", _U32),
    )


class _ProgramInfo(ct.Structure):
    """struct bpf_prog_info, up to what we read; the kernel fills what fits."""

    _fields_ = (
        ("_before", ct.c_uint8 * 192),
        ("run_time_ns", ct.c_uint64),
        ("run_cnt", ct.c_uint64),
        ("recursion_misses", ct.c_uint64),
        ("verified_insns", ct.c_uint32),
        ("_after", ct.c_uint32),
    )


class ProgramStatistics(NamedTuple):
    """What the kernel keeps about a loaded program."""

    runs: int  # and run_time_ns: 0 unless the kernel's BPF statistics are on
    run_time_ns: int
    recursion_misses: int  # times it was not run because it was running on that CPU
    verified_instructions: int


class Libbpf:
    """The library, loaded; raises LibbpfMissing."""

    def __init__(self, soname: str = _SONAME) -> None:
        try:
            self.c: Any = ct.CDLL(soname, use_errno=True)
            for name, (result, arguments) in _PROTOTYPES.items():
                function = getattr(self.c, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise LibbpfMissing(str(error)) from error
        self.version: str = self.c.libbpf_version_string().decode()
        self._vsnprintf: Any = ct.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (_POINTER, _SIZE, _TEXT, _POINTER)

    @contextmanager
    def log_tail(self) -> Iterator[deque[str]]:
        """The last lines that libbpf says meanwhile; outside of this it is silent.

        The library has one place for that in a process: not for two threads at a time.
        """
        lines: deque[str] = deque(maxlen=_LOG_LINES)

        def on_print(level: int, form: bytes, arguments: int) -> int:
            if level <= _WARNINGS_AND_INFO:
                text = self._formatted(form, arguments)
                lines.extend(line for line in text.splitlines() if line.strip())
            return 0

        callback = _PRINT(on_print)
        self.c.libbpf_set_print(callback)
        try:
            yield lines
        finally:
            self.c.libbpf_set_print(_PRINT())

    def _formatted(self, form: bytes, arguments: int) -> str:
        # Reading arguments uses a va_list up, and the verifier's log has any length: measure
        # with a copy.
        copy = ct.create_string_buffer(
            ct.string_at(arguments, _VA_LIST_BYTES), _VA_LIST_BYTES
        )
        size = self._vsnprintf(None, 0, form, copy) + 1
        text = ct.create_string_buffer(max(size, 1))
        self._vsnprintf(text, size, form, arguments)
        return text.value.decode(errors="replace")

    def open(self, data: bytes, name: str) -> BpfObject:
        """Parses a compiled object; loads nothing yet."""
        options = _OpenOptions(ct.sizeof(_OpenOptions), name.encode())
        pointer = self.c.bpf_object__open_mem(data, len(data), ct.byref(options))
        return BpfObject(self, _pointer(pointer, f"open object {name}"), data)

    def lend_ring(self, name: str, ring_bytes: int) -> LentRing:
        """A ring of no object, for a map of maps; its size is a power of two, in whole pages."""
        fd = self.c.bpf_map_create(
            MapType.RINGBUF, name.encode(), 0, 0, ring_bytes, None
        )
        return LentRing(name, _result(fd, f"make the ring {name}"))

    @contextmanager
    def run_time_statistics(self) -> Iterator[None]:
        """The kernel counts runs and time of every BPF program meanwhile (~20 ns a run)."""
        fd = _result(self.c.bpf_enable_stats(_BPF_STATS_RUN_TIME), "enable statistics")
        try:
            yield
        finally:
            os.close(fd)


class BpfObject:
    """A compiled object: open() gives it, load() brings it into the kernel."""

    def __init__(self, library: Libbpf, pointer: int, data: bytes) -> None:
        self._library = library
        self._pointer: int | None = pointer
        self._data = data  # libbpf reads from it until load()
        c = library.c
        self.programs: dict[str, Program] = {}
        at = c.bpf_object__next_program(pointer, None)
        while at:
            program = Program(library, at)
            self.programs[program.name] = program
            at = c.bpf_object__next_program(pointer, at)
        self.maps: dict[str, BpfMap] = {}
        at = c.bpf_object__next_map(pointer, None)
        while at:
            one = BpfMap(library, at)
            self.maps[one.name] = one
            at = c.bpf_object__next_map(pointer, at)

    def set_knobs(self, values: Mapping[str, int]) -> None:
        """Sets `const volatile` variables; only before load().

        Raises LookupError for a variable that the object does not have.
        """
        btf = Btf(self._btf())
        variables = btf.variables(_RODATA)
        c = self._library.c
        rodata = c.bpf_object__find_map_by_name(self._pointer, _RODATA.encode())
        size = _SIZE()
        start = _pointer(
            c.bpf_map__initial_value(rodata, ct.byref(size)), "find the constants"
        )
        for name, value in values.items():
            if name not in variables:
                raise LookupError(f"no constant {name}")
            offset, width = variables[name]
            if offset + width > size.value:
                raise LookupError(f"constant {name} lies outside of {_RODATA}")
            ct.memmove(start + offset, value.to_bytes(width, "little"), width)

    def load(self) -> None:
        """Makes the maps, has the programs verified."""
        _result(self._library.c.bpf_object__load(self._pointer), "load the programs")

    def close(self) -> None:
        """Gives programs and maps back to the kernel; again does nothing."""
        if self._pointer is not None:
            self._library.c.bpf_object__close(self._pointer)
            self._pointer = None

    def _btf(self) -> bytes:
        """As libbpf has completed it: with the offsets of variables."""
        c = self._library.c
        size = _U32()
        btf = _pointer(c.bpf_object__btf(self._pointer), "find the object's BTF")
        raw = _pointer(c.btf__raw_data(btf, ct.byref(size)), "read the object's BTF")
        return ct.string_at(raw, size.value)


class Program:
    """One BPF program of an object."""

    def __init__(self, library: Libbpf, pointer: int) -> None:
        self._c = library.c
        self._pointer = pointer
        self.name: str = self._c.bpf_program__name(pointer).decode()
        self.section: str = self._c.bpf_program__section_name(pointer).decode()

    @property
    def autoload(self) -> bool:
        """Whether load() takes it along; set it before."""
        return bool(self._c.bpf_program__autoload(self._pointer))

    @autoload.setter
    def autoload(self, wanted: bool) -> None:
        _result(self._c.bpf_program__set_autoload(self._pointer, wanted), self.name)

    def attach(self) -> Link:
        """Lets it run, at the place that its section names."""
        pointer = self._c.bpf_program__attach(self._pointer)
        return Link(self._c, _pointer(pointer, f"attach {self.name}"))

    def iterator(self) -> BpfIterator:
        """Of a program in a section iter/..."""
        pointer = self._c.bpf_program__attach_iter(self._pointer, None)
        what = f"attach {self.name}"
        return BpfIterator(self._c, Link(self._c, _pointer(pointer, what)), self.name)

    def run(self, answer_bytes: int = 0) -> bytes:
        """Of a program in section syscall: runs it once, now; what it wrote into its context."""
        context = ct.create_string_buffer(answer_bytes) if answer_bytes else None
        options = _RunOptions(
            size=ct.sizeof(_RunOptions),
            ctx_in=ct.addressof(context) if context else None,
            ctx_size_in=answer_bytes,
        )
        fd = self._c.bpf_program__fd(self._pointer)
        _result(
            self._c.bpf_prog_test_run_opts(fd, ct.byref(options)), f"run {self.name}"
        )
        return context.raw if context else b""

    def statistics(self) -> ProgramStatistics:
        """As of now."""
        info = _ProgramInfo()
        size = _U32(ct.sizeof(info))
        fd = self._c.bpf_program__fd(self._pointer)
        _result(
            self._c.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size)),
            f"ask about {self.name}",
        )
        return ProgramStatistics(
            info.run_cnt, info.run_time_ns, info.recursion_misses, info.verified_insns
        )


class Link:
    """A program attached; it is detached by close(), or when the process ends in any way."""

    def __init__(self, c: Any, pointer: int) -> None:
        self._c = c
        self._pointer: int | None = pointer

    @property
    def fd(self) -> int:
        return _result(self._c.bpf_link__fd(self._pointer), "link")

    def close(self) -> None:
        """Detaches; again does nothing."""
        if self._pointer is not None:
            self._c.bpf_link__destroy(self._pointer)
            self._pointer = None


class BpfIterator:
    """A program that the kernel calls for each of its things (tasks, sockets), when asked."""

    def __init__(self, c: Any, link: Link, name: str) -> None:
        self._c = c
        self._link = link
        self._name = name

    def run(self) -> bytes:
        """Visits all; what the program wrote."""
        fd = _result(self._c.bpf_iter_create(self._link.fd), f"run {self._name}")
        chunks: list[bytes] = []
        try:
            while True:
                try:
                    chunk = os.read(fd, _ITERATOR_CHUNK_BYTES)
                except (
                    BlockingIOError
                ):  # a million visited without a byte written: go on
                    continue
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
        finally:
            os.close(fd)

    def close(self) -> None:
        self._link.close()


class BpfMap:
    """A map; sizes may be set until load(), elements are there from then on."""

    def __init__(self, library: Libbpf, pointer: int) -> None:
        self._c = library.c
        self._pointer = pointer
        self.name: str = self._c.bpf_map__name(pointer).decode()
        self.type: int = self._c.bpf_map__type(pointer)
        self.key_size: int = self._c.bpf_map__key_size(pointer)
        self.value_size: int = self._c.bpf_map__value_size(pointer)
        # A per-CPU map gives the values of all CPUs, each filled up to 8 bytes.
        self._lookup_size = self.value_size
        if self.type in _PER_CPU:
            cpus = _result(self._c.libbpf_num_possible_cpus(), "count CPUs")
            self._lookup_size = (self.value_size + 7) // 8 * 8 * cpus

    @property
    def fd(self) -> int:
        """From load() on."""
        return _result(self._c.bpf_map__fd(self._pointer), f"map {self.name}")

    @property
    def max_entries(self) -> int:
        """Elements, or bytes of a ring."""
        return int(self._c.bpf_map__max_entries(self._pointer))

    @max_entries.setter
    def max_entries(self, wanted: int) -> None:
        _result(
            self._c.bpf_map__set_max_entries(self._pointer, wanted),
            f"size map {self.name}",
        )

    def add_flags(self, flags: int) -> None:
        """BPF_F_*, before load()."""
        flags |= self._c.bpf_map__map_flags(self._pointer)
        _result(
            self._c.bpf_map__set_map_flags(self._pointer, flags),
            f"set flags of map {self.name}",
        )

    def lookup(self, key: bytes) -> bytes | None:
        """The value; of a per-CPU map all CPUs' values."""
        return self._found(self._c.bpf_map_lookup_elem, self._checked(key))

    def pop(self, key: bytes) -> bytes | None:
        """The value, which is then gone from the map."""
        return self._found(self._c.bpf_map_lookup_and_delete_elem, self._checked(key))

    def update(self, key: bytes, value: bytes) -> None:
        """Inserts or replaces."""
        self._put(self._checked(key), value)

    def push(self, value: bytes) -> None:
        """Into a queue; OSError with E2BIG when it is full."""
        self._put(None, value)

    def delete(self, key: bytes) -> bool:
        """False when it was not there."""
        result = self._c.bpf_map_delete_elem(self.fd, self._checked(key))
        if result == -errno.ENOENT:
            return False
        _result(result, f"remove from map {self.name}")
        return True

    def batches(self) -> Iterator[tuple[memoryview, memoryview]]:
        """All keys and values of a hash, some at a time: two arrays of equal length.

        Each element that stays in the map is given exactly once: the kernel goes bucket by
        bucket. The arrays are only good until the next step.
        """
        if self.type not in (MapType.HASH, MapType.LRU_HASH):
            raise ValueError(f"map {self.name} is no hash")
        capacity = _BATCH
        # A hash counts its place in buckets, in 32 bits.
        place = ct.create_string_buffer(max(self.key_size, 8))
        begun = done = False
        while not done:
            keys = ct.create_string_buffer(capacity * self.key_size)
            values = ct.create_string_buffer(capacity * self.value_size)
            crowded = False
            while not done and not crowded:
                count = _U32(capacity)
                result = self._c.bpf_map_lookup_batch(
                    self.fd, place if begun else None, place, keys, values, count, None
                )
                crowded = result == -errno.ENOSPC  # a bucket with more than capacity
                done = result == -errno.ENOENT
                if not (crowded or done):
                    _result(result, f"read map {self.name}")
                    begun = True
                if not crowded and count.value:
                    yield (
                        memoryview(keys).cast("B")[: count.value * self.key_size],
                        memoryview(values).cast("B")[: count.value * self.value_size],
                    )
            capacity *= 2

    def _found(self, function: Any, key: bytes) -> bytes | None:
        value = ct.create_string_buffer(self._lookup_size)
        result = function(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        _result(result, f"read map {self.name}")
        return value.raw

    def _put(self, key: bytes | None, value: bytes) -> None:
        if len(value) != self.value_size or self.type in _PER_CPU:
            raise ValueError(f"map {self.name} takes values of {self.value_size} bytes")
        _result(
            self._c.bpf_map_update_elem(self.fd, key, value, _BPF_ANY),
            f"write map {self.name}",
        )

    def _checked(self, key: bytes) -> bytes:
        # The kernel reads key_size bytes, whatever was given.
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name} has keys of {self.key_size} bytes")
        return key


class LentRing:
    """A ring made while programs run; the kernel frees it when no map and nobody holds it."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def close(self) -> None:
        """Gives it back; again does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class RingBuffer:
    """Reads maps of type BPF_MAP_TYPE_RINGBUF, the first one first; from one thread at a time."""

    def __init__(self, library: Libbpf, *rings: BpfMap | LentRing) -> None:
        self._c = library.c
        self._drained: list[bytes] = []
        self._limit = 0
        self._failure: Exception | None = None
        self._callback = _SAMPLE(self._on_sample)  # as long as the ring
        first, *others = rings
        pointer = self._c.ring_buffer__new(first.fd, self._callback, None, None)
        self._pointer: int | None = _pointer(pointer, f"map the ring {first.name}")
        for ring in others:
            _result(
                self._c.ring_buffer__add(self._pointer, ring.fd, self._callback, None),
                f"map the ring {ring.name}",
            )

    def drain(self, limit: int, timeout_ms: int) -> list[bytes]:
        """Up to so many records; waits for the first, if there is none.

        What came without a wake-up (BPF_RB_NO_WAKEUP) is found at the latest after the time.
        """
        self._drained, self._limit = [], limit
        self._step(self._c.ring_buffer__consume(self._pointer))
        if not self._drained:
            self._step(self._c.ring_buffer__poll(self._pointer, timeout_ms))
        if not self._drained:
            self._step(self._c.ring_buffer__consume(self._pointer))
        drained, self._drained = self._drained, []
        return drained

    def close(self) -> None:
        """Unmaps it; again does nothing."""
        if self._pointer is not None:
            self._c.ring_buffer__free(self._pointer)
            self._pointer = None

    def _on_sample(self, _context: int | None, data: int, size: int) -> int:
        # An exception must not go through C. A negative answer ends the reading, after this
        # record.
        try:
            self._drained.append(ct.string_at(data, size))
        except Exception as error:  # noqa: BLE001
            self._failure = error
            return -errno.ECANCELED
        return -errno.ECANCELED if len(self._drained) >= self._limit else 0

    def _step(self, result: int) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if result not in (-errno.ECANCELED, -errno.EINTR):
            _result(result, "read the ring")


def _result(result: int, what: str) -> int:
    """What a function of libbpf gave; a negative one is an errno."""
    if result < 0:
        raise OSError(-result, f"{os.strerror(-result)} ({what})")
    return result


def _pointer(pointer: int | None, what: str) -> int:
    """What a function of libbpf gave; NULL leaves an errno."""
    if not pointer:
        number = ct.get_errno()
        raise OSError(number, f"{os.strerror(number)} ({what})")
    return pointer
