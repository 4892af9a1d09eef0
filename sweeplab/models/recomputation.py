"""RMSNorm and SwiGLU of a frozen base that keep less for the backward pass, with the same numbers.

transformers' RMSNorm keeps its input in 32 bits, its SwiGLU the SiLU's result beside the two factors. Here the norm
keeps its input as it is and one number a token, SwiGLU its two factors. The rest is elementwise and computed again in
the backward, by autograd's operations in autograd's order. What an adapter reads of either is made again, too.

Korthikanti et al. 2022 (arXiv 2205.05198, section 5) call it selective recomputation. A module computes so where its
source is the one that stands below, and its weight is frozen.
"""

import ast
import inspect
import textwrap
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import SiLUActivation

_NORM: Final = """
def forward(self, hidden_states):
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)
"""
_MLP: Final = """
def forward(self, x):
    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return down_proj
"""


class _Output:
    """A result that several functions read, each of which keeps the tensors that it is made of in its place."""

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make = make
        self.num_readers = self.num_left = 0
        self.made: Tensor | None = None  # from the first reader in the backward to the last one

    def make_again(self, sources: Sequence[Tensor]) -> Tensor:
        if self.made is None:
            self.made, self.num_left = self.make(*sources), self.num_readers
        made = self.made
        self.num_left -= 1
        if self.num_left <= 0:
            self.made = None
        return made


class _Recipe(NamedTuple):
    """Is known as long as the result lives."""

    result: "weakref.ref[Tensor]"
    version: int  # of the result: changed in place it is another one
    output: _Output
    sources: tuple[Tensor, ...]


_recipes: dict[int, _Recipe] = {}  # by the address of the result's storage


class KeptInput(NamedTuple):
    """What a function keeps of an input for its backward: `tensors`, of which `restore` makes the input."""

    restore: Callable[[Sequence[Tensor]], Tensor]
    tensors: tuple[Tensor, ...]


def keep_input(x: Tensor) -> KeptInput:
    """The input itself, or what it is made of where that is kept anyway: by a norm or a SwiGLU of this module."""
    recipe = _recipes.get(x.untyped_storage()._cdata)
    result = None if recipe is None else recipe.result()
    if recipe is None or result is None or not _is_all_of(x, result) or x._version != recipe.version:
        return KeptInput(lambda tensors: tensors[0], (x,))
    output, shape = recipe.output, x.shape
    output.num_readers += 1
    return KeptInput(lambda tensors: output.make_again(tensors).reshape(shape), recipe.sources)


def _is_all_of(x: Tensor, result: Tensor) -> bool:
    """Whether x has the numbers of `result`, in their order, in another shape at most."""
    is_whole = x.numel() == result.numel() and x.dtype == result.dtype and x.is_contiguous() and result.is_contiguous()
    return is_whole and x.untyped_storage()._cdata == result.untyped_storage()._cdata


