"""The benchmark: time per training step of some networks, beside what a user could pick instead."""
