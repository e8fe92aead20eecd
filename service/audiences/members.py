"""Members of a ranked audience in a row: as columns, as the JSON of a page, as the bytes that are hashed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MICRO = 1_000_000

_BETWEEN = b'},{"rank":'  # in no user id, where JSON puts a backslash before each quotation mark


@dataclass(frozen=True)
class Members:
    """Consecutive members in rank order: ids, and scores in whole millionths i32 [n]."""

    ids: pa.StringArray
    micro: npt.NDArray[np.int32]

    @classmethod
    def of(cls, user_ids: "Sequence[str] | pa.StringArray", scores: npt.NDArray[np.float64]) -> Self:
        """From scores f64 [n] of six decimals in [0, 1]."""
        ids = user_ids if isinstance(user_ids, pa.StringArray) else pa.array(user_ids, pa.string())
        return cls(ids, np.rint(scores * MICRO).astype(np.int32))

    @classmethod
    def join(cls, parts: "Sequence[Members]") -> Self:
        """The members of one part after the other."""
        return cls(pa.concat_arrays([part.ids for part in parts]), np.concatenate([part.micro for part in parts]))

    def __len__(self) -> int:
        return len(self.micro)

    def __getitem__(self, ranks: slice) -> "Members":
        """The members of a slice, copying nothing."""
        start, stop, _ = ranks.indices(len(self))
        return Members(self.ids.slice(start, max(0, stop - start)), self.micro[start:stop])

    def keep(self, rows: npt.NDArray[np.bool_]) -> "Members":
        """Those of the rows bool [n] that are true."""
        return Members(self.ids.filter(pa.array(rows)), self.micro[rows])

    @property
    def user_ids(self) -> list[str]:
        """The ids as Python strings."""
        ids: list[str] = self.ids.to_pylist()
        return ids

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """The floats nearest to the six decimals f64 [n]: exactly those that `of` was given."""
        return self.micro / MICRO

    def canonical(self) -> memoryview:
        """Each id in UTF-8, a zero byte and the score in millionths as four bytes, big-endian."""
        tails = np.zeros((len(self), 5), np.uint8)
        tails[:, 1:] = self.micro.astype(">i4").view(np.uint8).reshape(-1, 4)
        offsets = np.arange(0, 5 * len(self) + 1, 5, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(tails)]
        joined = pc.binary_join_element_wise(
            self.ids.cast(pa.binary()), pa.Array.from_buffers(pa.binary(), len(self), buffers), b""
        )
        return utf8(joined)[1].data

    def as_json(self, first_rank: int) -> bytes:
        """`{"rank":1,"user_id":"u123","score":0.9713},{...}`: the members of an array without its brackets."""
        if not len(self):
            return b""
        ranks = pc.cast(pa.array(np.arange(first_rank, first_rank + len(self))), pa.string())
        parts = ('{"rank":', ranks, ',"user_id":"', _escaped(self.ids), '","score":', decimals(self.micro), "},")
        return utf8(pc.binary_join_element_wise(*parts, ""))[1].tobytes()[:-1]

    def as_json_lines(self, first_rank: int) -> bytes:
        """The same objects, each on a line."""
        text = self.as_json(first_rank)
        return text.replace(_BETWEEN, b"}\n" + _BETWEEN[2:]) + b"\n" if text else b""


def slice_json(text: bytes, start: int, stop: int) -> bytes:
    """Members start .. stop - 1 of what `Members.as_json` wrote."""
    pieces = text.split(_BETWEEN)
    cut = pieces[start:stop]
    if not cut:
        return b""
    return (b"" if start == 0 else _BETWEEN[2:]) + _BETWEEN.join(cut) + (b"" if len(pieces) <= stop else b"}")


def utf8(strings: "pa.StringArray | pa.BinaryArray") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where each string begins, and the last one ends, i64 [n + 1]; and the bytes of all of them u8 [ends]."""
    _, offsets, data = strings.buffers()
    if not len(strings):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    text = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    return bounds - bounds[0], text


def _escaped(ids: pa.StringArray) -> pa.StringArray:
    """What stands between the quotation marks in JSON: the ids themselves but for the odd character."""
    _, text = utf8(ids)
    if not ((text < ord(" ")) | (text == ord('"')) | (text == ord("\\"))).any():
        return ids
    return pa.array([json.dumps(user_id, ensure_ascii=False)[1:-1] for user_id in ids.to_pylist()], pa.string())


def decimals(micro: npt.NDArray[np.int32]) -> pa.StringArray:
    """The shortest decimals of the scores; 0 and 1 with their ".0", as floats have."""
    shortest = pc.cast(pa.array(micro / MICRO), pa.string())
    whole = micro % MICRO == 0
    if not whole.any():
        return shortest
    return pc.binary_join_element_wise(shortest, pc.if_else(pa.array(whole), ".0", ""), "")
