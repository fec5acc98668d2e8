"""The rows of the conformance suite whose runtimes use a GPU, through `fourierft conformance`."""

import json
import os

BACKENDS = ["onnxruntime-cuda", "tfjs-node-gpu", "onnxruntime-webgpu", "tfjs-webgpu"]
PROGRAM = "packages/cli/dist/main.js"


def missing(root, node):
    """What is missing to run any row, or None."""
    if node is None:
        return "Node is not installed"
    if not os.path.exists(os.path.join(root, PROGRAM)):
        return "the packages are not built: npm run setup"
    return None


def command(root, backend):
    return ["node", os.path.join(root, PROGRAM), "conformance", "--backend", backend, "--json"]


def row(backend, status, output):
    """The verdict of one row: passed, failed, missing (with what is missing), and its levels. A runtime that used the CPU did not check a GPU."""
    start = output.find("[{")
    try:
        levels = json.JSONDecoder().raw_decode(output[start:])[0] if start >= 0 else []
    except json.JSONDecodeError:
        levels = []
    if not levels:
        lines = [line for line in output.splitlines() if line.strip()]
        return {"backend": backend, "status": "failed", "note": lines[-1] if lines else f"exit status {status}", "levels": []}
    kept = [{key: level[key] for key in ("level", "status", "maxError", "limit", "reason")} for level in levels]
    device = levels[0]["device"]
    failed = [str(level["level"]) for level in levels if level["status"] == "fail"]
    if failed or status != 0:
        verdict, note = "failed", f"level {', '.join(failed)}" if failed else f"exit status {status}"
    elif device == "unavailable":
        verdict, note = "missing", levels[0]["reason"]
    elif device == "cpu":
        verdict, note = "missing", "the runtime found no GPU and used the CPU"
    else:
        verdict, note = "passed", f"{sum(level['status'] == 'pass' for level in levels)} levels on {device}"
    return {"backend": backend, "status": verdict, "note": note, "device": device, "levels": kept}
