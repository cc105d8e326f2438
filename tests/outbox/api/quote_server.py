"""The service that quotes, under uvicorn.

python -m tests.outbox.api.quote_server PORT
"""

import sys

import uvicorn

from project.asgi import application  # it sets Django up

from django.conf import settings  # isort: skip

from tests.outbox.api.quoting import declared  # isort: skip


if __name__ == "__main__":
    settings.ROOT_URLCONF = "tests.outbox.api.quote_urls"
    with declared():
        uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
