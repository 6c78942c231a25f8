# SPDX-License-Identifier: Apache-2.0
"""bench/report.py: a report says what the tables say, plots what is a number, and names what is
short first. bench/peers/harness/report.py: who counts as a rival, and what a loss is.

usage: test_report.py, from anywhere.
"""

from __future__ import annotations

import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "bench"), str(TOP / "bench" / "peers")]

import report  # noqa: E402
from harness import report as peers  # noqa: E402

SPEED = """| op | size | lanes | GiB/s | socket pair | ratio (lowest-highest) | p50 | |
| --- | --- | --- | --- | --- | --- | --- | --- |
| get | 2 MiB | 1 | 4.00 | 5.00 | 0.80 (0.70-0.90) | 0.92 ms | ok |
| put <x> | 2 MiB | 4 | 2.50 | 5.00 | 0.50 (0.40-0.55) | 1.20 ms | **short** |"""
WORDS = """| what | value |
| --- | --- |
| ready, beside a floor of 3 MiB | 0.50 s, 0.25 s + 2 s |"""


class ReportTest(unittest.TestCase):
    def table(self, text: str) -> report.Table:
        ((_, table),) = report.tables_of(text.splitlines())
        return table

    def test_cells_are_numbers_only_as_a_whole(self) -> None:
        for cell, value, low, high in (("4.30", 4.3, 4.3, 4.3), ("1,000 ns", 1000, 1000, 1000),
                                       ("0.79 (0.73-1.07)", 0.79, 0.73, 1.07), ("**2.5 %**", 2.5, 2.5, 2.5),
                                       ("2.32 GiB/s (0.27-2.44)", 2.32, 0.27, 2.44)):  # fmt: skip
            number = report.number_of(cell)
            assert number is not None, cell
            self.assertEqual((number.value, number.low, number.high), (value, low, high))
        for cell in ("", "512 KiB", "ok", "0.50 s, 0.25 s", "0.300 + 0.200", "failed: 3"):
            self.assertIsNone(report.number_of(cell), cell)

    def test_a_plot_has_a_bar_for_each_number_and_its_ratio(self) -> None:
        svg = report.plot(self.table(SPEED), "tcp")
        assert svg is not None
        drawing = xml.dom.minidom.parseString(svg)
        words = [node.firstChild.data for node in drawing.getElementsByTagName("text")]
        for word in ("tcp: op, size, lanes", "get, 2 MiB, 1 lanes", "put <x>, 2 MiB, 4 lanes", "GiB/s",
                     "socket pair", "4.00", "2.50", "0.80", "0.50"):  # fmt: skip
            self.assertIn(word, words)
        rects = drawing.getElementsByTagName("rect")
        widths = sorted(float(rect.getAttribute("width")) for rect in rects)[-5:-1]
        self.assertEqual(widths, [210.0, 336.0, 420.0, 420.0])  # 2.5, 4, 5 and 5 of 5, behind them the ground
        marks = [mark.getAttribute("fill") for mark in drawing.getElementsByTagName("circle")]
        self.assertEqual(marks, [report.OK, report.SHORT])

    def test_a_table_of_words_has_no_plot(self) -> None:
        self.assertIsNone(report.plot(self.table(WORDS), "restart"))

    def test_the_report_names_what_is_short_before_the_tables(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            sections = [report.Section("tcp", ["About.\n", *SPEED.splitlines(), "Behind."], 12.0, ["ctxkv bench"]),
                        report.Section("restart", [WORDS], 3.0, [])]  # fmt: skip
            path = report.write(folder, sections, [("cores", "2")], "./dev bench --quick")
            text = path.read_text(encoding="utf-8")
            self.assertEqual(sorted(p.name for p in Path(folder).iterdir()), ["report.md", "tcp-1.svg"])
        self.assertIn("| cores | 2 |", text)
        self.assertIn("| tcp | 1 | 1 | 12 s |", text)
        self.assertIn("| restart | 0 | 0 | 3 s |", text)
        self.assertLess(text.index("- short: tcp: put <x>"), text.index(SPEED.splitlines()[0]))
        for line in (*SPEED.splitlines(), *WORDS.splitlines(), "Behind.", "ctxkv bench", "![tcp](tcp-1.svg)"):
            self.assertIn(line + "\n", text)

    def test_the_facts_of_this_machine_are_found(self) -> None:
        facts = dict(report.facts("/", "1.0"))
        self.assertEqual(facts["ctxkv"], "1.0")
        self.assertIn(" at /)", facts["medium"])


def rate(peer: str, transport: str, rates: list[float], **more: object) -> dict:
    row = {"kind": "rate", "mode": "memory", "op": "get", "size": 1 << 21, "clients": 1, "peer": peer,
           "transport": transport, "rates": [r * 2**30 for r in rates], "error": None, "wrong": 0,
           "failed": 0, "asked": 9, "done": 9, "kept": 1.0, "server_cpu": 0.1, "client_cpu": 0.2}  # fmt: skip
    return row | more


class PeersTest(unittest.TestCase):
    OURS = rate("ctxkv tcp", "tcp", [1.0, 2.0, 4.0])

    def losses(self, *others: dict) -> list:
        return list(peers.losses([[self.OURS, *others]]))

    def test_a_loss_is_the_median_of_the_ratios_of_each_round(self) -> None:
        ((ratio, cells),) = self.losses(rate("files", "files", [2.0, 8.0, 5.0]), rate("redis", "tcp", [1.0, 1.0, 1.0]))
        self.assertEqual(ratio, 0.5)  # of 0.5, 0.25 and 0.8
        self.assertEqual(cells[3], "files")
        self.assertEqual(cells[-1], "redis: 2.00")

    def test_who_lies_fails_or_forgets_is_no_rival(self) -> None:
        for more in ({"wrong": 1}, {"error": "it ended"}, {"kept": 0.4}):
            self.assertEqual(self.losses(rate("files", "files", [9.0, 9.0, 9.0], **more)), [], more)
        self.assertEqual(self.losses(rate("ctxkv shm", "shm", [9.0, 9.0, 9.0])), [])

    def test_a_shorter_time_wins_a_probe(self) -> None:
        ours = {"kind": "probe", "peer": "ctxkv tcp", "transport": "tcp", "p50_us": [60.0], "error": None, "wrong": 0}
        theirs = ours | {"peer": "files", "transport": "files", "p50_us": [30.0]}
        ((ratio, _),) = peers.losses([[ours, theirs]])
        self.assertEqual(ratio, 0.5)


if __name__ == "__main__":
    unittest.main()
