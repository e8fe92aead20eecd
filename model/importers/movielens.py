"""Imports MovieLens 1M as the user has downloaded it from GroupLens: every popular movie is a past campaign.

A folder with users.dat, movies.dat and ratings.dat (fields parted by `::`, Latin-1); other MovieLens releases have no
users.dat and are not accepted. A like is a rating of 4 or 5. What keeps the answer out of the question:

* Half of the popular movies, drawn, are campaigns; only the other movies are users' features, so that no feature tells
  a label, nor a label a feature.
* Users who like much like any movie more often. So negatives are drawn to be as active as the positives: within each
  tenth of users by number of likes (of movies that are features), as many for each positive.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from model.dataset import write_dataset
from model.errors import DataError
from model.schema import Feature, Schema

LIKED_FROM = 4
FEWEST_POSITIVES = 50
NEGATIVES_PER_POSITIVE = 4
ACTIVITY_GROUPS = 10
MOST_MOVIES, MOST_GENRES = 60, 5

SCHEMA = Schema(
    user_features=(
        *(Feature(name, "categorical") for name in ("gender", "age", "occupation", "region")),
        Feature("liked_movies", "multi", MOST_MOVIES),
        Feature("top_genres", "multi", MOST_GENRES),
    ),
    campaign_features=(
        Feature("genre", "categorical"),
        Feature("genres", "multi", 6),
        Feature("decade", "categorical"),
    ),
)
_FILES = {
    "users.dat": ("user", "gender", "age", "occupation", "zip"),
    "movies.dat": ("movie", "title", "genres"),
    "ratings.dat": ("user", "movie", "rating", "time"),
}
_Rows = NDArray[np.int64]


def import_movielens(
    out: Path, source: Path, *, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Write the campaign dataset to the new directory `out` from the folder `source`.

    `seed` draws which movies are campaigns, and the negatives. Raises DataError.
    """
    users, movies, ratings = (_read(source / name, columns) for name, columns in _FILES.items())
    progress(f"{len(users):,} users, {len(movies):,} movies, {len(ratings):,} ratings")
    likes = _likes(users, movies, ratings)
    generator = np.random.default_rng(seed)
    is_campaign = _draw_campaigns(likes, len(movies), generator)
    featured = likes.filter(pa.array(~is_campaign[likes.column("movie_row").to_numpy()]))
    activity = np.bincount(featured.column("user_row").to_numpy(), minlength=len(users))
    interactions = _interactions(likes, np.flatnonzero(is_campaign), activity, generator)
    user_ids = pc.binary_join_element_wise("u", users.column("user"), "")
    campaign_ids = pc.binary_join_element_wise("movie", movies.column("movie"), "-")
    progress(f"{int(is_campaign.sum())} campaigns; writing {out}")
    write_dataset(
        out,
        SCHEMA,
        pa.table(
            {
                "user_id": user_ids,
                **{name: users.column(name) for name in ("gender", "age", "occupation")},
                "region": pc.utf8_slice_codeunits(users.column("zip"), 0, 2),
                **_tastes(featured, movies, len(users)),
            }
        ),
        _campaigns(campaign_ids, movies).filter(pa.array(is_campaign)),
        pa.table(
            {
                "campaign_id": campaign_ids.take(interactions.column("movie_row")),
                "user_id": user_ids.take(interactions.column("user_row")),
                "label": interactions.column("label"),
            }
        ),
    )


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """All columns as text."""
    try:
        text = path.read_text(encoding="latin-1").replace("::", "\t")
        return csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=csv.ReadOptions(
                column_names=columns, use_threads=False
            ),  # without threads faults name the row
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
        )
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}; MovieLens 1M has it", file=path.name) from error
    except pa.ArrowInvalid as error:
        raise DataError(f"is not of the form {'::'.join(columns)}: {error}", file=path.name) from error


def _likes(users: pa.Table, movies: pa.Table, ratings: pa.Table) -> pa.Table:
    """user_row and movie_row of every like, a user's latest first."""
    rows = {}
    for column, known, file in (("user", users, "users.dat"), ("movie", movies, "movies.dat")):
        found = pc.fill_null(pc.index_in(ratings.column(column), known.column(column).combine_chunks()), -1).to_numpy()
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            raise DataError(f"is not in {file}", file="ratings.dat", column=column, row=int(unknown[0]))
        rows[f"{column}_row"] = found.astype(np.int64)
    try:
        rating, time = (ratings.column(name).cast(pa.int64()).to_numpy() for name in ("rating", "time"))
    except pa.ArrowInvalid as error:
        raise DataError(f"rating and time must be numbers: {error}", file="ratings.dat") from error
    order = np.lexsort((rows["movie_row"], -time, rows["user_row"]))
    return pa.table(rows).take(pa.array(order[rating[order] >= LIKED_FROM]))


