"""Adapter slots: the LoRA weights of one trial in one row of memory, and their gradients in another.

An optimizer can then update an adapter as one vector, and adapters of the same layout can be rows of one tensor.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sweeplab.config.shared_base import padded_rank

Weights = dict[str, tuple[Tensor, Tensor]]  # by matrix: A of shape (rank, in_features), B of (out_features, rank)


class LoraMatrix(NamedTuple):
    """One adapted matrix of the base: its name in the base, shapes and LoRA settings."""

    name: str
    rank: int
    in_features: int
    out_features: int
    scaling: float
    dropout: float


def _iterate_lora_layers(adapted: nn.Module) -> Iterator[tuple[str, LoraLayer, str]]:
    """Every adapted matrix in the model's order: its name in the base, PEFT's layer, the adapter's key in it."""
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            (key,) = module.lora_A
            yield name.removeprefix("base_model.model."), module, key


def list_lora_matrices(adapted: nn.Module) -> list[LoraMatrix]:
    """The adapted matrices of a PEFT model, in the model's order."""
    return [
        LoraMatrix(
            name,
            layer.r[key],
            int(layer.in_features or 0),
            int(layer.out_features or 0),
            layer.scaling[key],
            getattr(layer.lora_dropout[key], "p", 0.0),
        )
        for name, layer, key in _iterate_lora_layers(adapted)
    ]


def read_lora_weights(adapted: nn.Module) -> Weights:
    """The tensors A and B that PEFT holds, detached but not copied: writing into them changes the adapter."""
    return {
        name: (
            layer.lora_A.get_parameter(f"{key}.weight").detach(),
            layer.lora_B.get_parameter(f"{key}.weight").detach(),
        )
        for name, layer, key in _iterate_lora_layers(adapted)
    }


def copy_weights(source: Weights, target: Weights) -> None:
    """Copies the values of `source` into the tensors of `target`, in place."""
    for name, (a_RI, b_OR) in target.items():
        a_RI.copy_(source[name][0])
        b_OR.copy_(source[name][1])


class Span(NamedTuple):
    """The part of a slot's row that belongs to one matrix: A (rank, in_features) begins at `a`, B (out_features, rank)
    at `b`. With padding, `rank` is that of the bucket.

    With `widths` a row has rank after rank: first of all A, so many numbers a rank as the first width says, then of all
    B. `a` and `b` are places within a rank, `rank` is 0: any, as long as the row is. What a higher rank needs stands
    behind the numbers of a lower one, so that adapters of several ranks can be rows of one tensor.
    """

    name: str
    rank: int
    in_features: int
    out_features: int
    a: int
    b: int
    widths: tuple[int, int] | None = None

    def a_KRI(self, rows_KP: Tensor) -> Tensor:
        if self.widths is not None:
            width, rank = self.widths[0], rows_KP.shape[1] // sum(self.widths)
            return rows_KP[:, : rank * width].view(-1, rank, width)[:, :, self.a : self.a + self.in_features]
        end = self.a + self.rank * self.in_features
        return rows_KP[:, self.a : end].view(-1, self.rank, self.in_features)

    def b_KOR(self, rows_KP: Tensor) -> Tensor:
        if self.widths is not None:
            rank = rows_KP.shape[1] // sum(self.widths)
            all_KRW = rows_KP[:, rank * self.widths[0] :].view(-1, rank, self.widths[1])
            return all_KRW[:, :, self.b : self.b + self.out_features].transpose(1, 2)
        end = self.b + self.rank * self.out_features
        return rows_KP[:, self.b : end].view(-1, self.out_features, self.rank)


Layout = tuple[Span, ...]


def _lay_out(matrices: Sequence[LoraMatrix], padded: bool) -> Layout:
    """First all A, then all B; `padded`: each rank is rounded up to that of its bucket (`padded_rank`)."""
    sized = [one._replace(rank=padded_rank(one.rank)) if padded else one for one in matrices]
    a, b = 0, sum(one.rank * one.in_features for one in sized)
    spans = []
    for one in sized:
        spans.append(Span(one.name, one.rank, one.in_features, one.out_features, a, b))
        a, b = a + one.rank * one.in_features, b + one.rank * one.out_features
    return tuple(spans)


