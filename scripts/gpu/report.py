"""Writes the report of a check: Markdown, and a short table. Pure functions of report.json.

    python report.py report.json [--table]
"""

import json
import re
import sys

from bounds import KERNELS as BOUND_KERNELS
from bounds import bounds
from goals import FEW_SAMPLES, floor, is_few, medians, seconds

HOST = "The CPU ran the kernels (`--host`). This report shows that the check works; it says nothing about a GPU, and its times mean nothing."


FEW = " †"
KERNELS = ("token", "tile_1", "tile_2", "tile")


def micro(value):
    """Seconds as microseconds with three digits."""
    return "" if value is None else number(value * 1e6)


def number(value):
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown_table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines)


def section(title, *parts):
    text = "\n\n".join(part for part in parts if part)
    return f"## {title}\n\n{text}" if text else ""


def verdict(report):
    if report["verdict"] == "right":
        return "All numbers are right."
    names = ", ".join(step["name"] for step in report["steps"] if step["fatal"])
    return f"**Not right: {names}.**"


def few_note(is_marked):
    return f"\n\n{FEW.strip()} fewer than {FEW_SAMPLES} samples" if is_marked else ""


def machine(report):
    found = report["machine"]
    gpu = found["gpu"] or {}
    rows = [("GPU", f"{gpu['name']}, sm_{gpu['architecture']}, {gpu['multiprocessors']} multiprocessors"
             f"{f' at up to {number(clock / 1e9)} GHz' if (clock := gpu.get('clock')) else ''}, {gpu['memory'] / 2**30:.0f} GiB, L2 {gpu['l2'] / 2**20:.0f} MiB" if gpu else "none"),
            ("driver, CUDA of PyTorch", f"{gpu['driver']}, {gpu['cuda']}" if gpu else ""), ("nvcc", found["nvcc"]), ("system", found["system"]),
            ("processor", f"{found['processor']}, {found['cores']} cores"), ("compiler", found["compiler"]),
            ("Python", ", ".join([found["python"], *(f"{name} {version}" for name, version in found["packages"].items())])),
            ("Node, CMake", f"{found['node'] or 'none'}, {found['cmake'] or 'none'}")]
    return markdown_table(["machine", ""], [row for row in rows if row[1]])


def steps(report):
    return markdown_table(["step", "result", "", "s"],
                          [(step["name"], f"**{step['status']}**" if step["fatal"] else step["status"], step["note"], f"{step['seconds']:.0f}")
                           for step in report["steps"]])


def missing(report):
    """What did not run, and why."""
    lines = [f"- {step['name']}: {step['status']}, {step['note']}" for step in report["steps"] if step["status"] not in ("passed", "failed")]
    left_out = (report["peft"] or {}).get("left out", [])
    lines += [f"- PEFT: {name} needs a GPU" for name in left_out]
    times = report["times"] or {}
    lines += [f"- times, not measured: {'; '.join(names)}" for names in [times.get("not measured")] if names]
    lines += [f"- times: {note}" for note in times.get("notes", [])]
    return "\n".join(lines)


def wrong(report):
    lines = report["failures"]
    more = [f"- and {len(lines) - 50} more, in report.json"] if len(lines) > 50 else []
    return "\n".join([f"- {line}" for line in lines[:50]] + more)


def correctness(report):
    found = report["peft"]
    if found is None:
        return ""

    def part(kind):
        if kind not in found["closest"]:
            return ""
        value = found["closest"][kind]
        return "no number" if value is None else f"{value:.2g}"

    kinds = list(found["closest"])
    results = ["y", "gradient of c", "gradient of x"]
    kernels = list(dict.fromkeys(kind.removesuffix(" y") for kind in kinds if kind.endswith(" y")))
    rows = [(kernel, *(f"{part(f'{kernel} {result}')}, {part(f'{kernel} {result}, norm')}" for result in results)) for kernel in kernels]
    others = [(kind, part(kind)) for kind in kinds if not any(kind.startswith(f"{kernel} ") for kernel in kernels)]
    return "\n\n".join([
        f"Random inputs of seed {found['seed']} (`--seed {found['seed']}` repeats them), against PEFT's layer in float64. The limits are derived "
        "(`scripts/gpu/limits.py`). Each cell: the largest error of a number as a part of its limit, and the norm of the error as a part of its limit.",
        markdown_table(["kernel, format", *results], rows), markdown_table(["other comparisons", "error / limit"], others)])


