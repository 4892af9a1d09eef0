"""Computes ranks and parameters: which matrices the toggles select, and the largest rank within a budget."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sweeplab.adapters.targets import find_matching_modules, find_targets
from sweeplab.config.adapter import LoraAdapter, LowRankAdapter
from sweeplab.models.layers import ExpertShape, LinearShape
from sweeplab.runtime.errors import ConfigError

AdaptedShape = LinearShape | ExpertShape  # the second where PEFT adapts a parameter


def find_targeted_shapes(
    adapter: LowRankAdapter,
    model_type: str,
    modules: Mapping[str, Iterable[str]],
    shapes: Iterable[LinearShape],
    experts: Iterable[ExpertShape] = (),
) -> list[AdaptedShape]:
    """The matrices of `shapes` and `experts` that the toggles select. Raises `ConfigError` as `find_targets` does."""
    known, in_one_tensor = list(shapes), list(experts)
    names = [shape.name for shape in known]
    targets = find_targets(adapter, model_type, modules, names, [one.name for one in in_one_tensor])
    wanted = {name for target in targets.modules for name in find_matching_modules(names, target)}
    alone = [ExpertShape(f"{one.name}.weight", 1, one.in_features, one.out_features) for one in known]
    return [
        *(shape for shape in known if shape.name in wanted),
        *(shape for shape in [*alone, *in_one_tensor] if shape.name in targets.parameters),
    ]


def count_matrices(shape: AdaptedShape) -> int:
    """The matrices that have A and B of their own."""
    return shape.num_experts if isinstance(shape, ExpertShape) else 1


def list_trained_names(shapes: Iterable[AdaptedShape]) -> list[str]:
    """PEFT's names of A and B of every matrix. Of the parameters of one module, the first one's layer is innermost."""
    names, outer = list[str](), dict[str, str]()
    for shape in reversed(list(shapes)):
        module = shape.name.rpartition(".")[0] if isinstance(shape, ExpertShape) else shape.name
        where = f"{outer[module]}.base_layer" if module in outer else module
        outer[module] = where
        names += [f"base_model.model.{where}.lora_{part}.default.weight" for part in "BA"]
    return names[::-1]


def _is_match(pattern: str, name: str) -> bool:
    """PEFT's rule for module names: equal to the target, or ending with a dot and the target."""
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


def find_rank(adapter: LowRankAdapter, name: str) -> int:
    """The module's rank: that of the first pattern that matches its name, else the adapter's."""
    for pattern, rank in adapter.rank_pattern.items():
        if _is_match(pattern, name):
            return rank
    return adapter.rank


def _check_patterns(adapter: LowRankAdapter, shapes: Sequence[AdaptedShape]) -> None:
    """Raises `ConfigError` for a pattern that matches no adapted matrix, with the names of those.

    Patterns of rates are looked for in the names of LoRA's own parameters, and not judged here where others train too.
    """
    names = [shape.name for shape in shapes]
    found = {
        (key, pattern): any(_is_match(pattern, name) for name in names)
        for key in ("rank_pattern", "alpha_pattern")
        for pattern in getattr(adapter, key)
    }
    if isinstance(adapter, LoraAdapter) and adapter.bias == "none" and not (adapter.train_norms or adapter.dora):
        trained = list_trained_names(shapes)
        for pattern in adapter.lr_pattern:
            found["lr_pattern", pattern] = any(re.search(pattern, name) for name in trained)
    for (key, pattern), is_there in found.items():
        if not is_there:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))
            raise ConfigError(
                f"adapter.{key} must match adapted matrices, and {pattern!r} matches none; adapted here: {kinds} (such "
                f"as {names[0]}); mend the pattern, or drop it"
            )


def count_adapter_params(adapter: LowRankAdapter, shapes: Iterable[AdaptedShape]) -> int:
    """Sum of r (d_in + d_out), of each expert, and d_out more for DoRA's magnitudes. Hu et al. 2021, 4.1; Liu et al.
    2024, 4.1."""
    return sum(
        count_matrices(shape) * find_rank(adapter, shape.name) * (shape.in_features + shape.out_features)
        + (shape.out_features if adapter.dora else 0)
        for shape in shapes
    )


def fit_to_budget(adapter: LowRankAdapter, shapes: Sequence[AdaptedShape]) -> LowRankAdapter:
    """`adapter` with the largest rank whose parameters fit into `budget`; unchanged where there is no budget.

    Patterns keep their own ranks. Raises `ConfigError` where not even rank 1 fits, and as `_check_patterns` does.
    """
    _check_patterns(adapter, shapes)
    if adapter.budget is None:
        return adapter
    free = [shape for shape in shapes if find_rank(adapter.replaced(rank=0), shape.name) == 0]
    fixed = count_adapter_params(adapter.replaced(rank=0), shapes)
    per_rank = sum(count_matrices(shape) * (shape.in_features + shape.out_features) for shape in free)
    rank = (adapter.budget - fixed) // per_rank if per_rank else 0
    if rank < 1:
        raise ConfigError(
            f"adapter.budget must hold at least rank 1, {fixed + per_rank:,} parameters for these targets, got "
            f"{adapter.budget:,}; raise it, or switch toggles off"
        )
    return adapter.replaced(rank=rank)
