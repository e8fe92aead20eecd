"""docs/security.md names what there is: for each of the threats a defence in the code, and a test."""

import re

import pytest

from tests.docker.files import ROOT

THREATS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text().splitlines()
    if re.match(r"\| \d+\. ", line)
]


def test_all_fifteen_threats_are_there() -> None:
    assert [int(threat.partition(".")[0]) for threat, *_ in THREATS] == list(range(1, 16))


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0])
def test_what_a_row_names_exists(row: list[str]) -> None:
    _, _, where, shown_by = row
    tests = re.findall(r"`([\w/]+(?:\.py|/))`", shown_by)
    assert tests
    for path in tests:
        assert (ROOT / "tests" / path).exists(), path
    for path in re.findall(r"`([\w/.-]+(?:\.py|\.yml|/))`", where):
        assert (ROOT / path).exists() or any((ROOT / "service").glob(f"**/{path}")), path
