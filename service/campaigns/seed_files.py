"""Seeds as people have them in files: CSV or NDJSON, with a `user_id` and, if wanted, a `weight` in each line.

Faults are told by line and column, from 1, and never repeat what stands there.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from service.campaigns.schemas import MAX_IDS, Weight
from service.kit.bodies import field_errors, json_pointer
from service.kit.errors import MAX_ERRORS, FieldError, Problem, validation_failed
from service.kit.names import UserId

CSV, NDJSON = "text/csv", "application/x-ndjson"

USER_ID, WEIGHT = "user_id", "weight"
COLUMNS = frozenset({USER_ID, WEIGHT})
NO_WEIGHT = 1.0

LONGEST_RECORD = 1 << 16  # characters: what holds a user id and a weight has few
_MOST_LINE_ENDS = 4 * MAX_IDS  # room for empty lines, and for both characters of those that end in two

_AT_ONCE = 1_000  # lines that are checked before the next are looked at: many faults cost no more than a few
_USER_IDS, _WEIGHTS = TypeAdapter(list[UserId]), TypeAdapter(list[Weight])
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LINE_END = re.compile(rb"\r\n?|\n")


@dataclass(frozen=True)
class SeedFile:
    """Seeds in the order of their lines. weights: where any line has one; a line without one then weighs 1."""

    user_ids: list[str]
    weights: list[float] | None


def read_csv(raw: bytes) -> SeedFile:
    """Read CSV (RFC 4180) with a header, as spreadsheets write it: after a byte order mark or none, names in any case.

    Problem malformed-request for what is no CSV, validation-failed for anything else that is wrong.
    """
    records = _records(_decode(raw))
    first, header = next(records, (0, []))
    if not header:
        raise Problem("malformed-request", "The body is empty.")
    names = _columns(first, header)
    user_id_at = names.index(USER_ID)
    weight_at = names.index(WEIGHT) if WEIGHT in names else None
    lines: list[int] = []
    user_ids: list[Any] = []
    weights: list[Any] = []
    faults: list[FieldError] = []
    for line, fields in records:  # none of which is kept: half a million lists keep the garbage collector busy
        if len(fields) != len(names):
            detail = f"must have {len(names)} field(s), as the header has"
            faults.append(FieldError(_pointer(line), "wrong-length", detail))
        else:
            lines.append(line)
            user_ids.append(fields[user_id_at])
            if weight_at is not None:
                weights.append(_weight(fields[weight_at]))
        if len(faults) >= MAX_ERRORS or len(lines) > MAX_IDS:
            break
    _raise_first(faults)
    return _checked(lines, user_ids, weights if weight_at is not None else None)


def read_ndjson(raw: bytes) -> SeedFile:
    """Read a JSON object a line. Problem malformed-request for what is no JSON, validation-failed for anything else."""
    lines: list[int] = []
    user_ids: list[Any] = []
    weights: list[Any] = []
    weighted = False
    faults: list[FieldError] = []
    for line, members in _objects(_decode(raw)):
        record = dict(members) if isinstance(members, tuple) else {}
        if USER_ID not in record or len(record) < len(members) or not record.keys() <= COLUMNS:
            faults += islice(_member_faults(line, members), MAX_ERRORS)
        lines.append(line)
        user_ids.append(record.get(USER_ID))
        weights.append(record.get(WEIGHT, NO_WEIGHT))
        weighted |= WEIGHT in record
        if len(faults) >= MAX_ERRORS or len(lines) > MAX_IDS:
            break
    _raise_first(faults)
    return _checked(lines, user_ids, weights if weighted else None)


def _objects(text: str) -> Iterator[tuple[int, Any]]:
    """What stands in each line that is not empty: an object as the tuple of its members, so that a repeated one is
    seen; anything else as JSON has it."""
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_refuse_constant)
    for line, padded in enumerate(text.split("\n"), 1):
        if len(padded) > LONGEST_RECORD:
            raise _too_long(line)
        document = padded.strip(" \t\r")
        if not document:
            continue
        try:
            members, end = decoder.raw_decode(document)
        except (ValueError, RecursionError):
            end = -1
        if end != len(document):
            raise Problem("malformed-request", f"Line {line} is not valid JSON.")
        yield line, members


def _member_faults(line: int, members: Any) -> Iterator[FieldError]:
    if not isinstance(members, tuple):
        yield FieldError(_pointer(line), "model-type", "must be an object")
        return
    names: set[str] = set()
    for name, _ in members:
        if name not in COLUMNS:
            detail = "is not a known field; there are user_id and weight"
            yield FieldError(_pointer(line, name), "extra-forbidden", detail)
        elif name in names:
            yield FieldError(_pointer(line, name), "duplicate-key", "appears more than once")
        names.add(name)
    if USER_ID not in names:
        yield FieldError(_pointer(line, USER_ID), "missing", "is required")


def _checked(lines: list[int], user_ids: list[Any], weights: list[Any] | None) -> SeedFile:
    if not lines:
        raise validation_failed(FieldError("/lines", "too-short", "must have at least 1 line with a user_id"))
    _raise_first(_wrong_values(lines, user_ids, weights))
    if len(lines) > MAX_IDS:
        raise validation_failed(
            FieldError(_pointer(lines[MAX_IDS]), "too-long", f"must be one of at most {MAX_IDS} seeds")
        )
    return SeedFile(user_ids, weights)


def _wrong_values(lines: list[int], user_ids: list[Any], weights: list[Any] | None) -> Iterator[FieldError]:
    for start in range(0, len(lines), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        wrong = [*_wrong(USER_ID, _USER_IDS, user_ids[here])]
        if weights is not None:
            wrong += _wrong(WEIGHT, _WEIGHTS, weights[here])
        for index, column, error in sorted(wrong, key=lambda found: found[0]):
            yield FieldError(_pointer(lines[start + index], column), error.code, error.detail)


def _raise_first(faults: Iterable[FieldError]) -> None:
    """Problem validation-failed with as many as may be listed, if there are any."""
    listed = list(islice(faults, MAX_ERRORS))
    if listed:
        raise validation_failed(*listed)


def _decode(raw: bytes) -> str:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if raw.count(b"\n") + raw.count(b"\r") > _MOST_LINE_ENDS:
        raise validation_failed(FieldError("/lines", "too-long", f"must have at most {MAX_IDS} seeds"))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = 1 + len(_LINE_END.findall(raw, 0, error.start))
        raise Problem("malformed-request", f"Line {line} is not UTF-8.") from None


class _Lines(Iterator[str]):
    """The lines of a text, of which one record takes LONGEST_RECORD characters at most."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self.begin(1)

    def begin(self, line: int) -> None:
        """The next record begins in this line, counted from 1."""
        self._line = line
        self._left = LONGEST_RECORD

    def __next__(self) -> str:
        text = next(self._lines)
        self._left -= len(text)
        if self._left < 0:
            raise _too_long(self._line)
        return text


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each with the line that it begins in; empty lines are none."""
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
            lines.begin(line)
    except csv.Error:
        detail = f"Line {line} is not valid CSV: a quote is not closed, or followed by something else than a comma."
        raise Problem("malformed-request", detail) from None


def _columns(line: int, header: list[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    if USER_ID not in names:  # then these may be no names but the first seed: none of them is repeated
        detail = "must be among the columns that the first line names, separated by commas"
        raise validation_failed(FieldError(_pointer(line, USER_ID), "missing", detail))
    _raise_first(_column_faults(line, names))
    return names


def _column_faults(line: int, names: list[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name not in COLUMNS:
            detail = f"is column {index + 1} and not a known one; there are user_id and weight"
            yield FieldError(_pointer(line, name), "extra-forbidden", detail)
        elif name in seen:
            yield FieldError(_pointer(line, name), "duplicate-key", "appears more than once")
        seen.add(name)


def _weight(text: str) -> float | str:
    stripped = text.strip()
    if not stripped:
        return NO_WEIGHT
    return float(stripped) if _NUMBER.fullmatch(stripped) else text  # text is what a weight must not be


def _wrong(column: str, form: TypeAdapter[Any], values: list[Any]) -> Iterator[tuple[int, str, FieldError]]:
    try:
        form.validate_python(values, strict=True)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            yield int(found["loc"][0]), column, field_errors([found])[0]


def _too_long(line: int) -> Problem:
    detail = f"Line {line} has more than {LONGEST_RECORD} characters; perhaps a quote is not closed."
    return Problem("malformed-request", detail)


def _pointer(line: int, column: str | None = None) -> str:
    return json_pointer(("lines", line) if column is None else ("lines", line, column))


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(constant)
