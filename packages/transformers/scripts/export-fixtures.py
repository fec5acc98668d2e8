"""
Writes test/__fixtures__/: small models in the layout of transformers.js, each with two FourierFT adapters saved by PEFT, and the outputs of
PyTorch and PEFT. The graphs are real exports: the models are converted with the tools of transformers.js (optimum's exporter, onnxslim, ONNX
Runtime's quantisers). Only their weights are random (decoders: briefly trained), all from fixed seeds.

    pip install torch "transformers<4.58" optimum-onnx onnxslim peft pillow
    PYTHONHASHSEED=0 python packages/transformers/scripts/export-fixtures.py [bert gpt2 …]

(PEFT keeps names in sets, whose order depends on the hash seed; everything else is the same in each run on one machine.)

Made with Python 3.11, torch 2.13.0 (CPU), transformers 4.57.6, optimum-onnx 0.1.0, onnx 1.23.2, onnxslim 0.1.98, onnxruntime 1.32.0,
peft 0.21.2 and tokenizers 0.22.2; versions.json in the folder of the fixtures has the versions for the committed files. transformers 5 cannot be
used: it renames ViT's modules when it loads them, but users' adapters have the old names.
"""
import collections
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"  # set before transformers is imported; nothing is loaded from the hub

import numpy as np
import onnx
import onnxruntime
import onnxslim
import tokenizers
import torch
import transformers as t
from onnxruntime.quantization import QuantizationMode, QuantType
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.registry import IntegerOpsRegistry
from onnxruntime.transformers import float16
from optimum.exporters.onnx import main_export
from optimum.onnx.graph_transformations import merge_decoders
from peft import FourierFTConfig, PeftModel, get_peft_model

warnings.filterwarnings("ignore")
logging.disable(logging.INFO)
torch.set_num_threads(1)  # the same sums in the same order; more threads would not help models this small
t.logging.set_verbosity_error()
FOLDER = pathlib.Path(__file__).parent.parent / "test" / "__fixtures__"
PACKAGES = "torch transformers optimum optimum-onnx onnx onnxslim onnxruntime peft tokenizers safetensors numpy".split()

# The training text of tokenizers and decoders.
SENTENCES = """the river runs down from the hills and through the old town
a small boat lies under the stone bridge and waits for the morning
in the market they sell bread, apples, honey and warm cheese
the mill by the water turns when the rain has been long
she reads a letter at the window while the kettle sings
two children follow a grey cat along the garden wall
the train to the coast leaves at nine and comes back at night
he counts the waves and writes every number in a book
what a good film, the music was bright and the story true
the soup was cold, the room was loud and nobody came""".split("\n")
VOCABULARY = 160
DECODERS = ("gpt2", "llama")
ENCODER_DECODERS = ("t5", "bart")
FLOAT_ONLY = ("bart",)  # tests only need the names of its modules, which are the same in each precision


# --- tokenizers ------------------------------------------------------------------------------------------------------------------


def word_piece():
    """Returns a tokenizer of letters and frequent words, made without WordPieceTrainer, which breaks ties differently in each run."""
    words = collections.Counter(re.findall(r"\w+|[,.]", " ".join(SENTENCES)))
    letters = sorted({letter for word in words for letter in word})
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *frequent]
    tokenizer = tokenizers.BertWordPieceTokenizer({piece: index for index, piece in enumerate(pieces[:VOCABULARY])})
    return t.BertTokenizerFast(tokenizer_object=tokenizer._tokenizer, model_max_length=64)


def byte_bpe(special):
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer._tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer._tokenizer


def roberta_tokenizer():
    tokenizer = byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return t.RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=64)


def gpt2_tokenizer():
    return t.GPT2TokenizerFast(tokenizer_object=byte_bpe(["<|endoftext|>"]), model_max_length=128)


def llama_tokenizer():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = tokenizers.decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([f" {line}" for line in SENTENCES], trainer)
    return t.LlamaTokenizerFast(tokenizer_object=tokenizer, model_max_length=128)