def _lay_out_by_rank(matrices: Sequence[LoraMatrix]) -> Layout:
    widths = sum(one.in_features for one in matrices), sum(one.out_features for one in matrices)
    a, b, spans = 0, 0, []
    for one in matrices:
        spans.append(Span(one.name, 0, one.in_features, one.out_features, a, b, widths))
        a, b = a + one.in_features, b + one.out_features
    return tuple(spans)


class Slot:
    """The adapter of one trial.

    Args:
        matrices: the adapted matrices.
        weights: initial values by matrix.
        seed: the trial's; part of the key of its dropout.
        as_vectors: for optimizers that work entry by entry. They get two parameters, all A and all B, each of shape
            (1, count) with padding, which stays zero. Otherwise they get every matrix as a parameter of its own,
            under PEFT's name and without padding.
        by_rank: vectors of one rank are laid out rank after rank, without padding, so that slots of several ranks
            share a bucket: fewer kernels for a GPU to launch.
    """

    def __init__(
        self, matrices: Sequence[LoraMatrix], weights: Weights, seed: int, as_vectors: bool, by_rank: bool = False
    ) -> None:
        self.matrices = {one.name: one for one in matrices}
        self.by_rank = by_rank and as_vectors and len({one.rank for one in matrices}) == 1
        self.layout = _lay_out_by_rank(matrices) if self.by_rank else _lay_out(matrices, padded=as_vectors)
        self.seed = seed
        self.as_vectors = as_vectors
        self.rank = max(one.rank for one in matrices)
        self.row_P = weights[matrices[0].name][0].new_zeros(self.num_entries)
        copy_weights(weights, self.weights())
        self.parameters = {name: nn.Parameter(view) for name, view in self._view_parameters(self.row_P).items()}

    @property
    def num_params(self) -> int:
        return sum(one.rank * (one.in_features + one.out_features) for one in self.matrices.values())

    @property
    def num_entries(self) -> int:
        """Of the shortest row that holds the slot."""
        last = self.layout[-1]
        return self.rank * sum(last.widths) if last.widths else last.b + last.rank * last.out_features

    def weights(self) -> Weights:
        """A and B of every matrix, as views of the slot's row without padding."""
        return self._view_pairs(self.row_P)

    def _view_pairs(self, row_P: Tensor) -> Weights:
        ranks = {span: self.matrices[span.name].rank for span in self.layout}
        return {
            span.name: (span.a_KRI(row_P[None])[0, :rank], span.b_KOR(row_P[None])[0, :, :rank])
            for span, rank in ranks.items()
        }

    def _view_parameters(self, row_P: Tensor) -> dict[str, Tensor]:
        """What the optimizer gets, by name, as views of `row_P`."""
        widths = self.layout[0].widths
        if widths is not None:
            width_a, width_b = widths
            middle = len(row_P) // sum(widths) * width_a
            last = middle + self.rank * width_b
            return {"lora_A": row_P[None, : self.rank * width_a], "lora_B": row_P[None, middle:last]}
        if self.as_vectors:
            middle = self.layout[0].b
            return {"lora_A": row_P[None, :middle], "lora_B": row_P[None, middle:]}
        return {
            f"base_model.model.{name}.lora_{part}.default.weight": weight
            for name, pair in self._view_pairs(row_P).items()
            for part, weight in zip("AB", pair, strict=True)
        }

    def move(self, row_P: Tensor) -> None:
        """Moves the weights into `row_P`; the parameter objects stay the same, so an optimizer that holds them goes
        on."""
        if self.by_rank:
            before = self._view_parameters(self.row_P)
            row_P.zero_()
            for name, view in self._view_parameters(row_P).items():
                view.copy_(before[name])
        else:
            row_P.copy_(self.row_P)
        self._use_row(row_P)

    def park(self) -> None:
        """Moves the weights to the CPU, so that a waiting trial takes no memory of the GPU."""
        self.move(self.row_P.new_empty(self.num_entries, device="cpu"))

    def _use_row(self, row_P: Tensor) -> None:
        self.row_P = row_P
        for name, view in self._view_parameters(row_P).items():
            self.parameters[name].data = view

    def set_gradients(self, grad_P: Tensor) -> None:
        """Makes `grad_P` the gradients of the weights."""
        for name, view in self._view_parameters(grad_P).items():
            self.parameters[name].grad = view

    def drop_gradients(self) -> None:
        for weight in self.parameters.values():
            weight.grad = None
