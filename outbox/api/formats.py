"""The one format of the API: JSON that is ASCII, in problems too."""

from typing import Any

from rest_framework import renderers
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request


class Renderer(renderers.JSONRenderer):
    """Writes JSON that is ASCII, in which any text can be told."""

    ensure_ascii = True


class Parser(JSONParser):
    """Reads JSON; refuses what is nested too deep, too."""

    def parse(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().parse(*arguments, **options)
        except RecursionError:
            raise ParseError("It is nested too deep.") from None


class OnlyJSON(BaseContentNegotiation):
    """Answers with JSON, whatever is asked for."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        main = request.content_type.partition(";")[0].strip().lower()
        return next((each for each in parsers if each.media_type == main), None)

    def select_renderer(self, request: Request, found: Any, format_suffix: Any = None) -> Any:
        return found[0], found[0].media_type
