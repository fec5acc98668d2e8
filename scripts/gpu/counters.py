"""Reads the hardware counters of the four most important kernels through ncu."""

import csv
import io
import re

from command import last_line

# Sections that every version has, and single counters: bytes moved, bank conflicts, and what warps wait for.
SECTIONS = ["SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats"]
STALLS = ["barrier", "long_scoreboard", "short_scoreboard", "mio_throttle", "lg_throttle", "math_pipe_throttle", "not_selected", "wait"]
METRICS = [
    "dram__bytes.sum", "lts__t_bytes.sum", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "smsp__inst_executed.sum", *(f"smsp__average_warps_issue_stalled_{stall}_per_issue_active.ratio" for stall in STALLS),
]

CALLS = "calls: "  # begins the line of launch.py


def command(ncu, python, program, library, with_metrics=True):
    """The command that prints the counters as CSV. The clocks stay as they are."""
    sections = [argument for section in SECTIONS for argument in ("--section", section)]
    metrics = ["--metrics", ",".join(METRICS)] if with_metrics else []
    return [ncu, "--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw", *sections, *metrics, python, program, library]


def parse(output):
    """The kernels of ncu's CSV: the call that launched it, name, and metric -> (value, unit). The first line after the titles has the units."""
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
        kernels.append({"call": "", "name": plain_name(row[titles.index("Kernel Name")]), "metrics": metrics})
    name_calls(kernels, output)
    return kernels


def plain_name(name):
    """The function's name with its template arguments, without its parameters. ncu writes the types of arguments: forward_kernel<(int)1, (bool)0>(Call)."""
    name = re.sub(r"\([\w: ]+\)(?=-?\d)", "", name).replace("(anonymous namespace)::", "")
    return name.split("(")[0]


def name_calls(kernels, output):
    """Names the call of each kernel from the line that launch.py prints. A call begins with each kernel that is not the second one of a backward call."""
    line = re.search(f"^{CALLS}(.*)$", output, re.M)
    calls = line[1].split(", ") if line else []
    starts = [i for i, kernel in enumerate(kernels) if "reduce_kernel" not in kernel["name"]]
    if len(starts) != len(calls) or starts[:1] != [0]:
        return
    for i, kernel in enumerate(kernels):
        kernel["call"] = calls[sum(start <= i for start in starts) - 1]


def problem(output):
    """The line in which ncu says why it has no counters, or its last line."""
    errors = (line.strip() for line in output.splitlines() if line.strip().startswith("==ERROR=="))
    return next(errors, None) or last_line(output)
