"""Which names a request may use: those of the served pool and of the model that it is for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy.orm import Session

from model.schema import takes
from service.campaigns.request import ExpansionRequest
from service.kit.bodies import json_pointer
from service.kit.errors import MAX_ERRORS, FieldError, validation_failed
from service.models.repository import get_version
from service.models.tables import ModelVersion
from service.pool.repository import get_snapshot
from service.pool.tables import Snapshot
from service.serving.repository import get_serving


@dataclass(frozen=True)
class Known:
    """Rows of the served snapshot and of the model. Before there are any, every name passes: the worker decides."""

    snapshot: Snapshot | None
    version: ModelVersion | None

    @property
    def pool_size(self) -> int | None:
        """Users in the served pool."""
        return None if self.snapshot is None else self.snapshot.size

    def check(self, request: ExpansionRequest) -> None:
        """Problem validation-failed for what is unknown or does not fit."""
        faults = tuple(islice(self._faults(request), MAX_ERRORS))
        if faults:
            raise validation_failed(*faults)

    def attribute_faults(self, attributes: Mapping[str, Any], member: str) -> Iterator[FieldError]:
        """What is wrong with campaign attributes that stand in this member of a body."""
        for name, value in attributes.items():
            problem = self._attribute_problem(name, value)
            if problem is not None:
                yield FieldError(json_pointer((member, name)), *problem)

    def known_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Those that the model can use: another one may have been served when they were written down."""
        return {name: value for name, value in attributes.items() if self._attribute_problem(name, value) is None}

    def _faults(self, request: ExpansionRequest) -> Iterator[FieldError]:
        if self.snapshot is not None:
            kinds = {feature["name"]: feature["kind"] for feature in self.snapshot.features}
            for index, rule in enumerate(request.eligibility):
                problem = _rule_problem(rule, kinds.get(rule["feature"]))
                if problem is not None:
                    yield FieldError(f"/eligibility/all/{index}", *problem)
            for index, name in enumerate(request.deny_features):
                if name not in kinds:
                    yield FieldError(f"/deny_features/{index}", "unknown-feature", "The pool has no such feature.")
        if request.model_version is not None and self.version is None:
            yield FieldError("/model_version", "unknown-model", "There is no model of this version.")
        yield from self.attribute_faults(request.attributes, "campaign")

    def _attribute_problem(self, name: str, value: object) -> tuple[str, str] | None:
        if self.version is None:
            return None
        kinds = {feature["name"]: feature["kind"] for feature in self.version.campaign_features}
        if name not in kinds:
            detail = "The model knows no such campaign feature." if kinds else "The model knows no campaign features."
            return "unknown-attribute", detail
        kind = kinds[name]
        return None if takes(kind, value) else ("wrong-type", f"A {kind} campaign feature takes another type.")


def look_up(session: Session, model_version: str | None = None) -> Known:
    """What is served, or the model of that version on the served pool."""
    served = get_serving(session)
    version = model_version or served.model_version
    return Known(
        get_snapshot(session, served.snapshot_id) if served.snapshot_id else None,
        get_version(session, version) if version else None,
    )


def _rule_problem(rule: Mapping[str, Any], kind: str | None) -> tuple[str, str] | None:
    numeric = "min" in rule or "max" in rule
    if kind is None:
        return "unknown-feature", "The pool has no such feature."
    if kind == "vector":
        return "wrong-rule", "A vector feature cannot carry a rule."
    if numeric != (kind == "numeric"):
        needs = "min or max" if kind == "numeric" else "in, any_of or not_in"
        return "wrong-rule", f"A {kind} feature takes {needs}."
    return None
