# SPDX-License-Identifier: Apache-2.0
"""bench/pairs.py: medians of paired ratios and their intervals, and what is not a pair. bench/locks.py:
what of a profile are locks.

usage: test_pairs.py, from anywhere.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import locks  # noqa: E402
import pairs  # noqa: E402


def row(size: int, rates: list[float], group: int = 0) -> dict:
    return {"size": size, "group": group, "bytes_per_s": sorted(rates)[len(rates) // 2],
            "by_round": {"bytes_per_s": rates}}  # fmt: skip


class PairsTest(unittest.TestCase):
    def test_the_interval_is_that_of_the_books(self) -> None:
        # The ranks of the tables for the sign test at 5 %, two-sided, and one.
        for count, rank in ((1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18)):
            self.assertEqual(pairs.rank(count), rank, count)
        ratio = pairs.ratio_of([15, 1, 14, 2, 13, 3, 12, 4, 11, 5, 10, 6, 9, 7, 8])
        self.assertEqual((ratio.median, ratio.low, ratio.high, ratio.pairs), (8, 4, 12, 15))
        self.assertEqual(str(pairs.ratio_of([0.9, 0.8, 1.0])), "0.90 (0.80-1.00)")

    def test_a_round_is_compared_with_itself(self) -> None:
        ours = row(1, [4, 8, 2]) | {"socket": row(1, [5, 10, 2.5])}
        ratio = pairs.to_floor(ours, "socket")
        self.assertEqual((ratio.low, ratio.median, ratio.high), (0.8, 0.8, 0.8))

    def test_a_machine_that_slows_down_is_no_fall_of_a_size(self) -> None:
        large, small = row(64, [9, 4.5, 3]), row(1, [10, 5, 3.2])
        ratio, best = pairs.to_best(large, [small, large])
        self.assertIs(best, small)
        self.assertEqual((ratio.median, ratio.low), (0.9, 0.9))
        self.assertEqual(pairs.to_best(small, [small, large])[0].median, 1.0)

    def test_cells_of_different_rounds_are_no_pairs(self) -> None:
        with self.assertRaises(ValueError):
            pairs.to_best(row(64, [1]), [row(64, [1]), row(1, [1], group=1)])
        with self.assertRaises(ValueError):
            pairs.divided([1, 2], [1])

    def test_what_was_not_measured_is_no_ratio(self) -> None:
        self.assertEqual(pairs.divided([1, 2], [0, 4]), [0.5])

    def test_what_is_allowed_may_differ_from_round_to_round(self) -> None:
        self.assertEqual(pairs.to_most([1, 4, 9], [2, 4, 6]).median, 1.0)
        self.assertEqual(pairs.to_most([1, 4, 9], 4).median, 1.0)
        self.assertEqual(pairs.cpu({"by_round": {"cpu_s_per_gib": [1, 2], "server_cpu_s_per_gib": [3, 4]}}), [4, 6])


PROFILE = """# Samples: 1K of event 'cpu-clock'
    40.00%  [k] _copy_to_iter
     5.00%  [k] _raw_spin_unlock_irqrestore
     2.50%  [k] native_queued_spin_lock_slowpath
     1.25%  [.] __pthread_mutex_lock
     0.50%  [.] pthread_cond_wait@@GLIBC_2.3.2
     0.25%  [k] futex_wake
     0.10%  [.] reactor_run_mutexless
"""


class LocksTest(unittest.TestCase):
    def test_locks_of_the_process_are_told_from_those_the_kernel_waits_for(self) -> None:
        own, kernel = locks.shares(PROFILE)
        self.assertEqual((own, kernel), (2.0, 2.5))
        self.assertEqual(locks.shares("nothing"), (0.0, 0.0))


if __name__ == "__main__":
    unittest.main()
