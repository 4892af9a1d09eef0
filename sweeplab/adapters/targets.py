"""The module names that the six toggles of `adapter` select, for each family of models."""

from collections.abc import Iterable, Mapping
from typing import Final

from sweeplab.config.adapter import TOGGLES, LowRankAdapter
from sweeplab.runtime.errors import ConfigError

_ModuleNames = Mapping[str, tuple[str, ...]]

_LLAMA: Final[_ModuleNames] = {
    "query": ("q_proj",),
    "key": ("k_proj",),
    "value": ("v_proj",),
    "projection": ("o_proj",),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "head": ("lm_head",),
}
_PHI: Final = {**_LLAMA, "projection": ("self_attn.dense",), "mlp": ("fc1", "fc2")}
_PHI3: Final = {
    **_LLAMA,
    "query": ("qkv_proj",),
    "key": ("qkv_proj",),
    "value": ("qkv_proj",),
    "mlp": ("gate_up_proj", "down_proj"),
}
_OPT: Final = {**_LLAMA, "projection": ("out_proj",), "mlp": ("fc1", "fc2")}
_GPT_NEOX: Final[_ModuleNames] = {
    "query": ("query_key_value",),
    "key": ("query_key_value",),
    "value": ("query_key_value",),
    "projection": ("attention.dense",),
    "mlp": ("dense_h_to_4h", "dense_4h_to_h"),
    "head": ("lm_head",),
}
_GPT2: Final[_ModuleNames] = {
    "query": ("c_attn",),
    "key": ("c_attn",),
    "value": ("c_attn",),
    "projection": ("attn.c_proj",),
    "mlp": ("mlp.c_fc", "mlp.c_proj"),
    "head": ("lm_head",),
}
_VIT: Final = {**_LLAMA, "mlp": ("fc1", "fc2"), "head": ("classifier",)}
_FAMILIES: Final[dict[str, _ModuleNames]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi": _PHI,
    "phi3": _PHI3,
    "opt": _OPT,
    "gpt_neox": _GPT_NEOX,
    "gpt2": _GPT2,
    "vit": _VIT,
}


def _find_family(model_type: str, modules: Mapping[str, Iterable[str]]) -> _ModuleNames:
    """The table for `model_type`, or the user's own. Raises `ConfigError` for a family that neither knows."""
    if modules:
        return {toggle: tuple(modules.get(toggle, ())) for toggle in TOGGLES}
    if model_type not in _FAMILIES:
        raise ConfigError(
            f"model.modules is needed for the architecture '{model_type}' (known: {', '.join(_FAMILIES)}); name its "
            "modules, such as model.modules={query:[q_proj],value:[v_proj]}"
        )
    return _FAMILIES[model_type]


def _refuse_unequal_fused(names: _ModuleNames, enabled: set[str]) -> None:
    """Raises `ConfigError` where a matrix belongs to several toggles and only some of them are on."""
    for toggle in sorted(enabled):
        for sharing in TOGGLES:
            shared = set(names[toggle]) & set(names[sharing])
            if shared and sharing not in enabled:
                raise ConfigError(
                    f"adapter.lora_{toggle}=true with lora_{sharing}=false: this architecture keeps both in one "
                    f"matrix ({', '.join(sorted(shared))}), so they are adapted together; set both alike"
                )


def find_matching_modules(module_names: Iterable[str], target: str) -> list[str]:
    """The modules that PEFT's suffix rule selects for `target`."""
    return [name for name in module_names if name == target or name.endswith(f".{target}")]


def find_target_modules(
    adapter: LowRankAdapter, model_type: str, modules: Mapping[str, Iterable[str]], linear_names: list[str]
) -> list[str]:
    """PEFT's `target_modules` for the toggles that are on, given the names of the model's linear layers.

    Raises `ConfigError` where a toggle matches nothing, listing what there is, or is fused with one that is off.
    """
    names = _find_family(model_type, modules)
    _refuse_unequal_fused(names, set(adapter.enabled()))
    targets: list[str] = []
    for toggle in adapter.enabled():
        if not names[toggle] or not all(find_matching_modules(linear_names, target) for target in names[toggle]):
            there = ", ".join(sorted({name.rpartition(".")[2] for name in linear_names}))
            raise ConfigError(
                f"adapter.lora_{toggle}=true matches no module ({', '.join(names[toggle]) or 'none named'}); "
                f"linear modules here: {there}; name the right ones with model.modules"
            )
        targets += [target for target in names[toggle] if target not in targets]
    return targets
