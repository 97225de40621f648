"""Opponents: each module has ``make(net, threads)``.

It returns a function that trains for one epoch of so many batches, shuffled, and returns the mean loss.
"""
