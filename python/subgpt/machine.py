"""How much memory this process may have and has, as the operating system says it, and whether something fits."""

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from subgpt.errors import OutOfMemoryError
from subgpt.units import in_memory


def memory_limit() -> int | None:
    """Give the bytes that this process may use: the machine's, or a container's limit if that is lower."""
    groups = [limit for limit, _ in _cgroups()]
    physical = _physical()
    return min(groups if physical is None else [physical, *groups], default=None)


def memory_left() -> int:
    """Give the bytes that can be had without swapping, within the limits of containers; 0 where nothing says."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = next(
            1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration):
        return 0
    return min([free, *(max(0, limit - used) for limit, used in _cgroups())])


def check_room(needed: int) -> None:
    """Raise OutOfMemoryError if `needed` bytes are more than this process may have."""
    message = too_much(needed, memory_limit())
    if message is not None:
        raise OutOfMemoryError(message)


def too_much(needed: int, limit: int | None) -> str | None:
    """Say what to do if `needed` bytes are more than `limit`; None if they fit, or nobody knows the limit."""
    if limit is None or needed <= limit:
        return None
    return (
        f"{in_memory(needed)} are needed, this machine gives {in_memory(limit)}: take a smaller model, a smaller "
        "batch_size or block_size, or gradient_checkpointing"
    )


def resident() -> int | None:
    """Give the bytes of memory that this process holds right now; None where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * mmap.PAGESIZE
    except OSError:
        return peak_resident()


def peak_resident() -> int | None:
    """Give the most bytes of memory that this process ever held; None where the system does not say.

    Linux says it in `status`; its `getrusage` gives a young process the peak of the one that it was forked from.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _physical() -> int | None:
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong(0)
        found = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return kilobytes.value * 1024 if found else None
    try:
        return mmap.PAGESIZE * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _cgroups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[tuple[int, int]]:
    """Give limit and use of the control groups that this process is in, version 2 and 1, up to the root.

    Inside a container the path in `own` may be the host's, so that its own limit lies at the root.
    """
    try:
        lines = os.fsdecode(own.read_bytes()).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, most, now = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, most, now = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for place in (group, *group.parents):
            limit = _number(base / place / most)
            if limit is not None and 0 < limit < 1 << 60:  # version 1 has its largest number for none
                yield limit, _number(base / place / now) or 0


def _number(path: Path) -> int | None:
    """Read a number; None if there is none: no file, or the word "max"."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
