"""The Triton kernels and their launchers; imported only when a CUDA tensor arrives."""
