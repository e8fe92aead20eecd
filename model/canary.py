"""The canary of a model: a made-up campaign of made-up users, and the scores that adapting to it gives them.

Stored when a model is saved and asked again when it is loaded: whole weights do not show that a machine, or another
release of the code, makes the same of them. The users are made from the model's vocabulary alone, so they are nobody.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from model.adapt import adapt
from model.errors import AdaptationError, ScoreError
from model.field_vocabulary import FieldVocabulary
from model.labelled import Labelled
from model.model import Model
from model.pool import encode_users
from model.represent import represent
from model.scoring.plan import score_plan

# Users to adapt to, every other one a seed; and as many again half of that who are only scored.
_ADAPTED, _USERS = 32, 48
# By how many users the values of each field are shifted against those of the field before.
_SHIFT = 7


def canary_scores(model: Model) -> tuple[float, ...]:
    """The scores of the canary's users, of 6 decimals each; none for a model that cannot adapt to them."""
    fields = model.vocabulary.fields
    columns = {field.feature.name: _column(field, number * _SHIFT) for number, field in enumerate(fields)}
    users = pa.table({"user_id": pa.array([f"{user:02d}" for user in range(_USERS)]), **columns})
    pool = encode_users(users, tuple(field.feature for field in fields))
    labels = (np.arange(_ADAPTED) % 2 == 0).astype(np.float32)
    labelled = Labelled(np.arange(_ADAPTED), labels, np.ones(_ADAPTED, np.float32))
    attributes = {field.feature.name: _value(field, 0) for field in model.campaigns.fields}
    representation = represent(model, pool)
    try:
        head = adapt(model, pool, representation, labelled, attributes)
        scores = score_plan(model, head, pool, representation).score_users(np.arange(_USERS))
    except (AdaptationError, ScoreError):
        return ()
    return tuple(scores.tolist())


def deviation(scores: Sequence[float], expected: Sequence[float]) -> float:
    """The greatest difference between two canaries' scores; infinite where they are not as many."""
    if len(scores) != len(expected):
        return float("inf")
    return float(np.abs(np.subtract(scores, expected)).max(initial=0.0))


def _column(field: FieldVocabulary, shift: int) -> pa.Array:
    """Seeds have values from the first half of the vocabulary, the others from the second."""
    half = _USERS // 2
    places = [user % 2 * half + (user // 2 + shift) % half for user in range(_USERS)]
    return pa.array([_value(field, place) for place in places], _arrow_type(field))


def _arrow_type(field: FieldVocabulary) -> pa.DataType:
    return {
        "categorical": pa.large_string(),
        "multi": pa.list_(pa.large_string()),
        "numeric": pa.float32(),
        "vector": pa.list_(pa.float32()),
    }[field.feature.kind]


def _value(field: FieldVocabulary, place: int) -> Any:
    """What a user at this place of all _USERS has: values evenly from the whole vocabulary; None where it has none."""
    if field.mean is not None and field.scale is not None:
        return (field.mean + field.scale * (2 * place / _USERS - 1)).tolist()
    known = field.values if field.values is not None else field.edges
    if known is None or not len(known):
        return None
    value = known[place * len(known) // _USERS]
    if field.values is None:
        return float(value)
    return [value.as_py()] if field.feature.kind == "multi" else value.as_py()
