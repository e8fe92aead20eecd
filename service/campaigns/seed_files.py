"""Seeds as people have them in files: CSV or NDJSON, with a `user_id` and, if wanted, a `weight` in each line.

Faults are told by line and column, from 1, and never repeat what stands there.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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

_AT_ONCE = 1_000  # lines that are checked before the next are looked at: many faults cost no more than a few
_USER_IDS, _WEIGHTS = TypeAdapter(list[UserId]), TypeAdapter(list[Weight])
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LINE_END = re.compile(rb"\r\n?|\n")


@dataclass
class SeedFile:
    """Seeds in the order of their lines. weights: where any line has one; a line without one then weighs 1."""

    user_ids: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    weighted: bool = False
    _lines: list[int] = field(default_factory=list, init=False)
    _faults: list[FieldError] = field(default_factory=list, init=False)

    def add(self, line: int, user_id: Any, weight: Any) -> None:
        """Take a line as it was read."""
        if len(self._lines) == MAX_IDS:
            self.refuse(line, "too-long", f"must be one of at most {MAX_IDS} seeds")
            self.end()
        self.user_ids.append(user_id)
        self.weights.append(weight)
        self._lines.append(line)

    def refuse(self, line: int, code: str, detail: str, *, column: str | None = None) -> None:
        """Note a fault; Problem validation-failed with all of them when there are enough."""
        self._faults.append(FieldError(_pointer(line, column), code, detail))
        if len(self._faults) == MAX_ERRORS:
            self.end()

    def end(self) -> None:
        """Problem validation-failed if any line has a fault."""
        faults = self._faults or list(islice(self._wrong_values(), MAX_ERRORS))
        if not (faults or self._lines):
            faults = [FieldError("/lines", "too-short", "must have at least 1 line with a user_id")]
        if faults:
            raise validation_failed(*faults)

    def _wrong_values(self) -> Iterator[FieldError]:
        for start in range(0, len(self._lines), _AT_ONCE):
            here = slice(start, start + _AT_ONCE)
            wrong = [*_wrong(USER_ID, _USER_IDS, self.user_ids[here]), *_wrong(WEIGHT, _WEIGHTS, self.weights[here])]
            for index, column, error in sorted(wrong, key=lambda found: found[0]):
                yield FieldError(_pointer(self._lines[start + index], column), error.code, error.detail)


def read_csv(raw: bytes) -> SeedFile:
    """Read CSV (RFC 4180) with a header, as spreadsheets write it: after a byte order mark or none, names in any case.

    Problem malformed-request for what is no CSV, validation-failed for anything else that is wrong.
    """
    records = _records(_decode(raw))
    line, header = next(records, (0, []))
    if not header:
        raise Problem("malformed-request", "The body is empty.")
    names = _columns(line, header)
    user_id_at = names.index(USER_ID)
    weight_at = names.index(WEIGHT) if WEIGHT in names else None
    seeds = SeedFile(weighted=weight_at is not None)
    for line, fields in records:
        if len(fields) != len(names):
            seeds.refuse(line, "wrong-length", f"must have {len(names)} field(s), as the header has")
        else:
            seeds.add(line, fields[user_id_at], NO_WEIGHT if weight_at is None else _weight(fields[weight_at]))
    seeds.end()
    return seeds


def read_ndjson(raw: bytes) -> SeedFile:
    """Read a JSON object a line. Problem malformed-request for what is no JSON, validation-failed for anything else."""
    seeds = SeedFile()
    # Objects become tuples of their members, so that a repeated one is seen; arrays stay lists.
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_refuse_constant)
    for line, text in enumerate(_decode(raw).split("\n"), 1):
        stripped = text.strip(" \t\r")
        if not stripped:
            continue
        try:
            members, end = decoder.raw_decode(stripped)
        except (ValueError, RecursionError):
            end = -1
        if end != len(stripped):
            raise Problem("malformed-request", f"Line {line} is not valid JSON.")
        _add_members(seeds, line, members)
    seeds.end()
    return seeds


def _add_members(seeds: SeedFile, line: int, members: Any) -> None:
    if not isinstance(members, tuple):
        seeds.refuse(line, "model-type", "must be an object")
        return
    record = dict(members)
    if not (record.keys() <= COLUMNS and len(record) == len(members)):
        for number, (name, _) in enumerate(members):
            if name not in COLUMNS:
                seeds.refuse(line, "extra-forbidden", "is not a known field; there are user_id and weight", column=name)
            elif any(name == earlier for earlier, _ in members[:number]):
                seeds.refuse(line, "duplicate-key", "appears more than once", column=name)
    elif USER_ID not in record:
        seeds.refuse(line, "missing", "is required", column=USER_ID)
    else:
        seeds.weighted |= WEIGHT in record
        seeds.add(line, record[USER_ID], record.get(WEIGHT, NO_WEIGHT))


def _decode(raw: bytes) -> str:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = 1 + len(_LINE_END.findall(raw, 0, error.start))
        raise Problem("malformed-request", f"Line {line} is not UTF-8.") from None


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each with the line that it begins in; empty lines are none."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error:
        detail = f"Line {line} is not valid CSV: a quote is not closed, or followed by something else than a comma."
        raise Problem("malformed-request", detail) from None


def _columns(line: int, header: list[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    if USER_ID not in names:  # then these may be no names but the first seed: none of them is repeated
        detail = "must be among the columns that the first line names, separated by commas"
        raise validation_failed(FieldError(_pointer(line, USER_ID), "missing", detail))
    faults = []
    for index, name in enumerate(names):
        if name not in COLUMNS:
            detail = f"is column {index + 1} and not a known one; there are user_id and weight"
            faults.append(FieldError(_pointer(line, name), "extra-forbidden", detail))
        elif name in names[:index]:
            faults.append(FieldError(_pointer(line, name), "duplicate-key", "appears more than once"))
    if faults:
        raise validation_failed(*faults[:MAX_ERRORS])
    return names


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


def _pointer(line: int, column: str | None) -> str:
    return json_pointer(("lines", line) if column is None else ("lines", line, column))


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(constant)
