"""How a traced program becomes something that runs: one file per family of targets (floor 8)."""
