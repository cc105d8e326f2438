"""The one format of the API: JSON that is ASCII, in problems too."""

from typing import Any

from django.conf import settings
from rest_framework import renderers
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.utils import json

from outbox.api.problems import TooLarge


class Renderer(renderers.JSONRenderer):
    """Writes JSON that is ASCII, in which any text can be told."""

    ensure_ascii = True


class Parser(JSONParser):
    """Reads JSON: UTF-8, whatever charset is named. Refuses what is nested too deep, and too much.

    More than DATA_UPLOAD_MAX_MEMORY_SIZE is never read, which the parsers of the framework do.
    """

    def parse(self, stream: Any, *arguments: Any, **options: Any) -> Any:
        most: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read() if most is None else stream.read(most + 1)
        if most is not None and len(body) > most:
            raise TooLarge
        try:
            return json.loads(body, parse_constant=json.strict_constant)
        except ValueError as exc:
            raise ParseError(f"It is no JSON: {exc}") from None
        except RecursionError:
            raise ParseError("It is nested too deep.") from None


class OnlyJSON(BaseContentNegotiation):
    """Answers with JSON, whatever is asked for."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        main = request.content_type.partition(";")[0].strip().lower()
        return next((each for each in parsers if each.media_type == main), None)

    def select_renderer(self, request: Request, found: Any, format_suffix: Any = None) -> Any:
        return found[0], found[0].media_type
