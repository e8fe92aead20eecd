"""The Tencent importer, on small files in the form of the contest's."""

from pathlib import Path

import pytest

from model.dataset import load_dataset
from model.errors import DataError
from model.importers import tencent
from model.importers.tencent import import_tencent

PROFILES = """\
uid 11|age 4|gender 1|interest1 93 70 77|kw1 5|os 2|ct 3 1|appIdInstall 7 8|LBS 950
uid 12|age 2|marriageStatus 5 13|topic3 9
uid 13|age 1|house 1
uid 99|age 5|carrier 1
"""
ADS = """\
aid,advertiserId,campaignId,creativeId,creativeSize,adCategoryId,productId,productType
30,1,100,1000,22,5,0,4
20,2,200,2000,35,6,113,9
40,3,300,3000,35,6,114,9
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "contest"
    folder.mkdir()
    (folder / "userFeature.data").write_text(PROFILES)
    (folder / "adFeature.csv").write_text(ADS)
    (folder / "train.csv").write_text("aid,uid,label\n20,11,1\n20,12,-1\n30,12,1\n")
    (folder / "test1_truth.csv").write_text("20,13,-1\n30,11,-1\n30,13,1\n")
    return folder


def import_into(out: Path, folder: Path) -> None:
    import_tencent(out, folder, progress=lambda _: None)


def test_training_pairs_are_the_seed_part_and_the_truth_is_ranked(folder, tmp_path):
    import_into(tmp_path / "out", folder)
    dataset = load_dataset(tmp_path / "out")
    rows = dataset.interactions
    users = dataset.users["user_id"].to_pylist()
    pairs = [
        (dataset.campaign_ids[campaign], users[user], label, split)
        for campaign, user, label, split in zip(rows.campaign, rows.user, rows.label, rows.split, strict=True)
    ]
    assert pairs == [
        ("20", "11", 1, 0),
        ("20", "12", 0, 0),
        ("30", "12", 1, 0),
        ("20", "13", 0, 1),
        ("30", "11", 0, 1),
        ("30", "13", 1, 1),
    ]


def test_a_truth_with_a_header_reads_the_same(folder, tmp_path):
    truth = folder / "test1_truth.csv"
    import_into(tmp_path / "without", folder)
    truth.write_text("aid,uid,label\n" + truth.read_text())
    import_into(tmp_path / "with", folder)
    names = ("schema.json", "users.parquet", "campaigns.parquet", "interactions.parquet")
    assert all((tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes() for name in names)


def test_users_and_ads_without_a_pair_are_left_out(folder, tmp_path):
    import_into(tmp_path / "out", folder)
    dataset = load_dataset(tmp_path / "out")
    assert dataset.users["user_id"].to_pylist() == ["11", "12", "13"]
    assert dataset.campaign_ids == ["20", "30"]


def test_profiles_and_ads_become_features(folder, tmp_path):
    import_into(tmp_path / "out", folder)
    dataset = load_dataset(tmp_path / "out")
    user = dataset.users.slice(0, 1).to_pylist()[0]
    assert (user["age"], user["location"], user["interests_1"]) == ("4", "950", ["93", "70", "77"])
    assert (user["house"], user["topics_3"]) == (None, None)
    assert dataset.campaign_attributes(0) == {
        "advertiser": "2",
        "ad_campaign": "200",
        "creative_size": "35",
        "ad_category": "6",
        "product": "113",
        "product_type": "9",
    }


def test_small_batches_write_the_same_users(folder, tmp_path, monkeypatch):
    import_into(tmp_path / "one", folder)
    monkeypatch.setattr(tencent, "USERS_PER_BATCH", 2)
    import_into(tmp_path / "more", folder)
    one, more = (load_dataset(tmp_path / name) for name in ("one", "more"))
    assert one.users.to_pylist() == more.users.to_pylist()


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("train.csv", "20,13,2", r"train\.csv, column 'label', row 3: must be 1, 0 or -1"),
        ("train.csv", "20,14,1", r"train\.csv, column 'uid', row 3: 14 is not in userFeature\.data"),
        ("test1_truth.csv", "50,11,1", r"test1_truth\.csv, column 'aid', row 3: 50 is not in adFeature\.csv"),
        ("test1_truth.csv", "20,11,1", r"test1_truth\.csv, column 'uid', row 3: the ad has this user already"),
        ("train.csv", "20,x,1", r"train\.csv: cannot be read as aid,uid,label: .*Row #5"),
        ("userFeature.data", "age 4", r"userFeature\.data, row 4: is not of the form"),
        ("userFeature.data", "uid 15|height 4", r"userFeature\.data, column 'height', row 4: is not a feature"),
        ("userFeature.data", "uid 12|age 4", r"userFeature\.data, column 'uid', row 4: user 12 is there twice"),
        ("adFeature.csv", "20,2,200,2000,35,6,113,9", r"adFeature\.csv, column 'aid': an ad is there twice"),
    ],
)
def test_a_fault_names_file_and_row_and_leaves_nothing(folder, tmp_path, file, line, message):
    with (folder / file).open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(DataError, match=message):
        import_into(tmp_path / "out", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contest"]


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / "adFeature.csv").unlink()
    with pytest.raises(DataError, match=r"adFeature\.csv: cannot be read: .*No such file"):
        import_into(tmp_path / "out", folder)
