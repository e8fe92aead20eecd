"""Users to import, read a column at a time and a batch of rows at a time, from memory or from a Parquet file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import DataError
from model.pool.checks import check_type
from model.schema import Feature

BATCH_ROWS = 1 << 17


@dataclass(frozen=True)
class UserSource:
    """N users; `file` is what errors name. batches: the values of a column in order, as arrays of any lengths; strings
    may come as indices into dictionaries."""

    file: str
    schema: pa.Schema
    size: int
    batches: Callable[[str], Iterator[pa.Array]]

    @classmethod
    def of_table(cls, users: pa.Table, file: str) -> "UserSource":
        """Users in memory."""

        def batches(name: str) -> Iterator[pa.Array]:
            for batch in users.select([name]).to_batches(max_chunksize=BATCH_ROWS):
                yield batch.column(0)

        return cls(file, users.schema, users.num_rows, batches)

    @classmethod
    def of_file(cls, users: Path) -> "UserSource":
        """Users in a Parquet file. Raises DataError if it is none; `batches` does so for a column that is damaged."""
        try:
            parquet = pq.ParquetFile(users)
            strings = [
                column.path
                for column in map(parquet.schema.column, range(len(parquet.schema)))
                if column.logical_type.type == "STRING"
            ]
            # Strings of few values are stored as indices; read as such, they need not be hashed again one by one.
            indices = pq.ParquetFile(users, read_dictionary=strings, metadata=parquet.metadata)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot be read as Parquet: {error}", file=users.name) from error

        def batches(name: str) -> Iterator[pa.Array]:
            reader = parquet if name == "user_id" else indices
            try:
                # A batch of lists cannot lie in two row groups, whose dictionaries differ.
                for group in range(reader.num_row_groups):
                    # By its name, a column comes with those whose names begin with it and a dot.
                    for batch in reader.iter_batches(BATCH_ROWS, row_groups=[group], columns=[name]):
                        yield batch.column(name)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"cannot be read: {error}", file=users.name, column=name) from error

        return cls(users.name, parquet.schema_arrow, parquet.metadata.num_rows, batches)

    def check(self, features: tuple[Feature, ...]) -> None:
        """Raises DataError if there is not one column for user_id and each of the features."""
        for name in ("user_id", *(feature.name for feature in features)):
            if name not in self.schema.names:
                raise DataError("is missing", file=self.file, column=name)
            if self.schema.names.count(name) > 1:
                raise DataError("is there twice", file=self.file, column=name)

    def values(self, feature: Feature) -> Iterator[pa.Array]:
        """The batches of a feature's column. Raises DataError if its type does not fit the kind."""
        check_type(self.schema.field(feature.name).type, feature, self.file)
        yield from self.batches(feature.name)
