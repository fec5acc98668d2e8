"""
The architectures of the table in packages/onnx/architectures.md: tiny models from configuration classes, with inputs and the modules that
adapters usually target (PEFT's defaults for LoRA, or those of the architecture's papers and examples).

Nothing is downloaded. A model has two layers (or stages) and about 32 features. `export.py` creates its weights from a seed.
"""
import dataclasses
import functools
from collections.abc import Callable

import torch
import transformers as t

BATCH, TOKENS, WORDS, LABELS = 2, 8, 40, 8


@dataclasses.dataclass(frozen=True)
class Architecture:
    name: str
    #: The heading in the table.
    group: str
    build: Callable[[], torch.nn.Module]
    #: The inputs by the names of the arguments of `forward`.
    inputs: dict[str, torch.Tensor]
    #: A regular expression, as for PEFT's `target_modules`.
    targets: str
    #: Optimum's name of the task; None if optimum has no task for the model.
    task: str | None
    #: Whether an output depends on several rows of the batch, so that rows cannot have different adapters.
    mixes_rows: bool = False


ARCHITECTURES: list[Architecture] = []


def any_of(*names):
    """Returns an expression for modules with these names at the end of their paths."""
    return rf"(.*\.)?({'|'.join(names)})"


def ids(rows=BATCH, tokens=TOKENS, shift=0):
    return (torch.arange(rows * tokens).reshape(rows, tokens) * 7 + 5 + shift) % (WORDS - 8) + 4


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def from_config(auto, model_type, **options):
    config = t.AutoConfig.for_model(model_type, **options)
    config.architectures = config.architectures or []
    return auto.from_config(config) if hasattr(auto, "from_config") else auto._from_config(config)


def without(options, *names):
    """Removes options. Some configurations have their own names for those of `SIZE`, or reject them."""
    return {key: value for key, value in options.items() if key not in names}


def add(name, group, build, inputs, targets, task, **rest):
    ARCHITECTURES.append(Architecture(name, group, build, inputs, any_of(*targets), task, **rest))


SIZE = dict(
    vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64
)
VISION = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4, num_labels=LABELS
)

# ---------------------------------------------------------------------------------------------------------------- text encoders


def encoder(
    name, model_type, *targets, auto=t.AutoModelForTokenClassification, task="token-classification", inputs=None, size=SIZE, **config
):
    build = functools.partial(from_config, auto, model_type, **{**size, "num_labels": LABELS, "pad_token_id": 0, **config})
    inputs = {"input_ids": ids(), "attention_mask": torch.ones(BATCH, TOKENS, dtype=torch.long), **(inputs or {})}
    add(name, "Text encoders", build, inputs, targets, task)


BOXES = {"bbox": (torch.arange(BATCH * TOKENS * 4).reshape(BATCH, TOKENS, 4) * 3) % 60}
PATHS = {name: torch.arange(BATCH * TOKENS * 4).reshape(BATCH, TOKENS, 4) % 20 for name in ("xpath_tags_seq", "xpath_subs_seq")}
TYPES = {"token_type_ids": torch.zeros(BATCH, TOKENS, dtype=torch.long)}
LONG = {"input_ids": ids(tokens=32), "attention_mask": torch.ones(BATCH, 32, dtype=torch.long)}
GLOBAL = {**LONG, "global_attention_mask": torch.cat([torch.ones(BATCH, 1), torch.zeros(BATCH, 31)], 1).long()}
V3 = dict(
    relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True, position_buckets=8, max_relative_positions=-1,
    norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0,
)

