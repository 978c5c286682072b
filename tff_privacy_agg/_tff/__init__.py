"""Adapters to TFF's internals: names that it moved, hints at its errors, its workers."""
