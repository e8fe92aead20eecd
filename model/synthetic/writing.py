"""Writes a made-up world as a campaign-dataset directory, a block of users at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.dataset import CAMPAIGNS, INTERACTIONS, USERS, new_directory, write_schema
from model.errors import DataError
from model.synthetic.scenarios import Scenario
from model.synthetic.world import World, user_ids


def write_synthetic(
    out: Path,
    scenario: Scenario,
    *,
    users: int | None = None,
    campaigns: int | None = None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Make the new directory `out`, in memory that does not grow with the number of users but for the labelled ones.

    users and campaigns: the scenario's unless given. Raises DataError, also where there are fewer users than a campaign
    may have rows; then nothing is left behind.
    """
    users = scenario.users if users is None else users
    campaigns = scenario.campaigns if campaigns is None else campaigns
    if users < scenario.rows[1]:
        raise DataError(f"campaigns of this scenario have up to {scenario.rows[1]:,} rows; {users:,} users are too few")
    if campaigns < 1:
        raise DataError("there must be at least one campaign")
    world = World(scenario, seed)
    table, aims = world.campaigns(campaigns)
    shown, luck = zip(*(world.exposures(campaign, users) for campaign in range(campaigns)), strict=True)
    labels = [np.zeros(len(rows), np.int8) for rows in shown]
    with new_directory(out) as scratch:
        write_schema(scratch, scenario.schema)
        pq.write_table(table, scratch / CAMPAIGNS, compression="zstd")
        writer: pq.ParquetWriter | None = None
        for start, tastes, block in world.blocks(users):
            writer = writer or pq.ParquetWriter(scratch / USERS, block.schema, compression="zstd")
            writer.write_table(block)
            for campaign, aim in enumerate(aims):
                first, last = np.searchsorted(shown[campaign], (start, start + len(tastes)))
                chances = world.chances(tastes[shown[campaign][first:last] - start], aim)
                labels[campaign][first:last] = luck[campaign][first:last] < chances
            progress((start + len(tastes)) / users)
        if writer is not None:
            writer.close()
        rows = np.repeat(np.arange(campaigns), [len(part) for part in shown])
        interactions = pa.table(
            {
                "campaign_id": table.column("campaign_id").take(pa.array(rows)),
                "user_id": user_ids(np.concatenate(shown)),
                "label": np.concatenate(labels),
            }
        )
        pq.write_table(interactions, scratch / INTERACTIONS, compression="zstd")