encoder("BERT", "bert", "query", "value")
encoder("BERT, sentence features", "bert", "query", "value", auto=t.AutoModel, task="feature-extraction")
encoder("BERT, classification", "bert", "query", "value", auto=t.AutoModelForSequenceClassification, task="text-classification")
encoder("RoBERTa", "roberta", "query", "value")
encoder("XLM-RoBERTa", "xlm-roberta", "query", "value")
encoder("CamemBERT", "camembert", "query", "value")
encoder("DistilBERT", "distilbert", "q_lin", "v_lin", dim=32, n_layers=2, n_heads=2, hidden_dim=64)
encoder("ALBERT", "albert", "query", "value", embedding_size=16)
encoder("ELECTRA", "electra", "query", "value", embedding_size=16)
encoder("MPNet", "mpnet", r"attn\.q", r"attn\.v")
encoder("DeBERTa", "deberta", "in_proj")
encoder("DeBERTa, relative positions", "deberta", "in_proj", relative_attention=True, pos_att_type=["c2p", "p2c"], max_relative_positions=16)
encoder("DeBERTa-v2", "deberta-v2", "query_proj", "value_proj")
encoder("DeBERTa-v3", "deberta-v2", "query_proj", "value_proj", **V3)
encoder("ModernBERT", "modernbert", "Wqkv", "Wo", global_attn_every_n_layers=2, local_attention=8)
encoder("Funnel", "funnel", "q_head", "v_head", block_sizes=[1, 1], num_decoder_layers=1, d_model=32, n_head=2, d_head=16, d_inner=64,
        size=without(SIZE, "num_hidden_layers"))  # fmt: skip
encoder("Longformer", "longformer", "query", "value", inputs=LONG, attention_window=[8, 8], onnx_export=True)
encoder("Longformer, global attention", "longformer", "query", "value", inputs=GLOBAL, attention_window=[8, 8], onnx_export=True)
encoder("BigBird", "big_bird", "query", "value", attention_type="original_full")
encoder("LayoutLM", "layoutlm", "query", "value", inputs=BOXES, max_2d_position_embeddings=128)
encoder("LayoutLMv3", "layoutlmv3", "query", "value", inputs={**BOXES, "pixel_values": noise(BATCH, 3, 16, 16)}, input_size=16,
        patch_size=4, max_2d_position_embeddings=128,
        coordinate_size=4, shape_size=8, rel_pos_bins=8, rel_2d_pos_bins=8, max_rel_pos=16, max_rel_2d_pos=16)  # fmt: skip
encoder("LiLT", "lilt", "query", "value", inputs=BOXES, max_2d_position_embeddings=128, hidden_size=48, channel_shrink_ratio=2)
encoder("MobileBERT", "mobilebert", "query", "value", embedding_size=16, intra_bottleneck_size=16, num_feedforward_networks=2, true_hidden_size=16)
encoder("ConvBERT", "convbert", "query", "value", embedding_size=16, conv_kernel_size=3, head_ratio=1)
encoder("RemBERT", "rembert", "query", "value", input_embedding_size=16, output_embedding_size=16)
encoder("RoFormer", "roformer", "query", "value", embedding_size=16)
encoder("Nyströmformer", "nystromformer", "query", "value", num_landmarks=8, segment_means_seq_len=8)
encoder("ESM", "esm", "query", "value", position_embedding_type="rotary", mask_token_id=1)
encoder("Data2Vec text", "data2vec-text", "query", "value")
encoder("Megatron-BERT", "megatron-bert", "query", "value")
encoder("XLM", "xlm", "q_lin", "v_lin", emb_dim=32, n_layers=2, n_heads=2, n_words=WORDS, inputs=TYPES)
encoder("FlauBERT", "flaubert", "q_lin", "v_lin", emb_dim=32, n_layers=2, n_heads=2, n_words=WORDS, inputs=TYPES)
encoder("MarkupLM", "markuplm", "query", "value", auto=t.AutoModel, task="feature-extraction", inputs=PATHS, max_depth=4, xpath_unit_hidden_size=8)
encoder("NomicBERT", "nomic_bert", "q_proj", "v_proj", task=None)
encoder("EuroBERT", "eurobert", "q_proj", "v_proj", task=None, num_key_value_heads=1)

# ---------------------------------------------------------------------------------------------------------------- decoders


