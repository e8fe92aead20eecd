import pytest
import torch
from torch import Tensor

from model.bag_sum import bag_sum
from model.embedding import FeatureBatch, Fields
from model.network import Encoder, HybridExpertsCritics, build_experts_and_critics, build_network, initialise
from model.presets import ConvexConfig, MetaHeacConfig
from tests.model.references import metaheac_chances

USERS = Fields(table_rows=12, fields=3, vectors=((2, 4),))
CAMPAIGNS = Fields(table_rows=5, fields=2, vectors=())


def make_users(seed: int = 0) -> FeatureBatch:
    """Three users; field 0 has one value, field 1 none to three, field 2 is a vector."""
    vector = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    rows = torch.tensor([2, 3, 2, 5, 6, 7, 5, 5])
    offsets = torch.tensor([0, 1, 2, 3, 6, 6, 8, 8, 8, 8])
    return FeatureBatch(rows, offsets, (vector,), 3)


def make_campaign() -> FeatureBatch:
    return FeatureBatch(torch.tensor([1, 3, 4]), torch.tensor([0, 1, 3]), (), 1)


# What makes the layer of users that is stored where embeddings are frozen, by the names of its parameters.
BELOW = ("user_embedding.table", "user_embedding.projections.0", "experts.weights.0", "experts.biases.0")


def make_metaheac(seed: int = 0, *, frozen: bool = False) -> HybridExpertsCritics:
    config = MetaHeacConfig(embedding=6, experts=3, critics=2, hidden=(5, 4), frozen_embeddings=frozen)
    seen = torch.ones(12, dtype=torch.bool), torch.ones(5, dtype=torch.bool)
    built = build_experts_and_critics(config, USERS, CAMPAIGNS)
    return initialise(built, *seen, torch.Generator().manual_seed(seed))


def make_encoder(seed: int = 0, *, seen: Tensor | None = None) -> Encoder:
    config = ConvexConfig(embedding=6, hidden=(7,), representation=4)
    seen = torch.ones(12, dtype=torch.bool) if seen is None else seen
    network = initialise(build_network(config, USERS, CAMPAIGNS), seen, seen[:5], torch.Generator().manual_seed(seed))
    assert isinstance(network, Encoder)
    return network


def test_of_a_preset_without_experts_and_critics_none_are_built() -> None:
    with pytest.raises(ValueError, match="has no experts and critics"):
        build_experts_and_critics(ConvexConfig(), USERS, CAMPAIGNS)


def test_bag_sums_are_the_sums_of_their_rows_and_empty_bags_are_zero() -> None:
    table = torch.randn(4, 3)
    sums = bag_sum(table, torch.tensor([1, 1, 3]), torch.tensor([0, 2, 2, 3]))
    torch.testing.assert_close(sums, torch.stack([2 * table[1], torch.zeros(3), table[3]]))


def test_bag_sums_are_twice_differentiable() -> None:
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    rows, offsets = torch.tensor([1, 1, 3, 0]), torch.tensor([0, 2, 2, 4])

    def squared(values: Tensor) -> Tensor:
        return bag_sum(values, rows, offsets).pow(3)

    assert torch.autograd.gradcheck(squared, table)
    assert torch.autograd.gradgradcheck(squared, table)


def test_a_batch_of_some_users_is_theirs_in_their_order() -> None:
    users, some = make_users(), torch.tensor([2, 0])
    network = make_encoder()
    torch.testing.assert_close(network(users.of(some)), network(users)[some])
    assert users.of(some).size == 2
    assert users.of(torch.arange(3)).rows.equal(users.rows)


def test_metaheac_is_the_mixture_written_out_user_by_user() -> None:
    network = make_metaheac().double()
    log_yes, log_no = network(make_users(), make_campaign())
    torch.testing.assert_close(log_yes.exp(), metaheac_chances(network, make_users(), make_campaign()))
    torch.testing.assert_close(log_yes.exp() + log_no.exp(), torch.ones(3, dtype=torch.float64))


def test_with_frozen_embeddings_everything_moves_but_what_makes_the_stored_layer() -> None:
    frozen, names = make_metaheac(frozen=True), [name for name, _ in make_metaheac().named_parameters()]
    assert make_metaheac().moving == tuple(names)
    assert sorted({*names} - {*frozen.moving}) == sorted(BELOW)


def test_from_the_stored_layer_users_are_what_they_are_from_their_features() -> None:
    network = make_metaheac(frozen=True).double()
    stored = network.represent(make_users())
    assert stored.shape == (3, network.dimension) == (3, 3 * 5 + 6)
    expected = network(make_users(), make_campaign())
    with torch.no_grad():
        for name in BELOW:
            network.get_parameter(name).fill_(torch.nan)
    for found, whole in zip(network(stored, make_campaign()), expected, strict=True):
        torch.testing.assert_close(found, whole)


def test_metaheac_works_without_campaign_features() -> None:
    config = MetaHeacConfig(embedding=6, experts=3, critics=2, hidden=(5, 4))
    network = build_network(config, USERS, Fields(0, 0, ()))
    initialise(network, torch.ones(12), torch.ones(0), torch.Generator().manual_seed(0))
    nothing = FeatureBatch(torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), (), 1)
    log_yes, _ = network(make_users(), nothing)
    assert log_yes.shape == (3,)


def test_a_user_is_encoded_alike_alone_and_in_company() -> None:
    encoder = make_encoder()
    users = make_users()
    alone = FeatureBatch(torch.tensor([3, 5, 5]), torch.tensor([0, 1, 1, 1]), (users.vectors[0][1:2],), 1)
    torch.testing.assert_close(encoder(alone)[0], encoder(users)[1])


def test_only_a_generator_makes_the_encoder_drop_units() -> None:
    encoder = make_encoder()
    dropped = [encoder(make_users(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    assert torch.equal(encoder(make_users()), encoder(make_users()))


def test_the_same_generator_gives_the_same_weights_and_global_state_plays_no_part() -> None:
    first = make_encoder(3).state_dict()
    torch.rand(5)
    second = make_encoder(3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(make_encoder(4).state_dict()["skip.weight"], first["skip.weight"])


def test_rows_that_training_will_not_meet_start_neutral() -> None:
    seen = torch.ones(12, dtype=torch.bool)
    seen[0] = False
    table = make_encoder(seen=seen).embedding.table
    assert not table[0].any()
    assert table[1:].any(1).all()


@pytest.mark.parametrize("make", [make_encoder, make_metaheac])
def test_every_parameter_is_initialised(make: type) -> None:
    assert all(torch.isfinite(parameter).all() for parameter in make().parameters())
