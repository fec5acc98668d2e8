"""What the C interface promises beyond the equations: adapters by row, branches, bad indices, NaN, alignment, repeatability, streams, CUDA graphs."""

import torch

import limits
from comparison import compare_branches
from kernel import INVALID_ROW, Branch, Gradient, KernelError, Rows
from problem import Outputs, Problem, bits, run_branches

KERNELS = ["token", "tile_1", "tile_2", "tile"]
SHAPE = (96, 80)
ON_GPU_ONLY = ["another stream", "a CUDA graph"]


def all_for(library):
    """(name, check) of all promises that the memory of this library can show."""
    checks = [("PEFT in float32", peft_in_float32), ("rows", rows), ("many rows", many_rows), ("the sum of adapters", sum_of_adapters),
              ("coefficients that include alpha", no_scalings), ("branches", branches), ("a bad row in the host's memory", bad_host_row), ("a bad row in the device's memory", bad_device_row),
              ("NaN", not_a_number), ("misaligned tensors", misaligned), ("the library's own workspace", own_workspace), ("20 equal runs", repeated),
              ("no tokens", no_tokens)]
    if library.memory == "cuda":
        checks += [(ON_GPU_ONLY[0], another_stream), (ON_GPU_ONLY[1], cuda_graph)]
    return checks


def left_out(library):
    return [] if library.memory == "cuda" else ON_GPU_ONLY


def shapes(library):
    """A small shape, and a usual one where there is a GPU."""
    return [SHAPE] if library.memory == "cpu" else [SHAPE, (1024, 768)]


def each(library, adapters=1, dtypes=(torch.float32, torch.bfloat16), scaling=300.0):
    """(name, problem, dtype, plan) of each shape, format and kernel."""
    for shape in shapes(library):
        problem = Problem(library.device, shape, 400, adapters, scaling)
        for kernel in KERNELS:
            plan = problem.plan(library, kernel)
            for dtype in dtypes:
                yield f"{shape[0]}x{shape[1]}, {str(dtype).removeprefix('torch.')}, {kernel}", problem, dtype, plan
            plan.close()


def compare(findings, name, problems, found, references, y_bases, x_base, x, grad_ys):
    compare_branches(findings, problems, found, references, y_bases, x_base, x, grad_ys, name, lambda _: "promises")


def peft_in_float32(findings, library):
    """PEFT as its users run it. Its product with ΔW sums d2 numbers, each rounded, so its limit is that of the kernel and 2^-24 d2 more."""
    for name, problem, dtype, plan in each(library, dtypes=(torch.float32,)):
        x, grad_y = problem.inputs(5, dtype)
        bases = [torch.zeros_like(t) for t in problem.bases(5, dtype)]
        found = problem.run(plan, x, grad_y, bases).y[0]
        problem.layer.float()
        expected = problem.layer(x).detach()
        problem.layer.double()
        limit = 2 * limits.loss(problem.shape) + 2.0**-24 * problem.shape[1]
        findings.within(float((found - expected).norm()), limit * float(expected.norm()), f"PEFT in float32, {name}", "PEFT in float32")


def rows(findings, library):
    """Each part of the tokens has its adapter, or none."""
    for name, problem, dtype, plan in each(library, adapters=3):
        for adapters in ([2, -1, 0, 1], [0, 1, 2, -1, -1, 0, 2, 2, 1, 0, -1, 1]):
            check_rows(findings, library, f"{len(adapters)} rows, {name}", problem, dtype, plan, torch.tensor(adapters), 12)


def many_rows(findings, library):
    """More rows than one launch takes."""
    for kernel in ("token", "tile"):
        problem = Problem(library.device, (24, 20), 30, adapters=3)
        plan = problem.plan(library, kernel)
        check_rows(findings, library, f"1100 rows, {kernel}", problem, torch.float32, plan, torch.randint(-1, 3, (1100,)), 2200)
        plan.close()


