"""What a worker process may no longer do once it is ready: bounds of the kernel around decoders that read hostile files.

A decoder that somebody has taken over can neither call anybody, nor start a program, nor write a file, nor read one outside of
the folders that it needs. Nothing here wants privileges, and all of it holds in a container under Docker's own profile. A kernel
that lacks a part goes without it: `confine` says what is in force, and health shows it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from processors.values import Limits

ROOM_BYTES = 512 << 20
OPEN_FILES = 256

_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""how many rights over files each version of Landlock knows (linux/landlock.h)"""
_RUNTIME = (
    *("/usr", "/lib", "/lib64", "/opt", "/nix/store", "/etc/fonts", "/var/cache/fontconfig", "/etc/ld.so.cache", "/etc/localtime"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/dev/null", "/dev/urandom"),
)
"""what libraries read when they are loaded and used; fonts are for SVG"""

_SECCOMP_SET_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026  # go on; EPERM; ENOSYS
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_CLONE3 = 435
_MACHINES = {"x86_64": (0xC000003E, 317, 56), "aarch64": (0xC00000B7, 277, 220)}
"""the architecture in linux/audit.h, and the numbers of seccomp and clone"""
_REFUSED = {
    # socket connect bind listen accept accept4 / execve execveat fork vfork / kill tkill ptrace process_vm_readv process_vm_writev
    # mount unshare setns / bpf perf_event_open userfaultfd / add_key request_key keyctl
    "x86_64": (41, 42, 49, 50, 43, 288, 59, 322, 57, 58, 62, 200, 101, 310, 311, 165, 272, 308, 321, 298, 323, 248, 249, 250),
    "aarch64": (198, 203, 200, 201, 202, 242, 221, 281, 129, 130, 117, 270, 271, 40, 97, 268, 280, 241, 282, 217, 218, 219),
}
_REFUSED_ANYWHERE = (424, 425, 434, 438)  # pidfd_send_signal io_uring_setup pidfd_open pidfd_getfd


def confine(limits: Limits, readable: Iterable[str] | None) -> list[str]:
    """Bound this process for good; gives which of ``memory``, ``writing``, ``network``, ``files`` are in force.

    *readable* are the folders of the files that it is to read; None leaves it all of them.
    """
    in_force = ["writing"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no memory image of other people's pictures is written
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    if sys.platform != "linux":
        return in_force
    _bound_memory(limits)
    in_force.append("memory")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if readable is not None and _bound_files(libc, readable):
        in_force.append("files")
    if _bound_calls(libc):
        in_force.append("network")
    return in_force


def _bound_memory(limits: Limits) -> None:
    # A last wall behind the estimates: allocations beyond it fail.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 2 * limits.budget_bytes + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_files(libc: ctypes.CDLL, readable: Iterable[str]) -> bool:
    # Landlock holds for the thread that asks for it and those that it starts: it must be the only one.
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return False
    rights = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    handled = struct.pack("=Q", ((1 << rights) - 1) & ~1)  # all but the first, which is to start programs: seccomp's part
    rules = libc.syscall(_LANDLOCK_CREATE, handled, len(handled), 0)
    if rules < 0:
        return False
    try:
        ours = str(Path(__file__).parent)
        for path in {*_RUNTIME, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), ours, *readable}:
            _open_to_reading(libc, rules, path)
        return bool(libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _open_to_reading(libc: ctypes.CDLL, rules: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is not there
        return
    allowed = _READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE
    libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
    os.close(place)


def _bound_calls(libc: ctypes.CDLL) -> bool:
    machine = platform.machine()
    if machine not in _MACHINES or sys.maxsize < 1 << 32:
        return False
    architecture, seccomp, clone = _MACHINES[machine]
    refused = (*_REFUSED[machine], *_REFUSED_ANYWHERE)
    program = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER_AT),
        _step(_AT_LEAST, 0x40000000, 0, 1),  # x32, a second table of the same calls
        _step(_RETURN, _REFUSE),
        _step(_EQUAL, _CLONE3, 0, 1),  # its flags are out of a filter's sight; the C library then takes clone
        _step(_RETURN, _UNKNOWN),
        *(step for number in refused for step in (_step(_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE))),
        _step(_EQUAL, clone, 0, 3),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_RETURN, _ALLOW),
    ]
    text = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("@HP", len(program), ctypes.addressof(text))
    return bool(libc.syscall(seccomp, _SECCOMP_SET_FILTER, _ALL_THREADS, header) == 0)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
