"""lm-eval's own model class on the model in memory, for all trials of a cohort."""

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn

from sweeplab.evaluation.identity import Choose
from sweeplab.evaluation.shared_context import (
    AnswerRequest,
    bound_rounding,
    find_close_calls,
    group_rows,
    pack_rows,
    read_answers,
    split_batches,
)
from sweeplab.runtime.rounding import allow_rounding, last_bits_moved

WhyUnshared = Callable[[int], str | None]  # tokens of the longest text to why no texts may share a row
_Answer = tuple[float, bool]  # log-likelihood in nats, and whether it is what the model would have written
_EXACT = (torch.float32, torch.float64)
_encodings: WeakKeyDictionary[Any, dict[Any, list[int]]] = WeakKeyDictionary()  # by tokenizer: all trials ask the same


def _is_maskable(model: nn.Module) -> bool:
    """True for a model in 32 bits or more that may be handed a mask and positions of our own.

    Virtual tokens have masks of their own, and 8-bit products depend on all rows of a batch.
    """
    if {"attention_mask", "position_ids"} - inspect.signature(model.forward).parameters.keys():
        return False
    if any(type(module).__name__ == "Linear8bitLt" for module in model.modules()):
        return False
    return getattr(model, "dtype", None) in _EXACT and getattr(model, "active_peft_config", None) is None


class CohortLM(HFLM):  # type: ignore[misc]
    """lm-eval's class, asked for one trial after another.

    What is generated for the first trial is generated for all of them at once: a step of generation has one token a
    row, so that more rows cost little. Scores of given answers are computed trial by trial: their batches are full.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        batch_size: int,
        num_trials: int,
        choose: Choose,
        why_unshared: WhyUnshared = lambda longest: None,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self.num_trials = num_trials
        self.choose = choose
        self.why_unshared = why_unshared
        self.notes: list[str] = []  # which faster way was not taken, and why
        self.shares_contexts = False
        self.trial = 0
        self.num_calls = 0
        self.items: list[Hashable] = []  # of the log-likelihoods that are asked for
        self.generated: list[tuple[Tensor, ...]] = []  # by call, then by trial

    def turn_to(self, trial: int) -> None:
        self.trial, self.num_calls, self.notes = trial, 0, []

    def allow_sharing(self, allowed: bool) -> None:
        """Lets answers to one question share its tokens where the model can, which moves log-likelihoods by rounding.

        Items that rounding could decide are scored again in lm-eval's own way.
        """
        self.shares_contexts = allowed and _is_maskable(self.model)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        known = _encodings.setdefault(self.tokenizer, {})
        key = (string, args, tuple(kwargs.items()))
        if key not in known:
            known[key] = super().tok_encode(string, *args, **kwargs)
        return list(known[key])

    def _model_call(self, *args: Any, **kwargs: Any) -> Tensor:
        with self.choose([self.trial]):
            logits: Tensor = super()._model_call(*args, **kwargs)
            return logits

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        if kwargs.get("do_sample"):  # a trial's draws must not depend on others
            with self.choose([self.trial]):
                drawn: Tensor = super()._model_generate(context, max_length, stop, **kwargs)
                return drawn
        if self.trial == 0:
            mask = kwargs.pop("attention_mask").repeat(self.num_trials, 1)
            rows = context.repeat(self.num_trials, 1)
            with self.choose(range(self.num_trials)):
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
        asked = [AnswerRequest(context, answer) for _, context, answer in requests]
        if not self.is_sharing_exact(requests, asked):
            return self.plain(requests, **kwargs)
        answers = self.shared(asked, self.items)
        lengths = [len(text) for (_, text), _, _ in requests]
        close = find_close_calls([value for value, _ in answers], lengths, self.items)
        again = [place for place, item in enumerate(self.items) if item in close]
        for place, answer in zip(again, self.plain([requests[place] for place in again]), strict=True):
            answers[place] = answer
        return answers

    def is_sharing_exact(self, requests: list[Any], asked: Sequence[AnswerRequest]) -> bool:
        """Whether answers may share their question's tokens: what the model is says nothing against it, and the item
        with the longest text, where a window or a state shows most, is the same in both ways."""
        sizes = [len(one.context) + len(one.answer) - 1 for one in asked]
        longest = max(sizes, default=0)
        if not (self.items and self.shares_contexts and longest <= self.max_length):
            return False
        why = self.why_unshared(longest)
        if why is None:
            item = self.items[sizes.index(longest)]
            why = self.find_difference(requests, asked, item)
        if why is not None:
            self.notes.append(f"answers did not share their question's tokens in evaluation: {why}")
        return why is None

    def plain(self, requests: list[Any], **kwargs: Any) -> list[_Answer]:
        """lm-eval's own way."""
        answers: list[_Answer] = super()._loglikelihood_tokens(requests, **kwargs) if requests else []
        return answers

    def find_difference(self, requests: list[Any], asked: Sequence[AnswerRequest], item: Hashable) -> str | None:
        """How the item's answers differ in both ways; None where by no more than rounding, as it is on this model."""
        places = [place for place, one in enumerate(self.items) if one == item]
        try:
            shared = self.shared([asked[place] for place in places], [item] * len(places))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of any architecture: one that takes no such mask says so in its own way
            return f"this model takes no mask for it ({type(error).__name__})"
        chosen = [requests[place] for place in places]
        own = self.plain(chosen, disable_tqdm=True)
        with last_bits_moved(self.model):
            moved = self.plain(chosen, disable_tqdm=True)
        for (mine, _), (value, _), (other, _) in zip(shared, own, moved, strict=True):
            allowed = min(bound_rounding(value), allow_rounding(abs(value - other), value, torch.float32))
            if not abs(mine - value) <= allowed:
                return f"a log-likelihood of {value:.6g} would be {mine:.6g}, and rounding explains {allowed:.2g}"
        return None

    @torch.no_grad()
    def shared(self, asked: Sequence[AnswerRequest], items: Sequence[Hashable]) -> list[_Answer]:
        """Answers by request, each question's tokens computed once."""
        sums_N, likeliest_N = torch.zeros(len(asked)), torch.ones(len(asked), dtype=torch.bool)
        for rows in split_batches(group_rows(asked, items), asked, self.batch_size):
            packed = pack_rows(rows, asked)
            inputs = {"attention_mask": packed.mask_B1TT, "position_ids": packed.positions_BT}
            with self.choose([self.trial]):
                moved = {name: part.to(self.device) for name, part in inputs.items()}
                logits_BTV = self.model(packed.ids_BT.to(self.device), **moved, use_cache=False).logits
            sums, likeliest = read_answers(logits_BTV, packed, len(asked))
            sums_N, likeliest_N = sums_N + sums, likeliest_N & likeliest
        return list(zip(sums_N.tolist(), likeliest_N.tolist(), strict=True))
