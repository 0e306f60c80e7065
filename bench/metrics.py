"""How long `GET /metrics` takes, and how large it is: `bench/metrics.py URL [SCRAPES]`, or `--home HOME` to serve it.

Scrapes are 5.1 seconds apart: every one reads its sources anew, as that of a Prometheus does. The service is searched
meanwhile, so that its histograms have samples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator

APART = 5.1
"""Seconds between scrapes: longer than a sample is fresh."""
SEARCHES = ("connection pool timeout", "how are migrations deployed", "flaky test in continuous integration")


@contextmanager
def served(home: Path) -> Iterator[str]:
    """Serve a home on a free port until the end of the block; yield its address."""
    environ = {**os.environ, "KNOWLEDGE_HOME": str(home), "HOME": str(home.parent)}
    command = [str(Path(sys.executable).with_name("knowledge")), "--json", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            yield str(json.loads(service.stdout.readline())["url"])
        finally:
            service.terminate()


def scraped(url: str, scrapes: int) -> None:
    """Print duration and size of scrapes."""
    seconds: list[float] = []
    sizes: list[int] = []
    with httpx2.Client(base_url=url, timeout=60) as client:
        for number in range(scrapes + 1):
            for query in SEARCHES:
                client.post("/v1/search", json={"query": query}).raise_for_status()
            time.sleep(APART)
            began = time.perf_counter()
            response = client.get("/metrics")
            if number:  # the first one reads everything that is read once a minute, and waits for the first health
                seconds.append(time.perf_counter() - began)
                sizes.append(len(response.content))
        items = [line for line in response.text.splitlines() if line.startswith("knowledge_items_stored")]
    quantiles = statistics.quantiles(seconds, n=20, method="inclusive")
    stored = sum(float(line.rpartition(" ")[2]) for line in items if "knowledge_384" in line)
    print(f"{scrapes} scrapes, {stored:.0f} items, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"p50 {1000 * quantiles[9]:.1f} ms, p95 {1000 * quantiles[18]:.1f} ms, {max(sizes) / 1000:.1f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="address of a running service")
    parser.add_argument("--home", type=Path, help="data directory to serve for this")
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
    if options.home is not None:
        with served(options.home.absolute()) as url:
            scraped(url, options.scrapes)
    elif options.url:
        scraped(options.url, options.scrapes)
    else:
        parser.error("give the address of a service, or a --home to serve")


if __name__ == "__main__":
    main()