def decoder(name, model_type, *targets, task="text-generation-with-past", **config):
    size = {**SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_key_value_heads": 1, **config}
    build = functools.partial(from_config, t.AutoModelForCausalLM, model_type, **size)
    add(name, "Decoders", build, {"input_ids": ids(), "attention_mask": torch.ones(BATCH, TOKENS, dtype=torch.long)}, targets, task)


QV = ("q_proj", "v_proj")
GPT2 = dict(n_embd=32, n_layer=2, n_head=2, n_positions=64, n_inner=64)
decoder("GPT-2", "gpt2", "c_attn", **GPT2)
decoder("GPT-BigCode", "gpt_bigcode", "c_attn", **GPT2)
decoder("GPT-Neo", "gpt_neo", *QV, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], window_size=8)
decoder("GPT-NeoX", "gpt_neox", "query_key_value")
decoder("GPT-J", "gptj", *QV, **GPT2, rotary_dim=8)
decoder("CodeGen", "codegen", "qkv_proj", **{**GPT2, "n_embd": 64, "n_head": 4}, hidden_size=64, num_attention_heads=4, rotary_dim=8)
decoder("OPT", "opt", *QV, ffn_dim=64, word_embed_proj_dim=32)
decoder("BLOOM", "bloom", "query_key_value", n_layer=2, n_head=2)
decoder("MPT", "mpt", "Wqkv", d_model=32, n_layers=2, n_heads=2, max_seq_len=64)
decoder("Falcon", "falcon", "query_key_value")
decoder("LLaMA", "llama", *QV)
decoder("Mistral", "mistral", *QV, sliding_window=None, head_dim=16)
decoder("Mixtral", "mixtral", *QV, sliding_window=None, head_dim=16, num_local_experts=2)
decoder("Qwen2", "qwen2", *QV)
decoder("Qwen3", "qwen3", *QV, head_dim=16)
decoder("Gemma", "gemma", *QV, head_dim=16)
decoder("Gemma 2", "gemma2", *QV, head_dim=16, query_pre_attn_scalar=16)
decoder("Gemma 3, text", "gemma3_text", *QV, head_dim=16, query_pre_attn_scalar=16)
decoder("Phi", "phi", *QV, num_key_value_heads=2)
decoder("Phi-3", "phi3", "qkv_proj", original_max_position_embeddings=64)
decoder("SmolLM3", "smollm3", *QV)
decoder("StableLM", "stablelm", *QV)
decoder("StarCoder 2", "starcoder2", *QV)
decoder("OLMo", "olmo", *QV)
decoder("OLMo 2", "olmo2", *QV)
decoder("Granite", "granite", *QV)
decoder("Cohere", "cohere", *QV)
decoder("GLM", "glm", *QV, head_dim=16)
decoder("Helium", "helium", *QV, head_dim=16)
decoder("Nemotron", "nemotron", *QV)
decoder("DeepSeek-V3", "deepseek_v3", "q_b_proj", "kv_b_proj", num_key_value_heads=2, q_lora_rank=16, kv_lora_rank=16,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16, first_k_dense_replace=2, n_routed_experts=4, n_group=1,
        topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- encoder-decoders

SEQ2SEQ = "text2text-generation-with-past"
PAIRS = dict(input_ids=ids(), attention_mask=torch.ones(BATCH, TOKENS, dtype=torch.long), decoder_input_ids=ids(tokens=6, shift=3))


def seq2seq(name, model_type, *targets, auto=t.AutoModelForSeq2SeqLM, task=SEQ2SEQ, inputs=None, **config):
    tokens = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=0)
    build = functools.partial(from_config, auto, model_type, vocab_size=WORDS, **tokens, **config)
    add(name, "Encoder-decoders", build, inputs or PAIRS, targets, task)


