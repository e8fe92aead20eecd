"""Pages for people: files of the package, served as they are under a policy that lets them do little."""

from collections.abc import Mapping
from importlib.resources import files

from fastapi import Response

from service.kit.errors import Problem

MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}
# A page runs nothing and asks nobody but this service, and nobody may frame it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Pages:
    """The files of a package's folder `static`, read once."""

    def __init__(self, package: str) -> None:
        folder = files(package).joinpath("static")
        self._parts: Mapping[str, bytes] = {part.name: part.read_bytes() for part in folder.iterdir()}

    def answer(self, name: str) -> Response:
        """One of them. Problem not-found."""
        if name not in self._parts:
            raise Problem("not-found")
        media_type = MEDIA_TYPES[name.rsplit(".", maxsplit=1)[-1]]
        return Response(self._parts[name], media_type=media_type, headers=HEADERS)
