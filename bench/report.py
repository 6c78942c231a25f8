# SPDX-License-Identifier: Apache-2.0
"""A report in Markdown with SVG plots, made from the tables that the figures print.

Each table with columns of numbers gets a plot: a group of bars a row, a bar a column; a column
"ratio" becomes a second panel with its range and a line at 1. What a column is, its cells say: a
number, perhaps a unit, perhaps "(lowest-highest)". So a figure draws itself by printing its table.
Plots are written by hand, without a library, so that the same numbers always give the same bytes.
"""
import dataclasses
import os
import pathlib
import platform
import re
import time
from xml.sax.saxutils import escape

CELL = re.compile(r"\**(-?[\d,]+(?:\.\d+)?) ?(GiB/s|MiB/s|GiB|MiB|ms|us|ns|s|%|)"
                  r"(?: \(([\d,.]+)-([\d,.]+)\))?\**$")
WHOLE = re.compile(r"[\d,]+$")  # counts tell rows apart: lanes, clients, tokens
VERDICT = {"ok": True, "**short**": False}

BAR, GAP, GROUP_GAP, TOP = 13, 2, 10, 46
LABEL_WIDTH, PANEL_WIDTH, RATIO_WIDTH, VALUE_ROOM = 300, 420, 240, 70
COLORS = ("#2f6db5", "#9aa5b1", "#c9ced6", "#d9a441")
OK, SHORT, INK, RULE = "#2e8b57", "#c0392b", "#222222", "#888888"


@dataclasses.dataclass
class Number:
    value: float
    unit: str
    low: float
    high: float


def number_of(cell):
    """The number that a cell is, or None."""
    found = CELL.match(cell.strip())
    if not found:
        return None
    value, low, high = (float(text.replace(",", "")) if text else None
                        for text in (found[1], found[3], found[4]))
    return Number(value, found[2], value if low is None else low, value if high is None else high)


@dataclasses.dataclass
class Table:
    head: list
    rows: list

    def column(self, index):
        return [row[index] for row in self.rows]

    def is_series(self, index):
        """Numbers in every cell that is not empty, and not just counts."""
        cells = [cell for cell in self.column(index) if cell]
        return (bool(cells) and all(number_of(cell) for cell in cells) and
                not all(WHOLE.match(cell) for cell in cells))

    def is_ratio(self, index):
        return self.head[index].startswith("ratio") and self.is_series(index)


def row_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables_of(lines):
    """(index of the line behind it, Table) of each table in Markdown."""
    at = 0
    while at < len(lines):
        begin = at
        while at < len(lines) and lines[at].startswith("|"):
            at += 1
        if at - begin > 2 and set(lines[begin + 1]) <= set("|- :"):
            head = row_of(lines[begin])
            rows = [row_of(line) for line in lines[begin + 2:at]]
            yield at, Table(head, [row[:len(head)] + [""] * (len(head) - len(row)) for row in rows])
        at = max(at, begin + 1)


# --- plots ---


def text(x, y, words, anchor="start", color=INK, size=11):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'fill="{color}">{escape(words)}</text>')


def rect(x, y, width, height, color):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{color}"/>')


def line(x1, y1, x2, y2, color, more=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"'
            f'{more}/>')


def series_of(table):
    """Columns drawn as bars: those of the unit that most have."""
    by_unit = {}
    for index in range(len(table.head)):
        if table.is_series(index) and not table.is_ratio(index):
            units = {number_of(cell).unit for cell in table.column(index) if cell}
            if len(units) == 1:
                by_unit.setdefault(units.pop(), []).append(index)
    return max(by_unit.values(), key=len, default=[])[:len(COLORS)]


def labels_of(table, series):
    """What stands before the first number tells the row; a count needs its head."""
    end = labels_end(table, series)
    return [", ".join(f"{cell} {head}" if WHOLE.match(cell) else cell
                      for cell, head in zip(row[:end], table.head) if cell) for row in table.rows]


def labels_end(table, series):
    return min([*series, *(i for i in range(len(table.head)) if table.is_ratio(i))])


def verdict_of(row):
    return next((VERDICT[cell] for cell in reversed(row) if cell in VERDICT), None)


def bars(table, series, index, y, scale):
    """The bars of a row, with its ranges and numbers."""
    row = table.rows[index]
    for nth, column in enumerate(series):
        number = number_of(row[column])
        at = y + nth * (BAR + GAP)
        if number is None:
            continue
        color = COLORS[nth] if len(series) > 1 or "ctxkv" not in row[0] else "#d9a441"
        yield rect(LABEL_WIDTH, at, number.value * scale, BAR, color)
        if number.low < number.high:
            middle = at + BAR / 2
            yield line(LABEL_WIDTH + number.low * scale, middle, LABEL_WIDTH + number.high * scale,
                       middle, INK)
        yield text(LABEL_WIDTH + max(number.value, number.high) * scale + 4, at + BAR - 3,
                   row[column].split(" (")[0].strip("*"))


def ratio_mark(row, column, y, most, left):
    number = number_of(row[column])
    if number is None:
        return
    scale = RATIO_WIDTH / most
    color = {True: OK, False: SHORT, None: COLORS[0]}[verdict_of(row)]
    yield line(left + min(number.low, most) * scale, y, left + min(number.high, most) * scale, y,
               color, ' stroke-width="2"')
    yield f'<circle cx="{left + min(number.value, most) * scale:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    yield text(left + RATIO_WIDTH + 8, y + 4, f"{number.value:.2f}", color=color)


