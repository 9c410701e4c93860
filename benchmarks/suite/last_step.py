"""Take the last step of a run whose scores are all there. `benchmarks/outputs.py` starts it.

It is a small script, so that its memory is that of the step and not of the other benchmarks.
"""

import sys
from pathlib import Path

from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run
from harmless_runtime.scores.make import make_results

if __name__ == "__main__":
    rows, out, join, log, lines, digest = sys.argv[1:]
    run = Run(open_inputs([rows]), Path(out), is_folder=not Path(out).suffix, join=join or None)
    make_results(run, Path(log), Path(f"{log}.rejects"), int(lines), digest)
