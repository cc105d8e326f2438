"""The strictest policy that pages can be sent with, and what sends it."""

from collections.abc import Callable

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

STRICT = {
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}
"""Nothing inline, nothing from elsewhere."""
MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else "tests.kit.csp.PolicyMiddleware"
)
"""Django's own, from version 6 on."""
_HEADER = "Content-Security-Policy"


class PolicyMiddleware:
    """Does what Django 6 does with SECURE_CSP, as far as the tests need it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        policy = settings.SECURE_CSP
        if policy and not response.has_header(_HEADER):
            parts = (f"{name} {' '.join(sources)}" for name, sources in policy.items())
            response[_HEADER] = "; ".join(parts)
        return response