def plot(table, title):
    """SVG of a table, or None where it has nothing to draw."""
    series = series_of(table)
    ratio = next((i for i in range(len(table.head)) if table.is_ratio(i)), None)
    if not series and ratio is None:
        return None
    labels = labels_of(table, series)
    named = ", ".join(head for head in table.head[:labels_end(table, series)] if head)
    group = max(1, len(series)) * (BAR + GAP) + GROUP_GAP
    height = TOP + group * len(labels) + 12
    left = LABEL_WIDTH + (PANEL_WIDTH + VALUE_ROOM if series else 0)
    width = left + (RATIO_WIDTH + VALUE_ROOM if ratio is not None else 0)
    most = max((number_of(cell).high for i in series for cell in table.column(i) if cell),
               default=1) or 1
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
           rect(0, 0, width, height, "#ffffff"), text(8, 18, f"{title}: {named}", size=13)]
    for nth, column in enumerate(series):
        out.append(rect(LABEL_WIDTH + nth * 130, 26, 10, 10, COLORS[nth]))
        out.append(text(LABEL_WIDTH + nth * 130 + 14, 35, re.sub(r" \(.*", "", table.head[column])))
    for index, label in enumerate(labels):
        y = TOP + index * group
        out.append(text(LABEL_WIDTH - 8, y + (group - GROUP_GAP) / 2 + 3, label, "end"))
        out += bars(table, series, index, y, PANEL_WIDTH / most)
    if ratio is not None:
        highs = [number_of(cell).high for cell in table.column(ratio) if cell]
        most = min(max([1.25, *highs]) * 1.05, 3.0)
        one = left + RATIO_WIDTH / most
        out.append(text(left, 35, table.head[ratio].split(" (")[0] + ", line at 1"))
        out.append(line(one, TOP - 6, one, height - 8, RULE, ' stroke-dasharray="3,3"'))
        for index, row in enumerate(table.rows):
            out += ratio_mark(row, ratio, TOP + index * group + (group - GROUP_GAP) / 2, most, left)
    return "\n".join([*out, "</svg>"]) + "\n"


# --- the report ---


@dataclasses.dataclass
class Section:
    """One figure: what it printed, how long it took, and what it ran."""
    name: str
    lines: list
    seconds: float
    commands: list


def count(sections):
    """(figure, rows that are ok, rows that are short)"""
    for section in sections:
        rows = [row for _, table in tables_of(section.lines) for row in table.rows]
        verdicts = [verdict_of(row) for row in rows]
        yield section, verdicts.count(True), [row for row in rows if verdict_of(row) is False]


def first_line(path, default="not known"):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").strip().splitlines()[0]
    except (OSError, IndexError):
        return default


def medium_of(folder):
    """Device and file system of the longest mount point above a folder."""
    folder = str(pathlib.Path(folder).resolve())
    mounts = [entry.split()[:3] for entry in
              pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    above = [mount for mount in mounts
             if folder == mount[1] or folder.startswith(mount[1].rstrip("/") + "/")]
    device, point, kind = max(above, key=lambda mount: len(mount[1]))
    return f"{device} ({kind} at {point})"


def facts(folder, version):
    """What of the machine the numbers depend on."""
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text("utf-8"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield "ctxkv", version
    yield "date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    yield "cores", f"{os.cpu_count()}, {cpu[1] if cpu else platform.machine()}"
    yield "memory", f"{memory:.1f} GiB"
    yield "kernel", platform.release()
    yield "huge pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")
    yield "clock speed", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                                    "no governor (a virtual machine)")
    yield "load when it began", first_line("/proc/loadavg")
    yield "medium", medium_of(folder)


def markdown(sections, about, command, plots):
    """plots: writes the plot of a table, returns its file's name or None."""
    yield "# What ctxkv does on this machine\n"
    yield f"`{command}`; server, clients and floors share the machine.\n"
    yield "| | |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in about)
    yield "\n## In short\n"
    yield "| figure | ok | short | took |\n| --- | --- | --- | --- |"
    counted = list(count(sections))
    for section, good, bad in counted:
        yield f"| {section.name} | {good} | {len(bad)} | {section.seconds:.0f} s |"
    for section, _, bad in counted:
        for row in bad:
            yield f"\n- short: {section.name}: {' | '.join(cell for cell in row if cell)}"
    for section in sections:
        yield f"\n## {section.name}\n"
        at = 0
        for end, table in tables_of(section.lines):
            yield from section.lines[at:end]
            name = plots(section.name, table)
            if name:
                yield f"\n![{section.name}]({name})\n"
            at = end
        yield from section.lines[at:]
        if section.commands:
            yield "\nCommands ($T: a folder on the medium, $URL: of the server):\n\n```sh"
            yield from section.commands
            yield "```"


def write(folder, sections, about, command):
    """folder/report.md and its plots; for any number of calls, the last one stands."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = []

    def plot_write(name, table):
        svg = plot(table, name)
        if svg is None:
            return None
        made.append(f"{name}-{len(made) + 1}.svg")
        (folder / made[-1]).write_text(svg, encoding="utf-8")
        return made[-1]
    for section in sections:  # what a figure yields may be of several lines
        section.lines = "\n".join(section.lines).splitlines()
    text_all = "\n".join(markdown(sections, about, command, plot_write)) + "\n"
    (folder / "report.md").write_text(text_all, encoding="utf-8")
    return folder / "report.md"
