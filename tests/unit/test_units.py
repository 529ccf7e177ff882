import pytest

from subgpt.units import about, duration, in_bytes, in_memory


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "40.0 ms"),
        (0.9999, "1.0 s"),
        (9.94, "9.9 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (125.2, "2 min 5 s"),
        (3599.9, "1 h 0 min"),
        (86399.9, "1 d 0 h"),
    ],
)
def test_no_time_is_written_as_sixty_of_a_unit(seconds, text):
    assert duration(seconds) == text


def test_guesses_are_rough():
    assert [about(seconds) for seconds in (0.4, 99, 101, 7200)] == ["0 s", "99 s", "2 min", "2.0 h"]


def test_files_are_counted_in_thousands_and_memory_in_1024s():
    assert in_bytes(10**6) == "1.0 MB"
    assert in_memory(10**6) == "976.6 KiB"
    assert in_memory(1 << 30) == "1.0 GiB"


def test_no_size_is_written_as_a_thousand_of_a_unit():
    sizes = (0, 1, 2, 999, 999.6, 999_940, 999_960, 999_960_000)
    written = ["0 bytes", "1 byte", "2 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "1.0 GB"]
    assert [in_bytes(size) for size in sizes] == written
    assert [in_memory(size) for size in ((1 << 20) - 1, (1 << 30) - 1)] == ["1.0 MiB", "1.0 GiB"]
