"""The user pool: everybody encoded once, whatever the model, in memory or memory-mapped from shards of .npy files.

A user's ordinal is the rank of the id in byte order over all shards, so that ordering by ordinal orders by id.
Files: manifest.json, dictionaries/<i>.parquet, shards/<nnnnn>/{ids,f<i>.<array>}.npy.
"""

from model.pool.build import encode_users, write_pool
from model.pool.columns import CategoricalColumn, Column, MultiColumn, NumericColumn, Ordinals, VectorColumn
from model.pool.files import open_pool
from model.pool.ids import read_user_ids
from model.pool.manifest import PoolManifest, read_pool_manifest
from model.pool.pool import Pool, UserBlock, repeat_shards
from model.pool.successor import unchanged_shards
from model.pool.update import remove_users, upsert_users

__all__ = [
    "CategoricalColumn",
    "Column",
    "MultiColumn",
    "NumericColumn",
    "Ordinals",
    "Pool",
    "PoolManifest",
    "UserBlock",
    "VectorColumn",
    "encode_users",
    "open_pool",
    "read_pool_manifest",
    "read_user_ids",
    "remove_users",
    "repeat_shards",
    "unchanged_shards",
    "upsert_users",
    "write_pool",
]