def goals(report):
    rows = []
    for goal in report["goals"]:
        missed = [case for case in goal["cases"] if not case["met"]]
        shown = missed or goal["cases"]
        values = "; ".join(f"{case['case']}{', from Python' if case['variant'] == 'eager' else ''}: {number(case['value'])}{FEW if case['few'] else ''}"
                           for case in shown)
        parts = [f"{len(missed)} of {len(goal['cases'])} missed. {values}" if missed else values]
        if goal["not measured"]:
            parts.append(f"Not measured: {'; '.join(goal['not measured'])}" if goal["cases"] else f"none of {len(goal['not measured'])} cases")
        rows.append((goal["goal"], f"**{goal['status']}**" if goal["status"] == "missed" else goal["status"], ". ".join(part for part in parts if part)))
    return markdown_table(["goal", "", "cases"], rows) + few_note(any(case["few"] for goal in report["goals"] for case in goal["cases"]))


def ceilings(report):
    found = (report["times"] or {}).get("ceilings") or {}
    rows = [(f"copy of {found['copied bytes'] / 2**20:.0f} MiB, read and written", f"{found['copy'] / 1e12:.3g} TB/s")] if "copy" in found else []
    rows += [(f"product of {found['size of the products']}×{found['size of the products']}, {kind}", f"{found[kind] / 1e12:.3g} TFLOP/s")
             for kind in ("float32", "TF32", "bfloat16") if kind in found]
    return markdown_table(["ceiling", "measured"], rows) if rows else ""


def cell(times, variant):
    found = times.get(variant)
    if found is None:
        return ""
    low, high = found["quartiles"]
    return f"{micro(found['median'])} ({micro(low)}–{micro(high)}){FEW if is_few(found) else ''}"


def times_tables(cases, variant):
    """One table for each mode, a row for each size."""
    parts = []
    for mode in ("forward", "backward", "training"):
        of_mode = sorted((case for case in cases if case["mode"] == mode), key=lambda case: (case["d"], case["tokens"]))
        names = list(dict.fromkeys(name for case in of_mode for name, times in case["times"].items() if variant in times))
        if names:
            rows = [(case["d"], case["tokens"], *(cell(case["times"].get(name, {}), variant) for name in names)) for case in of_mode]
            title = {"forward": "Forward", "backward": "Backward of the branch alone", "training": "Forward and backward"}[mode]
            few = any(is_few(times[variant]) for case in of_mode for times in case["times"].values() if variant in times)
            parts.append(f"{title}:\n\n{markdown_table(['d', 'T', *names], rows)}{few_note(few)}")
    return "\n\n".join(parts)


def roofline(report):
    """The branch's part of the memory roofline."""
    times = report["times"]
    if not times or "copy" not in (times["ceilings"] or {}):
        return ""
    bandwidth, rows = times["ceilings"]["copy"], []
    for case in sorted(times["sizes"], key=lambda case: (case["d"], case["tokens"], case["mode"])):
        if case["mode"] == "training":
            continue
        least = floor(case, bandwidth)
        kernels = [kernel for kernel in KERNELS if f"{kernel} bfloat16" in case["times"]]
        found = medians(case["times"], [f"{kernel} bfloat16" for kernel in kernels])
        of_kernel = dict(zip(kernels, found[0])) if found else {}
        cells = []
        for kernel in KERNELS:
            value = of_kernel.get(kernel)
            cells += ["", ""] if value is None else [number(value / least), f"{100 * least / value:.0f} %"]
        rows.append((case["d"], case["tokens"], case["mode"], micro(least), *cells))
    titles = ["d", "T", "", "floor µs", *(title for kernel in KERNELS for title in (f"{kernel} / floor", "roofline"))]
    text = "bfloat16. The floor: each activation read and written once, at the measured copy bandwidth. Roofline: achieved part of that bandwidth."
    return f"{text}\n\n{markdown_table(titles, rows)}"


def bound_table(report):
    """How close the kernels come to the bounds of shared memory and arithmetic, beside the memory floor."""
    gpu, times = report["machine"]["gpu"], report["times"] or {}
    bandwidth = (times.get("ceilings") or {}).get("copy")
    if not gpu or not gpu.get("clock"):
        return ""
    rows = []
    for case in sorted(times.get("sizes", []), key=lambda case: (case["d"], case["tokens"])):
        found = {kernel: seconds(case["times"], f"{kernel} bfloat16") for kernel in BOUND_KERNELS}
        if case["mode"] != "forward" or not any(found.values()):
            continue
        cells = []
        for kernel, measured in found.items():
            shared, arithmetic = bounds(case["d"], case["tokens"], kernel, gpu)
            achieved = f"{100 * max(shared, arithmetic) / measured:.0f} %" if measured else ""
            cells += [f"{micro(shared)} / {micro(arithmetic)}", micro(measured), achieved]
        rows.append((case["d"], case["tokens"], micro(bandwidth and floor(case, bandwidth)), *cells))
    if not rows:
        return ""
    titles = ["d", "T", "floor µs", *(title for kernel in BOUND_KERNELS for title in (f"{kernel}: shared memory / arithmetic µs", "measured µs", "achieved"))]
    text = (f"Forward, bfloat16. Lower bounds from the bytes of shared memory and the float32 instructions of a call (`scripts/gpu/bounds.py`), at "
            f"{gpu['multiprocessors']} multiprocessors and {gpu['clock'] / 1e9:.3g} GHz. Achieved: the larger bound as a part of the measured time.")
    return f"{text}\n\n{markdown_table(titles, rows)}"


