"""A layer of PEFT with random coefficients, its results in float64, and the same call of the library."""

import math
from dataclasses import dataclass

import torch

import limits
import peft_layer
from guarded import Guarded, poison
from kernel import Branch, Gradient, Plan


@dataclass
class Reference:
    """The results of one branch in float64, without what the outputs contained before."""

    y: torch.Tensor
    grad_coefficients: torch.Tensor
    grad_x: torch.Tensor


class Problem:
    """PEFT's FourierFT layer, with one or several adapters on the same entries: a new one, or `layer`, which is changed."""

    def __init__(self, device, shape, n, adapters=1, scaling=300.0, seed=777, layer=None):
        self.shape, self.n, self.adapters, self.device = shape, min(n, shape[0] * shape[1]), adapters, device
        self.layer = layer or peft_layer.fourierft(shape, device, self.n, scaling, seed, adapters)
        self.rows, self.columns = self.layer.indices["0"]
        self.coefficients = torch.stack([self.layer.fourierft_spectrum[str(a)].detach() for a in range(adapters)]).float()
        self.scalings = torch.full((adapters,), scaling, device=device)
        self.layer.get_base_layer().weight.data.zero_()  # so that the layer computes ΔW x
        self.layer.double()  # in place; the numbers stay the same
        self.norm = limits.norm_of_delta(self.coefficients, self.scalings, shape)

    def plan(self, library, kernel):
        return Plan(library, self.rows, self.columns, self.shape, kernel)

    def inputs(self, tokens, dtype):
        """x and grad_y, of a normal distribution."""
        return tuple(torch.randn(tokens, d, device=self.device).to(dtype) for d in (self.shape[1], self.shape[0]))

    def bases(self, tokens, dtype):
        """What y and grad_x contain before a call: as large as what is added to them."""
        sizes = [self.norm / math.sqrt(d) for d in self.shape]
        return tuple((size * torch.randn(tokens, d, device=self.device)).to(dtype) for size, d in zip(sizes, self.shape))

    def reference(self, x, grad_y, adapter_of_token=None):
        """PEFT's own results in float64. Without `adapter_of_token` all adapters are active; otherwise each token has one, or none (-1)."""
        names = [str(a) for a in range(self.adapters)]
        result = Reference(*(torch.zeros(size, dtype=torch.float64, device=self.device)
                             for size in ((len(x), self.shape[0]), (self.adapters, self.n), (len(x), self.shape[1]))))
        groups = [(names, slice(None))]
        if adapter_of_token is not None:
            groups = [([str(a)], (adapter_of_token == a).nonzero()[:, 0]) for a in range(self.adapters)]
        for active, tokens in groups:
            with peft_layer.in_float64():
                self.layer.set_adapter(active)
                leaf = x[tokens].double().requires_grad_()
                y = self.layer(leaf)
                gradients = torch.autograd.grad(y, [leaf, *(self.layer.fourierft_spectrum[name] for name in active)], grad_y[tokens].double())
            result.y[tokens] = y.detach()
            result.grad_x[tokens] = gradients[0]
            for name, gradient in zip(active, gradients[1:]):
                result.grad_coefficients[int(name)] = gradient
        return result

    def run(self, plan, x, grad_y, bases, rows=None, scalings=True, offset=0, own_workspace=True):
        """Calls the library on copies with margins. Returns the outputs, and whether all margins are unchanged."""
        return run_branches(plan, [self], x, [grad_y], [bases[0]], bases[1], rows, scalings, offset, own_workspace)


@dataclass
class Outputs:
    y: list
    grad_coefficients: list
    grad_x: torch.Tensor
    is_intact: bool

    def all(self):
        return [*self.y, *self.grad_coefficients, self.grad_x]

    def equals(self, other):
        """Whether both have the same bits, NaN included."""
        return all(bits(mine).equal(bits(theirs)) for mine, theirs in zip(self.all(), other.all()))


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


def run_branches(plan, problems, x, grad_ys, y_bases, x_base, rows=None, scalings=True, offset=0, own_workspace=True):
    """One forward and one backward call for several layers with the same entries. Outputs that are written start as NaN."""
    device = x.device
    x = Guarded(x, offset)
    grad_ys = [Guarded(grad_y, offset) for grad_y in grad_ys]
    ys = [Guarded(base, offset) for base in y_bases]
    grad_cs = [Guarded(poison((p.adapters, p.n), torch.float32, device)) for p in problems]
    grad_x = Guarded(x_base, offset)
    workspace = Guarded(poison((plan.workspace(len(x.tensor), len(problems)),), torch.uint8, device)) if own_workspace else None
    # Without scalings the coefficients include them.
    factors = [(p.coefficients, p.scalings) if scalings else (p.coefficients * p.scalings[:, None], None) for p in problems]
    plan.forward(x.tensor, [Branch(*cs, y.tensor) for cs, y in zip(factors, ys)], rows)()
    plan.backward(x.tensor, [Gradient(*cs, g.tensor, gc.tensor) for cs, g, gc in zip(factors, grad_ys, grad_cs)], rows, grad_x.tensor,
                  workspace and workspace.tensor)()
    guarded = [x, *grad_ys, *ys, *grad_cs, grad_x, *([workspace] if workspace else [])]
    return Outputs([y.tensor for y in ys], [gc.tensor for gc in grad_cs], grad_x.tensor, all(g.is_intact() for g in guarded))
