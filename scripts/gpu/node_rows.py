"""The rows of the conformance suite whose runtimes use a GPU, through `fourierft conformance`."""

import contextlib
import json
import os
import shutil

BACKENDS = ["onnxruntime-cuda", "tfjs-node-gpu", "onnxruntime-webgpu", "tfjs-webgpu"]
PROGRAM = "packages/cli/dist/main.js"
LIBRARY = "packages/native/build/libfourierft-cuda.so"


def missing(root, node):
    """What is missing to run any row, or None."""
    if node is None:
        return "Node is not installed"
    if not os.path.exists(os.path.join(root, PROGRAM)):
        return "the packages are not built: npm run setup"
    return None


def command(root, backend):
    return ["node", os.path.join(root, PROGRAM), "conformance", "--backend", backend, "--quick", "--json"]


@contextlib.contextmanager
def placed(library, target):
    """A context in which the kernels' library is where @fourierft/native looks for it: its own, or a copy of the library that this check built, which is
    removed afterwards. Its value says which."""
    if os.path.exists(target):
        yield f"with {LIBRARY} as it was"
        return
    temporary = f"{target}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(library, temporary)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        yield f"the kernels' library was not copied: {error}"
        return
    try:
        yield f"with a copy of this check's library as {LIBRARY}"
    finally:
        os.remove(target)


def row(backend, status, output):
    """The verdict of one row: passed, failed (a level is wrong), missing (with what is missing) or did not run, and its levels. A runtime that used the CPU
    did not check a GPU."""
    start = output.find("[{")
    try:
        levels = json.JSONDecoder().raw_decode(output[start:])[0] if start >= 0 else []
    except json.JSONDecodeError:
        levels = []
    if not levels:
        lines = [line for line in output.splitlines() if line.strip()]
        note = "; ".join([f"exit status {status}", *lines[-1:]])
        return {"backend": backend, "status": "did not run", "note": note, "levels": []}
    kept = [{key: level[key] for key in ("level", "status", "maxError", "limit", "reason")} for level in levels]
    device = levels[0]["device"]
    failed = [str(level["level"]) for level in levels if level["status"] == "fail"]
    if failed:
        verdict, note = "failed", f"level {', '.join(failed)}"
    elif device == "unavailable":
        verdict, note = "missing", levels[0]["reason"]
    elif device == "cpu":
        verdict, note = "missing", "the runtime found no GPU and used the CPU"
    elif status != 0:
        verdict, note = "did not run", f"exit status {status} after its levels"
    else:
        verdict, note = "passed", f"{sum(level['status'] == 'pass' for level in levels)} levels on {device}"
    return {"backend": backend, "status": verdict, "note": note, "device": device, "levels": kept}
