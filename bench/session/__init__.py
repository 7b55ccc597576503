"""The parts of `python -m bench.gpu_session`: what it runs, the process of a step, and what the steps report."""