T5 = dict(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
BART = dict(
    d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
    decoder_ffn_dim=64, max_position_embeddings=64,
)
seq2seq("T5", "t5", "q", "v", **T5)
seq2seq("mT5", "mt5", "q", "v", **T5)
seq2seq("LongT5", "longt5", "q", "v", **T5, local_radius=3, global_block_size=4)
seq2seq("BART", "bart", *QV, **BART)
seq2seq("mBART", "mbart", *QV, **BART)
seq2seq("Marian", "marian", *QV, **BART)
seq2seq("M2M100", "m2m_100", *QV, **BART)
seq2seq("Pegasus", "pegasus", *QV, **BART)
seq2seq("Blenderbot", "blenderbot", *QV, **BART)
seq2seq("Blenderbot small", "blenderbot-small", *QV, **BART)
seq2seq("Whisper", "whisper", *QV, auto=t.AutoModelForSpeechSeq2Seq, task="automatic-speech-recognition-with-past",
        inputs=dict(input_features=noise(BATCH, 16, 3000), decoder_input_ids=ids(tokens=6)), **BART, num_mel_bins=16,
        max_source_positions=1500, max_target_positions=32)  # fmt: skip
seq2seq("Speech2Text", "speech_to_text", *QV, auto=t.AutoModelForSpeechSeq2Seq, task="automatic-speech-recognition-with-past",
        inputs=dict(input_features=noise(BATCH, 32, 16), attention_mask=torch.ones(BATCH, 32, dtype=torch.long),
                    decoder_input_ids=ids(tokens=6)),
        **BART, input_feat_per_channel=16, conv_channels=32, max_source_positions=64, max_target_positions=32)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- images


def vision(name, model_type, *targets, auto=t.AutoModelForImageClassification, task="image-classification", inputs=None, mixes_rows=False, **config):
    config = {**VISION, **config}
    build = functools.partial(from_config, auto, model_type, **config)
    size = config["image_size"] if isinstance(config["image_size"], int) else config["image_size"][0]
    add(name, "Images", build, inputs or {"pixel_values": noise(BATCH, 3, size, size)}, targets, task, mixes_rows=mixes_rows)


def staged(name, model_type, *targets, **config):
    """Adds a model of stages, each with its own number of features."""
    build = functools.partial(from_config, t.AutoModelForImageClassification, model_type, num_labels=LABELS, **config)
    size = {"mobilevit": 64}.get(model_type, 32)
    add(name, "Images", build, {"pixel_values": noise(BATCH, 3, size, size)}, targets, "image-classification")


QUERY = ("query", "value")
#: The projections of ViT and similar models, as transformers 4 and 5 name them.
VIT = (*QUERY, *QV)
vision("ViT", "vit", *VIT)
vision("DeiT", "deit", *VIT)
vision("BEiT", "beit", *VIT, use_relative_position_bias=True, out_indices=[0, 1])
vision("Data2Vec vision", "data2vec-vision", *VIT, use_relative_position_bias=True, out_indices=[0, 1])
vision("ViT-MSN", "vit_msn", *VIT, task="image-classification")
vision("DINOv2", "dinov2", *VIT)
vision("DINOv3", "dinov3_vit", *QV, auto=t.AutoModel, task=None)
SWIN = dict(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4)
staged("Swin", "swin", *VIT, **SWIN)
staged("Swin v2", "swinv2", *VIT, **SWIN)
staged("ConvNeXt", "convnext", "pwconv1", "pwconv2", depths=[1, 1], hidden_sizes=[16, 32], num_stages=2)
staged("ConvNeXt v2", "convnextv2", "pwconv1", "pwconv2", depths=[1, 1], hidden_sizes=[16, 32], num_stages=2)
staged("SegFormer", "segformer", *VIT, num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[16, 32], num_attention_heads=[1, 2],
       sr_ratios=[2, 1], patch_sizes=[3, 3], strides=[2, 2], mlp_ratios=[2, 2], decoder_hidden_size=16)  # fmt: skip
staged("PVT", "pvt", *VIT, num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[16, 32], num_attention_heads=[1, 2],
       sequence_reduction_ratios=[2, 1], patch_sizes=[4, 2], strides=[4, 2], mlp_ratios=[2, 2], image_size=32)  # fmt: skip
staged("CvT", "cvt", "projection_query", "projection_value", embed_dim=[16, 32, 32], num_heads=[1, 2, 2], depth=[1, 2, 3])
staged("MobileViT", "mobilevit", *VIT, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32], image_size=64,
       num_attention_heads=2, patch_size=2, expand_ratio=2.0, output_stride=32)  # fmt: skip
staged("Hiera", "hiera", "qkv", embed_dim=16, num_heads=[1, 2], depths=[1, 1], image_size=[32, 32], num_query_pool=1,
       query_stride=[2, 2], masked_unit_size=[4, 4])  # fmt: skip

vision("CLIP, text", "clip_text_model", *QV, auto=t.CLIPTextModel, task="feature-extraction",
       inputs={"input_ids": ids(), "attention_mask": torch.ones(BATCH, TOKENS, dtype=torch.long)},
       vocab_size=WORDS, max_position_embeddings=64, eos_token_id=2, bos_token_id=1, pad_token_id=0)  # fmt: skip
