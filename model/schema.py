"""The features of users and campaigns, their names and kinds, and of which kind the ids of users are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from model.errors import DataError
from model.user_ids import ID_KINDS, IdKind

Kind = Literal["categorical", "multi", "numeric", "vector"]
KINDS: tuple[str, ...] = get_args(Kind)
RESERVED_NAMES = frozenset({"user_id", "campaign_id"})


@dataclass(frozen=True)
class Feature:
    """One column. `max_length`: of multi, how many values of a user count; of vector, its dimension."""

    name: str
    kind: Kind
    max_length: int | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        length = {} if self.max_length is None else {"max_length": self.max_length}
        return {"name": self.name, "kind": self.kind, **length}


def takes(kind: Kind, value: object) -> bool:
    """Whether a value out of JSON is of the type that features of this kind take."""
    match kind:
        case "categorical":
            return isinstance(value, str)
        case "multi":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "numeric":
            return _is_number(value)
        case "vector":
            return isinstance(value, list) and all(map(_is_number, value))


@dataclass(frozen=True)
class Schema:
    """The features of a data set, in the order of its schema.json."""

    user_features: tuple[Feature, ...]
    campaign_features: tuple[Feature, ...]
    id_kind: IdKind = "text"

    @classmethod
    def parse(cls, document: object, source: str) -> Self:
        """Read the JSON form. Raises DataError that names `source` and the feature at fault."""
        if not isinstance(document, Mapping):
            raise DataError("must be an object with user_features and campaign_features", file=source)
        unknown = sorted(set(document) - {"user_features", "campaign_features", "id"})
        if unknown:
            raise DataError(f"unknown member {unknown[0]!r}", file=source)
        users = _parse_features(document.get("user_features"), "user_features", source)
        if not users:
            raise DataError("user_features must name at least one feature", file=source)
        campaigns = _parse_features(document.get("campaign_features", []), "campaign_features", source)
        return cls(users, campaigns, _parse_id(document.get("id", {}), source))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read schema.json. Raises DataError."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as JSON: {error}", file=path.name) from error
        return cls.parse(document, path.name)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "user_features": [feature.document() for feature in self.user_features],
            "campaign_features": [feature.document() for feature in self.campaign_features],
            **({} if self.id_kind == "text" else {"id": {"kind": self.id_kind}}),
        }


def _parse_id(value: object, source: str) -> IdKind:
    named = value.get("kind", "text") if isinstance(value, Mapping) and set(value) <= {"kind"} else None
    for kind in ID_KINDS:
        if named == kind:
            return kind
    raise DataError(f"id must be an object whose kind is one of {', '.join(ID_KINDS)}", file=source)


def _parse_features(value: object, member: str, source: str) -> tuple[Feature, ...]:
    if not isinstance(value, list):
        raise DataError(f"{member} must be a list", file=source)
    features = tuple(_parse_feature(entry, f"{member}[{index}]", source) for index, entry in enumerate(value))
    names = [feature.name for feature in features]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{member} names it twice", file=source, column=name)
    return features


def _parse_feature(entry: object, place: str, source: str) -> Feature:
    if not isinstance(entry, Mapping):
        raise DataError(f"{place} must be an object with name and kind", file=source)
    unknown = sorted(set(entry) - {"name", "kind", "max_length"})
    if unknown:
        raise DataError(f"{place} has the unknown member {unknown[0]!r}", file=source)
    name, kind, max_length = entry.get("name"), entry.get("kind"), entry.get("max_length")
    if not isinstance(name, str) or not name:
        raise DataError(f"{place} needs a name", file=source)
    if name in RESERVED_NAMES:
        raise DataError("this name is reserved", file=source, column=name)
    if kind not in KINDS:
        raise DataError(f"kind must be one of {', '.join(KINDS)}", file=source, column=name)
    if max_length is not None:
        if kind not in ("multi", "vector"):
            raise DataError(f"a {kind} feature has no max_length", file=source, column=name)
        if not isinstance(max_length, int) or isinstance(max_length, bool) or max_length < 1:
            raise DataError("max_length must be a whole number of at least 1", file=source, column=name)
    return Feature(name, kind, max_length)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
