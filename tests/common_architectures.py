"""The commonest architectures of causal models, and which of their matrices each toggle means, written by hand from
the models' own code. `python -m tests.common_architectures > docs/architectures.md` writes the table for users."""

from typing import Final, NamedTuple

from sweeplab.config.adapter import TOGGLES

_SELF: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_GATED: Final = "mlp.gate_proj mlp.up_proj mlp.down_proj"
_FUSED_GATE: Final = "mlp.gate_up_proj mlp.down_proj"
_NEOX_MLP: Final = "mlp.dense_h_to_4h mlp.dense_4h_to_h"
_LATENT: Final = "self_attn.kv_a_proj_with_mqa self_attn.kv_b_proj"
_SHARED: Final = "{0}.gate_proj {0}.up_proj {0}.down_proj"


class Expected(NamedTuple):
    """Names within a layer, separated by spaces; of experts, those of the tensors that hold them."""

    models: str  # that people call by another name
    query: str
    key: str
    value: str
    projection: str
    mlp: str
    experts: str = ""
    has_taken_names: bool = False  # PEFT takes what the modules of the MLP are called for the experts


def _fused(models: str, whole: str, projection: str, mlp: str) -> Expected:
    return Expected(models, whole, whole, whole, projection, mlp)


def _name_experts(block: str) -> str:
    return f"{block}.experts.gate_up_proj {block}.experts.down_proj"


def _experts(models: str, shared: str = "", block: str = "mlp", taken: bool = False) -> Expected:
    return Expected(models, *_SELF, shared, _name_experts(block), taken)


def _latent(models: str) -> Expected:
    query, shared = "self_attn.q_a_proj self_attn.q_b_proj", _SHARED.format("mlp.shared_experts")
    return Expected(models, query, _LATENT, _LATENT, _SELF[3], f"{_GATED} {shared}", _name_experts("mlp"), True)


