"""Reads the hardware counters of the four most important kernels through ncu."""

import csv
import io

# Sections that every version has, and single counters: bytes moved, bank conflicts, and what warps wait for.
SECTIONS = ["SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats"]
STALLS = ["barrier", "long_scoreboard", "short_scoreboard", "mio_throttle", "lg_throttle", "math_pipe_throttle", "not_selected", "wait"]
METRICS = [
    "dram__bytes.sum", "lts__t_bytes.sum", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "smsp__inst_executed.sum", *(f"smsp__average_warps_issue_stalled_{stall}_per_issue_active.ratio" for stall in STALLS),
]


def command(ncu, python, program, library, with_metrics=True):
    """The command that prints the counters as CSV. The clocks stay as they are."""
    sections = [argument for section in SECTIONS for argument in ("--section", section)]
    metrics = ["--metrics", ",".join(METRICS)] if with_metrics else []
    return [ncu, "--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw", *sections, *metrics, python, program, library]


def parse(output):
    """The kernels of ncu's CSV: name, and metric -> (value, unit). The first line after the titles has the units."""
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    table = list(csv.reader(io.StringIO("\n".join(lines[start:]))))
    titles, units, rows = table[0], table[1] if len(table) > 1 else [], table[2:]
    kernels = []
    for row in rows:
        if len(row) != len(titles):
            continue
        metrics = {}
        for title, unit, value in zip(titles, units, row):
            if "__" not in title:
                continue
            try:
                metrics[title] = [float(value.replace(",", "")), unit]
            except ValueError:
                continue
        kernels.append({"name": row[titles.index("Kernel Name")].split("(")[0], "metrics": metrics})
    return kernels


def problem(output):
    """The line in which ncu says why it has no counters, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("==ERROR==")), lines[-1] if lines else "no output")
