"""The executables that the container runtime runs; standard library only, nothing of ours."""