def t5_tokenizer():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    # the last digits of the trainer's scores differ from run to run, and so would the order of equal scores
    pieces = [(piece, round(score, 3)) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    ordered = sorted(pieces[len(special) :], key=lambda piece: (-piece[1], piece[0]))
    tokenizer.model = tokenizers.models.Unigram(pieces[: len(special)] + ordered, unk_id=2)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return t.T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0, model_max_length=64)


# --- models ----------------------------------------------------------------------------------------------------------------------


def randomize(model, std):
    """Makes norms random near 1, and biases random, because exporters merge equal biases, which trained models do not have."""
    for name, parameter in model.named_parameters():
        mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, mean, std)


def train(model, batches, steps):
    """Trains until the logits of greedy tokens are far enough apart that rounding errors change no token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        loss = model(**next(batches)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"  trained: loss {loss.item():.3f}")


def next_tokens(tokenizer):
    """Yields batches of consecutive tokens of the sentences."""
    tokens = [token for line in SENTENCES for token in tokenizer(line, add_special_tokens=False).input_ids]
    tokens = torch.tensor([tokenizer.eos_token_id, *tokens])
    generator = torch.Generator().manual_seed(0)
    while True:
        starts = torch.randint(0, len(tokens) - 48, (16,), generator=generator)
        batch = torch.stack([tokens[start : start + 48] for start in starts])
        yield {"input_ids": batch, "labels": batch}


def next_sentences(tokenizer):
    """Yields batches of sentences, with the next sentences as labels."""
    encoded = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    labels = encoded.input_ids.roll(-1, 0).masked_fill(encoded.input_ids.roll(-1, 0) == tokenizer.pad_token_id, -100)
    while True:
        yield {**encoded, "labels": labels}


def bert():
    size = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    labels = ["bad", "neutral", "good"]
    config = t.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=64, **size,
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)},
    )  # fmt: skip
    model = t.BertForSequenceClassification(config)
    randomize(model, 0.15)
    return model, word_piece()


def roberta():
    size = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    model = t.RobertaModel(t.RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=66, **size), add_pooling_layer=False)
    randomize(model, 0.15)
    return model, roberta_tokenizer()


def gpt2():
    tokenizer = gpt2_tokenizer()
    config = t.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = t.GPT2LMHeadModel(config)
    train(model, next_tokens(tokenizer), steps=300)
    return model, tokenizer


def llama():
    tokenizer = llama_tokenizer()
    config = t.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = t.LlamaForCausalLM(config)
    train(model, next_tokens(tokenizer), steps=300)
    return model, tokenizer


def t5():
    tokenizer = t5_tokenizer()
    config = t.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    model = t.T5ForConditionalGeneration(config)
    train(model, next_sentences(tokenizer), steps=400)
    return model, tokenizer


def bart():
    tokenizer = roberta_tokenizer()
    config = t.BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, dropout=0,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    model = t.BartForConditionalGeneration(config)
    train(model, next_sentences(tokenizer), steps=400)
    return model, tokenizer


def vit():
    labels = ["circle", "square", "star", "wave"]
    config = t.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4,
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)},
    )  # fmt: skip
    model = t.ViTForImageClassification(config)
    randomize(model, 0.15)
    return model, t.ViTImageProcessor(size={"height": 16, "width": 16})


# --- the models, optimum's task and the adapters ---------------------------------------------------------------------------------

A, B = "adapter-a", "adapter-b"
FIXTURES = {
    "bert": (bert, "text-classification", {
        A: dict(target_modules=["query", "value", "intermediate.dense", "output.dense"], n_frequency=64, scaling=150.0,
                random_loc_seed=777, modules_to_save=["classifier"], task_type="SEQ_CLS"),
        B: dict(target_modules=r".*layer\.\d+\.(attention\.self\.key|attention\.output\.dense|intermediate\.dense)",
                n_frequency=96, scaling=60.0, random_loc_seed=2024),
    }),
    "roberta": (roberta, "feature-extraction", {
        # without the exclusion, PEFT also adapts the pooler, which the export of a feature extractor does not have
        A: dict(target_modules=["query", "key", "value", "dense"], exclude_modules=["pooler.dense"], n_frequency=64,
                scaling=100.0, random_loc_seed=1, task_type="FEATURE_EXTRACTION"),
        B: dict(target_modules=["value", "output.dense"], n_frequency=100, scaling=150.0, random_loc_seed=2,
                layers_to_transform=[1]),
    }),
    "gpt2": (gpt2, "text-generation-with-past", {
        A: dict(target_modules=["c_attn", "c_fc"], n_frequency=80, scaling=100.0, random_loc_seed=777, task_type="CAUSAL_LM"),
        B: dict(target_modules=["c_attn", "c_proj", "c_fc"], n_frequency=50, scaling=50.0, random_loc_seed=3,
                task_type="CAUSAL_LM"),
    }),
    "llama": (llama, "text-generation-with-past", {
        A: dict(target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], n_frequency=64, scaling=30.0,
                random_loc_seed=777, task_type="CAUSAL_LM"),
        B: dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                n_frequency=50, scaling=20.0, random_loc_seed=4, task_type="CAUSAL_LM"),
    }),
    "t5": (t5, "text2text-generation-with-past", {
        A: dict(target_modules=["q", "v", "wi"], n_frequency=64, scaling=150.0, random_loc_seed=777,
                task_type="SEQ_2_SEQ_LM"),
        B: dict(target_modules=["q", "k", "v", "o", "wi", "wo"], n_frequency=50, scaling=100.0, random_loc_seed=5,
                task_type="SEQ_2_SEQ_LM"),
    }),
    "bart": (bart, "text2text-generation-with-past", {
        A: dict(target_modules=["q_proj", "v_proj", "fc1"], n_frequency=64, scaling=20.0, random_loc_seed=777,
                task_type="SEQ_2_SEQ_LM"),
        B: dict(target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], n_frequency=50, scaling=15.0,
                random_loc_seed=7, task_type="SEQ_2_SEQ_LM"),
    }),
    "vit": (vit, "image-classification", {
        A: dict(target_modules=["query", "value", "intermediate.dense"], n_frequency=64, scaling=150.0, random_loc_seed=777),
        B: dict(target_modules=["query", "key", "attention.output.dense", "output.dense"], n_frequency=80, scaling=100.0,
                random_loc_seed=6),
    }),
}  # fmt: skip


# --- export and quantisation -----------------------------------------------------------------------------------------------------


def export(name, source, task, folder):
    """Converts a model as transformers.js does: optimum's exporter, onnxslim, then the quantisers with its defaults."""
    (folder / "onnx").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as exported:
        main_export(str(source), exported, task=task, do_validation=True)
        halves = [pathlib.Path(exported) / f"{half}.onnx" for half in ("decoder_model", "decoder_with_past_model")]
        for file in sorted(pathlib.Path(exported).glob("*.onnx")):
            if file not in halves:
                target = folder / "onnx" / file.name
                save(onnxslim.slim(onnx.load(file)), target)
                merged = file.stem == "decoder_model_merged"
                if name not in FLOAT_ONLY:
                    quantize(target, halves if merged else [target], per_channel=name not in DECODERS)