def _draw_campaigns(likes: pa.Table, movies: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    popular = np.flatnonzero(np.bincount(likes.column("movie_row").to_numpy(), minlength=movies) >= FEWEST_POSITIVES)
    if len(popular) < 2:
        raise DataError(f"fewer than two movies have {FEWEST_POSITIVES} likes", file="ratings.dat")
    chosen = np.zeros(movies, bool)
    chosen[generator.choice(popular, len(popular) // 2, replace=False)] = True
    return chosen


def _interactions(likes: pa.Table, campaigns: _Rows, activity: _Rows, generator: np.random.Generator) -> pa.Table:
    group = _activity_groups(activity)
    by_movie = likes.sort_by("movie_row")
    movie_rows, user_rows = (by_movie.column(name).to_numpy() for name in ("movie_row", "user_row"))
    labelled = []
    for movie in campaigns.tolist():
        start, stop = np.searchsorted(movie_rows, (movie, movie + 1))
        positives, negatives = matched(user_rows[start:stop], group, generator)
        labels = np.repeat(np.array([1, 0], np.int8), [len(positives), len(negatives)])
        labelled.append((np.full(len(labels), movie), np.concatenate([positives, negatives]), labels))
    columns = (np.concatenate(parts) for parts in zip(*labelled, strict=True))
    return pa.table(dict(zip(("movie_row", "user_row", "label"), columns, strict=True)))


def matched(positives: _Rows, group: _Rows, generator: np.random.Generator) -> tuple[_Rows, _Rows]:
    """Positives and negatives with the same share of every group: up to NEGATIVES_PER_POSITIVE negatives for each
    positive, and at least one, for which positives are left out (by lot) of groups where almost all are positive.

    positives: user rows; group [users]: the group of each user.
    """
    others = np.ones(len(group), bool)
    others[positives] = False
    available = np.bincount(group[others], minlength=int(group.max()) + 1)
    kept = np.minimum(np.bincount(group[positives], minlength=len(available)), available)
    used = np.flatnonzero(kept)
    ratio = min([NEGATIVES_PER_POSITIVE, *(available[used] / kept[used])])

    def draw(rows: _Rows, counts: _Rows) -> _Rows:
        parts = [
            generator.choice(rows[group[rows] == number], count, replace=False)
            for number, count in zip(used.tolist(), counts.tolist(), strict=True)
        ]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))

    negatives = np.floor(ratio * kept[used]).astype(np.int64)
    return draw(positives, kept[used]), draw(np.flatnonzero(others), negatives)


def _activity_groups(activity: _Rows) -> _Rows:
    """Group of each user: tenths of the users by activity, those of equal activity together."""
    bounds = np.unique(np.quantile(activity, np.arange(1, ACTIVITY_GROUPS) / ACTIVITY_GROUPS))
    return np.searchsorted(bounds, activity, side="right")


def _tastes(featured: pa.Table, movies: pa.Table, users: int) -> dict[str, pa.Array]:
    """Of each user the latest liked movies, and the genres liked most often."""
    titles = [f"m{movie}" for movie in movies.column("movie").to_pylist()]
    genres = [text.split("|") for text in movies.column("genres").to_pylist()]
    liked: list[list[str]] = [[] for _ in range(users)]
    counts: list[dict[str, int]] = [{} for _ in range(users)]
    for user, movie in zip(*(featured.column(name).to_pylist() for name in ("user_row", "movie_row")), strict=True):
        if len(liked[user]) < MOST_MOVIES:
            liked[user].append(titles[movie])
        for genre in genres[movie]:
            counts[user][genre] = counts[user].get(genre, 0) + 1
    top = [[genre for _, genre in sorted((-count, genre) for genre, count in user.items())] for user in counts]
    top = [names[:MOST_GENRES] for names in top]
    return {"liked_movies": pa.array(liked, pa.list_(pa.string())), "top_genres": pa.array(top, pa.list_(pa.string()))}


def _campaigns(campaign_ids: pa.ChunkedArray, movies: pa.Table) -> pa.Table:
    genres = pc.split_pattern(movies.column("genres"), "|")
    years = pc.struct_field(pc.extract_regex(movies.column("title"), r"\((?P<year>\d{3})\d\)\s*$"), "year")
    return pa.table(
        {
            "campaign_id": campaign_ids,
            "genre": pc.list_element(genres, 0),
            "genres": genres,
            "decade": pc.binary_join_element_wise(years, "0s", ""),
        }
    )
