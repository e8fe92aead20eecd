"""The look-up buckets of a published audience, read from its object."""

from collections.abc import Sequence

from model.store import ObjectStore
from service.audiences.cache import Entry
from service.audiences.file import LOOKUP, AudienceDamaged
from service.audiences.lookup import Keys, Places, unpack
from service.audiences.repository import Published


def bucket_entry(audience: Published, index: int) -> Entry:
    """The name and the seal of a bucket, in Redis as in the object."""
    return Entry("lookup", audience.job_id, index, audience.seal_key)


def stored_buckets(objects: ObjectStore, audience: Published, indexes: Sequence[int]) -> dict[int, bytes]:
    """Some buckets, sealed as they are in the object, in ascending order. Raises StoreError, AudienceDamaged."""
    if not indexes:
        return {}
    name = f"{audience.object_name}/{LOOKUP}"
    try:
        values = list(unpack(lambda start, stop: objects.get_range(name, start, stop), indexes))
    except (ValueError, IndexError) as error:  # the list of where they begin is not whole
        raise AudienceDamaged(f"{name}: was cut off") from error
    return dict(zip(indexes, values, strict=True))


def open_bucket(audience: Published, index: int, value: bytes) -> bytes:
    """What is in a bucket of the object. Raises AudienceDamaged."""
    content = bucket_entry(audience, index).open(value)
    if content is None:
        raise AudienceDamaged(f"{audience.object_name}/{LOOKUP}: bucket {index} is damaged")
    return content


def find_stored(objects: ObjectStore, audience: Published, user_ids: Sequence[str]) -> Places:
    """Where in an audience's object some users are, without Redis. Raises StoreError, of which AudienceDamaged
    and ObjectMissing say that the store is there and the audience is not."""
    keys = Keys.of(user_ids, audience.size, audience.seal_key)
    values = stored_buckets(objects, audience, keys.buckets)
    return keys.find({index: open_bucket(audience, index, value) for index, value in values.items()})
