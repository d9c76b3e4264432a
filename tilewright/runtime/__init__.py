"""What happens when a kernel runs: compiled artifacts, drivers, launches (floor 7)."""
