"""Times and sizes as people write them; one form each, wherever something is said.

Files and texts are counted as disks are, in MB of a million bytes; memory as containers are, in MiB of
2^20.
"""

_LONG = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def duration(seconds: float) -> str:
    """Write a time.

    >>> duration(0.0123), duration(42.4), duration(125.2), duration(7265), duration(200_000)
    ('12.3 ms', '42.4 s', '2 min 5 s', '2 h 1 min', '2 d 7 h')
    """
    if seconds < 0.9995:
        return f"{1e3 * seconds:.1f} ms" if seconds > 0 else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    size, name, part, small = next(row for row in _LONG if whole >= row[0])
    return f"{whole // size} {name} {whole % size // part} {small}"


def about(seconds: float) -> str:
    """Write a time that is only guessed, such as what is left of a piece of work.

    >>> about(42.4), about(200), about(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def in_bytes(size: float) -> str:
    """Write the size of a file or text.

    >>> in_bytes(512), in_bytes(1_234_567), in_bytes(2.5e9)
    ('512 bytes', '1.2 MB', '2.5 GB')
    """
    whole = round(size)
    if whole < 1000:
        return f"{whole} byte{'s' * (whole != 1)}"
    for unit, name in ((10**3, "kB"), (10**6, "MB")):
        if size < 999.95 * unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 10**9:.1f} GB"


def in_memory(size: float) -> str:
    """Write an amount of memory.

    >>> in_memory(3 * 2**30), in_memory(5_000_000), in_memory(300)
    ('3.0 GiB', '4.8 MiB', '0.3 KiB')
    """
    for unit, name in ((10, "KiB"), (20, "MiB")):
        if size < 1023.95 * (1 << unit):
            return f"{size / (1 << unit):.1f} {name}"
    return f"{size / (1 << 30):.1f} GiB"
