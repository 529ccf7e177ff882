"""How much memory this process may have and has, as the operating system says it."""

import ctypes
import mmap
import os
import sys
from pathlib import Path


def memory_limit() -> int | None:
    """Give the bytes that this process may use: the machine's, or a container's limit if that is lower."""
    limits = [limit for limit in (_physical(), *_cgroups()) if limit is not None]
    return min(limits, default=None)


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


def _cgroups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """List the limits of the control groups that this process is in, version 2 and 1, up to the root.

    Inside a container the path in `own` may be the host's, so that its own limit lies at the root.
    """
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        limits += [_number(base / place / name) for place in (group, *group.parents)]
    return [limit for limit in limits if limit is not None]


def _number(path: Path) -> int | None:
    """Read a limit; None if there is none: no file, the word "max", or version 1's largest number."""
    try:
        value = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return value if 0 < value < 1 << 60 else None
