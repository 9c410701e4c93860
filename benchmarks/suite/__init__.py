"""What the benchmarks share: workloads, competitors, processes of their own, results and tables."""
