"""The helper process of `reading`: examines batches that come in on stdin, answers on stdout, moves nothing.

It is started by the daemon in a backlog and ends when its stdin does.
"""

import pickle
import signal
import sys

from meshctl.outbound.examine import Examiner
from meshctl.outbound.reading import Batch, examine_batch


def main() -> None:
    """Serve until the daemon closes the pipe."""
    # Ctrl-C in a terminal is the daemon's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    examiner: Examiner = pickle.load(requests)
    pickle.dump([], answers)
    answers.flush()
    while True:
        try:
            batch: Batch = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(examine_batch(examiner, batch), answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
