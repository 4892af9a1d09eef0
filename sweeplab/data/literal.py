"""Names of special tokens within the data's own text: `<|im_end|>` in a question is text, and does not end a turn."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from tokenizers import AddedToken, Tokenizer

from sweeplab.data.prompts import Span, UnusableExampleError

_MARKS: Final = range(0x100000, 0x10FFFD, 2)  # pairs of private characters, of which one is around each name
_STAND_INS: Final = 0xF0000  # private characters that stand for the template's own special tokens
_UNCHANGED: Final = ("role", "type", "weight")  # of a message, what a template compares with words of its own

_FLAGS: Final = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token

_clones: WeakKeyDictionary[Any, dict[frozenset[str], Tokenizer]] = WeakKeyDictionary()
_names: WeakKeyDictionary[Any, dict[str, frozenset[str]]] = WeakKeyDictionary()  # by tokenizer, then by template


def find_special_names(tokenizer: Any, template: str = "") -> frozenset[str]:
    """Special tokens by name, with the added ones that `template` writes; not those of white space.

    Some tokenizers add a turn's marks as ordinary tokens.
    """
    known = _names.setdefault(tokenizer, {})
    if template not in known:
        added = tokenizer.added_tokens_decoder.values()
        names = {token.content for token in added if token.special or token.content in template}
        known[template] = frozenset(name for name in names | set(tokenizer.all_special_tokens) if name.strip())
    return known[template]


@cache
def compile_names(names: frozenset[str]) -> re.Pattern[str]:
    """Matches any of `names`, the longest where several begin together; nothing without names."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")


class Marks(NamedTuple):
    """The characters around a name while a template renders it."""

    start: str
    end: str

    def put_around(self, value: Any, names: re.Pattern[str]) -> Any:
        """`value` with marks around each name in its texts, at any depth."""
        if isinstance(value, str):
            return names.sub(lambda match: f"{self.start}{match[0]}{self.end}", value)
        if isinstance(value, dict):
            return {key: one if key in _UNCHANGED else self.put_around(one, names) for key, one in value.items()}
        return [self.put_around(one, names) for one in value] if isinstance(value, list | tuple) else value


class _Unmarked(NamedTuple):
    """A rendered text without marks."""

    text: str
    literal: list[Span]
    marks: list[int]  # where the marks stood in the text with them

    def move(self, position: int) -> int:
        """The position in `text` of a position in the text with marks."""
        return position - bisect_left(self.marks, position)


def choose_marks(text: str) -> Marks:
    """Two characters that `text` does not have."""
    start = next(code for code in _MARKS if chr(code) not in text and chr(code + 1) not in text)
    return Marks(chr(start), chr(start + 1))


def remove_marks(text: str, marks: Marks | None) -> _Unmarked:
    """`text` and where the names stand in it. Raises `UnusableExampleError` where a template tore a pair apart."""
    if marks is None:
        return _Unmarked(text, [], [])
    positions = [match.start() for match in re.finditer(f"[{marks.start}{marks.end}]", text)]
    if [text[position] for position in positions] != [marks.start, marks.end] * (len(positions) // 2):
        raise UnusableExampleError(
            "the chat template cuts the name of a special token in a text into pieces; remove the name from the text"
        )
    bare = _Unmarked(re.sub(f"[{marks.start}{marks.end}]", "", text), [], positions)
    moved = [bare.move(position) for position in positions]
    return bare._replace(literal=[Span(*pair) for pair in zip(moved[::2], moved[1::2], strict=True)])


def _stand_for(index: int) -> str:
    return chr(_STAND_INS + index)


def _rename_special(tokenizer: Any, names: frozenset[str]) -> Tokenizer:
    """The tokenizer's own pipeline, in which a private character stands for each of `names`, which are text now."""
    known = _clones.setdefault(tokenizer, {})
    if names not in known:
        backend = tokenizer.backend_tokenizer
        clone = Tokenizer(backend.model)
        clone.normalizer, clone.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        order = sorted(names)
        for _, token in sorted(tokenizer.added_tokens_decoder.items()):
            content = _stand_for(order.index(token.content)) if token.content in names else token.content
            flags = {
                flag: getattr(token, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")
            }
            clone.add_tokens([AddedToken(content, **flags)])
        known[names] = clone
    return known[names]


def _replace_outside(
    text: str, literal: Sequence[Span], names: frozenset[str], unknown: str | None
) -> tuple[str, list[int], int]:
    """`text` with stand-ins for names outside `literal`, where each character stands in `text`, how many stand in."""
    pattern, order = compile_names(names), {name: index for index, name in enumerate(sorted(names))}
    parts: list[str] = []
    positions: list[int] = []
    number = 0  # without those of the unknown token, which ordinary text may give too

    def keep(start: int, end: int) -> None:
        parts.append(text[start:end])
        positions.extend(range(start, end))

    done = 0
    for span in [*literal, Span(len(text), len(text))]:
        for match in pattern.finditer(text, done, span.start):
            keep(done, match.start())
            parts.append(_stand_for(order[match[0]]))
            positions.append(match.start())
            done, number = match.end(), number + (match[0] != unknown)
        keep(done, span.end)
        done = span.end
    return "".join(parts), [*positions, len(text)], number


def encode_literally(
    text: str, literal: Sequence[Span], names: frozenset[str], tokenizer: Any
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of `text` and where each token stands in it, without the tokenizer's first and last token.

    Within `literal` no special token is seen. Raises `UnusableExampleError` where the tokenizer cannot do that.
    """
    unknown = tokenizer.unk_token
    problem = UnusableExampleError(
        f"the text holds {text[literal[0].start : literal[0].end]}, a special token, which this tokenizer cannot read "
        "as text; remove it from the text"
    )
    order = sorted(names)
    if not tokenizer.is_fast or any(_stand_for(0) <= character <= _stand_for(len(order)) for character in text):
        raise problem
    replaced, positions, number = _replace_outside(text, literal, names, unknown)
    encoding = _rename_special(tokenizer, names).encode(replaced, add_special_tokens=False)
    own = {_stand_for(index): tokenizer.convert_tokens_to_ids(name) for index, name in enumerate(order)}
    known = own | tokenizer.added_tokens_encoder
    ids = [
        known.get(token, known.get(token.strip(), id_))
        for token, id_ in zip(encoding.tokens, encoding.ids, strict=True)
    ]
    special = set(own.values()) - {tokenizer.unk_token_id}
    if sum(id_ in special for id_ in ids) != number:
        raise problem
    return ids, [(positions[start], positions[end]) for start, end in encoding.offsets]