def beside_layer(report):
    """What the branch adds to the frozen layer, beside PEFT."""
    rows = []
    for case in sorted((report["times"] or {}).get("sizes", []), key=lambda case: (case["d"], case["tokens"], case["mode"])):
        of_kernels = [kernel for kernel in ("token", "tile") if f"{kernel} bfloat16" in case["times"]]
        names = [f"{name} bfloat16" for name in ("frozen", "LoRA", *of_kernels)]
        found, peft = medians(case["times"], names), case["times"].get("PEFT FourierFT bfloat16", {}).get("eager")
        if case["mode"] == "backward" or not of_kernels or found is None or peft is None:
            continue
        frozen, lora, *branches = found[0]
        best, by_kernel, peft = min(branches), dict(zip(of_kernels, branches)), peft["median"]
        from_python = min(case["times"][f"{kernel} bfloat16"]["eager"]["median"] for kernel in of_kernels)
        rows.append((case["d"], case["tokens"], "forward" if case["mode"] == "forward" else "forward + backward", micro(frozen),
                     micro(by_kernel.get("token")), micro(by_kernel.get("tile")), micro(lora - frozen), f"{100 * best / frozen:.0f} %",
                     number((frozen + best) / lora), number(peft / (frozen + best)),
                     number(peft / (case["times"]["frozen bfloat16"]["eager"]["median"] + from_python))))
    if not rows:
        return ""
    titles = ["d", "T", "", "frozen µs", "`token` µs", "`tile` µs", "LoRA adds µs", "branch / frozen", "frozen + branch / LoRA",
              "PEFT FourierFT / frozen + branch", "the same, all from Python"]
    text = ("bfloat16, the faster of `token` and `tile` in the last four columns. All times of a row are of CUDA graphs, or all are from Python if one of them "
            "could not be captured. PEFT FourierFT is always called from Python, because a CUDA graph cannot hold it: the last column compares it with "
            "calls from Python. PEFT's adapters are in bfloat16 too, which is faster than its default, float32.")
    return f"{text}\n\n{markdown_table(titles, rows)}"


