"""A whole training in a process that may be killed: `python killed_run.py JOB RUN`; prints its summary as JSON."""

from __future__ import annotations

import json
import sys
import warnings

import torch

from cineray.config import load_job
from cineray.train.config import TrainJob
from cineray.train.local_run import run_local

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    job = load_job(sys.argv[1], {"train": TrainJob})
    assert isinstance(job, TrainJob)
    print(json.dumps(run_local(job, uri=sys.argv[2])))
