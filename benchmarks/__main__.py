"""`make bench`: answer all questions, or those that are named, and write docs/performance.md."""

import sys
import time
from collections.abc import Sequence

from benchmarks.question import command_of, parse, run
from benchmarks.questions import questions
from benchmarks.report import page
from benchmarks.results import RESULTS
from benchmarks.servers import Servers


def main(arguments: Sequence[str]) -> int:
    known = questions()
    options = parse("make bench", arguments, list(known))
    started = time.monotonic()
    with Servers() as servers:
        for name in options.questions or [each for each in known if known[each].usual]:
            run(known[name], servers, options, command_of(arguments))
    print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")
    if options.output == RESULTS:
        page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
