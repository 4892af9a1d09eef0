"""lm-eval's model class on the model in memory, for all trials of a cohort."""

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn

from sweeplab.evaluation.identity import Select
from sweeplab.evaluation.shared_context import (
    AnswerRequest,
    bound_rounding,
    find_close_calls,
    group_rows,
    pack_rows,
    read_answers,
    split_batches,
)
from sweeplab.runtime.rounding import allow_rounding, move_last_bits

_WhyUnshared = Callable[[int], str | None]  # tokens of the longest text -> why no texts may share a row
_Answer = tuple[float, bool]  # log-likelihood in nats, and whether each of its tokens is the most likely one
_EXACT = (torch.float32, torch.float64)
_encodings: WeakKeyDictionary[Any, dict[Any, list[int]]] = WeakKeyDictionary()  # cache by tokenizer, for all trials


def _is_maskable(model: nn.Module) -> bool:
    """True for a model in float32 or float64 that accepts our own mask and positions.

    False for prompt tuning, whose virtual tokens have masks of their own, and for 8-bit products, which depend on all
    rows of a batch.
    """
    if {"attention_mask", "position_ids"} - inspect.signature(model.forward).parameters.keys():
        return False
    if any(type(module).__name__ == "Linear8bitLt" for module in model.modules()):
        return False
    return getattr(model, "dtype", None) in _EXACT and getattr(model, "active_peft_config", None) is None


