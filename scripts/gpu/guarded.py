"""Tensors with margins that no kernel may write to."""

import torch

CANARY = 77  # exact in every format
MARGIN_BYTES = 256


class Guarded:
    """A contiguous copy of `values` between two margins. `offset` numbers further than an aligned address."""

    def __init__(self, values, offset=0):
        margin = MARGIN_BYTES // values.element_size()
        self._memory = torch.full((values.numel() + 2 * margin + offset,), CANARY, dtype=values.dtype, device=values.device)
        self._start, self._end = margin + offset, margin + offset + values.numel()
        self.tensor = self._memory[self._start:self._end].view(values.shape)
        self.tensor.copy_(values)

    def is_intact(self):
        """Whether the margins are unchanged."""
        return bool((self._memory[:self._start] == CANARY).all() and (self._memory[self._end:] == CANARY).all())


def poison(shape, dtype, device):
    """A tensor of NaN; of bytes that are NaN as float32 for uint8."""
    return torch.full(shape, 255 if dtype == torch.uint8 else float("nan"), dtype=dtype, device=device)