METRICS = [
    ("gpu__time_duration.sum", "time"), ("dram__throughput.avg.pct_of_peak_sustained_elapsed", "DRAM"),
    ("lts__throughput.avg.pct_of_peak_sustained_elapsed", "L2"), ("l1tex__throughput.avg.pct_of_peak_sustained_active", "L1, shared"),
    ("sm__throughput.avg.pct_of_peak_sustained_elapsed", "SM"), ("sm__warps_active.avg.pct_of_peak_sustained_active", "occupancy"),
    ("launch__registers_per_thread", "registers"), ("launch__block_size", "block"), ("launch__grid_size", "grid"),
    ("l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "bank conflicts"), ("dram__bytes.sum", "DRAM bytes"), ("smsp__inst_executed.sum", "instructions"),
]


def counters(report):
    rows = []
    for kernel in report["counters"]:
        metrics = kernel["metrics"]
        cells = [f"{number(metrics[name][0])} {metrics[name][1]}".strip() if name in metrics else "" for name, _ in METRICS]
        stalls = sorted(((value[0], match[1]) for name, value in metrics.items() if (match := re.search(r"issue_stalled_(\w+?)_per_issue_active", name))),
                        reverse=True)[:3]
        rows.append((kernel["call"], f"`{kernel['name']}`", *cells, ", ".join(f"{name} {value:.2g}" for value, name in stalls)))
    return markdown_table(["call", "kernel", *(title for _, title in METRICS), "most stalls per instruction"], rows) if rows else ""


def compiled(report):
    rows = [(f"`{kernel['name']}`", kernel["registers"], kernel["spills"]) for kernel in report["compiled"]]
    return markdown_table(["kernel", "registers", "bytes spilled"], rows) if rows else ""


def node_rows(report):
    rows = []
    for row in report["rows"]:
        levels = " ".join(f"{level['level']} {level['status']}" for level in row["levels"]) if row["status"] in ("passed", "failed") else ""
        rows.append((row["backend"], row["status"], levels, row["note"]))
    return f"The small cases (`--quick`).\n\n{markdown_table(['backend', 'result', 'levels', ''], rows)}" if rows else ""


def markdown(report):
    """The whole report."""
    gpu = report["machine"]["gpu"]
    times = report["times"] or {}
    measured = "Microseconds, median (quartiles), "
    parts = [
        f"# The CUDA kernels on {gpu['name'] if gpu else 'a CPU'}, {report['date'][:10]}",
        HOST if report["host"] else "",
        verdict(report),
        "" if not report["quick"] else "`--quick`: no sanitizers, times, counters or rows of the conformance suite.",
        machine(report),
        section("Steps", steps(report)),
        section("Wrong numbers", wrong(report)),
        section("What did not run", missing(report)),
        section("Goals", goals(report)),
        section("Ceilings", ceilings(report)),
        section("The branch and the memory floor", roofline(report)),
        section("The branch and the bounds of the multiprocessors", bound_table(report)),
        section("The branch beside the layer", beside_layer(report)),
        section("Times in a CUDA graph", times_tables(times.get("sizes", []), "graph") and f"{measured}of one call. Inputs and weights rotate; the sets of "
                "large sizes exceed the L2 cache, those of small ones lie in it.", times_tables(times.get("sizes", []), "graph")),
        section("Times from Python, without a graph", times_tables(times.get("sizes", []), "eager") and f"{measured}including what Python takes to call.",
                times_tables(times.get("sizes", []), "eager")),
        section("Query, key and value: three branches", times_tables(times.get("branches", []), "graph") or times_tables(times.get("branches", []), "eager")),
        section("Counters", counters(report)),
        section("Compiled kernels", compiled(report)),
        section("Correctness against PEFT", correctness(report)),
        section("Rows of the conformance suite", node_rows(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


SHORT_NAMES = ["token", "tile", "frozen", "LoRA"]


def short_times(report):
    """The times of bfloat16, a line for each size: those of a line are all of CUDA graphs, or all from Python. PEFT FourierFT is always from Python."""
    lines = []
    for case in sorted((report["times"] or {}).get("sizes", []), key=lambda case: (case["mode"], case["d"], case["tokens"])):
        names = [name for name in SHORT_NAMES if f"{name} bfloat16" in case["times"]]
        found = medians(case["times"], [f"{name} bfloat16" for name in names])
        if case["mode"] == "backward" or found is None:
            continue
        values, few, variant = dict(zip(names, found[0])), found[1], found[2]
        peft = case["times"].get("PEFT FourierFT bfloat16", {}).get("eager")
        cells = [micro(values.get(name)) for name in SHORT_NAMES] + [micro(peft and peft["median"])]
        lines.append(f"{case['mode']:<10}{case['d']:>6}{case['tokens']:>6}" + "".join(f"{cell:>16}" for cell in cells)
                     + f"  {'graph' if variant == 'graph' else 'from Python'}{FEW if few else ''}")
    titles = [*SHORT_NAMES, "PEFT, Python"]
    return [f"{'µs':<10}{'d':>6}{'T':>6}" + "".join(f"{title:>16}" for title in titles), *lines] if lines else []


def table(report):
    """The short table that ends the output: steps, goals, and a few times."""
    lines = [f"{step['name']:<28}{step['status']:<13}{step['note'][:110]}" for step in report["steps"]]
    lines += [f"  {line}" for line in report["failures"][:20]]
    for goal in report["goals"]:
        values = [case["value"] for case in goal["cases"]]
        spread = f": {number(min(values))} … {number(max(values))}, {sum(case['met'] for case in goal['cases'])} of {len(values)} cases" if values else ""
        missing = f", {len(goal['not measured'])} not measured" if values and goal["not measured"] else ""
        lines.append(f"{goal['status']:<17}{goal['goal']}{spread}{missing}")
    lines += short_times(report)
    if report["host"]:
        lines.append("the CPU ran the kernels: this says nothing about a GPU")
    wrong_steps = ", ".join(step["name"] for step in report["steps"] if step["fatal"])
    lines.append("all numbers are right" if report["verdict"] == "right" else f"NOT RIGHT: {wrong_steps}")
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        found = json.load(file)
    print(table(found) if "--table" in sys.argv[2:] else markdown(found))
