import json
from dataclasses import asdict, replace

import pytest

from model.errors import ModelError
from model.presets import PRESETS, ConvexConfig, HeadSetting, MetaHeacConfig, parse_preset, preset_document


@pytest.mark.parametrize("name", ["default", "metaheac"])
def test_a_preset_survives_json(name: str) -> None:
    assert parse_preset(json.loads(json.dumps(preset_document(PRESETS[name])))) == PRESETS[name]


def test_changed_settings_are_kept() -> None:
    config = replace(ConvexConfig(), hidden=(8, 8), learning_rate=1.0)
    assert parse_preset(preset_document(config)) == config


def test_frozen_embeddings_are_written_down_and_a_document_from_before_there_were_any_is_read() -> None:
    frozen = replace(MetaHeacConfig(), frozen_embeddings=True)
    assert parse_preset(json.loads(json.dumps(preset_document(frozen)))) == frozen
    before = preset_document(MetaHeacConfig())
    assert "frozen_embeddings" not in before
    assert parse_preset(before) == MetaHeacConfig()


def test_the_heads_of_a_model_survive_json() -> None:
    heads = (HeadSetting(most_seeds=50, plain_share=0.3, plain_ridge=10.0), HeadSetting(slope=0.5))
    config = replace(ConvexConfig(), heads=heads, sampled_heads=(HeadSetting(match_activity=True),))
    assert parse_preset(json.loads(json.dumps(preset_document(config)))) == config


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([], "'heads' must be a list of settings"),
        ([3], "'heads' must be a list of settings"),
        ([{"phi": True}], "heads 0 has unknown or missing settings: .*slope"),
        ([{**asdict(HeadSetting()), "slope": "1"}], "heads 0: setting 'slope' must be a float"),
    ],
)
def test_a_head_that_makes_no_sense_is_named(heads: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_preset(preset_document(PRESETS["default"]) | {"heads": heads})


@pytest.mark.parametrize(("seeds", "slope"), [(1, 0.1), (50, 0.1), (51, 0.2), (200, 0.2), (201, 0.3), (10**6, 0.3)])
def test_a_campaign_gets_the_head_for_its_number_of_seeds(seeds: int, slope: float) -> None:
    heads = (HeadSetting(most_seeds=50, slope=0.1), HeadSetting(most_seeds=200, slope=0.2), HeadSetting(slope=0.3))
    assert replace(ConvexConfig(), heads=heads).head(seeds, sampled=False).slope == slope
    assert replace(ConvexConfig(), sampled_heads=heads).head(seeds, sampled=True).slope == slope


def test_an_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(ModelError, match="unknown preset 'other'; known are default, metaheac"):
        parse_preset({"name": "other"})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ModelError, match="experts"):
        parse_preset(preset_document(PRESETS["default"]) | {"experts": 3})


def test_a_setting_of_another_type_is_named() -> None:
    with pytest.raises(ModelError, match="'embedding' must be a int"):
        parse_preset(preset_document(PRESETS["default"]) | {"embedding": "64"})
