"""Rows of the preset `metaheac`: everybody's score by an adapted network, and the best 1 % of them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.logistic import sigmoid
from model.network import HybridExpertsCritics
from model.represent import Representation, to_bits
from model.scoring.plan import ScorePlan, score_plan
from model.scoring.scan import Scanned, scan
from model.scoring.scores import Scores, rounded
from model.speed.bench import Bench
from model.speed.metaheac_plain import Parameters, plain_above, plain_log_chances, plain_stored
from model.speed.metaheac_world import MetaHeacWorld
from model.speed.plain import check_ranking, in_memory, plain_ranking
from model.speed.represent_row import check_bits
from model.speed.row import Row
from model.speed.score_rows import NEGATIVES, SEEDS
from model.speed.timing import interleaved

# The reference scores the first blocks of the pool.
_BLOCKS, _BLOCK_ROWS = 4, 4096

Span = tuple[int, int]


def score_row(name: str, precision: torch.dtype | None, bench: Bench) -> Row:
    """The adapted network's full forward pass for everybody. precision: of the rough scores' products; None for what is
    faster here."""
    made = MetaHeacWorld.of(bench.world)
    head = made.head(bench.world.labelled(SEEDS, NEGATIVES))
    plan = score_plan(made.model, head, bench.world.pool, None, precision=precision)

    def plain(parameters: Parameters, span: Span) -> Tensor:
        users = made.users(np.arange(*span))
        return torch.sub(*plain_log_chances(parameters, made.network, users, made.campaign))

    limit = 1 / bench.limits.products(_operations(made.network))
    against = "torch fp32, batches" if bench.limits.amx else "torch fp32, batches; no AMX"
    return _measured(name, bench, made.parameters(head), plan, plain, against, limit)


def score_frozen(bench: Bench) -> Row:
    """With frozen embeddings, from the stored layer of the users: what lies below it is checked, and not timed. The
    limit is reading that layer, or the products above it at the rate of fp32 or bf16, whichever is the faster."""
    name = "score_frozen"
    made = MetaHeacWorld.of(bench.world, frozen=True)
    representation, network = made.representation, made.network
    if representation is None:
        raise TypeError("with frozen embeddings there is a representation")
    _check_stored(name, made, representation, _spans(bench))
    head = made.head(bench.world.labelled(SEEDS, NEGATIVES))
    plan = score_plan(made.model, head, bench.world.pool, representation)
    first = in_memory(Representation((representation.block(0, _spans(bench)[-1][1]),)))

    def plain(parameters: Parameters, span: Span) -> Tensor:
        stored = first[slice(*span)].to(parameters["expert_gate.weight"].dtype)
        return torch.sub(*plain_above(parameters, network, stored, made.campaign))

    operations = _operations(network) - 2.0 * network.experts.weights[0].numel()
    user = representation.shards[0][0].nbytes
    limit = 1 / max(bench.limits.rough_products(operations), bench.limits.reading(user))
    against = "torch fp32 from the stored layer" + ("" if bench.limits.amx else "; no AMX")
    return _measured(name, bench, made.parameters(head), plan, plain, against, limit)


def _spans(bench: Bench) -> list[Span]:
    return list(bench.world.pool.spans(_BLOCK_ROWS))[:_BLOCKS]


def _measured(
    name: str,
    bench: Bench,
    parameters: Parameters,
    plan: ScorePlan,
    plain: Callable[[Parameters, Span], Tensor],
    against: str,
    limit: float,
) -> Row:
    """plain: the logarithm of the odds [B] of the users start .. stop by these parameters."""
    pool, spans = bench.world.pool, _spans(bench)
    count = spans[-1][1]

    def scanned(candidates: npt.NDArray[np.bool_], size: int) -> Scanned:
        return scan(plan, pool, candidates, size, threads=bench.threads)

    @torch.no_grad()
    def reference(parameters: Parameters) -> Scores:
        odds = torch.cat([plain(parameters, span) for span in spans])
        return rounded(sigmoid(odds.double().numpy()))

    size, first = count // 100, np.arange(pool.size) < count
    doubles = {key: value.double() for key, value in parameters.items()}
    check_ranking(name, scanned(first, size).ranking, plain_ranking(reference(doubles), size))
    fast = partial(scanned, np.ones(pool.size, np.bool_), bench.audience)
    seconds, slow = interleaved([fast, partial(reference, parameters)], bench.seconds)
    return Row(name, "users/s", pool.size / seconds, count / slow, against, limit)


@torch.no_grad()
def _check_stored(name: str, made: MetaHeacWorld, representation: Representation, spans: list[Span]) -> None:
    parameters = dict(made.network.named_parameters())
    for span in spans:
        expected = to_bits(plain_stored(parameters, made.network, made.users(np.arange(*span))))
        check_bits(name, representation.block(*span), expected)


def _operations(network: HybridExpertsCritics) -> float:
    """Multiplications and additions of a user's products with the matrices of experts, critics and gates."""
    matrices = [
        *network.experts.weights,
        *network.critics.weights,
        network.expert_gate.weight,
        network.critic_gate.weight,
    ]
    return float(sum(2 * matrix.numel() for matrix in matrices))


score_full = partial(score_row, "score_full", None)
# bfloat16 is all that AMX is used for.
score_full_no_amx = partial(score_row, "score_full_no_amx", torch.float32)