ALL: Final[dict[str, Expected]] = {
    "llama": Expected("Llama 1 to 3, TinyLlama, Yi, SmolLM 2", *_SELF, _GATED),
    "llama4_text": _experts("Llama 4", _SHARED.format("feed_forward.shared_expert"), "feed_forward"),
    "mistral": Expected("Mistral", *_SELF, _GATED),
    "mixtral": _experts("Mixtral"),
    "gemma": Expected("Gemma", *_SELF, _GATED),
    "gemma2": Expected("Gemma 2", *_SELF, _GATED),
    "gemma3_text": Expected("Gemma 3, 270M and 1B", *_SELF, _GATED),
    "gemma3": Expected("Gemma 3, 4B and larger: its text part", *_SELF, _GATED),
    "qwen2": Expected("Qwen 2, 2.5", *_SELF, _GATED),
    "qwen2_moe": _experts("Qwen 1.5 and 2 MoE", _SHARED.format("mlp.shared_expert")),
    "qwen3": Expected("Qwen 3", *_SELF, _GATED),
    "qwen3_moe": _experts("Qwen 3 MoE"),
    "gpt_oss": _experts("gpt-oss"),
    "granite": Expected("Granite 3", *_SELF, _GATED),
    "granitemoe": _experts("Granite MoE", block="block_sparse_moe"),
    "olmo2": Expected("OLMo 2", *_SELF, _GATED),
    "olmo3": Expected("OLMo 3", *_SELF, _GATED),
    "olmoe": _experts("OLMoE"),
    "smollm3": Expected("SmolLM 3", *_SELF, _GATED),
    "phi": Expected("Phi-1, 1.5, 2", *_SELF[:3], "self_attn.dense", "mlp.fc1 mlp.fc2"),
    "phi3": _fused("Phi-3, Phi-4", "self_attn.qkv_proj", "self_attn.o_proj", _FUSED_GATE),
    "phimoe": _experts("Phi-3.5 MoE"),
    "falcon": _fused("Falcon", "self_attention.query_key_value", "self_attention.dense", _NEOX_MLP),
    "starcoder2": Expected("StarCoder 2", *_SELF, "mlp.c_fc mlp.c_proj"),
    "cohere": Expected("Command R", *_SELF, _GATED),
    "cohere2": Expected("Command R7B, A", *_SELF, _GATED),
    "glm4": Expected("GLM 4", *_SELF, _FUSED_GATE),
    "glm4_moe": _experts("GLM 4.5, 4.6", f"{_GATED} {_SHARED.format('mlp.shared_experts')}", taken=True),
    "exaone4": Expected("EXAONE 4", *_SELF, _GATED),
    "deepseek_v2": _latent("DeepSeek V2"),
    "deepseek_v3": _latent("DeepSeek V3, R1; Kimi K2"),
    "stablelm": Expected("StableLM", *_SELF, _GATED),
    "bloom": _fused("BLOOM", "self_attention.query_key_value", "self_attention.dense", _NEOX_MLP),
    "mpt": _fused("MPT", "attn.Wqkv", "attn.out_proj", "ffn.up_proj ffn.down_proj"),
    "gpt2": _fused("GPT-2", "attn.c_attn", "attn.c_proj", "mlp.c_fc mlp.c_proj"),
    "gpt_neox": _fused("Pythia, GPT-NeoX", "attention.query_key_value", "attention.dense", _NEOX_MLP),
    "gptj": Expected("GPT-J", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj", "mlp.fc_in mlp.fc_out"),
    "opt": Expected("OPT", *_SELF[:3], "self_attn.out_proj", "fc1 fc2"),
    "qwen3_next": Expected(
        "Qwen 3 Next", *_SELF[:3], "self_attn.o_proj linear_attn.out_proj", _SHARED.format("mlp.shared_expert"),
        _name_experts("mlp"), has_taken_names=True,
    ),
    "lfm2": Expected(
        "LFM 2", *_SELF[:3], "self_attn.out_proj", "feed_forward.w1 feed_forward.w3 feed_forward.w2",
    ),
}  # fmt: skip


def _write_cell(names: str) -> str:
    return "<br>".join(f"`{one}`" for one in names.split()) or "–"


_PAGE: Final = """# Which matrices a toggle means

The toggles of `adapter`, such as `adapter.lora_query=true`, find their matrices by what they are called in the model
(`sweeplab/adapters/targets.py`), in any causal architecture of transformers that has attention. Tried on these as
random models: what is found, how many parameters train (as PEFT counts them), forward and backward; and planned,
trained, scored, exported and loaded by PEFT. `lora_head` is `lm_head` in all of them. Where another name is meant:
`model.modules={query:[q_proj],value:[v_proj]}`.

A matrix that belongs to several toggles is adapted for all of them or for none.

Where the matrices of all experts of a block stand in one tensor, `lora_mlp` means that tensor too, as a parameter
(PEFT's `target_parameters`): A and B of each expert, `rank * experts * (in + out)` numbers. `*`: and so it means the
MLP's other matrices, whose names PEFT takes for those of experts. Such a trial trains alone, since one forward adapts
the tensor for all rows of a batch; PEFT makes W + s B A of it in every pass, which the plan's memory counts. PEFT has
no dropout, DoRA, PiSSA, OLoRA nor orthogonal start there, and a base in parts (fsdp) has no such tensor: refused. The
tensor itself is not quantized, whatever `quantization` says of other matrices; those with `*` must be left unquantized
(`quantization.pattern`). To leave the experts out: `lora_mlp=false`, or `model.modules`.

"""


def write_page() -> str:
    titles = (
        "architecture",
        "such as",
        *(f"`{toggle}`" for toggle in TOGGLES if toggle != "head"),
        "experts in one tensor",
    )
    rows = [titles, ["---"] * len(titles)]
    for model_type, one in ALL.items():
        cells = [_write_cell(getattr(one, toggle)) for toggle in TOGGLES if toggle != "head"]
        cells[-1] += " *" if one.has_taken_names else ""
        rows.append((f"`{model_type}`", one.models, *cells, _write_cell(one.experts)))
    return _PAGE + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(write_page(), end="")
