"""The intermediate representation: expressions, statements, buffers, programs (floor 2)."""
