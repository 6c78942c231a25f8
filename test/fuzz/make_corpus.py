#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes test/corpus/wire_frame and wire_preface from test/unit/wire/golden.def."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEX = re.compile(r'"([0-9a-f]*)"')


def main() -> None:
    text = (ROOT / "unit/wire/golden.def").read_text()
    frames = ROOT / "corpus/wire_frame"
    prefaces = ROOT / "corpus/wire_preface"
    frames.mkdir(parents=True, exist_ok=True)
    prefaces.mkdir(parents=True, exist_ok=True)
    for name, direction, rest in re.findall(r"^GOLDEN\((\w+), (\w+), \w+,\n(.*?)\)$", text, re.M | re.S):
        bytes_ = bytes.fromhex("".join(HEX.findall(rest)))
        (frames / name).write_bytes(bytes([1 if direction == "C2S" else 2]) + bytes_)
    for rest in re.findall(r"^PREFACE\(\n(.*?)\)$", text, re.M | re.S):
        (prefaces / "join").write_bytes(bytes.fromhex("".join(HEX.findall(rest))))


if __name__ == "__main__":
    main()
