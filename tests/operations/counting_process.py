"""One of several processes that count: `counting_process.py SEARCHES`; then it says what it is told to.

`expose` prints the exposition and a line with a dot; the end of standard input ends it.
"""

from __future__ import annotations

import sys

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.events import SearchAnswered
from knowledge_system.operations.exposition import Exposition
from knowledge_system.operations.metrics import Metrics

exposition = Exposition()
metrics = Metrics(exposition.series, SystemClock(), list)
for _ in range(int(sys.argv[1])):
    metrics.observe(SearchAnswered("all", 1, 12.0, 1, ()))
metrics.series.http_in_flight.inc()
sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    if line.strip() == "expose":
        sys.stdout.write(exposition.expose()[0].decode() + ".\n")
        sys.stdout.flush()
