"""The kernel as the oracle of the verifier: broken modules, loaded for real and judged offline."""
