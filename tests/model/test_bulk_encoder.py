"""What is stored of users, in bulk, against the network's own forward pass in float64; networks are as wide as the
presets'."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bulk_encoder import ROWS, BulkEncoder
from model.embedding import Fields
from model.model import Model
from model.network import build_network
from model.pool import MultiColumn, Pool, encode_users, open_pool, write_pool
from model.pool.columns import Column
from model.pool.pool import Shard, UserBlock
from model.presets import ConvexConfig, MetaHeacConfig, PresetConfig
from model.represent import Bits, from_bits, represent, represent_plainly, to_bits
from tests.model.worlds import ALL, make_dataset, make_untrained

CPU = torch.device("cpu")
DATASET = make_dataset(users=2 * ROWS + 300)
POOL = encode_users(DATASET.users, ALL)
EVERYBODY = POOL.block(0, POOL.size)
# Room for the tables of some of the fields.
SOME = 20_000


MODEL = make_untrained(POOL, ConvexConfig())
RECIPES = [*(ConvexConfig(hidden=hidden) for hidden in ((256,), (), (40, 24))), MetaHeacConfig(frozen_embeddings=True)]


def exactly(model: Model, block: UserBlock, deny: frozenset[str]) -> torch.Tensor:
    network = build_network(model.preset, model.vocabulary.shape, Fields(0, 0, ()))
    network = network.double().to_empty(device="cpu")
    network.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        return represent_plainly(network, model.vocabulary.translate(POOL, deny), CPU, block)


def bulk(model: Model, deny: frozenset[str] = frozenset(), folded_bytes: int = 1 << 30) -> BulkEncoder:
    return BulkEncoder.of(model.network, model.vocabulary.translate(POOL, deny), folded_bytes=folded_bytes)


@pytest.mark.parametrize("deny", [frozenset[str](), frozenset({"hobbies", "age"}), frozenset({"city", "face"})])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("folded_bytes", [0, SOME, 1 << 30])
def test_it_is_what_the_network_makes_of_users_to_the_last_place_of_bfloat16(
    folded_bytes: int, recipe: PresetConfig, deny: frozenset[str]
) -> None:
    model = make_untrained(POOL, recipe)
    found = from_bits(to_bits(bulk(model, deny, folded_bytes).represent(EVERYBODY)))
    exact = exactly(model, EVERYBODY, deny)
    # What float32 may lose: it changes only a number so near to the middle of two of bfloat16.
    loss = 2e-6 * float(exact.abs().max())
    lowest, nearest, highest = (from_bits(to_bits(exact + shift)) for shift in (-loss, 0.0, loss))
    assert ((lowest <= found) & (found <= highest)).all()
    assert (found == nearest).mean() > 0.999


@pytest.mark.parametrize("folded_bytes", [0, SOME, 1 << 30])
def test_a_user_has_the_same_bits_wherever_blocks_are_cut(folded_bytes: int) -> None:
    encoder = bulk(MODEL, folded_bytes=folded_bytes)
    whole = to_bits(encoder.represent(EVERYBODY))
    for cuts in ([0, 1, 2, 9, 600, 601, 1324], [0, 511, 1023, 1324], [0, 513, 1024, 1324]):
        parts = [to_bits(encoder.represent(POOL.block(*span))) for span in pairwise(cuts)]
        assert np.array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(0).permutation(POOL.size)
    assert np.array_equal(to_bits(encoder.represent(POOL.take(order))), whole[order])


def bits_of(pool: Pool, deny: frozenset[str] = frozenset()) -> Bits:
    made = represent(MODEL, pool, deny=deny)
    assert made is not None
    return made.block(0, pool.size)


@pytest.mark.parametrize("deny", [frozenset[str](), frozenset({"hobbies"})])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_pool_has_the_same_bits_in_memory_and_in_shards_with_any_number_of_threads(
    tmp_path: Path, threads: int, deny: frozenset[str]
) -> None:
    write_pool(DATASET.users, ALL, tmp_path / "pool", shard_rows=217)
    stored = open_pool(tmp_path / "pool")
    assert len(stored.shards) > 5
    before = torch.get_num_threads()
    expected = bits_of(POOL, deny)
    try:
        torch.set_num_threads(threads)
        assert np.array_equal(bits_of(stored, deny), expected)
    finally:
        torch.set_num_threads(before)


def test_offsets_may_be_narrow() -> None:
    def narrowed(column: Column) -> Column:
        if isinstance(column, MultiColumn):
            return replace(column, offsets=column.offsets.astype(np.int32))
        return column

    shard = POOL.shards[0]
    narrow = replace(POOL, shards=(Shard(shard.ids, tuple(map(narrowed, shard.columns))),))
    assert np.array_equal(bits_of(narrow), bits_of(POOL))
