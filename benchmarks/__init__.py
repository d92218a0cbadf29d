"""One command per question of speed; `python -m benchmarks.NAME --help`."""
