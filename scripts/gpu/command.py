"""Runs a program with a time limit."""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

MAX_OUTPUT = 2**21  # characters that are kept, from the end


@dataclass
class Result:
    status: int
    output: str  # standard output and standard error together
    seconds: float
    is_cut_off: bool


def run(command, seconds, cwd=None):
    """Runs the command for at most so many seconds; then ends it and every program that it started."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as file:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True)
        except OSError as error:
            return Result(127, str(error), 0, False)
        is_cut_off = False
        try:
            process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            is_cut_off = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        file.seek(0)
        output = file.read().decode(errors="replace")[-MAX_OUTPUT:]
    return Result(process.returncode, output, time.monotonic() - started, is_cut_off)


def last_line(output):
    """The last line of an output that is not blank."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no output")
