"""Checks what this machine has. Writes its description as JSON, and prints the architecture to compile for: 90, say, or host.

    python machine.py FILE [--host]

Exits with 2 if something is missing that the check needs, with one line that names it. Optional tools are only described.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings


def first_line(command, pattern=".*"):
    """The first line of a program's output that matches, or None."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next((line.strip() for line in output.splitlines() if line.strip() and re.search(pattern, line)), None)


def package(name):
    """One of Python's packages, which is loaded: its version and None, or None and what is wrong."""
    if importlib.util.find_spec(name) is None:
        return None, f"Python's package {name} (pip install {name}; PYTHON chooses another Python)"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return getattr(importlib.import_module(name), "__version__", "of an unknown version"), None
    except Exception as error:  # whatever a package raises while it is loaded
        return None, f"Python's package {name}, which does not load ({one_line(error)})"


def one_line(error):
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def clock(found):
    """The highest clock of the multiprocessors in Hz, or None."""
    line = first_line(["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"], r"^\d+$")
    kilohertz = 1e3 * int(line) if line else getattr(found, "clock_rate", None)
    return kilohertz and 1e3 * kilohertz


def gpu(torch):
    """The current GPU as PyTorch sees it."""
    found = torch.cuda.get_device_properties(0)
    major, minor = torch.cuda.get_device_capability(0)
    return {
        "name": found.name,
        "architecture": f"{major}{minor}",
        "multiprocessors": found.multi_processor_count,
        "memory": found.total_memory,
        "clock": clock(found),
        "l2": getattr(found, "L2_cache_size", 0),
        "driver": first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "cuda": torch.version.cuda,
    }


def describe(host):
    """The description, and a list of what is missing."""
    missing = []
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        missing.append(f"the C++ compiler {compiler} (install it, or set CXX)")
    packages = {}
    for name in ("torch", "peft"):
        packages[name], problem = package(name)
        missing += [problem] if problem else []
    found = None
    if not host:
        if packages["torch"]:
            import torch

            if torch.cuda.is_available():
                try:
                    found = gpu(torch)
                except RuntimeError as error:
                    missing.append(f"an NVIDIA GPU that works ({one_line(error)})")
            else:
                build = "PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds none"
                missing.append(f"an NVIDIA GPU ({build}: check nvidia-smi, or use --host for the form without a GPU)")
        if shutil.which("nvcc") is None:
            missing.append("nvcc (install CUDA's compiler, or set CUDA_HOME)")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": first_line(["sh", "-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"]),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
        "compiler": first_line([compiler, "--version"]),
        "gpu": found,
        "nvcc": None if host else first_line(["nvcc", "--version"], "release"),
        "ncu": None if host else shutil.which("ncu"),
        "compute-sanitizer": None if host else shutil.which("compute-sanitizer"),
        "node": first_line(["node", "--version"]),
        "cmake": first_line(["cmake", "--version"]),
    }, missing


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("file")
    arguments.add_argument("--host", action="store_true")
    options = arguments.parse_args()
    description, missing = describe(options.host)
    if missing:
        print(f"missing: {'; '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    with open(options.file, "w", encoding="utf-8") as file:
        json.dump(description, file)
    print("host" if options.host else description["gpu"]["architecture"])


if __name__ == "__main__":
    main()