def save(model, path):
    onnx.checker.check_model(model)
    onnx.save(model, path)


def quantize(path, parts, per_channel):
    """Writes a file in the other precisions; `parts` is the file itself, or the two decoders that were merged into it."""

    def named(suffix):
        return path.with_name(f"{path.stem}_{suffix}.onnx")

    def four_bits(model):
        quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
        quantizer.process()
        return quantizer.model.model

    def half(model):
        return onnxslim.slim(float16.convert_float_to_float16(model, keep_io_types=True))

    def save_converted(convert, target):
        """Converts decoders before they are merged: the float16 converter confuses values of the same name in two subgraphs."""
        models = [convert(onnx.load(part)) for part in parts]
        if len(models) == 1:
            save(models[0], target)
        else:
            merge_decoders(*models, save_path=target, strict=False)

    save_converted(half, named("fp16"))
    save(four_bits(onnx.load(path)), named("q4"))
    save_converted(lambda model: half(four_bits(model)), named("q4f16"))

    # each channel with seven bits, decoders whole tensors with eight bits; unsigned weights if there is a Conv
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    q8 = ONNXQuantizer(
        model, per_channel=per_channel, reduce_range=per_channel, mode=QuantizationMode.IntegerOps, static=False,
        weight_qType=QuantType.QUInt8 if "Conv" in operators else QuantType.QInt8, activation_qType=QuantType.QUInt8,
        tensors_range=None, nodes_to_quantize=[], nodes_to_exclude=[], op_types_to_quantize=list(IntegerOpsRegistry),
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
    )  # fmt: skip
    q8.quantize_model()
    save(q8.model.model, named("quantized"))


