"""Places for trials' LoRA adapters: one row of memory each, and one for its gradients.

So an optimizer can take an adapter as one vector, and adapters of one layout can stand together in one tensor.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peft.tuners.lora import Linear as PlainLora
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sweeplab.config.shared_base import padded_rank

Weights = dict[str, tuple[Tensor, Tensor]]  # A as (rank, in_features) and B as (out_features, rank) by matrix


class LoraMatrix(NamedTuple):
    """One adapted matrix, with PEFT's name for the base's."""

    name: str
    rank: int
    in_features: int
    out_features: int
    scaling: float
    dropout: float
    round_first: bool  # beside a quantized matrix the update is rounded to the base's precision before it is added


def lora_layers(adapted: nn.Module) -> Iterator[tuple[str, LoraLayer, str]]:
    """The base's name, PEFT's layer and the adapter's key of every adapted matrix, in the model's order."""
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            (key,) = module.lora_A
            yield name.removeprefix("base_model.model."), module, key


def lora_matrices(adapted: nn.Module) -> list[LoraMatrix]:
    return [
        LoraMatrix(
            name,
            layer.r[key],
            int(layer.in_features or 0),
            int(layer.out_features or 0),
            layer.scaling[key],
            getattr(layer.lora_dropout[key], "p", 0.0),
            not isinstance(layer, PlainLora),
        )
        for name, layer, key in lora_layers(adapted)
    ]


def lora_weights(adapted: nn.Module) -> Weights:
    """PEFT's own tensors, which a slot's values can be copied from and into."""
    return {
        name: (
            layer.lora_A.get_parameter(f"{key}.weight").detach(),
            layer.lora_B.get_parameter(f"{key}.weight").detach(),
        )
        for name, layer, key in lora_layers(adapted)
    }


def copy_weights(source: Weights, target: Weights) -> None:
    """Writes `source` into the tensors of `target`."""
    for name, (a_RI, b_OR) in target.items():
        a_RI.copy_(source[name][0])
        b_OR.copy_(source[name][1])


class Span(NamedTuple):
    """Where a matrix lies in a row: A as (rank, in_features) from `a` on, B as (out_features, rank) from `b` on."""

    name: str
    rank: int
    in_features: int
    out_features: int
    a: int
    b: int

    def a_KRI(self, rows_KP: Tensor) -> Tensor:
        end = self.a + self.rank * self.in_features
        return rows_KP[:, self.a : end].view(-1, self.rank, self.in_features)

    def b_KOR(self, rows_KP: Tensor) -> Tensor:
        end = self.b + self.rank * self.out_features
        return rows_KP[:, self.b : end].view(-1, self.out_features, self.rank)


Layout = tuple[Span, ...]


def layout_of(matrices: Sequence[LoraMatrix], padded: bool) -> Layout:
    """All A, then all B, each with its rank, or with that of its bucket where `padded`."""
    sized = [one._replace(rank=padded_rank(one.rank)) if padded else one for one in matrices]
    a, b = 0, sum(one.rank * one.in_features for one in sized)
    spans = []
    for one in sized:
        spans.append(Span(one.name, one.rank, one.in_features, one.out_features, a, b))
        a, b = a + one.rank * one.in_features, b + one.rank * one.out_features
    return tuple(spans)


class Slot:
    """One trial's adapter.

    Args:
        matrices: what is adapted.
        weights: the initial values.
        seed: of the trial, which its dropout follows from.
        whole: the optimizer works number by number, so it gets all A and all B as one matrix of one row each, padding
            (which stays zero) included; else every matrix for itself, under PEFT's name and without padding.
    """

    def __init__(self, matrices: Sequence[LoraMatrix], weights: Weights, seed: int, whole: bool) -> None:
        self.matrices = {one.name: one for one in matrices}
        self.layout = layout_of(matrices, padded=whole)
        self.seed = seed
        self.whole = whole
        some, last = weights[matrices[0].name][0], self.layout[-1]
        self.row_P = some.new_zeros(last.b + last.rank * last.out_features)
        copy_weights(weights, self.weights())
        self.parameters = {name: nn.Parameter(view) for name, view in self.views(self.row_P).items()}

    @property
    def num_params(self) -> int:
        return sum(one.rank * (one.in_features + one.out_features) for one in self.matrices.values())

    def weights(self) -> Weights:
        """Views without padding."""
        return self.pairs(self.row_P)

    def pairs(self, row_P: Tensor) -> Weights:
        ranks = {span: self.matrices[span.name].rank for span in self.layout}
        return {
            span.name: (span.a_KRI(row_P[None])[0, :rank], span.b_KOR(row_P[None])[0, :, :rank])
            for span, rank in ranks.items()
        }

    def views(self, row_P: Tensor) -> dict[str, Tensor]:
        """What the optimizer gets, as views of `row_P`."""
        if self.whole:
            middle = self.layout[0].b
            return {"lora_A": row_P[None, :middle], "lora_B": row_P[None, middle:]}
        return {
            f"base_model.model.{name}.lora_{part}.default.weight": weight
            for name, pair in self.pairs(row_P).items()
            for part, weight in zip("AB", pair, strict=True)
        }

    def move(self, row_P: Tensor, grad_P: Tensor) -> None:
        """Goes on in another row, with its weights; optimizers keep their hold."""
        row_P.copy_(self.row_P)
        self.row_P = row_P
        views, grads = self.views(row_P), self.views(grad_P)
        for name, weight in self.parameters.items():
            weight.data, weight.grad = views[name], grads[name]

    def drop_gradients(self) -> None:
        for weight in self.parameters.values():
            weight.grad = None
