"""Users as sparse rows with a column for each row of the model's table; needs the extra `benchmark`."""

from model.baselines.features import FeatureBags
from model.speed.world import World


def feature_bags(world: World) -> FeatureBags:
    """Of the whole pool, with the values that the model knows and how rare they are to it."""
    vocabulary = world.model.vocabulary
    return FeatureBags(world.pool, vocabulary, vocabulary.translate(world.pool), world.encoder.rarity.double().numpy())
