"""The `tilewright` command line (floor 9)."""
