"""The one form in which user ids are stored and compared, whether from a pool's file, seeds, look-ups or erasures.

`text`: Unicode normal form C, without white space at either end; upper and lower case differ. `email_sha256`: the
SHA-256 of the e-mail address, without white space at either end and in lower case, as 64 lower-case hex digits. It may
be sent as that hash, in any case, or as the address, which is hashed at once and never stored. Either rule leaves what
it made as it is.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

IdKind = Literal["text", "email_sha256"]
ID_KINDS: tuple[IdKind, ...] = get_args(IdKind)

LONGEST_ID = 128  # characters, as sent and in the normal form
_HASH = "^[0-9a-fA-F]{64}$"


def normal_ids(user_ids: Sequence[str], kind: IdKind) -> list[str]:
    """Each id in its normal form; what is no e-mail address is hashed all the same, and is nobody's."""
    normal: list[str] = normal_column(pa.array(user_ids, pa.large_string()), kind).to_pylist()
    return normal


def normal_column(user_ids: pa.LargeStringArray, kind: IdKind) -> pa.LargeStringArray:
    """The same for a column; null stays null."""
    trimmed = pc.utf8_trim_whitespace(user_ids)
    if kind == "text":
        return pc.utf8_normalize(trimmed, "NFC")
    lowered = pc.utf8_lower(trimmed)
    hashed = pc.match_substring_regex(lowered, _HASH)
    if pc.all(hashed).as_py() is not False:
        return lowered
    addresses = lowered.filter(pc.invert(hashed)).to_pylist()
    digests = [sha256(address.encode()).hexdigest() for address in addresses]
    return pc.replace_with_mask(lowered, pc.fill_null(pc.invert(hashed), False), pa.array(digests, pa.large_string()))  # noqa: FBT003


def strangers(user_ids: pa.LargeStringArray, kind: IdKind) -> NDArray[np.bool_]:
    """Which ids [N] cannot be of this kind: neither a hash nor an e-mail address."""
    if kind == "text":
        return np.zeros(len(user_ids), bool)
    fits = pc.or_(pc.match_substring(user_ids, "@"), pc.match_substring_regex(pc.utf8_trim_whitespace(user_ids), _HASH))
    unfit: NDArray[np.bool_] = pc.invert(pc.fill_null(fits, True)).to_numpy(zero_copy_only=False)  # noqa: FBT003
    return unfit
