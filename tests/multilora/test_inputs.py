"""What matrices of one input share, against autograd's own sums in 64 bits and one rounding in 16."""

import pytest
import torch
from torch import Tensor, nn

from sweeplab.multilora.inputs import InputBranches, SharedInput
from sweeplab.multilora.lowrank import LowRankUpdate, Update

M, N, I, R, O = 3, 5, 6, 2, 4  # noqa: E741
ALL = (0, M)


def make_update(trials: tuple[int, int], dtype: torch.dtype) -> Update:
    count = trials[1] - trials[0]
    a, b = torch.randn(count, R, I, dtype=dtype), torch.randn(count, O, R, dtype=dtype)
    return Update(trials[0], a, b, torch.zeros_like(a), torch.zeros_like(b), 2.0, torch.ones(count, 1, 1))


ADAPTED = [[ALL], [ALL], [(0, 1), (2, 3)]]  # by matrix: of which trials


@pytest.mark.parametrize(
    ("dtype", "adapted"), [(torch.float64, ADAPTED), (torch.float64, ADAPTED[:2]), (torch.bfloat16, ADAPTED[:2])]
)
def test_the_gradient_of_an_input_is_that_of_all_that_read_it(
    dtype: torch.dtype, adapted: list[list[tuple[int, int]]]
) -> None:
    """Matrices of the base and updates. In bfloat16 the base gives zeros: the updates' sum in 32 bits, rounded once."""
    wide = torch.promote_types(dtype, torch.float32)
    x, branches = torch.randn(M, N, I).to(dtype).requires_grad_(), InputBranches()
    weights = [torch.randn(O, I).to(dtype) * (dtype is torch.float64) for _ in adapted]
    updates = [[make_update(trials, wide) for trials in of_matrix] for of_matrix in adapted]
    upstream, anchor = [torch.randn(M, N, O).to(dtype) for _ in adapted], nn.Parameter(torch.empty(0))
    outs = []
    for weight, of_matrix in zip(weights, updates, strict=True):
        branch = branches.branch(x, M)
        shared = branches.find(branch, M)[1]
        out = LowRankUpdate.apply(  # type: ignore[no-untyped-call]
            branch, branch @ weight.T, anchor, shared, of_matrix, [None] * len(of_matrix)
        )
        outs.append(out)
    torch.autograd.backward(outs, upstream)
    leaf = x.detach().requires_grad_()
    torch.autograd.backward([leaf @ weight.T for weight in weights], upstream)
    assert x.grad is not None
    assert leaf.grad is not None
    expected = leaf.grad.double()
    for of_matrix, grad in zip(updates, upstream, strict=True):
        for one in of_matrix:
            part = grad[slice(*one.trials)].double() @ one.b_KOR.double() @ one.a_KRI.double()
            expected[slice(*one.trials)] += 2 * part
    if dtype is torch.float64:
        torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-12)
    else:
        assert (x.grad != expected.to(dtype)).double().mean() < 0.01


def test_what_reads_one_input_reads_one_branch_of_it_and_one_copy() -> None:
    branches, x = InputBranches(), torch.randn(M, N, I).bfloat16().requires_grad_()
    first = branches.branch(x, M)
    shared = branches.find(first, M)[1]
    wide = shared.widen(first, ALL, torch.float32)
    assert branches.branch(x, M) is first
    assert shared.widen(first, ALL, torch.float32) is wide
    other = branches.branch(x.clone(), M)
    assert other is not first
    assert not shared.wide  # a copy lives as long as its input is the present one
    branches.forget()
    assert branches.present is None


def test_an_input_that_was_changed_in_place_is_another_input() -> None:
    branches, x = InputBranches(), torch.ones(M, N, I, dtype=torch.bfloat16)
    branches.find(branches.branch(x, M), M)[1].widen(x, ALL, torch.float32)
    x += 1
    branch = branches.branch(x, M)
    found: Tensor = branches.find(branch, M)[1].widen(branch, ALL, torch.float32)
    assert (found == 2).all()


def test_a_copy_goes_with_its_last_reader() -> None:
    shared = SharedInput(M)
    shared.num_readers = 2
    shared.widen(torch.ones(M, N, I, dtype=torch.bfloat16), ALL, torch.float32)
    shared.end_reading()
    assert shared.wide
    shared.end_reading()
    assert not shared.wide


def test_a_matrix_that_a_hook_gave_something_else_has_a_branch_of_that() -> None:
    branches, x = InputBranches(), torch.randn(M, N, I)
    branch = branches.branch(x, M)
    last, shared = branches.find(branch[:, -2:], M)
    assert torch.equal(last, x[:, -2:])
    assert shared is not branches.find(branches.branch(x, M), M)[1]
