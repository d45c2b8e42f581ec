"""`python -m tests.fuzz READER`: let atheris look for bytes that a reader fails on, for a while.

Needs `pip install atheris`, which the suites do without. A find is written to the folder of finds and printed
with its traceback; it then belongs into a test of the reader as a case.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_READERS: Final = ("control-file", "payload", "sidecar")
_SECONDS: Final = 600
_LONGEST_BYTES: Final = 20_000


def main() -> None:
    """Fuzz one reader; ends with the exit code of libFuzzer, not 0 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("reader", choices=_READERS)
    parser.add_argument("--seconds", type=int, default=_SECONDS)
    parser.add_argument("--folder", type=Path, required=True, help="for what is learnt, and for the finds")
    chosen = parser.parse_args()
    try:
        atheris: Any = import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("atheris is missing: pip install atheris")
    with atheris.instrument_imports(include=["meshctl"]):
        attempt, seeds = import_module("tests.fuzz.readers").READERS[chosen.reader]
    learnt, finds = (chosen.folder / chosen.reader / name for name in ("learnt", "finds"))
    for folder in (learnt, finds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (learnt / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={chosen.seconds}",
        f"-max_len={_LONGEST_BYTES}",
        f"-artifact_prefix={finds}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(learnt)], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
