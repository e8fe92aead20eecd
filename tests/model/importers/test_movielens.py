"""The MovieLens importer, on hand-made files in the form of MovieLens 1M."""

from pathlib import Path

import numpy as np
import pytest

from model.dataset import Dataset, load_dataset
from model.errors import DataError
from model.importers.movielens import import_movielens, matched
from model.metrics import auc

USERS, MOVIES = 400, 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some users like much and some little: raw likes tell mostly that."""
    generator = np.random.default_rng(0)
    activity = generator.uniform(0.05, 0.95, USERS)
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    users = [f"{user + 1}::{'MF'[user % 2]}::25::{user % 20}::{55000 + user}" for user in range(USERS)]
    movies = [f"{movie + 1}::Amélie {movie} ({1930 + movie})::Comedy|Drama" for movie in range(MOVIES)]
    ratings = [
        f"{user + 1}::{movie + 1}::{4 + movie % 2 if generator.random() < activity[user] else 2}::{1000 + movie}"
        for user in range(USERS)
        for movie in range(MOVIES)
    ]
    for name, lines in (("users.dat", users), ("movies.dat", movies), ("ratings.dat", ratings)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


@pytest.fixture
def dataset(folder: Path, tmp_path: Path) -> Dataset:
    import_movielens(tmp_path / "out", folder, progress=lambda _: None)
    return load_dataset(tmp_path / "out")


def raw_likes(folder: Path) -> set[tuple[str, str]]:
    lines = (line.split("::") for line in (folder / "ratings.dat").read_text().splitlines())
    return {(f"u{user}", movie) for user, movie, rating, _ in lines if rating in "45"}


def test_half_of_the_popular_movies_are_campaigns(dataset):
    assert len(dataset.campaign_ids) == MOVIES // 2
    assert dataset.users.num_rows == USERS


def test_no_movie_is_both_a_campaign_and_a_feature(dataset):
    campaigns = {campaign.removeprefix("movie-") for campaign in dataset.campaign_ids}
    liked = {movie.removeprefix("m") for movies in dataset.users["liked_movies"].to_pylist() for movie in movies}
    assert liked
    assert not campaigns & liked


def test_labels_are_likes(dataset, folder):
    likes = raw_likes(folder)
    users = dataset.users["user_id"].to_pylist()
    rows = dataset.interactions
    for campaign, user, label in zip(rows.campaign, rows.user, rows.label, strict=True):
        liked = (users[user], dataset.campaign_ids[campaign].removeprefix("movie-")) in likes
        assert liked == bool(label)


def test_activity_tells_nothing_about_the_label(dataset, folder):
    activity = np.array([len(movies) for movies in dataset.users["liked_movies"].to_pylist()])
    rows = dataset.interactions
    matched_aucs, raw_aucs = [], []
    likes = raw_likes(folder)
    for number, campaign in enumerate(dataset.campaign_ids):
        chosen = dataset.rows_of(number)
        matched_aucs.append(auc(rows.label[chosen], activity[rows.user[chosen]]))
        everybody = [(user, campaign.removeprefix("movie-")) in likes for user in dataset.users["user_id"].to_pylist()]
        raw_aucs.append(auc(everybody, activity))
    assert np.mean(raw_aucs) > 0.7
    assert np.mean(matched_aucs) == pytest.approx(0.5, abs=0.03)


def test_users_and_campaigns_have_their_attributes(dataset):
    user = dataset.users.slice(0, 1).to_pylist()[0]
    assert (user["user_id"], user["gender"], user["region"]) == ("u1", "M", "55")
    assert user["top_genres"] == ["Comedy", "Drama"]
    number = int(dataset.campaign_ids[0].removeprefix("movie-"))
    decade = f"{(1929 + number) // 10 * 10}s"
    assert dataset.campaign_attributes(0) == {"genre": "Comedy", "genres": ["Comedy", "Drama"], "decade": decade}


def test_the_latest_likes_come_first(dataset):
    movies = [int(movie.removeprefix("m")) for movie in dataset.users["liked_movies"][3].as_py()]
    assert movies == sorted(movies, reverse=True)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        import_movielens(tmp_path / name, folder, seed=seed, progress=lambda _: None)
    a, b, c = (load_dataset(tmp_path / name) for name in "abc")
    assert a.campaign_ids == b.campaign_ids != c.campaign_ids
    np.testing.assert_array_equal(a.interactions.user, b.interactions.user)


def test_matched_negatives_have_the_positives_share_of_every_group():
    group = np.repeat([0, 1, 2], [100, 100, 10])
    positives = np.concatenate([np.arange(10), np.arange(100, 140), np.arange(200, 208)])
    kept, negatives = matched(positives, group, np.random.default_rng(0))
    # Group 2 has 2 others: of its 8 positives 2 stay, and so there is 1 negative for each positive everywhere.
    assert np.bincount(group[kept]).tolist() == [10, 40, 2]
    assert np.bincount(group[negatives]).tolist() == [10, 40, 2]
    assert not set(positives) & set(negatives)


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / "users.dat").unlink()
    with pytest.raises(DataError, match=r"users\.dat: cannot be read: No such file"):
        import_movielens(tmp_path / "out", folder, progress=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_line_with_a_field_too_few_is_named(folder, tmp_path):
    with (folder / "movies.dat").open("a") as file:
        file.write("99::Without genres (1999)\n")
    with pytest.raises(DataError, match=r"movies\.dat: is not of the form movie::title::genres: .*Row #41"):
        import_movielens(tmp_path / "out", folder, progress=lambda _: None)


def test_a_rating_of_an_unknown_movie_is_named(folder, tmp_path):
    with (folder / "ratings.dat").open("a") as file:
        file.write("1::999::5::1000\n")
    with pytest.raises(DataError, match=rf"ratings\.dat, column 'movie', row {USERS * MOVIES}: is not in movies\.dat"):
        import_movielens(tmp_path / "out", folder, progress=lambda _: None)
