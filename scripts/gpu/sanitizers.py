"""compute-sanitizer on small cases of the C++ test."""

import re

TOOLS = ["memcheck", "racecheck", "initcheck", "synccheck"]
FOUND = 86  # the exit status that stands for a finding; programs use others
SUMMARY = re.compile(r"(ERROR SUMMARY|RACECHECK SUMMARY): (\d+)")
# What the sanitizers print, after their "=========", if they cannot work on this device.
REFUSED = re.compile(r"^=+ .*(device not supported|internal sanitizer error|failed to initialize).*", re.I | re.M)
# What they print if a kernel is wrong. A CUDA call that failed is no finding: every one fails on a device that the sanitizer does not know.
FINDING = re.compile(r"^=+ +(?:\w+: )?(?:Invalid (?:__\w+__|PC)|Misaligned |Out-of-range |Race reported|Potential \w+ hazard|Uninitialized __\w+__"
                     r"|Barrier error).*", re.M)


def command(sanitizer, tool, program):
    return [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), program, "--small"]


def verdict(status, output):
    """passed, failed (a finding, or a wrong number) or did not run, and a line that says why."""
    refused = REFUSED.search(output)
    summary = SUMMARY.search(output)
    checks = re.search(r"(\d+) checks, (\d+) failed", output)
    lines = [line.strip("= ") for line in output.splitlines() if line.strip("= ")]
    last = lines[-1] if lines else f"exit status {status}"
    # Programs fail in every way on a device that the sanitizer does not know.
    finding = FINDING.search(output)
    if refused and not finding:
        return "did not run", refused[0].strip("= ")
    if finding or status == FOUND or (summary and summary[2] != "0") or (checks and checks[2] != "0"):
        return "failed", f"{summary[0] if summary else finding[0].strip('= ') if finding else last}{f'; {checks[0]}' if checks else ''}"
    if status == 0 and summary and checks and checks[1] != "0":
        return "passed", f"{summary[0]}; {checks[0]}"
    return "did not run", last
