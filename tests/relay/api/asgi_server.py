"""The example project under uvicorn, with streams as long as the environment says.

    python -m tests.relay.api.asgi_server PORT

STREAM_SECONDS   after how many seconds a stream ends
"""

import os
import sys

import uvicorn

from project.asgi import application  # it sets Django up

from relay.api import stream  # isort: skip


if __name__ == "__main__":
    stream.LONGEST = float(os.environ.get("STREAM_SECONDS", stream.LONGEST))
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