vision("CLIP, images", "clip_vision_model", *QV, auto=t.CLIPVisionModel, task="feature-extraction")
HALVES = dict(
    text_config={**SIZE, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0, "projection_size": 32},
    vision_config={key: value for key, value in VISION.items() if key != "num_labels"},
)
BOTH = dict(input_ids=ids(), pixel_values=noise(BATCH, 3, 16, 16), attention_mask=torch.ones(BATCH, TOKENS, dtype=torch.long))
vision("CLIP", "clip", *QV, auto=t.AutoModel, task="zero-shot-image-classification", inputs=BOTH, mixes_rows=True, **HALVES, projection_dim=32)
vision("SigLIP", "siglip", *QV, auto=t.AutoModel, task="zero-shot-image-classification", inputs=BOTH, mixes_rows=True, **HALVES)
vision("SigLIP, images", "siglip_vision_model", *QV, auto=t.SiglipVisionModel, task="feature-extraction")

# ---------------------------------------------------------------------------------------------------------------- sound

AUDIO = dict(
    **SIZE, conv_dim=[16, 16], conv_stride=[5, 4], conv_kernel=[10, 5], num_feat_extract_layers=2, num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, feat_extract_norm="layer",
    do_stable_layer_norm=True, conv_bias=True,
)


def sound(name, model_type, *targets, auto=t.AutoModelForCTC, task="automatic-speech-recognition", inputs=None, **config):
    build = functools.partial(from_config, auto, model_type, **{**AUDIO, **config})
    add(name, "Sound", build, inputs or {"input_values": noise(BATCH, 640)}, targets, task)


sound("wav2vec2", "wav2vec2", *QV)
sound("wav2vec2-Conformer", "wav2vec2-conformer", "linear_q", "linear_v", position_embeddings_type="relative", max_source_positions=64,
      conv_depthwise_kernel_size=3)  # fmt: skip
sound("HuBERT", "hubert", *QV)
# PEFT cannot adapt q, k and v, because the attention reads their weights without calling the modules. The same holds for timm's BEiT.
sound("WavLM", "wavlm", "intermediate_dense", "output_dense", num_buckets=16, max_bucket_distance=32)
sound("UniSpeech", "unispeech", *QV)
sound("SEW", "sew", *QV, squeeze_factor=2)
sound("Data2Vec audio", "data2vec-audio", *QV, conv_pos_kernel_size=3, num_conv_pos_embeddings=2)
sound("AST", "audio-spectrogram-transformer", *VIT, auto=t.AutoModelForAudioClassification, task="audio-classification",
      inputs={"input_values": noise(BATCH, 32, 16)}, patch_size=4, frequency_stride=4, time_stride=4, max_length=32, num_mel_bins=16,
      num_labels=LABELS)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- timm


def timm_model(name, path, *targets, size=32, **config):
    def build():
        import timm

        module, kind = path.split(".")
        model = getattr(getattr(timm.models, module), kind)(num_classes=LABELS, **config)
        return model

    add(name, "timm", build, {"x": noise(BATCH, 3, size, size)}, targets, None)


SMALL = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
timm_model("timm ViT", "vision_transformer.VisionTransformer", r"attn\.qkv", **SMALL)
timm_model("timm DeiT", "deit.VisionTransformerDistilled", r"attn\.qkv", **SMALL)
timm_model("timm BEiT", "beit.Beit", r"attn\.proj", r"mlp\.fc1", **SMALL, use_rel_pos_bias=True)
timm_model("timm EVA", "eva.Eva", "q_proj", "v_proj", **SMALL, qkv_fused=False, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True)
timm_model("timm Swin", "swin_transformer.SwinTransformer", r"attn\.qkv", img_size=32, patch_size=2, embed_dim=16, depths=(2, 2),
           num_heads=(2, 2), window_size=4)  # fmt: skip
timm_model("timm ConvNeXt", "convnext.ConvNeXt", r"mlp\.fc1", r"mlp\.fc2", depths=(1, 1, 1, 1), dims=(8, 16, 16, 32))
timm_model("timm MLP-Mixer", "mlp_mixer.MlpMixer", "mlp_channels.fc1", "mlp_channels.fc2", img_size=32, patch_size=8, embed_dim=32, num_blocks=2)