def _describe(result: Tensor, make: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    place = result.untyped_storage()._cdata
    gone = weakref.ref(result, lambda _: _recipes.pop(place, None))
    _recipes[place] = _Recipe(gone, result._version, _Output(make), tuple(one.detach() for one in sources))
    return result


def _scale(x: Tensor, inverse: Tensor, weight: Tensor) -> Tensor:
    """The norm's result; `inverse` is 1 / sqrt(mean(x^2) + epsilon), one number a vector, in 32 bits."""
    return weight * (x.to(torch.float32) * inverse).to(x.dtype)


class _Norm(torch.autograd.Function):
    """RMSNorm with a frozen weight, and its `inverse`. Zhang and Sennrich 2019 (arXiv 1910.07467).

    It gets x twice: in 32 bits autograd adds both parts of its gradient to what else x gets, one after the other.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, again: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.float32)
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, inverse, weight)
        ctx.mark_non_differentiable(inverse)
        ctx.set_materialize_grads(False)
        return weight * (wide * inverse).to(x.dtype), inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, Tensor | None, None, None]:
        """Of y = x s(v) with v = mean(x^2), s(v) = 1 / sqrt(v + epsilon): grad s + 2 x / H sum(grad x) s'(v)."""
        x, inverse, weight = ctx.saved_tensors
        wide = x.to(torch.float32)
        grad = (grad * weight).to(torch.float32)  # a tensor of its own
        of_inverse = (grad * wide).sum(-1, keepdim=True)
        of_mean = -0.5 * of_inverse * inverse.pow(3) / x.shape[-1]
        through_mean = (2 * wide).mul_(of_mean)
        grad.mul_(inverse)
        if x.dtype == torch.float32:
            return grad, through_mean, None, None
        return grad.add_(through_mean).to(x.dtype), None, None, None


def _multiply(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up. Shazeer 2020 (arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _multiply(gate, up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_up = F.silu(gate).mul_(grad)
        of_gate = grad * up
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)  # in place of what arrives
        return of_gate, of_up


class _LeanNorm(nn.Module):
    """Goes before an RMSNorm's own class."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or self.weight.requires_grad or self.weight.dtype != hidden_states.dtype:
            return super().forward(hidden_states)  # type: ignore[no-any-return]
        result, inverse = _Norm.apply(  # type: ignore[no-untyped-call]
            hidden_states, hidden_states, self.weight, self.variance_epsilon
        )
        return _describe(result, _scale, hidden_states, inverse, self.weight)


class _LeanMLP(nn.Module):
    """Goes before a gated MLP's own class."""

    gate_proj: Callable[[Tensor], Tensor]
    up_proj: Callable[[Tensor], Tensor]
    down_proj: Callable[[Tensor], Tensor]
    act_fn: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if not (torch.is_grad_enabled() and gate.requires_grad and up.requires_grad and gate.dtype == up.dtype):
            return self.down_proj(self.act_fn(gate) * up)
        product = _describe(_SwiGLU.apply(gate, up), _multiply, gate, up)  # type: ignore[no-untyped-call]
        del gate, up
        return self.down_proj(product)


@cache
def _derive(lean: Any, own: Any) -> Any:
    """A class of the module's own name. A function in the place of `module.forward` would hold the module, and the base
    would stay in memory until Python looks for cycles."""
    return type(own.__name__, (lean, own), {"__module__": own.__module__, "__qualname__": own.__qualname__})


def _normalize_source(source: str) -> str:
    """The statements and the names of the parameters, without hints, comments and docstring; "" for what is no plain
    function."""
    (function,) = ast.parse(textwrap.dedent(source)).body
    if not isinstance(function, ast.FunctionDef) or function.decorator_list:
        return ""
    names = [one.arg for one in function.args.args]
    is_documented = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
    return "\n".join([str(names), *map(ast.unparse, function.body[is_documented:])])


@cache
def _has_source(forward: Callable[..., Any], source: str) -> bool:
    try:
        found = _normalize_source(inspect.getsource(forward))
    except (OSError, TypeError, SyntaxError, ValueError):  # written in C, wrapped, or without its file
        return False
    return found == _normalize_source(source) and getattr(inspect.getmodule(forward), "torch", torch) is torch


def is_lean_norm(module: nn.Module) -> bool:
    return isinstance(module, _LeanNorm) or _has_source(type(module).forward, _NORM)


def is_lean_mlp(module: nn.Module) -> bool:
    is_gated = isinstance(module, _LeanMLP) or _has_source(type(module).forward, _MLP)
    return is_gated and isinstance(module.act_fn, SiLUActivation | nn.SiLU)


def keep_less(model: nn.Module) -> None:
    """From now on the model's RMSNorms and SwiGLUs compute as this module does, where they are known to be that."""
    for module in model.modules():
        if "forward" in vars(module) or isinstance(module, _LeanNorm | _LeanMLP):  # somebody else's, or done
            continue
        lean: Any = _LeanNorm if is_lean_norm(module) else _LeanMLP if is_lean_mlp(module) else None
        if lean is not None:
            own: Any = type(module)
            module.__class__ = _derive(lean, own)