class CohortLM(HFLM):  # type: ignore[misc]
    """lm-eval's class for several trials, which are scored one after another.

    Text is generated for all trials at once, when the first one asks for it: a step of generation has one token for
    each row, so more rows cost little. Log-likelihoods are computed trial by trial: their batches are full anyway.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        batch_size: int,
        num_trials: int,
        select_trials: Select,
        why_unshared: _WhyUnshared = lambda longest: None,
    ) -> None:
        super().__init__(pretrained=model, backend="causal", tokenizer=tokenizer, batch_size=batch_size)
        self.num_trials = num_trials
        self.select_trials = select_trials
        self.why_unshared = why_unshared
        self.notes: list[str] = []  # which faster way was not used, and why
        self.shares_contexts = False
        self.trial = 0
        self.num_calls = 0
        self.items: list[Hashable] = []  # the item of each requested log-likelihood
        self.generated: list[tuple[Tensor, ...]] = []  # by call, then by trial

    def begin_trial(self, trial: int) -> None:
        """From now on the model is scored with the adapter of this trial."""
        self.trial, self.num_calls, self.notes = trial, 0, []

    def allow_sharing(self, allowed: bool) -> None:
        """Allows to compute the tokens of a question once for all its answers, where the model can do that.

        Log-likelihoods then differ by rounding; items that rounding could decide are scored again in lm-eval's way.
        """
        self.shares_contexts = allowed and _is_maskable(self.model)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        known = _encodings.setdefault(self.tokenizer, {})
        key = (string, args, tuple(kwargs.items()))
        if key not in known:
            known[key] = super().tok_encode(string, *args, **kwargs)
        return list(known[key])

    def _model_call(self, *args: Any, **kwargs: Any) -> Tensor:
        with self.select_trials([self.trial]):
            logits: Tensor = super()._model_call(*args, **kwargs)
            return logits

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        if kwargs.get("do_sample"):  # the random numbers of a trial must not depend on other trials
            with self.select_trials([self.trial]):
                sampled: Tensor = super()._model_generate(context, max_length, stop, **kwargs)
                return sampled
        if self.trial == 0:
            mask = kwargs.pop("attention_mask").repeat(self.num_trials, 1)
            rows = context.repeat(self.num_trials, 1)
            with self.select_trials(range(self.num_trials)):
                tokens = super()._model_generate(rows, max_length, stop, attention_mask=mask, **kwargs)
            self.generated.append(tokens.chunk(self.num_trials))
        self.num_calls += 1
        return self.generated[self.num_calls - 1][self.trial]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[_Answer]:
        self.items = [(request.task_name, request.doc_id) for request in requests]
        answers: list[_Answer] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        self.items = []
        return answers

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[_Answer]:
        pairs = [AnswerRequest(context, answer) for _, context, answer in requests]
        if not self._is_sharing_exact(requests, pairs):
            return self._score_separately(requests, **kwargs)
        answers = self._score_shared(pairs, self.items)
        lengths = [len(text) for (_, text), _, _ in requests]
        close = find_close_calls([value for value, _ in answers], lengths, self.items)
        again = [index for index, item in enumerate(self.items) if item in close]
        for index, answer in zip(again, self._score_separately([requests[one] for one in again]), strict=True):
            answers[index] = answer
        return answers

    def _is_sharing_exact(self, requests: list[Any], pairs: Sequence[AnswerRequest]) -> bool:
        """True where answers may share their question's tokens: the configuration of the model allows it, and the item
        with the longest text, where a window or a state shows most, has the same log-likelihoods in both ways."""
        sizes = [len(one.context) + len(one.answer) - 1 for one in pairs]
        longest = max(sizes, default=0)
        if not (self.items and self.shares_contexts and longest <= self.max_length):
            return False
        why = self.why_unshared(longest)
        if why is None:
            why = self._find_difference(requests, pairs, self.items[sizes.index(longest)])
        if why is not None:
            self.notes.append(f"evaluation computed each question again for each of its answers: {why}")
        return why is None

    def _score_separately(self, requests: list[Any], **kwargs: Any) -> list[_Answer]:
        """Answers as lm-eval computes them: the question's tokens again for each answer."""
        answers: list[_Answer] = super()._loglikelihood_tokens(requests, **kwargs) if requests else []
        return answers

    def _find_difference(self, requests: list[Any], pairs: Sequence[AnswerRequest], item: Hashable) -> str | None:
        """How the item's answers differ between both ways; None where only rounding explains it."""
        chosen = [index for index, one in enumerate(self.items) if one == item]
        asked = [requests[index] for index in chosen]
        try:
            shared = self._score_shared([pairs[index] for index in chosen], [item] * len(chosen))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any architecture: each refuses such a mask in its own way
            return f"this model takes no mask for it ({type(error).__name__})"
        separate = self._score_separately(asked, disable_tqdm=True)
        with move_last_bits(self.model):
            moved = self._score_separately(asked, disable_tqdm=True)
        for (mine, _), (value, _), (other, _) in zip(shared, separate, moved, strict=True):
            allowed = min(bound_rounding(value), allow_rounding(abs(value - other), value, torch.float32))
            if not abs(mine - value) <= allowed:
                return f"a log-likelihood of {value:.6g} would be {mine:.6g}, and rounding explains {allowed:.2g}"
        return None

    @torch.no_grad()
    def _score_shared(self, pairs: Sequence[AnswerRequest], items: Sequence[Hashable]) -> list[_Answer]:
        """An answer for each request; the tokens of each question are computed once."""
        sums_N, likeliest_N = torch.zeros(len(pairs)), torch.ones(len(pairs), dtype=torch.bool)
        for rows in split_batches(group_rows(pairs, items), pairs, self.batch_size):
            packed = pack_rows(rows, pairs)
            inputs = {"attention_mask": packed.mask_B1TT, "position_ids": packed.positions_BT}
            with self.select_trials([self.trial]):
                on_device = {name: part.to(self.device) for name, part in inputs.items()}
                logits_BTV = self.model(packed.ids_BT.to(self.device), **on_device, use_cache=False).logits
            sums, likeliest = read_answers(logits_BTV, packed, len(pairs))
            sums_N, likeliest_N = sums_N + sums, likeliest_N & likeliest
        return list(zip(sums_N.tolist(), likeliest_N.tolist(), strict=True))
