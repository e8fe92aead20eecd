"""Makes the file of an export from the durable copy of an audience."""

from collections.abc import Callable, Generator, Iterator

from model.store import ObjectStore
from service.audiences.file import AudienceFile
from service.audiences.gaps import Gaps
from service.audiences.repository import Published
from service.exports.cut import Block, Cut, read_blocks
from service.exports.formats import Format

READ_AHEAD = 1 << 18


def open_export(
    objects: ObjectStore,
    audience: Published,
    gone: Gaps,
    cut: Cut,
    form: Format,
    progress: Callable[[int], object] = lambda _: None,
) -> Generator[bytes, None, None]:
    """The pieces of the file, members at gaps left out; close the generator to stop.

    `progress` hears how many members were read, and may raise. Raises StoreError: at once where the audience cannot be
    opened, later where it cannot be read on.
    """
    file = AudienceFile.open_object(objects, audience.object_name, ahead=READ_AHEAD)

    def blocks() -> Iterator[Block]:
        done = 0
        for block in read_blocks(file, audience.size, gone, cut, form.rows):
            yield block
            done += len(block.members)
            progress(done)

    def pieces() -> Generator[bytes, None, None]:
        with file:
            yield from form.pieces(blocks())

    return pieces()
