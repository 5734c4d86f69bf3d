"""What every backend starts where the GPUs are: `python -m orchestrator.worker FOLDER`."""

import sys
from pathlib import Path

from orchestrator.worker.attempt import main

sys.exit(main(Path(sys.argv[1])))
