"""Aggregation: layers, a stack of them bound to a dimension, and TFF's factories.

From the bottom up: `domains` (what flows between layers), `layers`, `binding` (build time: all
constants solved), `stack` (run time: one client function, one server function), `tff_values` and
`process` (the stack as one TFF aggregation process), `factories` and `recipes` (what users call).
"""
