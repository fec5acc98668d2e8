"""Runs all steps of the check on a library that is built, and writes the report. check.sh starts it; docs/gpu.md describes the steps.

    python check.py --build FOLDER --machine FILE --out FOLDER [--library FILE] [--seed N] [--seconds N] [--quick] [--host]

Exits with 1 if a number is wrong, or if a step that has to show that numbers are right did not end.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import counters
import goals
import node_rows
import report
import sanitizers
from command import last_line, run
from json_file import read_json, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Limits of the steps on a GPU. C++ and PEFT have to end; the sanitizers and the rows must leave the measurements 90 seconds, and have at least 40.
CORRECTNESS_SECONDS, BESIDE_SECONDS, LEAST_BESIDE_SECONDS, TIMES_SECONDS, LEAST_TIMES_SECONDS, COUNTERS_SECONDS = 110, 75, 40, 170, 90, 45
ORDER = ["C++", "PEFT", "sanitizers", *sanitizers.TOOLS, "times", "counters", "Node", *(f"Node: {backend}" for backend in node_rows.BACKENDS)]
MAX_LOG = 8 * 2**20


class Check:
    """The options, the time that is left, and what the steps found."""

    def __init__(self, options, machine):
        self.options, self.machine = options, machine
        self._end = time.monotonic() + options.seconds
        self._log = []
        self.report = {
            "format": 2,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "host": options.host,
            "quick": options.quick,
            "machine": machine,
            "steps": [],
            "failures": [],
            "peft": None,
            "times": None,
            "counters": [],
            "rows": [],
            "compiled": compiled(options.build),
        }

    def left(self):
        return self._end - time.monotonic()

    def run(self, name, command, seconds):
        result = run(command, min(seconds, self.left()), ROOT)
        self._log.append(f"## {name}: {' '.join(command)}\n{result.output}\n")
        return result

    def python(self, program, *arguments):
        return [sys.executable, os.path.join(HERE, program), *arguments]

    def step(self, name, status, note, seconds=0.0, is_fatal=False):
        """Records a step. `is_fatal`: the whole check fails unless the status is passed."""
        self.report["steps"].append({"name": name, "status": status, "note": note, "seconds": seconds, "fatal": is_fatal and status != "passed"})
        print(f"{name}: {status}{f' ({note})' if note else ''}", flush=True)

    def result_file(self, name):
        """The path of a step's result, without that of an earlier run."""
        path = os.path.join(self.options.build, name)
        if os.path.exists(path):
            os.remove(path)
        return path

    def log(self):
        return "".join(self._log)[-MAX_LOG:]

    def is_right(self):
        return not any(step["fatal"] for step in self.report["steps"])


def compiled(build):
    """The registers and spills of each kernel, which ptxas printed while the library was built."""
    try:
        with open(os.path.join(build, "build.log"), encoding="utf-8") as file:
            parts = file.read().split("Compiling entry function")[1:]
    except OSError:
        return []
    kernels = []
    for part in parts:
        name, registers, spills = (re.search(pattern, part) for pattern in (r"'(\w+)'", r"Used (\d+) registers", r"(\d+) bytes spill stores"))
        if name and registers:
            plain = run(["c++filt", name[1]], 10)
            kernels.append({"name": plain.output.strip() if plain.status == 0 else name[1], "registers": int(registers[1]),
                            "spills": int(spills[1]) if spills else 0})
    return kernels


def reason(check, program, package):
    """Why an optional program of CUDA does not run."""
    return "the CPU runs the kernels" if check.options.host else f"{program} is not installed; it is part of {package}"


def cpp(check):
    """The C++ tests against the equations in float64."""
    result = check.run("C++", [os.path.join(check.options.build, "fourierft-cuda-test")], CORRECTNESS_SECONDS)
    found = re.search(r"(\d+) checks, (\d+) failed", result.output)
    if result.is_cut_off:
        status, note = "cut off", f"after {result.seconds:.0f} s"
    elif result.status == 0 and found and found[1] != "0" and found[2] == "0":
        status, note = "passed", found[0]
    else:
        wrong = [line for line in result.output.splitlines() if line.startswith("FAILED")]
        check.report["failures"] += [f"C++: {line.removeprefix('FAILED ')}" for line in wrong[:50]]
        status, note = "failed", found[0] if found and found[2] != "0" else f"exit status {result.status}: {last_line(result.output)}"
    check.step("C++", status, note, result.seconds, is_fatal=True)


