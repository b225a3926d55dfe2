"""Where the broker runs: servers on this machine, the demo sample, Prometheus."""
