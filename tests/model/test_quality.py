"""The quality estimate is near the known truth, finds nothing in random seeds, and shows no head who will judge it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import pytest

from model.adapt import adapt
from model.labelled import Labelled
from model.quality import CONFIDENCE, Quality, Verdict, estimate_quality
from model.scoring.plan import ScorePlan, score_plan
from tests.model.conftest import World

USERS, NUMBERS = 5_000, 8


@dataclass
class Likeness:
    """Users are points; a head is the line from the mean of its negatives to the mean of its positives. Remembers the
    rows that it was given and the users whom it scored."""

    points: np.ndarray
    given: list[Labelled] = field(default_factory=list)
    scored: list[np.ndarray] = field(default_factory=list)

    def __call__(self, rows: Labelled) -> "Line":
        self.given.append(rows)
        means = [np.average(self.points[rows.ordinals], axis=0, weights=rows.labels == label) for label in (1, 0)]
        return Line(self, means[0] - means[1])


@dataclass
class Line:
    likeness: Likeness
    direction: np.ndarray

    def score_users(self, ordinals: np.ndarray) -> np.ndarray:
        self.likeness.scored.append(ordinals)
        scores: np.ndarray = self.likeness.points[ordinals] @ self.direction
        return scores


def drawn_points(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 0]).normal(size=(USERS, NUMBERS))


def drawn_rows(seed: int, seeds: int, *, negatives: int = 1_000, sampled: bool = True) -> Labelled:
    """Seeds drawn at random, and as many other users as negatives."""
    generator = np.random.default_rng([seed, 1])
    ordinals = np.sort(generator.choice(USERS, seeds + negatives, replace=False))
    labels = np.zeros(len(ordinals), np.float32)
    labels[generator.choice(len(ordinals), seeds, replace=False)] = 1
    return Labelled(ordinals, labels, np.ones(len(ordinals), np.float32), (labels == 0) & sampled)


def shifted(points: np.ndarray, rows: Labelled, by: float) -> np.ndarray:
    """The points, those of the seeds moved in one direction."""
    moved = points.copy()
    moved[rows.ordinals[rows.labels == 1], 0] += by
    return moved


def judge(
    fit: Callable[[Labelled], Line | ScorePlan],
    rows: Labelled,
    *,
    users: int = USERS,
    eligible: np.ndarray | None = None,
    audience_size: int = 50,
    splits: int = 5,
    seed: int = 0,
    threads: int = 1,
) -> Quality | None:
    mask = np.ones(users, bool) if eligible is None else eligible
    return estimate_quality(
        fit, rows, mask, audience_size=audience_size, splits=splits, random_seed=seed, threads=threads
    )


def judged(*args: object, **options: object) -> Quality:
    found = judge(*args, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.fixture(scope="module", params=[(200, 5), (200, 2), (30, 5)], ids="{0[0]} seeds, {0[1]} splits".format)
def of_random_seeds(request: pytest.FixtureRequest) -> list[Quality]:
    """What is said of a hundred sets of random seeds."""
    seeds, splits = request.param
    points = drawn_points(0)
    return [judged(Likeness(points), drawn_rows(trial, seeds), splits=splits) for trial in range(100)]


def test_random_seeds_have_no_signal_and_lift_one(of_random_seeds: list[Quality]) -> None:
    assert sum(quality.low_signal for quality in of_random_seeds) >= 97
    assert np.mean([quality.auc for quality in of_random_seeds]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([quality.lift_curve[3].recall / 0.1 for quality in of_random_seeds]) == pytest.approx(1, abs=0.1)


def test_the_interval_is_as_wide_as_the_estimate_varies_for_random_seeds(of_random_seeds: list[Quality]) -> None:
    normal = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    told = np.mean([high - low for low, high in (quality.interval for quality in of_random_seeds)]) / 2 / normal
    # Taken as independent, the placements of the seeds would tell of 1.4 times less.
    assert np.std([quality.auc for quality in of_random_seeds]) == pytest.approx(told, rel=0.2)


@pytest.mark.parametrize(("by", "verdict"), [(0.6, Verdict.WEAK), (0.9, Verdict.FAIR), (2.0, Verdict.STRONG)])
def test_the_interval_holds_the_true_auc_and_the_verdict_follows_it(by: float, verdict: Verdict) -> None:
    verdicts, held = [], []
    for trial in range(30):
        rows = drawn_rows(trial, 100)
        likeness = Likeness(shifted(drawn_points(trial), rows, by))
        direction = likeness(rows).direction
        truth = NormalDist().cdf(by * direction[0] / np.linalg.norm(direction) / 2**0.5)
        quality = judged(likeness, rows)
        verdicts.append(quality.verdict)
        held.append(quality.interval[0] <= truth <= quality.interval[1])
    assert sum(held) >= 29
    assert max(verdicts, key=verdicts.count) == verdict


def test_a_head_meets_neither_the_seeds_nor_the_sample_that_judge_it() -> None:
    rows = drawn_rows(0, 100)
    likeness = Likeness(drawn_points(0))
    quality = judged(likeness, rows)
    seeds = rows.ordinals[rows.labels == 1]
    hidden, samples = likeness.scored[::2], likeness.scored[1::2]
    assert quality.seeds_held_out == 100
    assert len(likeness.given) == 5
    assert np.sort(np.concatenate(hidden)).tolist() == seeds.tolist()
    for given, part, sample in zip(likeness.given, hidden, samples, strict=True):
        assert np.array_equal(sample, samples[0])
        assert not np.isin(given.ordinals, np.concatenate([part, sample])).any()
        assert np.isin(np.setdiff1d(seeds, part), given.ordinals).all()
    assert not np.isin(samples[0], seeds).any()


def test_a_head_adapts_on_a_few_sampled_negatives_that_weigh_as_much_as_all() -> None:
    rows = drawn_rows(0, 100, negatives=4_800)
    likeness = Likeness(drawn_points(0))
    judged(likeness, rows)
    for given in likeness.given:
        assert (given.labels == 0).sum() == 2_000
        assert given.weights[given.labels == 0].sum() == pytest.approx(4_800)


def test_known_negatives_stay_with_every_head_and_out_of_the_sample() -> None:
    rows = drawn_rows(0, 100, sampled=False)
    likeness = Likeness(drawn_points(0))
    judged(likeness, rows)
    known = rows.ordinals[rows.labels == 0]
    assert all(np.isin(known, given.ordinals).all() for given in likeness.given)
    assert not np.isin(likeness.scored[1], known).any()


@pytest.mark.parametrize(
    ("seeds", "splits", "heads", "hidden"),
    [(400, 5, 5, 400), (1_000, 5, 3, 600), (3_000, 5, 1, 600), (400, 2, 2, 400), (1_000, 2, 2, 500), (2, 5, 2, 2)],
)
def test_the_more_seeds_the_fewer_heads(seeds: int, splits: int, heads: int, hidden: int) -> None:
    likeness = Likeness(drawn_points(0))
    quality = judged(likeness, drawn_rows(0, seeds), splits=splits)
    assert (len(likeness.given), quality.seeds_held_out) == (heads, hidden)


def test_the_lift_curve_has_the_usual_sizes_and_the_one_asked_for() -> None:
    rows = drawn_rows(0, 100)
    quality = judged(Likeness(shifted(drawn_points(0), rows, 2.0)), rows, audience_size=700)
    curve = quality.lift_curve
    assert [point.size for point in curve] == [50, 100, 250, 500, 700, 1_000]
    assert [point.fraction for point in curve] == [0.01, 0.02, 0.05, 0.1, 0.14, 0.2]
    assert [point.lift is None for point in curve] == [True, True, False, False, False, False]
    recalls = [point.recall for point in curve]
    assert recalls == sorted(recalls)
    assert all(point.lift in (None, point.recall / point.fraction) for point in curve)
    assert curve[3].lift is not None
    assert curve[3].lift > 4


def test_an_audience_of_more_than_the_eligible_is_all_of_them() -> None:
    last = judged(Likeness(drawn_points(0)), drawn_rows(0, 100), audience_size=USERS * 2).lift_curve[-1]
    assert (last.size, last.fraction, last.recall, last.lift) == (USERS, 1.0, 1.0, 1.0)


def test_only_eligible_seeds_are_hidden() -> None:
    rows = drawn_rows(0, 100)
    likeness = Likeness(shifted(drawn_points(0), rows, 1.0))
    eligible = np.arange(USERS) % 2 == 0
    quality = judged(likeness, rows, eligible=eligible)
    seeds = rows.ordinals[rows.labels == 1]
    assert quality.seeds_held_out == (seeds % 2 == 0).sum()
    assert quality.lift_curve[3].size == USERS // 20
    assert all((scored % 2 == 0).all() for scored in likeness.scored)
    assert all(np.isin(seeds[seeds % 2 == 1], given.ordinals).all() for given in likeness.given)


def test_a_small_pool_is_judged_by_half_of_its_other_users() -> None:
    rows = drawn_rows(0, 100)
    eligible = np.zeros(USERS, bool)
    eligible[rows.ordinals] = True
    likeness = Likeness(shifted(drawn_points(0), rows, 2.0))
    assert not judged(likeness, rows, eligible=eligible).low_signal
    assert {len(sample) for sample in likeness.scored[1::2]} == {500}
    assert {int((given.labels == 0).sum()) for given in likeness.given} == {500}


@pytest.mark.parametrize("who", ["nobody", "no seed", "one seed", "nobody but seeds"])
def test_nothing_is_told_where_nothing_can_be(who: str) -> None:
    rows = drawn_rows(0, 30)
    seeds = rows.ordinals[rows.labels == 1]
    let_in = {
        "nobody": [],
        "no seed": np.setdiff1d(np.arange(USERS), seeds),
        "one seed": np.setdiff1d(np.arange(USERS), seeds[1:]),
        "nobody but seeds": seeds,
    }[who]
    eligible = np.zeros(USERS, bool)
    eligible[np.asarray(let_in, int)] = True
    assert judge(Likeness(drawn_points(0)), rows, eligible=eligible) is None


def test_equal_scores_are_no_signal() -> None:
    quality = judged(Likeness(np.ones((USERS, NUMBERS))), drawn_rows(0, 30))
    assert (quality.auc, quality.interval, quality.p_value) == (0.5, (0.5, 0.5), 1.0)
    assert quality.lift_curve[4].recall == pytest.approx(0.2)
    assert quality.verdict == Verdict.NO_SIGNAL


def test_a_perfect_ranking_of_few_seeds_is_not_taken_for_certain() -> None:
    rows = drawn_rows(0, 25)
    quality = judged(Likeness(shifted(drawn_points(0), rows, 50.0)), rows)
    assert (quality.auc, quality.interval[1]) == (1.0, 1.0)
    assert 0.7 < quality.interval[0] < 0.95
    assert quality.verdict == Verdict.STRONG


def test_two_seeds_prove_nothing_much() -> None:
    rows = drawn_rows(0, 2)
    quality = judged(Likeness(shifted(drawn_points(0), rows, 2.0)), rows)
    assert quality.verdict == Verdict.NO_SIGNAL
    assert all(point.lift is None for point in quality.lift_curve)


def test_each_hidden_seed_counts_once_whatever_it_weighs() -> None:
    rows = drawn_rows(0, 100)
    weights = rows.weights.copy()
    weights[np.argmax(rows.labels)] = 1e6
    points = shifted(drawn_points(0), rows, 1.0)
    # This head does not read weights: what changes would be the estimate's own doing.
    assert judge(Likeness(points), replace(rows, weights=weights)) == judge(Likeness(points), rows)


def test_the_sentence_says_what_was_found() -> None:
    rows = drawn_rows(0, 100)
    strong = judged(Likeness(shifted(drawn_points(0), rows, 3.0)), rows)
    assert f"ranked above a random eligible user in {strong.auc:.0%} of pairs" in strong.detail
    assert "100 seeds" in strong.detail
    assert f"the best 10% of the eligible pool hold {strong.lift_curve[3].lift:.1f} times as many" in strong.detail
    assert "which may be chance" in judged(Likeness(drawn_points(0)), rows).detail


def test_the_same_random_seed_gives_the_same_estimate() -> None:
    rows = drawn_rows(0, 40)
    assert judge(Likeness(drawn_points(0)), rows, seed=3) == judge(Likeness(drawn_points(0)), rows, seed=3)
    assert judge(Likeness(drawn_points(0)), rows, seed=3) != judge(Likeness(drawn_points(0)), rows, seed=4)


def test_heads_that_are_fitted_side_by_side_give_the_same_estimate() -> None:
    rows, points = drawn_rows(0, 100), drawn_points(0)
    estimates = [judge(Likeness(points), rows, threads=threads) for threads in (1, 2, 5)]
    assert estimates[0] is not None
    assert estimates[0] == estimates[1] == estimates[2]


# Frozen embeddings learn too little of a taste from so small a world.
@pytest.mark.parametrize("world", ["default", "sparse", "metaheac"], indirect=True)
def test_seeds_of_a_taste_have_a_signal_and_random_ones_have_none(world: World) -> None:
    dataset, pool = world.dataset, world.pool
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    rows = dataset.rows_of(0)
    liked = np.sort(ordinals[dataset.interactions.user[rows][dataset.interactions.label[rows] == 1]])

    def fit(labelled: Labelled) -> ScorePlan:
        attributes = dataset.campaign_attributes(0)
        head = adapt(world.model, pool, world.representation, labelled, attributes)
        return score_plan(world.model, head, pool, world.representation)

    def quality_of(seeds: np.ndarray) -> Quality:
        labels = np.isin(np.arange(pool.size), seeds).astype(np.float32)
        everybody = Labelled(np.arange(pool.size), labels, np.ones(pool.size, np.float32), labels == 0)
        return judged(fit, everybody, users=pool.size, audience_size=30, splits=2)

    assert not quality_of(liked).low_signal
    random = np.sort(np.random.default_rng(0).choice(pool.size, len(liked), replace=False))
    assert quality_of(random).low_signal