def peft_verdict(result, found):
    """Status and note of the comparison with PEFT. `found`: its result file, or None."""
    if found is None:
        return "cut off" if result.is_cut_off else "failed", f"exit status {result.status}: {last_line(result.output)}"
    unfinished = f", not checked: {', '.join(found['not checked'])}" if found["not checked"] else ""
    note = f"{found['checks']} checks, {found['failed']} failed, seed {found['seed']}{unfinished}"
    if found["failed"] > 0 or (result.status not in (0, 3) and not result.is_cut_off):
        return "failed", note if result.status == 1 else f"{note}; exit status {result.status}: {last_line(result.output)}"
    if unfinished or result.is_cut_off or found["checks"] == 0:
        return "cut off", note
    return "passed", note


def peft(check):
    """The comparison with PEFT's layer."""
    file = check.result_file("peft.json")
    seed = [] if check.options.seed is None else ["--seed", str(check.options.seed)]
    limit = min(CORRECTNESS_SECONDS, check.left())
    result = check.run("PEFT", check.python("correctness.py", check.options.library, file, "--seconds", f"{0.8 * limit:.0f}", *seed), limit)
    found = check.report["peft"] = read_json(file)
    if found is not None:
        check.report["failures"] += [f"PEFT: {line}" for line in found["failures"]]
    check.step("PEFT", *peft_verdict(result, found), result.seconds, is_fatal=True)


def beside_seconds(check):
    """The time of a sanitizer or a row."""
    return min(BESIDE_SECONDS, max(LEAST_BESIDE_SECONDS, check.left() - LEAST_TIMES_SECONDS - COUNTERS_SECONDS))


def sanitizer(check, tool):
    command = sanitizers.command(check.machine["compute-sanitizer"], tool, os.path.join(check.options.build, "fourierft-cuda-test"))
    result = check.run(tool, command, beside_seconds(check))
    status, note = ("cut off", f"after {result.seconds:.0f} s") if result.is_cut_off else sanitizers.verdict(result.status, result.output)
    check.step(tool, status, note, result.seconds, is_fatal=status == "failed")


def node(check, backend):
    library = contextlib.nullcontext("")
    if backend == "onnxruntime-cuda" and not check.options.host:
        library = node_rows.placed(check.options.library, os.path.join(ROOT, node_rows.LIBRARY))
    with library as of_library:
        result = check.run(backend, node_rows.command(ROOT, backend), beside_seconds(check))
    if result.is_cut_off:
        row = {"backend": backend, "status": "cut off", "note": f"after {result.seconds:.0f} s", "levels": []}
    else:
        row = node_rows.row(backend, result.status, result.output)
    if of_library:
        row["note"] += f"; {of_library}"
    check.report["rows"].append(row)
    check.step(f"Node: {backend}", row["status"], row["note"], result.seconds, is_fatal=row["status"] == "failed")


def times_verdict(result, found):
    """Status and note of the times. `found`: their result file, or None. They fail if a kernel that was timed is wrong, or if their program fails."""
    if found is None:
        return "cut off" if result.is_cut_off else "failed", last_line(result.output)
    note = f"{len(found['sizes']) + len(found['branches'])} cases, {found['checks']} checks, {len(found['wrong'])} failed"
    missing = f", {len(found['not measured'])} not measured" if found["not measured"] else ""
    if found["wrong"]:
        return "failed", f"{note}{missing}"
    if result.is_cut_off or missing:
        return "cut off", f"{note}{missing}"
    return ("passed", note) if result.status == 0 else ("failed", f"{note}; exit status {result.status}: {last_line(result.output)}")


