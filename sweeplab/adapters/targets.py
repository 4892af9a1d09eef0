"""The modules that the six toggles of `adapter` select, found by what they are called in any architecture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Final

from sweeplab.config.adapter import TOGGLES, LowRankAdapter
from sweeplab.runtime.errors import ConfigError

_ATTENTION_NAMES: Final[dict[str, tuple[str, ...]]] = {  # the last part of a name -> toggles; of one matrix several
    **dict.fromkeys(("q_proj", "query", "query_proj", "q_lin", "project_q", "Wq"), ("query",)),
    **dict.fromkeys(("q_a_proj", "q_b_proj"), ("query",)),  # of DeepSeek: down to a latent vector, and up again
    **dict.fromkeys(("k_proj", "key", "key_proj", "k_lin", "project_k", "Wk"), ("key",)),
    **dict.fromkeys(("v_proj", "value", "value_proj", "v_lin", "project_v", "Wv"), ("value",)),
    **dict.fromkeys(("v_proj_current", "v_proj_delayed"), ("value",)),
    **dict.fromkeys(("kv_proj", "kv_a_proj_with_mqa", "kv_b_proj"), ("key", "value")),
    "query_key": ("query", "key"),
    **dict.fromkeys(("qkv_proj", "query_key_value", "c_attn", "Wqkv"), ("query", "key", "value")),
    **dict.fromkeys(("o_proj", "out_proj", "dense", "c_proj", "out_lin", "attention_out", "Wo"), ("projection",)),
    **dict.fromkeys(("o_a_proj", "o_b_proj"), ("projection",)),
}
_UNMISTAKABLE: Final = ("q_proj", "k_proj", "v_proj", "o_proj")  # also where nothing around them is called attention
_MLP_NAMES: Final = (
    *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3", "proj_up", "proj_up_gate", "proj_down"),
    *("fc1", "fc2", "c_fc", "c_proj", "fc_in", "fc_out", "dense_h_to_4h", "dense_4h_to_h", "dense", "lin1", "lin2"),
    *("input_linear", "output_linear", "Wi", "Wo", "w_0", "w_1", "w_out"),
)
_HEADS: Final = re.compile(
    r"(.+\.)?(lm_head|embed_out|output_projection|proj_out|lm_loss|generator_lm_head|classifier)"
    r"|(lm_head|cls\.predictions)\.decoder|pred_layer\.proj|head|output|decoder"
)
_IS_ATTENTION: Final = re.compile(r"attn|attention|mlstm")
_IS_NEITHER: Final = re.compile(  # what chooses experts, gates, mixes without attention or scales
    r"router|^gate$|norm|conv|mamba|compressor|indexer|relative_pos|adapter_modules"
)


def classify_module(name: str) -> tuple[str, ...]:
    """The toggles that a matrix belongs to, by its name; several where it is fused, none where it belongs to none."""
    *around, last = name.split(".")
    if last == "linear" and around:  # Moshi's are wrapped
        *around, last = around
    if not any(segment.isdigit() for segment in around):  # in no layer
        return ("head",) if _HEADS.fullmatch(name) else ()
    layer = [segment for place, segment in enumerate(around) if any(one.isdigit() for one in around[:place])]
    if any(_IS_NEITHER.search(segment) for segment in layer):
        return ()
    if any(_IS_ATTENTION.search(segment) for segment in layer) or last in _UNMISTAKABLE:
        return _ATTENTION_NAMES.get(last, ())
    return ("mlp",) if last in _MLP_NAMES else ()


def find_matching_modules(module_names: Iterable[str], target: str) -> list[str]:
    """The modules that PEFT's suffix rule selects for `target`."""
    return [name for name in module_names if name == target or name.endswith(f".{target}")]


