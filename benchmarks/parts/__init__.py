"""The parts of the benchmarks: each measures something by itself and gives what the page shows of it."""
