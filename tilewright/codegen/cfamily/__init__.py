"""What all printers of C-like source share; a dialect adds what only its compiler knows (floor 6)."""
