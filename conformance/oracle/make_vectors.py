"""Makes the vectors of the conformance suite with Hugging Face PEFT and PyTorch, the second oracle of the suite.

The script shares no code with the TypeScript packages. The suite never runs Python; it reads the files that this script writes.

    python oracle/make_vectors.py            writes ../vectors
    python oracle/make_vectors.py --check    makes them again and compares: bytes and integers identical, floats within rounding

Needs torch, peft, transformers (for Conv1D), safetensors and numpy, and records their versions in vectors/versions.json.
Arrays are stored as {"dtype", "shape", "data"}; `data` is the base64 of the little-endian values. Inputs are not stored:
`values(seed, count)` below computes them from integers, and src/seeded-values.ts computes the same values.
"""

import argparse
import base64
import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":
    # PEFT keeps module names in sets, so the order in which it writes them depends on the hash seed.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import numpy as np
import peft
import safetensors
import torch
import transformers
from peft import FourierFTConfig, get_peft_model
from peft.tuners.fourierft.layer import FourierFTLayer, FourierFTLinear
from torch import nn
from transformers.pytorch_utils import Conv1D

torch.set_num_threads(1)

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


# ---------------------------------------------------------------------------------------------------------------- numbers


def fmix32(h):
    """Applies the finaliser of MurmurHash3 to an array of uint32."""
    h = np.asarray(h, dtype=np.uint32).copy()
    with np.errstate(over="ignore"):
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return h


def values(seed, count):
    """Returns `count` multiples of 2^-23 in [-1, 1): exact in float32, the same in every language."""
    with np.errstate(over="ignore"):
        h = fmix32(np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + fmix32(np.uint32(seed)))
    return ((h >> np.uint32(8)).astype(np.float64) - 2.0**23) / 2.0**23


def tensor(seed, *shape, scale=1.0):
    """Returns a tensor of seeded values. `scale` is a power of two, so that the values stay exact."""
    return torch.from_numpy(values(seed, int(np.prod(shape))) * scale).reshape(shape)