def times(check):
    file = check.result_file("times.json")
    reserve = 0 if check.options.host else COUNTERS_SECONDS
    limit = min(TIMES_SECONDS, check.left() - reserve)
    if limit < 20:
        check.step("times", "cut off", "no time was left")
        return
    samples = ["--samples", "3"] if check.options.host else []
    result = check.run("times", check.python("times.py", check.options.library, file, "--seconds", f"{limit - 15:.0f}", *samples), limit)
    found = check.report["times"] = read_json(file)
    wrong = found["wrong"] if found else []
    check.report["failures"] += [f"times: {line}" for line in wrong]
    # Times that were not measured are named; a wrong number is fatal.
    check.step("times", *times_verdict(result, found), result.seconds, is_fatal=bool(wrong))


def count(check):
    ncu = check.machine["ncu"]
    if ncu is None:
        check.step("counters", "missing", reason(check, "ncu", "NVIDIA's Nsight Compute"))
        return
    # An older or newer ncu may not know a single counter; the sections are always there.
    for with_metrics in (True, False):
        command = counters.command(ncu, sys.executable, os.path.join(HERE, "launch.py"), check.options.library, with_metrics)
        result = check.run("counters", command, COUNTERS_SECONDS)
        found = counters.parse(result.output)
        if found:
            break
    check.report["counters"] = found
    with open(os.path.join(check.options.out, "counters.csv"), "w", encoding="utf-8") as file:
        file.write(result.output)
    check.step("counters", "passed" if found else "cut off" if result.is_cut_off else "did not run",
               f"{len(found)} kernels" if found else counters.problem(result.output), result.seconds)


def write(check):
    """report.json, report.md, the outputs of the steps, and the table that ends the output."""
    check.report["steps"].sort(key=lambda step: ORDER.index(step["name"]))
    check.report["rows"].sort(key=lambda row: node_rows.BACKENDS.index(row["backend"]))
    check.report["goals"] = goals.goals_of(check.report["times"])
    check.report["verdict"] = "right" if check.is_right() else "wrong"
    write_json(os.path.join(check.options.out, "report.json"), check.report)
    with open(os.path.join(check.options.out, "report.md"), "w", encoding="utf-8") as file:
        file.write(report.markdown(check.report))
    with open(os.path.join(check.options.out, "steps.log"), "w", encoding="utf-8") as file:
        file.write(check.log())
    shutil.copyfile(os.path.join(check.options.build, "build.log"), os.path.join(check.options.out, "build.log"))
    print(f"\n{report.table(check.report)}")


def together(check, steps):
    """Runs steps at the same time."""
    with ThreadPoolExecutor(max(2, min(len(steps), os.cpu_count() or 2))) as pool:
        for future in [pool.submit(step, check) for step in steps]:
            future.result()


def main():
    arguments = argparse.ArgumentParser()
    for name in ("--build", "--machine", "--out"):
        arguments.add_argument(name, required=True)
    arguments.add_argument("--library", help="default: that of the build folder")
    arguments.add_argument("--seed", type=int)
    arguments.add_argument("--seconds", type=float, default=3600)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--host", action="store_true")
    options = arguments.parse_args()
    options.library = options.library or os.path.join(options.build, "libfourierft-cuda.so")
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
    with open(options.machine, encoding="utf-8") as file:
        check = Check(options, json.load(file))

    # First what has to end, so that nothing else takes the GPU's time from it. Times are measured alone.
    together(check, [cpp, peft])
    if not options.quick:
        beside = []
        if check.machine["compute-sanitizer"]:
            beside += [lambda check, tool=tool: sanitizer(check, tool) for tool in sanitizers.TOOLS]
        else:
            check.step("sanitizers", "missing", reason(check, "compute-sanitizer", "NVIDIA's CUDA toolkit"))
        problem = node_rows.missing(ROOT, check.machine["node"])
        if problem is None:
            beside += [lambda check, backend=backend: node(check, backend) for backend in node_rows.BACKENDS]
        else:
            check.step("Node", "missing", problem)
        together(check, beside)
        times(check)
        count(check)
    write(check)
    sys.exit(0 if check.is_right() else 1)


if __name__ == "__main__":
    main()
