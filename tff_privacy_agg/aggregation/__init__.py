"""Aggregation: layers, a stack of them bound to a dimension, and TFF's factories.

From the bottom up: `domains` (what flows between layers), `layers`; build time: `composition` (what
is a stack), `integer_design`, `channel_plans` and `binding` (all constants solved); run time:
`channel_sums`, `privacy_account` and `stack` (one client function, one server function);
`tff_values` and `process` (the stack as one TFF aggregation process), `factories` and `recipes`
(what users call).
"""
