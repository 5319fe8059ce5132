"""Speed figures, each beside a peer's, taken in one run on one machine: python -m benchmarks."""
