import json
from dataclasses import replace

import pytest

from model.errors import ModelError
from model.presets import PRESETS, ConvexConfig, parse_preset, preset_document


@pytest.mark.parametrize("name", ["default", "metaheac"])
def test_a_preset_survives_json(name: str) -> None:
    assert parse_preset(json.loads(json.dumps(preset_document(PRESETS[name])))) == PRESETS[name]


def test_changed_settings_are_kept() -> None:
    config = replace(ConvexConfig(), hidden=(8, 8), learning_rate=1.0)
    assert parse_preset(preset_document(config)) == config


def test_an_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(ModelError, match="unknown preset 'other'; known are default, metaheac"):
        parse_preset({"name": "other"})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ModelError, match="experts"):
        parse_preset(preset_document(PRESETS["default"]) | {"experts": 3})


def test_a_setting_of_another_type_is_named() -> None:
    with pytest.raises(ModelError, match="'embedding' must be a int"):
        parse_preset(preset_document(PRESETS["default"]) | {"embedding": "64"})
