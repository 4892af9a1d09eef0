"""Sophia-G against the paper's update in NumPy, and its curvature against the analytic Gauss-Newton diagonal."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sweeplab.data.batches import collate_tokens
from sweeplab.training import chunked_loss, sophia
from sweeplab.training.module import compute_target_logits, estimate_curvature
from sweeplab.training.sophia import SophiaG, _estimate_curvature
from tests.training.conftest import examples

CURVATURES = np.array([0.01, 1.0, 100.0, 10000.0])  # of a quadratic w' diag(c) w / 2: a condition number of a million


NO_LOSS = (torch.zeros(()), 1)


def sampled_loss(logits_NV: Tensor, seed: int) -> tuple[Tensor, int]:
    """Mean cross-entropy with labels drawn from softmax(logits), and their number; algorithm 2 takes its gradient."""
    labels_N1 = torch.multinomial(logits_NV.detach().softmax(dim=-1), 1, generator=torch.Generator().manual_seed(seed))
    return F.cross_entropy(logits_NV, labels_N1[:, 0]), len(logits_NV)


def paper(
    start: np.ndarray, steps: int, lr: float, decay: float, gamma: float, interval: int, noise: np.ndarray
) -> np.ndarray:
    """Algorithm 3 on the quadratic, with an estimator that is off by `noise`, a factor for each step."""
    w, m, h = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t in range(1, steps + 1):
        m = 0.96 * m + 0.04 * (CURVATURES * w)
        if t % interval == 1:
            h = 0.99 * h + 0.01 * (CURVATURES * noise[t - 1])
        w = w - lr * decay * w
        w = w - lr * np.clip(m / np.maximum(gamma * h, 1e-12), -1, 1)
    return w


def ours(
    start: np.ndarray, steps: int, lr: float, decay: float, gamma: float, interval: int, noise: np.ndarray, patch: Any
) -> np.ndarray:
    weight = nn.Parameter(torch.tensor(start))
    diagonal = torch.tensor(CURVATURES)
    optimizer = SophiaG([weight], lr=lr, gamma=gamma, weight_decay=decay, interval=interval)
    for step in range(steps):
        weight.grad = diagonal * weight.detach()
        if optimizer.needs_estimate:
            patch.setattr(sophia, "_estimate_curvature", lambda *_, factor=noise[step]: [diagonal * factor])
            optimizer.estimate(*NO_LOSS)
        optimizer.step()
    return weight.detach().numpy()


@pytest.mark.parametrize(("decay", "gamma", "interval"), [(0.0, 0.05, 10), (0.2, 0.05, 3), (0.1, 1.0, 2)])
def test_steps_are_the_paper_s(decay: float, gamma: float, interval: int, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    start, noise = rng.normal(size=4), rng.uniform(0.5, 1.5, size=47)
    expected = paper(start, 47, 0.03, decay, gamma, interval, noise)
    found = ours(start, 47, 0.03, decay, gamma, interval, noise, monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    assert np.abs(found - start).min() > 1e-4


def test_a_step_is_never_longer_than_the_rate_and_some_entries_are_clipped(monkeypatch: Any) -> None:
    start = np.array([1e-3, 1e3, 1.0, 1e-4])
    lengths = [np.abs(ours(start, n + 1, 0.5, 0, 0.05, 10, np.ones(9), monkeypatch)
                      - ours(start, n, 0.5, 0, 0.05, 10, np.ones(9), monkeypatch)) for n in range(9)]  # fmt: skip
    assert np.max(lengths) <= 0.5 + 1e-12
    assert (np.isclose(lengths, 0.5)).any()
    assert (np.array(lengths) < 0.499).any()


def test_it_converges_where_sign_descent_goes_to_and_fro(monkeypatch: Any) -> None:
    start, lr, steps = np.full(4, 0.55), 0.1, 1500
    w = start.copy()
    for _ in range(steps):
        w = w - lr * np.sign(CURVATURES * w)
    assert np.abs(w).min() >= 0.049  # 0.05 or -0.05 for ever
    found = ours(start, steps, lr, 0.0, 1.0, 1, np.ones(steps), monkeypatch)
    assert np.abs(found).max() < 1e-9


def test_the_estimate_s_mean_is_the_gauss_newton_diagonal_of_softmax_regression() -> None:
    """Of mean cross-entropy over N rows, entry (v, d): mean over n of p_nv (1 - p_nv) x_nd^2.

    K = 20000 draws: every entry within five of its own standard errors, and the mean relative error, expected near
    sqrt(2 / K) = 1 % for a squared Gaussian, below 2 %. All in one call: K copies of the weights, each with its own
    labels; the mean over K x N rows makes every gradient K times smaller, so K times N g g is K times too small.
    """
    torch.manual_seed(1)
    num_draws = 20_000
    x_ND = torch.randn(6, 3, dtype=torch.float64)
    weight_VD = torch.randn(5, 3, dtype=torch.float64)
    copies_KVD = weight_VD.expand(num_draws, -1, -1).clone().requires_grad_(True)
    logits = (x_ND @ copies_KVD.transpose(1, 2)).flatten(0, 1)
    draws = num_draws * _estimate_curvature(*sampled_loss(logits, 2), [copies_KVD])[0]
    p_NV = (x_ND @ weight_VD.T).softmax(dim=-1)
    exact_VD = torch.einsum("nv,nd->vd", p_NV * (1 - p_NV), x_ND.square()) / len(x_ND)
    hessian = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(x_ND @ w.T, torch.zeros(6, dtype=torch.long)), weight_VD
    )
    diagonal_VD = torch.einsum("vdvd->vd", hessian)  # a linear model: Gauss-Newton is the Hessian, whatever the labels
    torch.testing.assert_close(exact_VD, diagonal_VD, rtol=0, atol=1e-12)
    error_VD = (draws.mean(dim=0) - exact_VD).abs()
    assert bool((error_VD < 5 * draws.std(dim=0) / num_draws**0.5).all())
    assert float((error_VD / exact_VD).mean()) < 0.02


def test_an_estimate_leaves_gradients_alone_and_follows_from_its_generator() -> None:
    weight, unused = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(2))
    weight.grad = torch.full_like(weight, 7.0)
    state = torch.random.get_rng_state()
    x_ND = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        _estimate_curvature(*sampled_loss(x_ND @ weight.T, seed), [weight, unused]) for seed in (0, 0, 1)
    )
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[1], torch.zeros(2))
    assert torch.equal(weight.grad, torch.full_like(weight, 7.0))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_step_without_its_estimate_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = SophiaG([weight], lr=0.1)
    weight.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="Sophia's step 1 needs a curvature estimate before it"):
        optimizer.step()


def test_one_that_goes_on_from_its_state_estimates_when_it_would_have() -> None:
    data_ND = torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).double()

    def taken(optimizer: SophiaG, weight: Tensor, steps: range) -> list[int]:
        """Takes `steps`; those before which an estimate was made."""
        estimated = []
        for step in steps:
            logits_NV = data_ND @ weight
            (weight.grad,) = torch.autograd.grad(logits_NV.square().mean(), [weight], retain_graph=True)
            if optimizer.needs_estimate:
                optimizer.estimate(*sampled_loss(logits_NV, step))
                estimated.append(step)
            optimizer.step()
        return estimated

    def fresh() -> nn.Parameter:
        return nn.Parameter(torch.eye(3, 4).double())

    whole, part, rest = fresh(), fresh(), fresh()
    assert taken(SophiaG([whole], lr=0.01), whole, range(25)) == [0, 10, 20]
    first, second = SophiaG([part], lr=0.01), SophiaG([rest], lr=0.01)
    assert taken(first, part, range(15)) == [0, 10]
    rest.data.copy_(part.data)
    second.load_state_dict(first.state_dict())
    assert taken(second, rest, range(15, 25)) == [20]
    assert torch.equal(rest, whole)


def test_in_training_an_estimate_is_made_every_interval_and_the_same_one_each_time(
    new_model: Any, train: Any, compose_trial: Any, monkeypatch: Any
) -> None:
    made: list[tuple[int, Tensor]] = []
    plain = SophiaG.estimate

    def watched(self: SophiaG, loss: Tensor, num_tokens: int) -> None:
        plain(self, loss, num_tokens)
        made.append((self.num_steps, torch.cat([self.state[one]["curvature"].flatten() for one in self.weights()])))

    monkeypatch.setattr(SophiaG, "estimate", watched)
    config = compose_trial(
        "optimizer=sophia", "optimizer.interval=4", "training.micro_batch_size=2", "training.accumulation=2",
        "training.epochs=3", "adapter.dropout=0.25",
    )  # fmt: skip
    weights = []
    for _ in range(2):
        torch.manual_seed(7)
        model = new_model(0.25)
        train(model, examples(14, seed=1), config)
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters() if weight.requires_grad]))
    steps, curvatures = [step for step, _ in made], [one for _, one in made]
    assert steps == [0, 4, 8] * 2
    assert torch.equal(weights[0], weights[1])
    assert all(torch.equal(curvatures[place], curvatures[place + 3]) for place in range(3))
    assert bool((curvatures[2] > 0).any())


def test_an_estimate_in_chunks_is_that_of_all_logits_at_once(new_model: Any, monkeypatch: Any) -> None:
    model = new_model(0.0)
    data = examples(4, seed=1)
    rows = collate_tokens(data, 0, 0)
    optimizer = SophiaG([one for one in model.parameters() if one.requires_grad], lr=0.01)
    torch.manual_seed(11)
    expected_loss, count = sampled_loss(compute_target_logits(model, rows)[0], 11 * 1_000_003 + 5)
    gradients = torch.autograd.grad(expected_loss, optimizer.weights())
    sizes: list[int] = []
    monkeypatch.setattr(chunked_loss, "count_positions_per_chunk", lambda *_: 3)
    model.get_output_embeddings().register_forward_hook(
        lambda *args: sizes.append(args[2].numel() // args[2].shape[-1])
    )
    estimate_curvature(model, rows, optimizer, 5)
    assert count > 6
    assert max(sizes) == 3
    assert sum(sizes) == count
    for weight, gradient in zip(optimizer.weights(), gradients, strict=True):
        torch.testing.assert_close(
            optimizer.state[weight]["curvature"], 0.01 * count * gradient.square(), rtol=1e-4, atol=1e-9
        )