def _shorten_names(wanted: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The shortest suffixes that PEFT's rule selects exactly the `wanted` of all `names` by."""
    rest, suffixes = dict.fromkeys(wanted), list[str]()
    while rest:
        parts = next(iter(rest)).split(".")
        endings = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        ending = next(one for one in endings if set(find_matching_modules(names, one)) <= set(wanted))
        suffixes.append(ending)
        for name in find_matching_modules(list(rest), ending):
            del rest[name]
    return tuple(suffixes)


def find_modules(modules: Mapping[str, Iterable[str]], linear_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """PEFT's `target_modules` of each toggle: the user's own in `modules`, or what the names of the model's linear
    layers say."""
    if modules:
        return {toggle: tuple(modules.get(toggle, ())) for toggle in TOGGLES}
    found: dict[str, list[str]] = {toggle: [] for toggle in TOGGLES}
    for name in linear_names:
        for toggle in classify_module(name):
            found[toggle].append(name)
    return {toggle: _shorten_names(wanted, linear_names) for toggle, wanted in found.items()}


def _refuse_unequal_fused(matched: Mapping[str, set[str]], enabled: set[str]) -> None:
    """Raises `ConfigError` where a matrix belongs to several toggles and only some of them are on."""
    for toggle in sorted(enabled):
        for sharing in TOGGLES:
            shared = {name.rpartition(".")[2] for name in matched[toggle] & matched[sharing]}
            if shared and sharing not in enabled:
                raise ConfigError(
                    f"adapter.lora_{toggle}=true with lora_{sharing}=false: this architecture keeps both in one "
                    f"matrix ({', '.join(sorted(shared))}), so they are adapted together; set both alike"
                )


def _list_taken_for_experts(model_type: str, targets: Sequence[str]) -> list[str]:
    """The targets that PEFT does not look for in modules: names of experts before they stood in one tensor."""
    from peft import LoraConfig  # which a plan of most models does not need, and which takes a second
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config, model = (
        LoraConfig(target_modules=list(targets)),
        SimpleNamespace(config=SimpleNamespace(model_type=model_type)),
    )
    try:
        convert_peft_config_for_transformers(config, model, None)  # type: ignore[arg-type]  # it reads the type only
    except ValueError:  # some of the names that stand in one tensor, without the others
        return list(targets)
    return [target for target in targets if target not in (config.target_modules or ())]


def find_target_modules(
    adapter: LowRankAdapter,
    model_type: str,
    modules: Mapping[str, Iterable[str]],
    linear_names: Sequence[str],
    expert_names: Sequence[str] = (),
) -> list[str]:
    """PEFT's `target_modules` for the toggles that are on, given the names of the model's linear layers.

    `expert_names` are those of the tensors that hold the matrices of several experts; PEFT's targets are modules, and
    these are none. Raises `ConfigError` where a toggle matches nothing, listing what there is, or is fused with one
    that is off.
    """
    names = find_modules(modules, linear_names)
    matched = {
        toggle: {name for target in targets for name in find_matching_modules(linear_names, target)}
        for toggle, targets in names.items()
    }
    _refuse_unequal_fused(matched, set(adapter.enabled()))
    targets: list[str] = []
    for toggle in adapter.enabled():
        if not names[toggle] or not all(find_matching_modules(linear_names, target) for target in names[toggle]):
            if toggle == "mlp" and expert_names and not modules:
                raise ConfigError(
                    f"adapter.lora_mlp=true matches no matrix of a {model_type}: its MLPs are experts in one tensor "
                    f"({expert_names[0]}), which no module stands for; choose adapter.lora_mlp=false"
                )
            there = ", ".join(sorted({name.rpartition(".")[2] for name in linear_names}))
            asked = ", ".join(names[toggle]) or ("none named" if modules else "none is called as one")
            raise ConfigError(
                f"adapter.lora_{toggle}=true matches no module of a {model_type} ({asked}); linear modules here: "
                f"{there}; name the right ones, such as model.modules={{query:[q_proj],value:[v_proj]}}"
            )
        targets += [target for target in names[toggle] if target not in targets]
        taken = _list_taken_for_experts(model_type, names[toggle]) if expert_names else []
        if taken:
            raise ConfigError(
                f"adapter.lora_{toggle}=true names {', '.join(taken)}, which PEFT takes for the experts of a "
                f"{model_type}, whose matrices stand in one tensor; choose adapter.lora_{toggle}=false"
            )
    return targets
