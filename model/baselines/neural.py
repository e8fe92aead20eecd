"""The rows of the benchmark's table that are neural networks of other papers than the one this model is from."""

from model.baselines.base import Method
from model.baselines.hubble import Hubble
from model.baselines.mlp_emb import MLPEmbedding
from model.baselines.mlp_one_stage import MLPOneStage
from model.baselines.mlp_pretraining import MLPPretraining
from model.baselines.mmoe import MMoEPretraining
from model.baselines.pinterest import Pinterest
from model.baselines.shared_bottom import SharedBottomPretraining

NEURAL_METHODS: tuple[Method, ...] = (
    MLPOneStage(),
    MLPEmbedding(),
    Pinterest(),
    Hubble(),
    MLPPretraining(),
    SharedBottomPretraining(),
    MMoEPretraining(),
)
