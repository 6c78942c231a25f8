# SPDX-License-Identifier: Apache-2.0
"""The report in Markdown: where ctxkv loses, first; then every row, with its ratio to the best peer.

A ratio is the median of the ratios of the same round. A row of ctxkv stands beside the best of the
others; a row of another, too (the best has 1.00).
"""
import statistics

OURS = "ctxkv"
GIB = 2**30


def is_ours(row):
    return row["peer"].startswith(OURS)


def size_text(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def median(values):
    return statistics.median(values) if values else None


def is_good(row):
    """Whether a row counts as somebody to be compared with."""
    return not row["error"] and not row["wrong"] and bool(values_of(row))


def values_of(row):
    return [value for value in row.get("rates", row.get("p50_us", [])) if value]


def ratios(row, best):
    """Round by round, more is better: rates as they are, times the other way round."""
    pairs = zip(values_of(row), values_of(best))
    if "rates" in row:
        return [mine / theirs for mine, theirs in pairs]
    return [theirs / mine for mine, theirs in pairs]


def best_of(rows, transport=None):
    """The best row of somebody else, or None."""
    others = [row for row in rows if not is_ours(row) and is_good(row) and found(row) > 0.5 and
              transport in (None, row["transport"])]
    sign = 1 if rows and "rates" in rows[0] else -1
    return max(others, key=lambda row: sign * median(values_of(row)), default=None)


def found(row):
    """Share of the blocks put that can be got: who forgets most is no rival in speed."""
    return 1.0 if row.get("kept") is None else row["kept"]


def cells_of(rows, *names):
    """Rows grouped by these values, in order."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def outcome(row):
    if row["error"]:
        return f"failed: {row['error']}"
    if not values_of(row):
        return f"no block: {row['failed']} failed, {row.get('asked', 0) - row['failed']} not found"
    return f"**{row['wrong']} wrong**" if row["wrong"] else None


def speed_text(row):
    values = values_of(row)
    if "rates" in row:
        return (f"{median(values) / GIB:.2f} GiB/s ({min(values) / GIB:.2f}-"
                f"{max(values) / GIB:.2f})")
    return f"{median(values):.0f} us ({min(values):.0f}-{max(values):.0f})"


def cell_text(row):
    if row["kind"] == "probe":
        return "probe of 256 keys"
    place = "memory" if row["mode"] == "memory" else "medium"
    return f"{row['op']}, {place}, {size_text(row['size'])}, {row['clients']} client(s)"


def table(head, rows):
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def losses(groups):
    """(cell, ours, best, ratio, best over the same transport, ratio) of each row that is behind."""
    for rows in groups:
        best = best_of(rows)
        for row in filter(is_ours, rows):
            if outcome(row) or best is None:
                continue
            ratio = median(ratios(row, best))
            if ratio >= 1:
                continue
            same = best_of(rows, row["transport"])
            yield (ratio, [cell_text(row), row["transport"], speed_text(row), best["peer"],
                           speed_text(best), f"{ratio:.2f}",
                           f"{same['peer']}: {median(ratios(row, same)):.2f}" if same else "none"])


def part_losses(rows):
    groups = [*cells_of((r for r in rows if r["kind"] == "rate"), "mode", "op", "size",
                        "clients").values(), [r for r in rows if r["kind"] == "probe"]]
    lost = sorted(losses(groups), key=lambda item: item[0])
    compared = sum(1 for group in groups for row in group
                   if is_ours(row) and is_good(row) and best_of(group))
    yield "## Where ctxkv loses\n"
    for row in rows:
        if is_ours(row) and (row.get("error") or row.get("wrong")):
            yield (f"- **{row['peer']}**: {row['kind']}: {row.get('error') or ''} "
                   f"{row.get('wrong') or 0} wrong blocks")
    yield f"In {len(lost)} of {compared} cells another store is ahead; the worst first.\n"
    yield from table(["cell", "over", "ctxkv", "who is best", "best peer", "ratio",
                      "best over the same transport"],
                     [cells for _, cells in lost])


def rate_rows(rows):
    best = best_of(rows)
    for row in sorted(rows, key=lambda row: -(median(values_of(row)) or 0)):
        if outcome(row):
            yield [row["peer"], row["transport"], outcome(row), "", "", ""]
            continue
        came = found(row)
        cpu = f"{row['server_cpu'] or 0:.3f} + {row['client_cpu'] or 0:.3f}"
        yield [row["peer"], row["transport"], speed_text(row), cpu,
               "" if came == 1 else f"{100 * came:.0f} %",
               f"{median(ratios(row, best)):.2f}" if best else ""]


def part_rates(rows, mode, title):
    yield f"\n## {title}\n"
    groups = cells_of((r for r in rows if r["kind"] == "rate" and r["mode"] == mode), "op", "size",
                      "clients")
    for (op, size, clients), group in groups.items():
        yield f"\n### {op}, {size_text(size)}, {clients} client(s)\n"
        yield from table(["store", "transport", "median (lowest-highest)",
                          "CPU s per GiB, server + client", "kept of it",
                          "ratio to the best peer"], rate_rows(group))


def part_probe(rows):
    probes = [row for row in rows if row["kind"] == "probe"]
    best = best_of(probes)
    yield "\n## Probe of 256 keys, half of them present, one at a time\n"
    body = []
    for row in sorted(probes, key=lambda row: median(values_of(row)) or 1e9):
        if outcome(row):
            body.append([row["peer"], row["transport"], outcome(row), "", "", ""])
            continue
        body.append([row["peer"], row["transport"], speed_text(row), f"{median(row['p99_us']):.0f} us",
                     row["missing"] or "", f"{median(ratios(row, best)):.2f}" if best else ""])
    yield from table(["store", "transport", "p50 (lowest-highest of the rounds)", "p99",
                      "present ones not found", "best peer's time to this one's"], body)


def part_growth(rows):
    yield "\n## Memory of the server process\n"
    body = []
    for (name, mode), group in cells_of((r for r in rows if r["kind"] == "growth"), "peer",
                                        "mode").items():
        worst = max(group, key=lambda row: row["most"] - row["ready"])
        growth = worst["most"] - worst["ready"]
        body.append([name, mode, f"{worst['ready'] >> 20} MiB", f"{worst['most'] >> 20} MiB",
                     f"{growth >> 20} MiB ({100 * growth / max(worst['ready'], 1):.0f} %)",
                     size_text(worst["size"])])
    yield from table(["store", "cells", "when ready", "most", "growth", "with blocks of"], body)


def percent(value):
    return "" if value is None else f"{100 * value:.0f} %"


def part_kept(rows):
    yield "\n## What is left\n"
    yield ("Blocks that can be got and are right: of those put as fast as each store takes them; "
           "after a stop and a start; after kill -9 in the middle of a put, of those acknowledged "
           "before, and of those under way (any share is right there, but none may be wrong).\n")
    body = [[row["peer"], percent(row.get("filled")), percent(row.get("restarted")),
             percent(row.get("killed")), percent(row.get("under_way")), row.get("wrong", ""),
             row["error"] or ""] for row in rows if row["kind"] == "kept"]
    yield from table(["store", "after a fast fill", "after a restart", "after kill -9",
                      "under way then", "wrong", ""], body)


def part_peers(peers):
    yield "\n## Who took part\n"
    yield from table(["store", "transport", "version", "cells it has"],
                     [[peer["name"], peer["transport"], peer["version"] or
                       f"not installed: {peer['reason']}",
                       "" if peer["reason"] else peer["modes"]] for peer in peers])


def markdown(document):
    rows = document["rows"]
    yield "# ctxkv beside its peers\n"
    yield f"{document['machine']}. {document['how']}\n"
    yield f"Command: `{document['command']}`, {document['minutes']:.1f} minutes.\n"
    yield from part_losses(rows)
    yield from part_peers(document["peers"])
    yield from part_rates(rows, "memory", "In memory")
    yield from part_probe(rows)
    yield from part_rates(rows, "medium", document["medium_title"])
    yield from part_growth(rows)
    yield from part_kept(rows)
    if document["notes"]:
        yield "\n## Notes of this run\n"
        yield from (f"- {note}" for note in document["notes"])