# --- adapters and vectors --------------------------------------------------------------------------------------------------------


def make_adapter(model, name, adapter, options, folder):
    """Saves an adapter with random coefficients and heads instead of trained ones."""
    torch.manual_seed(options["random_loc_seed"])
    adapted = get_peft_model(model, FourierFTConfig(**options))
    adapted.peft_config["default"].base_model_name_or_path = name
    for key, parameter in adapted.named_parameters():
        if "fourierft_spectrum" in key:
            torch.nn.init.normal_(parameter, 0.0, 0.15)
        elif "modules_to_save" in key:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
    adapted.save_pretrained(folder / adapter)
    (folder / adapter / "README.md").unlink(missing_ok=True)


def numbers(tensor):
    """Returns nested lists of the shortest decimals that represent the same float32 numbers."""
    array = tensor.detach().numpy().astype(np.float32)
    return [float(str(x)) for x in array] if array.ndim == 1 else [numbers(torch.from_numpy(row)) for row in array]


@torch.no_grad()
def greedy(model, count, **inputs):
    """Returns `count` greedy tokens (fewer after the end token), and the smallest distance between the best two logits of a step."""
    generated = model.generate(
        **inputs, max_new_tokens=count, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    best = torch.stack(generated.logits)[:, 0].topk(2).values
    tokens = generated.sequences[0, -len(generated.logits) :].tolist()
    return {"tokens": tokens, "smallestMargin": float((best[:, 0] - best[:, 1]).min())}


@torch.no_grad()
def compute(name, model, inputs):
    if name in DECODERS:
        generated = greedy(model, 64, **inputs)
        return {"logits": numbers(model(**inputs).logits[0, -1]), **generated}
    if name in ENCODER_DECODERS:
        logits = model(**inputs, decoder_input_ids=DECODER_IDS).logits[0]
        return {"logits": numbers(logits), **greedy(model, 16, **inputs)}
    if name == "roberta":
        return {"lastHiddenState": numbers(model(**inputs).last_hidden_state[0])}
    return {"logits": numbers(model(**inputs).logits[0])}


DECODER_IDS = torch.tensor([[0, 17, 42, 8, 99, 23]])


def inputs_of(name, processor):
    """Yields the record of each input for vectors.json, and its tensors."""
    if name == "vit":
        grid = np.arange(16 * 16 * 3).reshape(16, 16, 3)
        for index in range(2):
            image = ((grid * (7 + 12 * index) + grid // 48 * 31 + index * 90) % 256).astype(np.uint8)
            tensors = processor(image, return_tensors="pt")
            yield {"rgb": image.reshape(-1).tolist(), "pixelValues": numbers(tensors.pixel_values.reshape(-1))}, dict(tensors)
        return
    texts = ["the river runs", "she reads a letter at"] if name in DECODERS else [SENTENCES[8], "the cat was cold"]
    for text in texts:
        tensors = {"input_ids": processor(text, return_tensors="pt").input_ids}
        tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
        described = {"text": text, "inputIds": tensors["input_ids"][0].tolist()}
        if name in ENCODER_DECODERS:
            described["decoderInputIds"] = DECODER_IDS[0].tolist()
        yield described, tensors


def largest_difference(name, folder, inputs, expected):
    """Returns the largest difference between ONNX Runtime with the fp32 export and PyTorch: the base model's outputs for one input."""
    def run(file, feeds):
        session = onnxruntime.InferenceSession(folder / "onnx" / f"{file}.onnx", providers=["CPUExecutionProvider"])
        rows = len(next(iter(feeds.values())))
        for spec in session.get_inputs():
            if spec.name == "use_cache_branch":
                feeds[spec.name] = np.array([False])
            elif spec.name.startswith("past_key_values"):
                feeds[spec.name] = np.zeros([rows, spec.shape[1], 0, spec.shape[3]], np.float32)
        names = [spec.name for spec in session.get_inputs()]
        missing = {"position_ids": lambda: np.arange(feeds["input_ids"].shape[1])[None],
                   "token_type_ids": lambda: np.zeros_like(feeds["input_ids"])}  # fmt: skip
        return session.run(None, {key: feeds[key] if key in feeds else missing[key]() for key in names})[0][0]

    feeds = {key: value.numpy() for key, value in inputs.items()}
    if name in ENCODER_DECODERS:
        hidden = run("encoder_model", dict(feeds))
        decoder = {"input_ids": DECODER_IDS.numpy(), "encoder_hidden_states": hidden[None]}
        output = run("decoder_model_merged", {**decoder, "encoder_attention_mask": feeds["attention_mask"]})
    else:
        output = run("model", feeds)
    wanted = np.array(expected.get("logits", expected.get("lastHiddenState")), np.float32)
    return float(np.abs((output[-1] if name in DECODERS else output) - wanted).max())


def make(name):
    print(name)
    create, task, adapters = FIXTURES[name]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    t.set_seed(1)
    model, processor = create()
    model.eval()
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        processor.save_pretrained(saved)
        export(name, saved, task, folder)
        # transformers.js reads only these files of a tokenizer
        for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
            if (pathlib.Path(saved) / file).exists():
                shutil.copy(pathlib.Path(saved) / file, folder / file)
        for adapter, options in adapters.items():
            make_adapter(type(model).from_pretrained(saved), name, adapter, options, folder)
        cases = []
        for described, tensors in inputs_of(name, processor):
            case = {**described, "base": compute(name, model, tensors)}
            difference = largest_difference(name, folder, tensors, case["base"])
            assert difference < 1e-4, f"{name}: the export differs from PyTorch by {difference}"
            for adapter in adapters:
                adapted = PeftModel.from_pretrained(type(model).from_pretrained(saved), folder / adapter).eval()
                case[adapter] = compute(name, adapted, tensors)
                key = "lastHiddenState" if name == "roberta" else "logits"
                change = np.abs(np.array(case[adapter][key]) - np.array(case["base"][key])).max()
                assert change > 0.05, f"{name}: {adapter} does not change the outputs"
                print(f"  {adapter} changes outputs by up to {change:.3f}")
            margins = {key: round(value["smallestMargin"], 5) for key, value in case.items() if "smallestMargin" in value}
            assert min(margins.values(), default=1) > 1e-3, f"{name}: the logits of greedy tokens are too close: {margins}"
            print(f"  ONNX Runtime against PyTorch: {difference:.1e}", margins or "")
            cases.append(case)
    (folder / "vectors.json").write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or FIXTURES:
        make(name)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    (FOLDER / "versions.json").write_text(json.dumps({"python": platform.python_version(), **versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
