"""What is typed for a key of type text stays as it was typed: 2026_07_15, 1e5 and true are names, too."""

import re
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from sweeplab.config.schema import entries_of, is_section, key_names, schema_keys, section_kinds
from sweeplab.config.study import StudyConfig

_CONVERTED: Final = re.compile(
    r"[+-]?(?:\d[\d_]*\.?[\d_]*(?:e[+-]?[\d_]+)?|\.[\d_]+(?:e[+-]?[\d_]+)?|inf|nan)|true|false", re.IGNORECASE
)
_PLAIN: Final = re.compile(r"[\w/\-+.%*@?|: ]*", re.ASCII)  # letters that Hydra reads without quotes
_FREE: Final = ("space.", "claims.", "study.enqueue.")  # mappings whose keys may be any key of the configuration


def _holds_text(annotation: Any) -> bool:
    """True for a text, a text or None, and lists of them; false for words of a choice."""
    if get_origin(annotation) is Annotated:
        return _holds_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(_holds_text(one) for one in get_args(annotation) if one is not type(None))
    return annotation is str or (get_origin(annotation) is list and _holds_text(get_args(annotation)[0]))


@cache
def _text_keys() -> dict[str, bool]:
    """Keys that any option has as a text; true for a single one, false for a list of them."""

    def fields() -> Iterator[tuple[str, Any]]:
        for key, field in schema_keys().items():
            entry = None if is_section(key) else entries_of(key, field)
            if entry is not None:
                yield from ((f"{key}.{name}", one) for name, one in key_names(entry[1]).items())
        for name, field in StudyConfig.model_fields.items():
            yield name, field
            for kind in section_kinds(name):
                yield from ((f"{name}.{inner}", one) for inner, one in key_names(kind).items())

    found = {key: field.annotation for key, field in fields() if _holds_text(field.annotation)}
    return {key: get_origin(annotation) is not list for key, annotation in found.items()}


def is_text(path: str) -> bool:
    """True for a key of type text by its dotted name, also as an axis of space, in a condition or in an entry."""
    is_entry = path.endswith("[]")  # of a list
    path = path.replace("[]", "")
    if path in _text_keys():
        return not (is_entry and _text_keys()[path])
    path = path.removesuffix(".choices")
    if not path.startswith(_FREE):
        return False
    parts = path.split(".")
    return any(".".join(parts[start:]) in _text_keys() for start in range(1, len(parts) - 1))


def quote_text(value: str) -> str:
    """A text as Hydra reads it, whatever it holds."""
    return QuotedString(value, Quote.single).with_quotes()  # only a backslash before a quote is doubled


def is_converted(value: str) -> bool:
    """True for what Hydra and YAML would make a number, or true or false, of."""
    return _CONVERTED.fullmatch(value) is not None


def keep_texts(override: str) -> str:
    """An override in which texts that Hydra would convert, or cannot read, are quoted."""
    typed, equals, value = override.partition("=")
    key = typed.lstrip("+~").partition("@")[0]
    if not equals or typed.startswith("~") or not value.isprintable():
        return override
    try:
        kept = "".join(_Value(value).spell_all(key))
    except _UnreadError:
        kept = value
    if _text_keys().get(key) and not _PLAIN.fullmatch(kept) and not _is_read(f"{typed}={kept}"):
        kept = value if "${" in value else quote_text(value)
    return f"{typed}={kept}"


def _is_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


class _UnreadError(Exception):
    """Brackets or quotes that have no end: Hydra refuses them."""


class _Value:
    """The value of an override, read letter by letter: lists, mappings, and what stands in them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def spell_all(self, path: str) -> Iterator[str]:
        """The whole value; several behind commas are a sweep's."""
        while self.at < len(self.text):
            yield from self._spell(path, ",")
            yield self._take(",")

    def _spell(self, path: str, ends: str) -> Iterator[str]:
        """One value up to a letter of `ends`, with blanks around it."""
        yield self._take_blanks()
        letter = self.text[self.at : self.at + 1]
        if letter == "[":
            yield from self._spell_within(path, "]")
        elif letter == "{":
            yield from self._spell_within(path, "}")
        elif letter and letter in "'\"":
            yield self._take_quoted(letter)
        else:
            yield self._spell_plain(path, ends)
        yield self._take_blanks()

    def _spell_within(self, path: str, end: str) -> Iterator[str]:
        """A list, or a mapping, up to its `end`."""
        yield self.text[self.at]
        self.at += 1
        while not (closing := self._take(end)):
            if self.at >= len(self.text):
                raise _UnreadError
            inner = f"{path}[]"
            if end == "}":
                name, colon, _ = self.text[self.at :].partition(":")
                if not colon or any(letter in name for letter in "{}[],"):
                    raise _UnreadError
                self.at += len(name) + 1
                yield f"{name}:"
                inner = f"{path}.{name.strip().strip(chr(39) + chr(34))}"
            yield from self._spell(inner, f",{end}")
            yield self._take(",")
        yield closing

    def _spell_plain(self, path: str, ends: str) -> str:
        start, depth = self.at, 0
        while self.at < len(self.text) and (depth or self.text[self.at] not in ends):
            depth += (self.text[self.at] in "({[") - (self.text[self.at] in ")}]")
            self.at += 1
        raw = self.text[start : self.at]
        if not raw and self.at < len(self.text) and self.text[self.at] not in ends:
            raise _UnreadError
        plain = raw.rstrip()
        if is_text(path) and (is_converted(plain) or (self._is_foreign(plain) and ends != ",")):
            return quote_text(plain) + raw[len(plain) :]
        return raw

    def _is_foreign(self, plain: str) -> bool:
        """True for letters that Hydra refuses without quotes; a call or an interpolation has its own."""
        return not _PLAIN.fullmatch(plain) and "(" not in plain and "${" not in plain and "\\" not in plain

    def _take_quoted(self, quote: str) -> str:
        start = self.at
        self.at += 1
        while self.text[self.at : self.at + 1] != quote:
            if self.at >= len(self.text):
                raise _UnreadError
            self.at += 2 if self.text[self.at] == "\\" else 1
        self.at += 1
        return self.text[start : self.at]

    def _take_blanks(self) -> str:
        start = self.at
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[start : self.at]

    def _take(self, letter: str) -> str:
        """The letter if it comes next; else nothing."""
        taken = letter if self.text.startswith(letter, self.at) else ""
        self.at += len(taken)
        return taken
