"""Integer reasoning about index expressions, and the numpy meaning of every expression (floor 3)."""
