"""A tiny random model of every causal architecture that transformers has, and what fast ways compute on it."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sweeplab.data.batches import make_heldout_batches
from sweeplab.data.packing import PackedRow
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.evaluation.lm import CohortLM
from sweeplab.models.base import Base
from sweeplab.models.random_weights import choose_attention
from sweeplab.training.module import sum_target_losses
from sweeplab.trial.exactness import choose_sharing_rule

ARCHITECTURES: Final = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
MOST_PARAMS: Final = 8_000_000
VOCABULARY: Final = 160
_WORDS: Final = 100  # of the vocabulary, that texts are of; the last ids stand for images and sound in some families
_VALUES: Final[tuple[tuple[Any, str], ...]] = (
    (64, "hidden_size d_model n_embd model_dim embedding_size embed_dim lru_width decoder_hidden_size dim_model dim"),
    (64, "mamba_d_ssm word_embed_proj_dim"),
    (128, "intermediate_size ffn_dim d_ff n_inner dff ffn_hidden_size d_inner decoder_ffn_dim encoder_ffn_dim dim_ff"),
    (128, "intermediate_size_mlp shared_intermediate_size dense_intermediate_size expert_ffn_hidden_size"),
    (32, "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size block_size"),
    (4, "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers num_blocks"),
    (4, "num_encoder_layers decoder_num_hidden_layers num_attention_heads n_head n_heads num_heads attention_heads"),
    (4, "encoder_attention_heads decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads"),
    (4, "mamba_n_heads mamba_num_heads n_mamba_heads num_local_experts num_experts n_routed_experts moe_num_experts"),
    (4, "n_experts linear_num_value_heads linear_num_heads conv_kernel_size"),
    (
        2,
        "num_key_value_heads kv_n_heads num_kv_heads num_global_key_value_heads swa_num_key_value_heads moe_k moe_topk",
    ),
    (2, "num_experts_per_tok num_experts_per_token moe_top_k top_k_experts num_selected_experts linear_num_key_heads"),
    (2, "index_n_heads"),
    (16, "head_dim global_head_dim kv_channels attention_head_dim v_head_dim swa_head_dim d_kv mamba_d_head"),
    (16, "mamba_head_dim mamba_headdim linear_key_head_dim linear_value_head_dim swa_v_head_dim dim_head"),
    (16, "sliding_window attention_window_size window_size attention_chunk_size local_attention sliding_window_size"),
    (16, "swa_window_size chunk_size mamba_chunk_size q_lora_rank kv_lora_rank query_pre_attn_scalar index_head_dim"),
    (16, "qk_head_dim"),
    (VOCABULARY, "vocab_size vocab_size_per_layer_input decoder_vocab_size n_words"),
    (512, "max_position_embeddings n_positions max_seq_len max_sequence_length n_ctx context_length index_topk"),
    (512, "max_target_positions max_source_positions"),
    (1, "n_group topk_group num_mem_blocks n_groups mamba_n_groups mamba_ngroups n_shared_experts num_shared_experts"),
    (1, "moe_num_shared_experts first_k_dense_replace"),
    (8, "state_size mamba_d_state ssm_state_size mamba_state_dim qk_rope_head_dim qk_nope_head_dim rotary_dim"),
    (8, "hidden_size_per_layer_input laurel_rank time_step_rank"),
    (0, "bos_token_id eos_token_id pad_token_id num_kv_shared_layers"),
    (3, "conv_L_cache"),
    (28, "image_size"),
    (14, "patch_size"),
    (4.0, "logits_scaling"),
    (None, "activation_sparsity_pattern"),
    (True, "is_decoder"),
    (False, "use_mamba_kernels"),
)
_SIZES: Final = {name: value for value, names in _VALUES for name in names.split()}
_EQUAL_HEADS: Final[dict[str, Any]] = {"num_key_value_heads": 4}
_LATENT_HEADS: Final[dict[str, Any]] = {**_EQUAL_HEADS, "head_dim": 8}
_LINEAR: Final[dict[str, Any]] = {"layer_types": ["linear_attention", "full_attention"] * 2}
_CONVOLUTIONS: Final[dict[str, Any]] = {"layer_types": ["conv", "full_attention"] * 2}
_HEADS: Final[dict[str, Any]] = {"head_dim": 16}
_CHANGES: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("axk2", "deepseek_v32", "glm_moe_dsa", "deepseek_v2", "glm4_moe_lite", "minicpm3"), _EQUAL_HEADS),
    **dict.fromkeys(("axk1", "deepseek_v3", "youtu"), _LATENT_HEADS),
    "minimax": _LINEAR,
    "kimi_linear": {**_LINEAR, **_EQUAL_HEADS},
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral"), _HEADS),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _CONVOLUTIONS),
    "bamba": {"mamba_n_heads": 8, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"mamba_n_heads": 8, "layer_types": ["mamba", "attention"] * 2},
    "mamba2": {"num_heads": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {
        "mamba_n_heads": 8,
        "n_mamba_heads": 8,
        "attention_head_dim": 32,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "layer_types": ["mamba", "hybrid"] * 2,
    },
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"axial_pos_embds_dim": [16, 48], "axial_pos_shape": [16, 32]},
    "xlm": {"emb_dim": 64},
    "roc_bert": {"pronunciation_vocab_size": 50, "shape_vocab_size": 50},
    "xlstm": {"qk_dim_factor": 1.0, "head_dim": None},
}


def _shrink_values(values: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name.endswith("_config") and "model_type" in value:
            small[name] = {"model_type": value["model_type"], **_shrink_values(value)}
        elif name in _SIZES and not (value is None and name == "head_dim"):
            small[name] = _SIZES[name]
    return small


def make_tiny_config(name: str, **values: Any) -> PretrainedConfig:
    """The architecture's own configuration with every size that it has made small."""
    kind = CONFIG_MAPPING[name]
    config: PretrainedConfig = kind(**{**_shrink_values(kind().to_dict()), **_CHANGES.get(name, {}), **values})
    return config


