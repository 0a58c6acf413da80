"""Where the tiny models and data of the scripts are: a helper module, as scripts have them."""

from pathlib import Path

import sweeps

TINY = Path(sweeps.__file__).parent / "builders" / "tiny"
MODEL = str(TINY / "model")
CAUSAL = str(TINY / "causal_model")
TEXTS = str(TINY / "dataset")
ENTITIES = str(TINY / "entities")
