"""A device that holds no data catches any tensor left on another one. It must be there before autograd first runs, so
each test has a process of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from model.bag_sum import Bags
from model.embedding import FeatureBatch, Fields
from model.heads import dense as solver
from model.heads.block import SparseWeights
from model.heads.campaign import ConvexHead
from model.heads.dense import Problem, solve_in_graph
from model.loss import balance, logit_loss
from model.meta_loss import LaidOutTask, query_gradient
from model.network import Encoder, HybridExpertsCritics, Skeleton
from model.network_gradient import Assembly, LabelledInputs
from model.pool import Pool, encode_users
from model.presets import ConvexConfig, MetaHeacConfig
from model.represent import Representation, represent
from model.scoring.convex_plan import ConvexPlan
from model.scoring.network_plan import NetworkPlan
from model.scoring.stored_plan import StoredPlan
from model.user_inputs import Layout, UserInputs
from model.vocabulary import Translation
from tests.model.worlds import make_dataset, make_untrained

SMALL_METAHEAC = MetaHeacConfig(embedding=6, experts=3, critics=2, hidden=(5, 4), inner_steps=2)
# Forks, from a process that has imported all this and done nothing with it.
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
FROZEN = replace(SMALL_METAHEAC, frozen_embeddings=True)
USERS = Fields(table_rows=12, fields=3, vectors=((2, 4),))
CAMPAIGNS = Fields(table_rows=5, fields=2, vectors=())


@contextmanager
def dataless_device() -> Iterator[torch.device]:
    _setup_privateuseone_for_python_backend("dataless")
    with FakeTensorMode(allow_non_fake_inputs=False):
        yield torch.device("dataless:0")


def make_users(device: torch.device) -> FeatureBatch:
    rows, offsets = torch.zeros(8, dtype=torch.int64, device=device), torch.zeros(10, dtype=torch.int64, device=device)
    return FeatureBatch(rows, offsets, (torch.zeros(3, 4, device=device),), 3)


def make_encoder(device: torch.device) -> Encoder:
    with device:
        return Encoder(USERS, ConvexConfig(embedding=6, hidden=(7,), representation=4))


def train_default() -> None:
    # A device without data knows no truth; here it is asked twice: whether to try more, and whether it is enough.
    solver.holds = lambda _: True
    with dataless_device() as device:
        encoder = make_encoder(device)
        optimiser = torch.optim.Adam(encoder.parameters())
        phi = encoder(make_users(device)).double().expand(2, -1, -1)
        labels = torch.zeros(2, 3, dtype=torch.float64, device=device)
        weights = balance(labels, torch.ones_like(labels))
        problem = Problem.of(phi, labels, weights, *encoder.prior())
        heads = solve_in_graph(problem, 4)
        logit_loss(problem.logits(heads), labels, weights).sum().backward()
        optimiser.step()
        assert all(parameter.grad is not None and parameter.grad.device == device for parameter in encoder.parameters())


def train_metaheac() -> None:
    with dataless_device() as device:
        for config in (SMALL_METAHEAC, FROZEN):
            with device:
                network = HybridExpertsCritics(USERS, CAMPAIGNS, config)
            # Of the three fields one is multiplied first, one pooled, and the vector has no values.
            layout = Layout(((0, 3), (2, 0)), (1,), 7)
            empty = torch.zeros(3, dtype=torch.int64, device=device)
            bags = Bags(
                torch.zeros(3, dtype=torch.int64, device=device), torch.zeros(4, dtype=torch.int64, device=device)
            )
            inputs = UserInputs(bags, bags, (torch.zeros(3, 4, device=device),))
            rows = LabelledInputs(inputs, torch.zeros(3, device=device), torch.ones(3, device=device))
            touched = torch.zeros(10, dtype=torch.int64, device=device)
            task = LaidOutTask(touched, layout, FeatureBatch(empty, empty, (), 1), rows, rows)
            loss, gradients = query_gradient(Assembly(network), task, config)
            assert loss.device == device
            assert all(gradients[name].device == device for name, _ in network.named_parameters())


def metaheac_score_rows() -> None:
    with dataless_device() as device:
        with device:
            network = HybridExpertsCritics(USERS, CAMPAIGNS, SMALL_METAHEAC)
        empty = torch.zeros(3, dtype=torch.int64)
        campaign = FeatureBatch(empty, empty, (), 1)
        pool = Pool((), (), (), "")
        shapes = SMALL_METAHEAC, USERS, CAMPAIGNS
        plan = NetworkPlan(network, network, Skeleton(*shapes), campaign, pool, Translation(()), device, None)
        rough = plan.rough_on_device(make_users(device))
        assert (rough.device, rough.shape) == (device, (3,))
        stored = network.represent(make_users(device))
        assert (stored.device, stored.shape) == (device, (3, network.dimension))
        score_frozen(device, campaign)


def score_frozen(device: torch.device, campaign: FeatureBatch) -> None:
    network = HybridExpertsCritics(USERS, CAMPAIGNS, FROZEN).requires_grad_(requires_grad=False)
    representation = Representation((np.zeros((3, network.dimension), np.uint16),))
    plan = StoredPlan(network, Skeleton(FROZEN, USERS, CAMPAIGNS), campaign, representation, device, None)
    rough = plan.rough(0, 3)
    assert (rough.device, rough.shape) == (device, (3,))


def score_default() -> None:
    dataset = make_dataset(users=40)
    pool = encode_users(dataset.users, dataset.schema.user_features)
    model = make_untrained(pool)
    representation = represent(model, pool)
    assert representation is not None
    translation = model.vocabulary.translate(pool)
    rows = np.arange(translation.rows)
    sparse = SparseWeights(rows, np.ones(len(rows)), np.ones(sum(translation.vector_lengths)), 0.25)
    head = ConvexHead(np.ones(representation.dimension), 0.5, sparse, 1.0, 1.0, 1)
    with dataless_device() as device:
        rough = ConvexPlan.of(head, pool, representation, translation, device).rough(3, 33)
        assert (rough.device, rough.shape) == (device, (30,))


def mix_devices() -> None:
    with dataless_device() as device:
        encoder = make_encoder(device)
        with pytest.raises(RuntimeError, match="device"):
            encoder.skip(torch.zeros(3, 18))


@pytest.mark.parametrize("check", [train_default, train_metaheac, metaheac_score_rows, score_default, mix_devices])
def test_what_is_computed_stays_on_its_device_and_a_mix_would_be_seen(check: Callable[[], None]) -> None:
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as process:
        process.submit(check).result()
