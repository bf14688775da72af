"""Measures the running service: `make bench`."""

import os

# As the service has it (`service.entry`), and before anything imports numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
