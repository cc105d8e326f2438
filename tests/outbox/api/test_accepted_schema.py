"""The description of views that accept requests is true, and says it all."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.test import override_settings
from drf_spectacular.drainage import GENERATOR_STATS, reset_generator_stats
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings

import outbox
from outbox.models import Settlement
from outbox.testing import drain
from tests.outbox.api.quoting import Quote, urls

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_quoting")]
EXAMPLES = 10


def document() -> dict[str, Any]:
    reset_generator_stats()
    found: dict[str, Any] = SchemaGenerator(patterns=urls()).get_schema(public=True)  # type: ignore[no-untyped-call]
    validate_schema(found)
    assert not GENERATOR_STATS
    return found


def test_it_says_it_all() -> None:
    """Body, headers, statuses and results, from the classes of the request and its replies."""
    found = document()
    create = found["paths"]["/shop/sure"]["post"]
    one = found["paths"]["/shop/sure/{id}"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    answer = create["responses"]["200"]["content"]["application/json"]["schema"]["properties"]

    assert body["properties"]["basket_id"] == {"type": "integer"}
    assert (body["required"], body["additionalProperties"]) == (["basket_id"], False)
    common = {"200", "400", "401", "403", "429"}
    assert {*create["responses"]} == common | {"202", "413", "415", "422"}
    assert {*one["get"]["responses"]} == common | {"304", "404"}
    assert {*one["delete"]["responses"]} == common | {"404", "409"}
    assert "Location" in create["responses"]["202"]["headers"]
    assert "Retry-After" in one["get"]["responses"]["200"]["headers"]
    names = {each["name"]: each["required"] for each in create["parameters"] if "required" in each}
    assert names["Idempotency-Key"] is True
    given, declined = answer["result"]["oneOf"]
    assert given["properties"]["data"]["properties"] == {"amount": {"type": "integer"}}
    assert declined["properties"]["type"]["enum"] == ["quoting.declined"]
    many = found["paths"]["/shop/many"]["post"]["responses"]["200"]
    result = many["content"]["application/json"]["schema"]["properties"]["result"]
    assert result["type"] == "array"


def test_a_serializer_is_the_body() -> None:
    create = document()["paths"]["/shop/plain"]["post"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Body"}


@pytest.fixture
def _one_transaction() -> Iterator[None]:
    """Requests of WSGI leave the connection of the test alone, as those of Django's client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.mark.usefixtures("_one_transaction")
@override_settings(ALLOWED_HOSTS=["localhost"])
def test_nothing_is_answered_that_is_not_described() -> None:
    """Whatever is asked, of requests that are pending, answered or failed, and of none."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import checks  # noqa: PLC0415 - behind the skip

    def known_one() -> str:
        with transaction.atomic():
            return outbox.ask(Quote(1), owner="ann").id

    known = [known_one(), known_one()]
    drain()
    known.append(known_one())
    Settlement.objects.filter(request__message_id=known[0]).update(outcome="failed")
    schema = schemathesis.openapi.from_dict(document())
    schema.app = get_wsgi_application()
    asked = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    seen: set[tuple[str, int]] = set()

    def probe(operation: Any, *, real: str) -> None:
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            if real and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = real
            case.headers = {
                name: value for name, value in (case.headers or {}).items() if name != "Prefer"
            }
            response = case.call(headers={"X-Visitor": "ann"})
            seen.add((operation.label, response.status_code))
            case.validate_response(response, checks=asked)

        ask()

    for found in schema.get_all_operations():
        if not found.ok().path.startswith(("/shop/plain", "/shop/mapped")):
            continue
        for real in ("", *known):
            block = transaction.atomic()
            block._from_testcase = True  # type: ignore[attr-defined]
            with block:  # each finds the rows as they were
                probe(found.ok(), real=real)
                transaction.set_rollback(True)

    one = "/shop/plain/{id}"
    assert seen >= {
        ("POST /shop/plain", 202),
        (f"GET {one}", 200),
        (f"GET {one}", 404),
        (f"DELETE {one}", 200),
        (f"DELETE {one}", 409),
        (f"DELETE {one}", 404),
    }
