# SPDX-License-Identifier: Apache-2.0
"""What pairs of measurements say. The two of a pair were measured one behind the other, in the same round
of `ctxkv bench`, so that what the machine does meanwhile meets both. What is judged is the median of their
ratios. Its 95 % interval is that of order statistics: whatever the ratios' distribution, so many of them lie
below their true median as heads fall in as many throws of a coin.
"""
import dataclasses
import math
import statistics

SHARE = 0.95


@dataclasses.dataclass
class Ratio:
    median: float
    low: float
    high: float
    pairs: int

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def rank(count):
    """The interval goes from the rank-th value from below to the rank-th from above; 0: with so few
    values there is none."""
    tail, found = 0.0, 0
    for below in range(count // 2):
        tail += math.comb(count, below) / 2**count
        if 2 * tail > 1 - SHARE:
            break
        found = below + 1
    return found


def ratio_of(values):
    """Median and interval; of fewer than 6 values: lowest and highest."""
    ordered = sorted(values)
    at = max(rank(len(ordered)), 1)
    return Ratio(statistics.median(ordered), ordered[at - 1], ordered[-at], len(ordered))


def divided(above, below):
    return [a / b for a, b in zip(above, below, strict=True) if b > 0]


def of(row, field="bytes_per_s"):
    """What each round of a row of `ctxkv bench --json`, or of a floor of it, brought."""
    return row["by_round"][field]


def to_floor(row, floor, field="bytes_per_s"):
    return ratio_of(divided(of(row, field), of(row[floor], field)))


def to_most(values, most):
    """Of what is allowed: the same for all rounds, or a list with a value for each."""
    return ratio_of(divided(values, most if isinstance(most, list) else [most] * len(values)))


def cpu(row):
    """CPU seconds for a GiB of each round, both sides together."""
    return [sum(pair) for pair in zip(of(row, "cpu_s_per_gib"), of(row, "server_cpu_s_per_gib"), strict=True)]


def to_best(row, rows):
    """(a row's rate to that of the row with the highest median, which that is). None of them may come from
    another group: those were not measured in the same rounds."""
    best = max(rows, key=lambda other: other["bytes_per_s"])
    if {other["group"] for other in rows} != {row["group"]}:
        raise ValueError("cells of different groups are no pairs: the store has no room for all at once")
    return ratio_of(divided(of(row), of(best))), best