def check_rows(findings, library, name, problem, dtype, plan, indices, tokens):
    x, grad_y = problem.inputs(tokens, dtype)
    bases = problem.bases(tokens, dtype)
    of_tokens = indices.repeat_interleave(tokens // len(indices))
    reference = problem.reference(x, grad_y, of_tokens.to(library.device))
    for is_on_host in (True, False):
        where = "of the host" if is_on_host else "of the device"
        found = problem.run(plan, x, grad_y, bases, Rows(indices if is_on_host else indices.to(library.device), is_on_host))
        compare(findings, f"{name}, {where}", [problem], found, [reference], [bases[0]], bases[1], x, [grad_y])
        without = (of_tokens == -1).to(library.device)
        findings.check(bits(found.y[0][without]).equal(bits(bases[0][without])), f"tokens without an adapter keep their bits, {name}, {where}")


def sum_of_adapters(findings, library):
    for name, problem, dtype, plan in each(library, adapters=3):
        x, grad_y = problem.inputs(5, dtype)
        bases = problem.bases(5, dtype)
        found = problem.run(plan, x, grad_y, bases)
        compare(findings, f"the sum of 3 adapters, {name}", [problem], found, [problem.reference(x, grad_y)], [bases[0]], bases[1], x, [grad_y])


def no_scalings(findings, library):
    """The coefficients are multiplied by alpha = 256, which is exact; their gradient is then 256 times smaller."""
    for name, problem, dtype, plan in each(library, adapters=2, scaling=256.0):
        x, grad_y = problem.inputs(5, dtype)
        bases = problem.bases(5, dtype)
        found = problem.run(plan, x, grad_y, bases, scalings=False)
        found.grad_coefficients = [gradient * 256 for gradient in found.grad_coefficients]
        compare(findings, f"no scalings, {name}", [problem], found, [problem.reference(x, grad_y)], [bases[0]], bases[1], x, [grad_y])


def branches(findings, library):
    """Query, key and value, and as many as need several launches: the same x and entries, other coefficients; the gradient of x is the sum."""
    for name, problem, dtype, plan in each(library):
        problems = [problem, *(Problem(library.device, problem.shape, problem.n) for _ in range(5))]
        for tokens, count in ((1, 3), (6, 3), (3, 6)):
            x, grad_y = problem.inputs(tokens, dtype)
            grad_ys = [grad_y, *(problem.inputs(tokens, dtype)[1] for _ in range(count - 1))]
            y_bases = [problem.bases(tokens, dtype)[0] for _ in range(count)]
            x_base = problem.bases(tokens, dtype)[1]
            references = [p.reference(x, g) for p, g in zip(problems, grad_ys)]
            found = run_branches(plan, problems[:count], x, grad_ys, y_bases, x_base)
            compare(findings, f"{count} branches, T = {tokens}, {name}", problems, found, references, y_bases, x_base, x, grad_ys)


def bad_host_row(findings, library):
    """An index outside of -1 ... adapters-1 in the host's memory is refused, and nothing is queued."""
    for name, problem, dtype, plan in each(library, adapters=2):
        x, grad_y = problem.inputs(4, dtype)
        base = problem.bases(4, dtype)[0]
        for bad in (2, -2, 2**40, -2**63):
            y = base.clone()
            try:
                plan.forward(x, [Branch(problem.coefficients, problem.scalings, y)], Rows(torch.tensor([0, bad]), True))()
                status = 0
            except KernelError as error:
                status = error.status
            findings.check(status == INVALID_ROW, f"the row {bad} in the host's memory, {name}", f"expected status {INVALID_ROW}; received {status}")
            if library.memory == "cuda":
                torch.cuda.synchronize()
            findings.check(bits(y).equal(bits(base)), f"the row {bad} in the host's memory changes nothing, {name}")


def bad_device_row(findings, library):
    """Such an index in the device's memory makes only its own tokens NaN, and does not reach the gradient of the coefficients."""
    for name, problem, dtype, plan in each(library, adapters=2):
        x, grad_y = problem.inputs(8, dtype)
        bases = problem.bases(8, dtype)
        indices = torch.tensor([0, 2, -2, 1]).to(library.device)
        found = problem.run(plan, x, grad_y, bases, Rows(indices, False))
        is_bad = torch.tensor([False, False, True, True, True, True, False, False], device=library.device)
        for what, output in (("y", found.y[0]), ("gradient of x", found.grad_x)):
            findings.check(bool((output.isnan().all(dim=1) == is_bad).all() and (output.isnan().any(dim=1) == is_bad).all()),
                           f"bad rows in the device's memory make their tokens NaN, {what}, {name}")
        reference = problem.reference(x, grad_y, torch.tensor([0, 0, -1, -1, -1, -1, 1, 1], device=library.device))
        limit = limits.loss(problem.shape) * float(reference.grad_coefficients.norm())
        findings.within(float((found.grad_coefficients[0].double() - reference.grad_coefficients).norm()), limit,
                        f"bad rows in the device's memory and the gradient of c, {name}", "promises")


def not_a_number(findings, library):
    """NaN and infinity make their own token not finite, and leave the bits of the others."""
    for name, problem, dtype, plan in each(library):
        x, grad_y = problem.inputs(6, dtype)
        bases = problem.bases(6, dtype)
        right = problem.run(plan, x, grad_y, bases)
        for bad in (float("nan"), float("inf")):
            for token in (2, 5):
                bad_x, bad_g = x.clone(), grad_y.clone()
                bad_x[token, 3] = bad_g[token, 1] = bad
                found = problem.run(plan, bad_x, bad_g, bases)
                others = [t for t in range(6) if t != token]
                for what, output, before in (("y", found.y[0], right.y[0]), ("gradient of x", found.grad_x, right.grad_x)):
                    findings.check(bits(output[others]).equal(bits(before[others])), f"{bad} in token {token} leaves other tokens, {what}, {name}")
                    findings.check(not bool(output[token].isfinite().any()), f"{bad} in token {token} fills the token, {what}, {name}")
                findings.check(not bool(found.grad_coefficients[0].isfinite().any()), f"{bad} in token {token} reaches the gradient of c, {name}")


def misaligned(findings, library):
    """Tensors that begin one number after an aligned address."""
    for name, problem, dtype, plan in each(library, dtypes=(torch.float32, torch.float16, torch.bfloat16)):
        x, grad_y = problem.inputs(5, dtype)
        bases = problem.bases(5, dtype)
        found = problem.run(plan, x, grad_y, bases, offset=1)
        compare(findings, f"misaligned tensors, {name}", [problem], found, [problem.reference(x, grad_y)], [bases[0]], bases[1], x, [grad_y])


def own_workspace(findings, library):
    for name, problem, dtype, plan in each(library):
        x, grad_y = problem.inputs(7, dtype)
        bases = problem.bases(7, dtype)
        own, given = (problem.run(plan, x, grad_y, bases, own_workspace=is_given) for is_given in (False, True))
        findings.check(own.equals(given), f"the library's own workspace, {name}")


def repeated(findings, library):
    runs = 20 if library.memory == "cuda" else 3
    for name, problem, dtype, plan in each(library):
        x, grad_y = problem.inputs(33 if library.memory == "cuda" else 5, dtype)
        bases = problem.bases(len(x), dtype)
        first = problem.run(plan, x, grad_y, bases)
        equal = sum(problem.run(plan, x, grad_y, bases).equals(first) for _ in range(runs))
        findings.check(equal == runs, f"equal runs, {name}", f"{equal} of {runs}")


def no_tokens(findings, library):
    """Without tokens the gradient of the coefficients is zero."""
    for name, problem, dtype, plan in each(library):
        found = problem.run(plan, *problem.inputs(0, dtype), problem.bases(0, dtype))
        findings.check(bool((found.grad_coefficients[0] == 0).all()), f"no tokens, {name}")


def another_stream(findings, library):
    for name, problem, dtype, plan in each(library):
        x, grad_y = problem.inputs(9, dtype)
        bases = problem.bases(9, dtype)
        expected = problem.run(plan, x, grad_y, bases)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = problem.run(plan, x, grad_y, bases)
        torch.cuda.current_stream().wait_stream(stream)
        findings.check(found.equals(expected), f"another stream, {name}")


def cuda_graph(findings, library):
    """A captured forward and backward call, replayed on other inputs. The graph keeps rows that were in the host's memory."""
    for name, problem, dtype, plan in each(library, adapters=2):
        rows_of_host = Rows(torch.tensor([1, -1, 0]), True)
        x, grad_y = problem.inputs(9, dtype)
        y, grad_x = (torch.zeros_like(t) for t in problem.bases(9, dtype))
        grad_c = torch.full((problem.adapters, problem.n), float("nan"), device=library.device)
        workspace = torch.empty(plan.workspace(9), dtype=torch.uint8, device=library.device)
        calls = [plan.forward(x, [Branch(problem.coefficients, problem.scalings, y)], rows_of_host),
                 plan.backward(x, [Gradient(problem.coefficients, problem.scalings, grad_y, grad_c)], rows_of_host, grad_x, workspace)]
        for call in calls:
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        other_x, other_g = problem.inputs(9, dtype)
        bases = problem.bases(9, dtype)
        for to, values in ((x, other_x), (grad_y, other_g), (y, bases[0]), (grad_x, bases[1])):
            to.copy_(values)
        grad_c.fill_(float("nan"))
        kept = rows_of_host.adapters.clone()
        rows_of_host.adapters.fill_(-1)
        graph.replay()
        torch.cuda.synchronize()
        found = Outputs([y], [grad_c], grad_x, True)
        findings.check(found.equals(problem.run(plan, other_x, other_g, bases, Rows(kept, True))), f"a CUDA graph, {name}")
