"""Starts a bench on hosts that are network namespaces (tests/distributed/hosts.py), with links of a chosen rate.

    sudo python benches/scaling/on_hosts.py --hosts 4 --rate 1gbit -- python benches/scaling/measure.py network

The rate is each host's, in both directions, in `tc`'s words. Processors are the machine's: ranks that compute share
them. Bytes that each host sent are printed at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "distributed"))

from hosts import Hosts, why_not


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rate", help="of a link, such as 1gbit; without: what the machine moves in memory")
    parser.add_argument("--delay", help="of a link, such as 1ms")
    parser.add_argument("command", nargs="+", help="after --")
    given = parser.parse_args()
    reason = why_not(rate=given.rate, delay=given.delay)
    if reason:
        raise SystemExit(reason)
    with Hosts(given.hosts, rate=given.rate, delay=given.delay) as hosts:
        done = subprocess.run(hosts.argv(given.command), env=hosts.environment(), check=False)
        print("sent, MB:", *(round(sent / 1e6, 1) for sent in hosts.sent()))
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
