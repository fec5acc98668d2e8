"""PEFT's layers of one size, made once: PEFT permutes all d² entries for each FourierFT layer, which takes seconds at d = 8192."""

import copy

import torch

import peft_layer
from branch import SCALING
from problem import Problem


class Layers:
    """Square layers of size d in bfloat16. Each of a list has its own weights, so that a cache does not hold those of another."""

    def __init__(self, device, d, n):
        self._device, self._shape, self._n = device, (d, d), n
        self._kinds, self._problem = {}, None

    def lora(self, count):
        return self._copies("LoRA", count, lambda: peft_layer.lora(self._shape, self._device, torch.bfloat16))

    def fourierft(self, count):
        return self._copies("FourierFT", count, lambda: peft_layer.fourierft(self._shape, self._device, self._n, SCALING, dtype=torch.bfloat16))

    def problem(self):
        """The FourierFT layer with its results in float64."""
        if self._problem is None:
            self._problem = Problem(self._device, self._shape, self._n, scaling=SCALING, layer=copy.deepcopy(self.fourierft(1)[0]))
        return self._problem

    def _copies(self, kind, count, make):
        found = self._kinds.setdefault(kind, [])
        while len(found) < count:
            found.append(copy.deepcopy(found[0]) if found else make())
        return found[:count]
