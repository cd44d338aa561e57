"""Run the command of this folder."""

import logging
import time

begun = time.perf_counter()  # the imports count too

from art_ext.benchmarks.gpu.command import main  # noqa: E402

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(begun=begun)