def build_tiny_model(name: str, **values: Any) -> PreTrainedModel:
    """A random model in 32 bits whose logits are far from flat. Raises whatever the architecture raises."""
    config = make_tiny_config(name, **values)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(copy.deepcopy(config)).parameters())
    if size > MOST_PARAMS:
        raise ValueError(f"{size:,} parameters are too many for a tiny model")
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=choose_attention(config)
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.mul_(3)
        model.eval()(input_ids=torch.arange(3, 43)[None], attention_mask=torch.ones(1, 40, dtype=torch.long))
    model.config.use_cache = False
    return model.requires_grad_(False)


def make_base(model: PreTrainedModel, tokenizer: Any, draws: bool = False) -> Base:
    return Base(model, tokenizer, 0, 32.0, "", draws)


def draw_ids(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, _WORDS, (length,), generator=generator).tolist()


def draw_examples(lengths: Sequence[int] = (60, 40, 7, 25)) -> list[Tokens]:
    """Random tokens, of which the first third is prompt."""
    drawn = [draw_ids(length, seed) for seed, length in enumerate(lengths)]
    return [Tokens(ids, [IGNORED] * (len(ids) // 3) + ids[len(ids) // 3 :]) for ids in drawn]


class Losses(NamedTuple):
    """Sums of -log p over the same targets, computed in several ways."""

    separate: float  # one example after another, by torch's cross entropy
    padded: float
    packed: float | str  # a text says what the model raised


@torch.no_grad()
def compute_losses(model: PreTrainedModel, examples: Sequence[Tokens]) -> Losses:
    separate = 0.0
    for tokens in examples:
        ids = tokens.ids[None]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].double()
        separate += F.cross_entropy(logits, tokens.labels[1:], ignore_index=IGNORED, reduction="sum").item()
    (padded,) = make_heldout_batches(examples, 0, len(examples))
    (packed,) = make_heldout_batches([PackedRow(tuple(examples))], 0, 1)
    try:
        in_one_row: float | str = sum_target_losses(model, packed).item()
    except Exception as error:
        in_one_row = f"{type(error).__name__}: {error}"
    return Losses(separate, sum_target_losses(model, padded).item(), in_one_row)


class Answers(NamedTuple):
    separate: list[float]  # log-likelihoods, one sequence after another
    scored: list[float]  # as evaluation has them
    notes: list[str]


@torch.no_grad()
def compute_answers(model: PreTrainedModel, tokenizer: Any, length: int) -> Answers:
    """Four answers to each of two questions, a short one and one of `length` tokens."""
    requests, items = [], []
    for item, size in enumerate((4, length)):
        context = draw_ids(size, 10 + item)
        answers = [draw_ids(5, 20 + 10 * item + place) for place in range(4)]
        requests += [(("question", f"answer {place}"), context, answer) for place, answer in enumerate(answers)]
        items += [item] * 4
    lm = CohortLM(model, tokenizer, 8, 1, lambda indices: nullcontext(), choose_sharing_rule(model))
    lm.allow_sharing(True)
    lm.items = list(items)
    scored = [value for value, _ in lm._loglikelihood_tokens(requests, disable_tqdm=True)]
    separate = []
    for _, context, answer in requests:
        logits: Tensor = model(input_ids=torch.tensor([context + answer[:-1]])).logits[0].double()
        chosen = logits.log_softmax(-1)[-len(answer) :].gather(1, torch.tensor(answer)[:, None])
        separate.append(chosen.sum().item())
    return Answers(separate, scored, lm.notes)


@torch.no_grad()
def varies_in_training(model: PreTrainedModel) -> bool:
    """Whether four forward passes of the same row in training mode differ."""
    ids = torch.tensor([draw_ids(40, 3)])
    model.train()
    first, *others = (model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for _ in range(4))
    model.eval()
    return any(not torch.allclose(first, other, atol=1e-5) for other in others)
