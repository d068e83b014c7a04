"""`make bench`: all benchmarks, as ratios of what was measured in the same run. Ends with 1 when one is missed."""

import sys

from tests.bench import scratch  # noqa: F401 (first: it sets Django up)

from tests.bench import abuse, dispatch, fairness, growth, lookup, memory, newcomers, pace, queue  # isort: skip
from tests.bench import refresh, scale, side_by_side, upsert  # isort: skip

if __name__ == "__main__":
    benchmarks = [upsert, dispatch, side_by_side, scale, queue, refresh, lookup, pace, fairness]
    benchmarks += [newcomers, growth, abuse, memory]
    results = [benchmark.run() for benchmark in benchmarks]
    sys.exit(0 if all(results) else 1)
