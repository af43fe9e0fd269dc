"""The gate where systemd runs, and accidents around it."""
