"""`python -m halfdrop.hub`: one hub worker; settings from HALFDROP_HUB_* (see settings.py)."""

import os

# Read when numpy is first imported. The finishing threads share the cores already, and a product of matrices split
# over another number of threads may differ in its last bit: the same job must give the same bytes on every machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# torch's, for the same reason, in every thread: set_num_threads does not reach those that have begun to compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if __name__ == "__main__":
    from halfdrop.hub.process import main

    main()
