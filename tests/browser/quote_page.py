"""A page with a button that asks for a quote, and polls as docs/how-to/ask-over-http.md says."""

import re
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import path

from tests.outbox.api.quote_urls import urlpatterns as of_the_service

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/ask-over-http.md"
HTML = """<!doctype html><title>Quotes</title>
<div id="content"><button data-token="{token}">Ask</button><output></output></div>
<script src="/quote.js" defer></script>
"""
SCRIPT = """
const button = document.querySelector("button");
button.addEventListener("click", async () => {
  const headers = {
    "Content-Type": "application/json",
    "X-CSRFToken": button.dataset.token,
    "Idempotency-Key": JSON.stringify(crypto.randomUUID()),
  };
  const body = JSON.stringify({ basket_id: 21 });
  const accepted = await fetch("/shop/quotes", { method: "POST", headers, body });
  const told = await answerTo(accepted.headers.get("Location"));
  document.querySelector("output").value = `${told.state}: ${told.result.data.amount}`;
});
"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(HTML.format(token=get_token(request)))


def script(request: HttpRequest) -> HttpResponse:
    [polling] = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return HttpResponse(polling + SCRIPT, content_type="text/javascript")


urlpatterns = [path("page", page), path("quote.js", script), *of_the_service]
