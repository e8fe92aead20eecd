"""MetaHeac and its ablations, by the code that trains and serves the preset.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising" (KDD
2021), section 5.3 for the ablations. Each is the same network and the same Algorithm 1, configured: one critic is
"w/o HC", one expert "w/o HE", and no inner step in training, which leaves plain multi-task learning, "w/o Meta". One
more is not in the paper: `metaheac_frozen` leaves the embeddings and the first layer alone when it adapts. The online
stage is chosen for each on validation campaigns, but for `metaheac_published`, which has the published one.
"""

from dataclasses import replace

from model.baselines.presets import Preset
from model.presets import PUBLISHED_STAGE, MetaHeacConfig

_FULL = MetaHeacConfig()
_ALL_ROWS = _FULL.support_rows + _FULL.query_rows

METAHEAC = Preset("metaheac", _FULL)
PUBLISHED = Preset(
    "metaheac_published", replace(_FULL, tune_online=False, online=(PUBLISHED_STAGE,), online_epoch_rows=0)
)
NO_HC = Preset("metaheac_no_hc", replace(_FULL, critics=1))
NO_HE = Preset("metaheac_no_he", replace(_FULL, experts=1))
FROZEN = Preset("metaheac_frozen", replace(_FULL, frozen_embeddings=True))
NO_META = Preset("metaheac_no_meta", replace(_FULL, inner_steps=0, support_rows=0, query_rows=_ALL_ROWS))
