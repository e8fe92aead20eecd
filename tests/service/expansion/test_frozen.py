"""The online stage with a network whose embeddings are frozen: the `represent` job stores a layer of the users, and
expansions are made of it."""

import numpy as np
import pytest

from model.labelled import Labelled
from model.pool import encode_users
from model.scoring.stored_plan import StoredPlan
from model.store import ObjectStore
from service.expansion.campaign import CampaignModel
from service.expansion.pinning import Pinning
from service.kit.artifacts import Artifacts
from service.serving.loader import Triple
from service.serving.repository import find_representation
from tests.fixtures.tiny import USERS, VERSION, TinyWorld, store_world
from tests.model.worlds import FROZEN_METAHEAC, make_dataset, make_untrained
from tests.service.expansion.conftest import Stage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    folder, dataset = tmp_path_factory.mktemp("frozen"), make_dataset(users=USERS)
    artifacts = Artifacts(*(ObjectStore(str(folder / name)) for name in ("models", "pool", "audiences")))
    model = make_untrained(encode_users(dataset.users, dataset.schema.user_features), FROZEN_METAHEAC)
    return store_world(folder, dataset, model, artifacts)


def test_an_audience_is_what_the_stored_layer_gives(stage: Stage) -> None:
    ids, scores = stage.members(stage.expand(audience_size=100))
    with stage.database.read() as session:
        row = find_representation(session, VERSION, stage.world.imported.snapshot_id)
    assert row is not None
    assert row.object_name is not None
    assert len(set(ids)) == 100
    assert scores == sorted(scores, reverse=True)
    pinned = Pinning(stage.database, stage.loader).load(Triple(VERSION, row.snapshot_id, row.id))
    assert pinned.representation is not None
    assert pinned.representation.dimension == pinned.model.network.dimension
    request = {"deny_features": [], "attributes": {}}
    campaign = CampaignModel.of(pinned, request, lambda: None)
    labels = np.zeros(USERS, np.float32)
    labels[pinned.pool.ordinals(stage.world.seeds())] = 1
    rows = Labelled(np.arange(USERS), labels, np.ones(USERS, np.float32))
    assert isinstance(campaign.plan(campaign.head(rows)), StoredPlan)


def test_a_denied_feature_has_no_say(stage: Stage) -> None:
    every = [feature.name for feature in stage.pool.features]
    plain, _ = stage.members(stage.expand(audience_size=100))
    without, _ = stage.members(stage.expand(audience_size=100, deny_features=every[:1]))
    assert without != plain
    _, scores = stage.members(stage.expand(audience_size=100, deny_features=every))
    assert len(set(scores)) == 1