def encode_array(array):
    array = np.ascontiguousarray(array.detach().numpy() if isinstance(array, torch.Tensor) else array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def randperm_entries(shape, n, seed):
    """Samples entries as PEFT does in FourierFTLayer.update_layer."""
    d1, d2 = shape
    chosen = torch.randperm(d1 * d2, generator=torch.Generator().manual_seed(seed))[:n]
    return torch.stack([chosen // d2, chosen % d2])


def digest(entries):
    return hashlib.sha256(entries.numpy().astype("<u4").tobytes()).hexdigest()


def delta64(shape, entries, coefficients, scaling):
    """Returns ΔW in float64 (PEFT casts to float32); differentiable in `coefficients`."""
    spectrum = torch.zeros(shape, dtype=torch.float64)
    spectrum = spectrum.index_put((entries[0], entries[1]), coefficients)
    return torch.fft.ifft2(spectrum).real * scaling


# ---------------------------------------------------------------------------------------------------------------- entries


def legacy_entries(shape, n, seed):
    """Samples as older versions of PyTorch do (32-bit draws for every size): a sparse Fisher-Yates shuffle with numpy's mt19937."""
    total = shape[0] * shape[1]
    draws = np.random.RandomState(seed).randint(0, 2**32, size=n, dtype=np.uint32)
    displaced = {}
    chosen = []
    for i in range(n):
        j = i + int(draws[i]) % (total - i)
        chosen.append(displaced.get(j, j))
        displaced[j] = displaced.get(i, i)
    chosen = torch.tensor(chosen)
    return torch.stack([chosen // shape[1], chosen % shape[1]])


def make_entries():
    seeds = [0, 1, 42, 777, 2024, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 5, 2**53 + 1, 2**63 - 1, -1, -777]
    sampled = []
    for shape in [(1, 1), (1, 7), (7, 1), (3, 5), (8, 8), (13, 17), (12, 96), (96, 12), (64, 64), (31, 128)]:
        total = shape[0] * shape[1]
        for seed in seeds:
            for n in sorted({1, min(total, 10), max(1, total // 2), total}):
                sampled.append((shape, n, seed))
    for shape in [(768, 768), (768, 3072), (3072, 768), (1024, 4096), (1023, 769)]:
        for seed in (0, 777, 2024):
            for n in (1, 1000, 10000):
                sampled.append((shape, n, seed))
    sampled += [((4096, 4096), 1000, 2024), ((4096, 11008), 1000, 777), ((50257, 768), 2000, 777)]
    # PyTorch uses its second algorithm from 214748364 positions on: one position fewer, exactly that many, and more.
    sampled += [((1, 214748363), 500, 777), ((12, 17895697), 500, 777), ((14336, 16384), 1000, 2024)]

    uniform = []
    cache = {}
    for shape, n, seed in sampled:
        key = (shape, seed)
        if key not in cache:
            cache.clear()
            cache[key] = randperm_entries(shape, min(shape[0] * shape[1], 10000), seed)
        entries = cache[key][:, :n]
        assert entries.shape[1] == n
        case = {"shape": shape, "n": n, "seed": str(seed), "digest": digest(entries), "first": entries[:, :4].T.tolist()}
        uniform.append(case)
    for shape, n, seed in [((768, 768), 1000, 2024), ((1, 214748363), 500, 777)]:
        # Below that size both algorithms agree, which checks `legacy_entries` against PyTorch.
        assert torch.equal(legacy_entries(shape, n, seed), randperm_entries(shape, n, seed))
    for shape, n, seed in [((12, 17895697), 500, 777), ((14336, 16384), 1000, 2024)]:
        entries = legacy_entries(shape, n, seed)
        uniform.append(
            {
                "shape": shape,
                "n": n,
                "seed": str(seed),
                "algorithm": "legacy",
                "digest": digest(entries),
                "first": entries[:, :4].T.tolist(),
            }
        )

    band_pass = []
    for shape, center, width in [
        ((16, 16), 0, 200),
        ((16, 16), 5, 20),
        ((15, 17), 4, 12.5),
        ((24, 40), 0, 3),
        ((24, 40), 12, 200),
        ((1, 9), 2, 4),
    ]:
        d1, d2 = shape
        u = (np.arange(d1) + d1 // 2) % d1 - d1 // 2
        v = (np.arange(d2) + d2 // 2) % d2 - d2 // 2
        distance = np.hypot(u[:, None], v[None, :])
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.exp(-(((distance**2 - center**2) / (distance * width)) ** 2))
        weights[distance == 0] = 1.0 if center == 0 else 0.0
        band_pass.append({"shape": shape, "centerFrequency": center, "bandwidth": width, "map": encode_array(weights)})
    return {"values": encode_array(values(7, 16)), "uniform": uniform, "bandPass": band_pass}


# ------------------------------------------------------------------------------------------------------------------ layers


def spec(shape, n, seed, coefficients_seed, scaling):
    return {
        "shape": shape,
        "n": n,
        "seed": seed,
        "coefficientsSeed": coefficients_seed,
        "scaling": scaling,
    }


def coefficients_of(layer):
    return torch.from_numpy(values(layer["coefficientsSeed"], layer["n"]))


def entries_of(layer):
    return randperm_entries(layer["shape"], layer["n"], layer["seed"])


def layer_delta64(layer, coefficients=None):
    c = coefficients_of(layer) if coefficients is None else coefficients
    return delta64(layer["shape"], entries_of(layer), c, layer["scaling"])


def peft_layer(layers, base, fan_in_fan_out=False):
    """Returns a layer of PEFT with one active adapter for each element of `layers`."""
    result = None
    names = []
    for index, layer in enumerate(layers):
        name = f"adapter{index}"
        names.append(name)
        config = FourierFTConfig(
            n_frequency=layer["n"],
            scaling=layer["scaling"],
            random_loc_seed=layer["seed"],
            fan_in_fan_out=fan_in_fan_out,
        )
        if result is None:
            result = FourierFTLinear(base, name, config, n_frequency=layer["n"])
        else:
            result.update_layer(name, layer["n"], config)
        result.fourierft_spectrum[name].data = coefficients_of(layer).float()
    result.set_adapter(names)
    return result, names


def make_delta():
    cases = []
    for index, (name, shape, n, seed, scaling) in enumerate(
        [
            ("one by one", (1, 1), 1, 0, 3.0),
            ("one row", (1, 24), 9, 777, 150.0),
            ("one column", (24, 1), 9, 777, 150.0),
            ("square", (32, 32), 50, 2024, 150.0),
            ("wide", (16, 72), 40, 777, 300.0),
            ("tall", (72, 16), 40, 777, 300.0),
            ("odd", (27, 35), 33, 1, 150.0),
            ("prime", (31, 37), 60, 42, 150.0),
            ("power of two", (64, 32), 64, 2**31 - 1, 25.0),
            ("full spectrum", (12, 10), 120, 5, 150.0),
            ("one entry", (20, 30), 1, 6, 150.0),
            ("768×768", (768, 768), 1000, 2024, 150.0),
            ("768×3072", (768, 3072), 1000, 777, 300.0),
            ("1024×4096", (1024, 4096), 1000, 777, 300.0),
            ("4096×11008", (4096, 11008), 1000, 777, 300.0),
        ]
    ):
        layer = spec(shape, n, seed, 1000 + index, scaling)
        exact = layer_delta64(layer)
        base = nn.Linear(shape[1], shape[0], bias=False)
        adapted, names = peft_layer([layer], base)
        with torch.no_grad():
            single = adapted.get_delta_weight(names[0])
        assert single.dtype == torch.float32
        case = {"name": name, **layer, "largest": float(exact.abs().max())}
        if exact.numel() <= 2500:
            case["float64"] = encode_array(exact)
            case["peft"] = encode_array(single)
        else:
            flat = (values(2000 + index, 200) * 0.5 + 0.5) * exact.numel()
            positions = torch.from_numpy(flat.astype(np.int64))
            case["positions"] = encode_array(positions.numpy().astype(np.uint32))
            case["float64"] = encode_array(exact.flatten()[positions])
            case["peft"] = encode_array(single.flatten()[positions])
        case["peftError"] = float((single.double() - exact).abs().max() / exact.abs().max())
        cases.append(case)
        del exact, single, adapted, base
    return {"cases": cases}


def make_linear():
    """Computes outputs and gradients of the adapted layer `y = x (W + Σ ΔW)ᵀ + b` for the loss `Σ gradY · y`."""
    cases = []
    descriptions = [
        ("one adapter, bias", [spec((24, 40), 60, 777, 11, 150.0)], 7, True, False, None),
        ("one token", [spec((40, 24), 60, 777, 12, 150.0)], 1, True, False, None),
        ("no bias", [spec((32, 32), 100, 2024, 13, 300.0)], 5, False, False, None),
        ("odd shape", [spec((27, 35), 33, 1, 14, 150.0)], 6, True, False, None),
        ("transposed weight (Conv1D)", [spec((36, 20), 50, 777, 15, 150.0)], 7, True, True, None),
        (
            "three adapters, added",
            [spec((24, 40), 60, 777, 16, 150.0), spec((24, 40), 25, 5, 17, 80.0), spec((24, 40), 1, 9, 18, 40.0)],
            7,
            True,
            False,
            None,
        ),
        (
            "an adapter for each row",
            [spec((24, 40), 60, 777, 19, 150.0), spec((24, 40), 60, 777, 20, 80.0), spec((24, 40), 30, 3, 21, 100.0)],
            9,
            True,
            False,
            [0, 2, -1, 1, 1, 0, -1, 2, 0],
        ),
    ]
    for index, (name, layers, tokens, has_bias, transposed, rows) in enumerate(descriptions):
        d1, d2 = layers[0]["shape"]
        seed = 3000 + 10 * index
        weight = tensor(seed, d1, d2, scale=0.25)
        bias = tensor(seed + 1, d1) if has_bias else None
        x = tensor(seed + 2, tokens, d2).requires_grad_()
        grad_y = tensor(seed + 3, tokens, d1)
        c = [coefficients_of(layer).requires_grad_() for layer in layers]
        deltas = [layer_delta64(layer, coefficients) for layer, coefficients in zip(layers, c)]
        y = x @ weight.T
        if bias is not None:
            y = y + bias
        for a, delta in enumerate(deltas):
            mask = torch.ones(tokens, 1) if rows is None else torch.tensor([[1.0 if r == a else 0.0] for r in rows])
            y = y + mask.double() * (x @ delta.T)
        (y * grad_y).sum().backward()
        case = {
            "name": name,
            "layers": layers,
            "tokens": tokens,
            "bias": has_bias,
            "transposed": transposed,
            "rows": rows,
            "seed": seed,
            "y": encode_array(y),
            # The gradients of the coefficients and of x.
            "coefficients": [encode_array(v.grad) for v in c],
            "x": encode_array(x.grad),
        }
        if rows is None:
            # The layer of PEFT computes in float32, and cannot apply a FourierFT adapter for each row.
            if transposed:
                base = Conv1D(d1, d2)
                base.weight.data = weight.T.float().contiguous()
                base.bias.data = bias.float()
            else:
                base = nn.Linear(d2, d1, bias=has_bias)
                base.weight.data = weight.float()
                if has_bias:
                    base.bias.data = bias.float()
            adapted, names = peft_layer(layers, base, fan_in_fan_out=transposed)
            x32 = x.detach().float().requires_grad_()
            y32 = adapted(x32)
            (y32 * grad_y.float()).sum().backward()
            case["peft"] = {
                "y": encode_array(y32),
                "coefficients": [encode_array(adapted.fourierft_spectrum[n].grad) for n in names],
                "x": encode_array(x32.grad),
            }
        cases.append(case)
    return {"cases": cases}


# ---------------------------------------------------------------------------------------------------------------- training


def make_training():
    """Records 100 AdamW steps on mini-batches of a small regression. No adapter reaches the target, so the loss stays away from 0."""
    layer = spec((20, 28), 48, 777, 31, 140.0)
    d1, d2 = layer["shape"]
    problem = {
        "layer": layer,
        "seed": 4000,
        "tokens": 64,
        "batch": 16,
        "steps": 100,
        "learningRate": 0.02,
        "betas": [0.9, 0.999],
        "epsilon": 1e-8,
        "weightDecay": 0.01,
    }
    weight = tensor(4000, d1, d2, scale=0.25)
    bias = tensor(4001, d1)
    x = tensor(4002, problem["tokens"], d2)
    target = tensor(4003, problem["tokens"], d1, scale=4.0)

    def run(parameter, output):
        optimizer = torch.optim.AdamW(
            [parameter],
            lr=problem["learningRate"],
            betas=tuple(problem["betas"]),
            eps=problem["epsilon"],
            weight_decay=problem["weightDecay"],
        )
        losses, trajectory = [], []
        for step in range(problem["steps"]):
            start = step * problem["batch"] % problem["tokens"]
            batch = slice(start, start + problem["batch"])
            optimizer.zero_grad()
            loss = ((output(x[batch]) - target[batch]) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step + 1 in (1, 10, 50, 100):
                trajectory.append(parameter.detach().double().clone())
        return np.array(losses), torch.stack(trajectory)

    c = coefficients_of(layer).requires_grad_()
    losses, trajectory = run(c, lambda xs: xs @ (weight + layer_delta64(layer, c)).T + bias)

    base = nn.Linear(d2, d1)
    base.weight.data, base.bias.data = weight.float(), bias.float()
    base.requires_grad_(False)
    adapted, names = peft_layer([layer], base)
    losses32, trajectory32 = run(adapted.fourierft_spectrum[names[0]], lambda xs: adapted(xs.float()).double())
    return {
        **problem,
        "recordedSteps": [1, 10, 50, 100],
        "losses": encode_array(losses),
        "trajectory": encode_array(trajectory),
        "peft": {"losses": encode_array(losses32), "trajectory": encode_array(trajectory32)},
    }


# ----------------------------------------------------------------------------------------------------------- adapter files


class Attention(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner)


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.attention = Attention(width, inner)
        self.output = nn.Linear(inner, width)


class Encoder(nn.Module):
    """A model with the module names of BERT: encoder.layer.N.attention.query, …, classifier."""

    def __init__(self, width=24, inner=20, depth=3):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([Block(width, inner) for _ in range(depth)])
        self.classifier = nn.Linear(width, 3)

    def forward(self, x):
        for block in self.encoder.layer:
            x = x + block.output(block.attention.query(x) + block.attention.key(x) + block.attention.value(x))
        return self.classifier(x)


class Decoder(nn.Module):
    """A model with the module names and the Conv1D of GPT-2: transformer.h.N.attn.c_attn, …"""

    def __init__(self, width=16, depth=2):
        super().__init__()
        self.transformer = nn.Module()
        blocks = []
        for _ in range(depth):
            block = nn.Module()
            block.attn = nn.Module()
            block.attn.c_attn = Conv1D(3 * width, width)
            block.attn.c_proj = Conv1D(width, width)
            blocks.append(block)
        self.transformer.h = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.transformer.h:
            x = x + block.attn.c_proj(block.attn.c_attn(x)[..., : x.shape[-1]])
        return x


ADAPTERS = [
    ("linear-float32", Encoder, torch.float32, dict(n_frequency=30, target_modules=["query", "value"])),
    ("linear-float16", Encoder, torch.float16, dict(n_frequency=30, target_modules=["query", "value"])),
    ("linear-bfloat16", Encoder, torch.bfloat16, dict(n_frequency=30, target_modules=["query", "value"])),
    (
        "conv1d-float32",
        Decoder,
        torch.float32,
        dict(n_frequency=40, target_modules=["c_attn"], fan_in_fan_out=True, task_type="FEATURE_EXTRACTION"),
    ),
    (
        "frequency-pattern",
        Encoder,
        torch.float32,
        dict(
            n_frequency=10,
            target_modules=["query", "key", "output"],
            n_frequency_pattern={"layer.0.attention.query": 25, "output": 7},
            scaling=80.0,
            random_loc_seed=2024,
        ),
    ),
    (
        "regex-target",
        Encoder,
        torch.float32,
        dict(n_frequency=12, target_modules=r".*\.layer\.[02]\.attention\.(query|key)", scaling=25.0),
    ),
    (
        "modules-to-save",
        Encoder,
        torch.float32,
        dict(n_frequency=16, target_modules=["value"], modules_to_save=["classifier"], task_type="SEQ_CLS"),
    ),
    (
        "some-layers",
        Encoder,
        torch.float32,
        dict(
            n_frequency=16,
            target_modules=["query", "value"],
            layers_to_transform=[0, 2],
            layers_pattern="layer",
            exclude_modules=r".*\.2\.attention\.value",
        ),
    ),
]


def make_adapters(directory):
    index = []
    for number, (name, model_class, dtype, options) in enumerate(ADAPTERS):
        torch.manual_seed(number)
        model = model_class().to(dtype)
        modules = [
            {
                "name": module_name,
                "shape": [module.weight.shape[0], module.weight.shape[1]]
                if isinstance(module, nn.Linear)
                else [module.weight.shape[1], module.weight.shape[0]],
            }
            for module_name, module in model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D))
        ]
        adapted = get_peft_model(
            model, FourierFTConfig(init_weights=False, **options), autocast_adapter_dtype=False
        )
        layers = []
        for module_name, module in adapted.named_modules():
            if not isinstance(module, FourierFTLayer):
                continue
            spectrum = module.fourierft_spectrum["default"]
            seed = 5000 + 100 * number + len(layers)
            spectrum.data = torch.from_numpy(values(seed, spectrum.numel())).to(dtype)
            with torch.no_grad():
                delta = module.get_delta_weight("default")
            assert delta.dtype == dtype == spectrum.dtype
            exact = delta64(
                (module.out_features, module.in_features),
                module.indices["default"],
                spectrum.detach().double(),
                module.fourierft_scaling["default"],
            )
            layers.append(
                {
                    "name": module_name.removeprefix("base_model.model."),
                    "shape": [module.out_features, module.in_features],
                    "n": module.fourierft_n_frequency["default"],
                    "seed": module.fourierft_random_loc_seed["default"],
                    "scaling": float(module.fourierft_scaling["default"]),
                    "coefficients": encode_array(spectrum.detach().double()),
                    # Two layers of each adapter are enough for ΔW.
                    **({"peft": encode_array(delta.float()), "float64": encode_array(exact)} if len(layers) < 2 else {}),
                }
            )
        for parameter_name, parameter in adapted.named_parameters():
            if "modules_to_save" in parameter_name:
                parameter.data = torch.from_numpy(values(6000, parameter.numel())).reshape(parameter.shape).to(dtype)
        adapted.save_pretrained(directory / name)
        (directory / name / "README.md").unlink()
        index.append(
            {
                "name": name,
                "dtype": {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype],
                "modules": modules,
                "layers": layers,
            }
        )
    return {"adapters": index}


# -------------------------------------------------------------------------------------------------------------- writing


def write(directory):
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "versions.json": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "peft": peft.__version__,
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
            "numpy": np.__version__,
        },
        "entries.json": make_entries(),
        "delta.json": make_delta(),
        "linear.json": make_linear(),
        "training.json": make_training(),
        "adapters.json": make_adapters(directory / "adapters"),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
    return files["versions.json"]


# ------------------------------------------------------------------------------------------------------------- comparing

# Relative to the largest value of an array. The values come from FFTs or products of at most 2^26 terms. Their error grows with
# log2 of the number of terms (26 stages of a few roundings each), so 100 roundings are enough for a build that adds in another order.
# A training run feeds its error back 100 times, so its tolerance is 100 times as large.
TOLERANCE = {"float64": 100 * 2.0**-53, "float32": 100 * 2.0**-24}


def decode_array(encoded):
    return np.frombuffer(base64.b64decode(encoded["data"]), np.dtype(encoded["dtype"]).newbyteorder("<"))


def differences(path, old, new, factor):
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            yield f"{path}: keys {sorted(old)} became {sorted(new)}"
            return
        if old.keys() == {"dtype", "shape", "data"}:
            if (old["dtype"], old["shape"]) != (new["dtype"], new["shape"]):
                yield f"{path}: {old['dtype']}{old['shape']} became {new['dtype']}{new['shape']}"
            elif old["dtype"] in TOLERANCE:
                a, b = decode_array(old).astype(np.float64), decode_array(new).astype(np.float64)
                limit = factor * TOLERANCE[old["dtype"]] * np.abs(a).max(initial=0.0)
                error = np.abs(a - b).max(initial=0.0)
                if not error <= limit:
                    yield f"{path}: differs by {error}, limit {limit}"
            elif old["data"] != new["data"]:
                yield f"{path}: integers differ"
            return
        for key in old:
            yield from differences(f"{path}/{key}", old[key], new[key], factor)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new)):
            yield from differences(f"{path}/{i}", a, b, factor)
    elif path.endswith("/peftError"):
        return  # a measurement for readers, not a vector
    elif isinstance(old, float) and isinstance(new, float):
        if not abs(old - new) <= TOLERANCE["float64"] * abs(old):
            yield f"{path}: {old} became {new}"
    elif old != new:
        yield f"{path}: {old!r} became {new!r}"


def check():
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary)
        print("versions now:", json.dumps(write(again)))
        print("versions then:", (VECTORS / "versions.json").read_text().strip())
        # Other files in `vectors`, outside `adapters`, belong to other tools.
        names = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
        adapters = sorted(p.relative_to(VECTORS) for p in (VECTORS / "adapters").rglob("*") if p.is_file())
        for name in adapters:
            if name not in names:
                found.append(f"{name}: is not made any more")
        for name in names:
            if not (VECTORS / name).is_file():
                found.append(f"{name}: is missing")
            elif name.parts[0] == "adapters":
                if (VECTORS / name).read_bytes() != (again / name).read_bytes():
                    found.append(f"{name}: bytes differ")
            elif name.name != "versions.json":
                old, new = json.loads((VECTORS / name).read_text()), json.loads((again / name).read_text())
                found += differences(str(name), old, new, 100 if name.name == "training.json" else 1)
    for difference in found:
        print(difference)
    print("vectors are reproduced" if not found else f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="make the vectors again and compare them with the stored ones")
    if parser.parse_args().check:
        sys.exit(check())
    print(json.dumps(write(VECTORS), indent=2))
