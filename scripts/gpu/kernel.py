"""The library of the CUDA kernels, through its C interface (packages/native/cuda/fourierft-cuda.h), on tensors of PyTorch. No other binding."""

import ctypes
from dataclasses import dataclass
from typing import Optional

import torch

ABI_VERSION = 2
KERNELS = {"token": 1, "tile": 2, "tile_1": 3, "tile_2": 4}
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
SHARED_MEMORY, INVALID_ROW = 5, 7
STATUSES = ["OK", "INVALID_SHAPE", "INVALID_ENTRY", "OUT_OF_MEMORY", "INVALID_ARGUMENT", "SHARED_MEMORY", "FAILED", "INVALID_ROW"]


class _Rows(ctypes.Structure):
    _fields_ = [("adapters", ctypes.c_void_p), ("count", ctypes.c_int64), ("is_on_host", ctypes.c_int32)]


class _Branch(ctypes.Structure):
    _fields_ = [("coefficients", ctypes.c_void_p), ("scalings", ctypes.c_void_p), ("y", ctypes.c_void_p)]


class _Gradient(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("coefficients", "scalings", "grad_y", "grad_coefficients")]


class KernelError(RuntimeError):
    """A function of the library returned another status than OK."""

    def __init__(self, function, status, problem):
        name = STATUSES[status] if 0 <= status < len(STATUSES) else "unknown"
        super().__init__(f"{function}: status {status}, {name}{f': {problem}' if problem else ''}")
        self.status = status


@dataclass(frozen=True)
class Rows:
    """The adapters of equal parts of the tokens: int64, in the device's memory or in the host's."""

    adapters: torch.Tensor
    is_on_host: bool


@dataclass(frozen=True)
class Branch:
    """One layer of a forward call. y is added to."""

    coefficients: torch.Tensor  # float32 [adapters, n]
    scalings: Optional[torch.Tensor]  # float32 [adapters]; None: the coefficients include alpha
    y: torch.Tensor  # [tokens, d1]


@dataclass(frozen=True)
class Gradient:
    """One layer of a backward call. grad_coefficients is written."""

    coefficients: torch.Tensor
    scalings: Optional[torch.Tensor]
    grad_y: torch.Tensor
    grad_coefficients: torch.Tensor


class Library:
    """An open library. `memory` is "cuda", or "cpu" for the form that the CPU runs."""

    def __init__(self, path):
        self._library = ctypes.CDLL(path)
        version = self._library.fourierft_cuda_abi_version()
        if version != ABI_VERSION:
            raise SystemExit(f"{path}: expected version {ABI_VERSION} of the interface; received {version}: build it again")
        self._library.fourierft_cuda_memory_kind.restype = ctypes.c_char_p
        self._library.fourierft_cuda_problem.restype = ctypes.c_char_p
        self._library.fourierft_cuda_workspace.restype = ctypes.c_size_t
        self.memory = self._library.fourierft_cuda_memory_kind().decode()
        self.device = torch.device(self.memory)

    def function(self, name):
        """One of the library's functions."""
        return getattr(self._library, name)

    def check(self, name, status):
        """Throws if a function returned another status than OK."""
        if status != 0:
            raise KernelError(name, status, self._library.fourierft_cuda_problem().decode())


class Plan:
    """A plan for entries (rows[l], columns[l]) of a layer of shape (d1, d2), for one of KERNELS. Its calls go to the stream that is PyTorch's
    current one at the time of the call."""

    def __init__(self, library, rows, columns, shape, kernel):
        self._library = library
        self._plan = ctypes.c_void_p()
        rows, columns = (numbers.to("cpu", torch.int32).contiguous() for numbers in (rows, columns))
        create = library.function("fourierft_cuda_plan_create")
        library.check("fourierft_cuda_plan_create",
                      create(ctypes.c_uint32(shape[0]), ctypes.c_uint32(shape[1]), ctypes.c_uint32(len(rows)), _pointer(rows),
                             _pointer(columns), ctypes.c_int(KERNELS[kernel]), ctypes.byref(self._plan)))

    def close(self):
        self._library.function("fourierft_cuda_plan_destroy")(self._plan)
        self._plan = None

    def workspace(self, tokens, branches=1):
        """The bytes of the workspace that `backward` needs."""
        return self._library.function("fourierft_cuda_workspace")(self._plan, ctypes.c_int64(tokens), ctypes.c_int32(branches))

    def forward(self, x, branches, rows=None):
        """Returns a function that queues y += dW x for each branch."""
        array = (_Branch * len(branches))(*[_Branch(_address(b.coefficients), _address(b.scalings), _address(b.y)) for b in branches])
        return self._queued("fourierft_cuda_forward", (x, branches, rows), array, branches[0].coefficients, x, rows)

    def backward(self, x, branches, rows=None, grad_x=None, workspace=None):
        """Returns a function that queues the gradients. Without a workspace the library uses its own."""
        array = (_Gradient * len(branches))(
            *[_Gradient(_address(b.coefficients), _address(b.scalings), _address(b.grad_y), _address(b.grad_coefficients)) for b in branches])
        return self._queued("fourierft_cuda_backward", (x, branches, rows, grad_x, workspace), array, branches[0].coefficients, x, rows,
                            _pointer(grad_x), _pointer(workspace))

    def _queued(self, name, alive, array, coefficients, x, rows, *rest):
        # All arguments but the stream are converted once, so that a call from Python takes little time.
        of_rows = rows and ctypes.byref(_Rows(_address(rows.adapters), len(rows.adapters), rows.is_on_host))
        arguments = (self._plan, array, ctypes.c_int32(len(array)), ctypes.c_int32(len(coefficients)), ctypes.c_int(DTYPES[x.dtype]),
                     _pointer(x), ctypes.c_int64(len(x)), of_rows, *rest)
        function, library, is_cuda = self._library.function(name), self._library, x.is_cuda

        def run(_alive=alive):
            stream = torch.cuda.current_stream().cuda_stream if is_cuda else None
            library.check(name, function(*arguments, ctypes.c_void_p(stream)))

        return run


def _address(tensor):
    return None if tensor is None else tensor.data_ptr()


def _pointer(tensor):
    return ctypes.c_void_p(_address(tensor))
