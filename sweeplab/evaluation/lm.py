"""lm-eval's model class on the model in memory, for all trials of a cohort."""

import inspect
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn

from sweeplab.evaluation.identity import Select, Tell
from sweeplab.evaluation.shared_context import (
    FREELY,
    AnswerBatch,
    AnswerRequest,
    SharingRule,
    bound_likelihood_rounding,
    find_close_calls,
    group_rows,
    make_separate_batches,
    pack_rows,
    split_batches,
    sum_answers,
)
from sweeplab.evaluation.writing import NUM_TRIED, count_padding, find_batch_effect, write_each
from sweeplab.logits.likelihood import score_targets
from sweeplab.logits.states import read_states
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.out_of_memory import known_as_out_of_memory
from sweeplab.runtime.rounding import allow_rounding, move_last_bits

_Answer = tuple[float, bool]  # log-likelihood in nats, and whether each of its tokens is the most likely one
_MOST_QUOTED: Final = 20  # letters of a question
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


def _name_tasks(names: Iterable[str]) -> str:
    """'answers of arc_easy', or of how many tasks."""
    known = list(dict.fromkeys(names))
    return f"answers of {known[0]}" if len(known) == 1 else f"answers of {len(known)} tasks"


def _refuse_merged(question: str, answer: str) -> NoReturn:
    """Raises `ConfigError` for an answer without a token of its own; lm-eval ends in an assertion."""
    raise ConfigError(
        f"evaluation.tasks: the answer {answer!r} adds no token to its question (...{question[-_MOST_QUOTED:]!r}), so "
        "it has no likelihood: the tokenizer reads both as one, or nothing in it; put a line's end between them, as "
        "with evaluation.prompt=plain, or change the answer"
    )


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
        rule: SharingRule = FREELY,
        tell: Tell = lambda trial, count: None,
    ) -> None:
        super().__init__(pretrained=model, backend="causal", tokenizer=tokenizer, batch_size=batch_size)
        self.num_trials = num_trials
        self.select_trials = select_trials
        self.rule = rule
        self.tell = tell  # how far the trial's scoring is
        self.notes: list[str] = []  # which faster way was not used, and why
        self.shares_contexts = False
        self.trial = 0
        self.num_calls = 0
        self.to_score, self.num_written, self.to_write = "answers", 0, ""  # what is scored and written, in words
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

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        asked, answer = super()._encode_pair(context, continuation)
        if not answer:
            _refuse_merged(context, continuation)
        return asked, answer

    def compute_logits(self, ids_1T: Tensor, chosen_T: Tensor) -> Tensor:
        """The trial's logits at the chosen positions of a text, (N, V), from what log-likelihoods are computed with."""
        with torch.no_grad(), self.select_trials([self.trial]):
            inputs = {"input_ids": ids_1T.to(self.device)}
            readout = read_states(self.model, inputs)
            if readout is not None:
                return readout.compute_logits(readout.states_BTH[0, chosen_T])
            logits_BTV: Tensor = self.model(**inputs).logits[:, -ids_1T.shape[1] :]  # without those of prompt tuning
            return logits_BTV[0, chosen_T]

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        self.tell(self.trial, f"{self.num_written} {self.to_write}")
        self.num_written += len(context)
        mask = kwargs.pop("attention_mask")

        def write(ids_BT: Tensor, mask_BT: Tensor, padding: int = 0) -> Tensor:
            written: Tensor = super(CohortLM, self)._model_generate(
                ids_BT, max_length - padding, stop, attention_mask=mask_BT, **kwargs
            )
            return written

        with self.select_trials([self.trial]):
            why = self._find_why_apart(context, mask, max_length)
            self._note("wrote one answer after another", why)
            if why is not None:
                return write_each(write, context, mask)
            if kwargs.get("do_sample"):  # the random numbers of a trial must not depend on other trials
                return write(context, mask)
        if self.trial == 0:
            with self.select_trials(range(self.num_trials)):
                tokens = write(context.repeat(self.num_trials, 1), mask.repeat(self.num_trials, 1))
            self.generated.append(tokens.chunk(self.num_trials))
        self.num_calls += 1
        return self.generated[self.num_calls - 1][self.trial]

    def _find_why_apart(self, ids_BT: Tensor, mask_BT: Tensor, max_length: int) -> str | None:
        """Why answers may not be written in one batch; None where they may, or there is one only."""
        if len(ids_BT) * self.num_trials == 1:
            return None
        growing = self.rule.growing_length
        if growing is not None and max_length > growing and len(set(count_padding(mask_BT))) > 1:
            return "a long text changes what this model computes for the others of its batch"
        num_tried = min(NUM_TRIED, max_length - ids_BT.shape[1])
        return find_batch_effect(self.model, ids_BT, mask_BT, num_tried, self.tokenizer.pad_token_id)

    def _note(self, what: str, why: str | None) -> None:
        note = f"evaluation {what}: {why}"
        if why is not None and note not in self.notes:
            self.notes.append(note)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.num_written, self.to_write = 0, f"of {len(requests)} {_name_tasks(one.task_name for one in requests)}"
        written: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return written

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[_Answer]:
        self.to_score = _name_tasks(request.task_name for request in requests)
        self.items = [(request.task_name, request.doc_id) for request in requests]
        answers: list[_Answer] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        self.items = []
        return answers

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[_Answer]:
        pairs = [AnswerRequest(context, answer) for _, context, answer in requests]
        if not self._is_sharing_exact(pairs):
            return self._score_separately(pairs)
        answers = self._score_shared(pairs, self.items)
        lengths = [len(text) for (_, text), _, _ in requests]
        close = find_close_calls([value for value, _ in answers], lengths, self.items)
        again = [index for index, item in enumerate(self.items) if item in close]
        for index, answer in zip(again, self._score_separately([pairs[one] for one in again]), strict=True):
            answers[index] = answer
        return answers

    def _is_sharing_exact(self, pairs: Sequence[AnswerRequest]) -> bool:
        """True where answers may share their question's tokens: the configuration of the model allows it, and the item
        with the longest text, where a window or a state shows most, has the same log-likelihoods in both ways."""
        sizes = [len(one.context) + len(one.answer) - 1 for one in pairs]
        longest = max(sizes, default=0)
        if not (self.items and self.shares_contexts and longest <= self.max_length):
            return False
        why = self.rule.why_unshared(longest)
        if why is None:
            why = self._find_difference(pairs, self.items[sizes.index(longest)])
        self._note("computed each question again for each of its answers", why)
        return why is None

    def _score_separately(self, pairs: Sequence[AnswerRequest]) -> list[_Answer]:
        """Answers as lm-eval computes them: the question's tokens again for each answer."""
        assert all(0 < len(one.answer) <= self.max_length and one.context for one in pairs), "no tokens, or too many"
        batches = make_separate_batches(pairs, self.batch_size, self.max_length, self.rule.growing_length)
        return self._score_batches(batches, len(pairs))

    def _find_difference(self, pairs: Sequence[AnswerRequest], item: Hashable) -> str | None:
        """How the item's answers differ between both ways; None where only rounding explains it."""
        asked = [pair for pair, one in zip(pairs, self.items, strict=True) if one == item]
        try:
            with known_as_out_of_memory():
                shared = self._score_shared(asked, [item] * len(asked))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any architecture: each refuses such a mask in its own way
            return f"this model takes no mask for it ({type(error).__name__})"
        separate = self._score_separately(asked)
        with move_last_bits(self.model):
            moved = self._score_separately(asked)
        for (mine, _), (value, _), (other, _) in zip(shared, separate, moved, strict=True):
            allowed = min(bound_likelihood_rounding(value), allow_rounding(abs(value - other), value, torch.float32))
            if not abs(mine - value) <= allowed:
                return f"a log-likelihood of {value:.6g} would be {mine:.6g}, and rounding explains {allowed:.2g}"
        return None

    def _score_shared(self, pairs: Sequence[AnswerRequest], items: Sequence[Hashable]) -> list[_Answer]:
        """An answer for each request; the tokens of each question are computed once."""
        rows = split_batches(group_rows(pairs, items), pairs, self.batch_size)
        return self._score_batches((pack_rows(part, pairs) for part in rows), len(pairs))

    def _score_batches(self, batches: Iterable[AnswerBatch], num_requests: int) -> list[_Answer]:
        """An answer for each request; logits are computed of the positions that predict answers only."""
        answers: list[_Answer] = [(0.0, True)] * num_requests
        num_scored = 0
        for batch in batches:
            inputs: dict[str, Any] = {"input_ids": batch.ids_BT.to(self.device)}
            if batch.mask_B1TT is not None and batch.positions_BT is not None:
                mask, positions = batch.mask_B1TT.to(self.device), batch.positions_BT.to(self.device)
                inputs |= {"attention_mask": mask, "position_ids": positions, "use_cache": False}
            rows_M, columns_M, ids_M = (one.to(self.device) for one in batch.predicted)
            with self.select_trials([self.trial]):
                scored = score_targets(self.model, inputs, rows_M, columns_M, ids_M, self.softmax_dtype)
            for request, value, is_likeliest in sum_answers(batch, *scored):
                answers[request] = (value, is_likeliest)
                num_scored += 1
            self.tell(self.trial, f"{num_scored} of {num_requests} {self.to_score}")
        return answers
